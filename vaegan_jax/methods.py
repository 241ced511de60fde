"""The methods of both papers as tables, network x loss: the lower half of each Algorithm 1.

A row reads: this network descends the gradient of this weighted sum of losses. An empty cell never
reaches the network: in VAE_GAN the encoder's row has no `real` and no `fake_*`, so L_GAN does not
reach the encoder. A network without a row is frozen. model.py defines the losses; all are sums over
pixels, features and latents and means over the batch, and gamma and the lambdas assume this
reduction.

Signs: `real`, `fake_recon` and `fake_prior` are the discriminator's binary cross-entropies, which
it minimises; their sum is -L_GAN of Larsen et al., Eq. 10 (the paper prints L_GAN with both signs;
the authors' code descends the cross-entropy). `fool_*` are the generator's non-saturating losses.
"""

# fmt: off
GAMMA = 1e-5  # weight of L_llike against L_GAN: the authors' code at arXiv v2; the paper gives none
LAMBDA_KL, LAMBDA_PAIR, LAMBDA_MATCH = 3., 1., 1e-3  # lambda 1; 2; 3 and 4 of Bao et al.

# --- Larsen et al. 2016, Algorithm 1 and the baselines of its section 4.
VAE = dict(
    encoder       = dict(kl=1., pixel=1.),                                # L_prior + L_llike^pixel
    generator     = dict(pixel=1.))
GAN = dict(
    generator     = dict(fool_prior=1.),                # non-saturating (Goodfellow et al. 2014)
    discriminator = dict(real=1., fake_prior=1.))
VAE_DIS = dict(                                         # D is frozen; a GAN trains it first
    encoder       = dict(kl=1., feature_d=1.),                            # L_prior + L_llike^Dis_l
    generator     = dict(feature_d=1.))
VAE_GAN = dict(
    encoder       = dict(kl=1., feature_d=1.),                            # L_prior + L_llike^Dis_l
    generator     = dict(feature_d=GAMMA,                                 # gamma L_llike^Dis_l
                         real=-1., fake_recon=-1., fake_prior=-1.),       # - L_GAN
    discriminator = dict(real=1., fake_recon=1., fake_prior=1.))          # L_GAN
# The authors' code of 2016-02-11 (arXiv v2): w_real 0.66, the rest shared by both groups of fakes.
VAE_GAN_ARXIV_V2 = dict(
    encoder       = dict(kl=1., feature_d=1.),
    generator     = dict(feature_d=GAMMA, real=-1., fake_recon=-1., fake_prior=-1.),
    discriminator = dict(real=.66, fake_recon=.17, fake_prior=.17))
# The authors' code of 2016-03-24 (released): prior fakes only, unlike Eq. 10; gamma 1e-6.
VAE_GAN_RELEASED = dict(
    encoder       = dict(kl=1., feature_d=1.),
    generator     = dict(feature_d=1e-6, real=-1., fake_prior=-1.),
    discriminator = dict(real=.5, fake_prior=.5))
# Not published: the generator's loss is non-saturating, as in many reimplementations.
VAE_GAN_NONSATURATING = dict(
    encoder       = dict(kl=1., feature_d=1.),
    generator     = dict(feature_d=GAMMA, fool_recon=1., fool_prior=1.),
    discriminator = dict(real=1., fake_recon=1., fake_prior=1.))

# Not published: for critics without batch norm and adversarial='relativistic'; R1 as in R3GAN
# (Huang et al. 2024). Unlike in Larsen et al., the encoder plays the game too: without it,
# reconstructions are blurred. It weighs the game against the features as the generator does.
VAE_GAN_RELATIVISTIC = dict(
    encoder       = dict(kl=1., feature_d=1., fool_recon=1e3),
    generator     = dict(feature_d=1e-3, fool_recon=1., fool_prior=1.),
    discriminator = dict(real=1., fake_recon=1., fake_prior=1., r1=1.))

# --- Bao et al. 2017, Algorithm 1 and the baselines of its section 4 (rows and lambdas recalled).
CVAE = dict(
    encoder       = dict(kl=LAMBDA_KL, pixel=LAMBDA_PAIR),    # lambda 1 L_KL + lambda 2 L_G (x)
    generator     = dict(pixel=LAMBDA_PAIR))
CGAN = dict(                                            # symmetric: G descends L'_GD and L'_GC
    classifier    = dict(classify=1.),
    discriminator = dict(real=1., fake_prior=1.),
    generator     = dict(fool_prior=1., classify_prior=1.))
FM_CGAN = dict(                                         # asymmetric: section 3.2, no encoder
    classifier    = dict(classify=1.),
    discriminator = dict(real=1., fake_prior=1.),
    generator     = dict(match_d=LAMBDA_MATCH, match_c=LAMBDA_MATCH))
CVAE_GAN = dict(
    classifier    = dict(classify=1.),                                    # L_C
    discriminator = dict(real=1., fake_recon=1., fake_prior=1.),          # L_D
    generator     = dict(pixel=LAMBDA_PAIR,                               # lambda 2 L_G: x,
                         feature_d=LAMBDA_PAIR, feature_c=LAMBDA_PAIR,    #   f_D, f_C
                         match_d=LAMBDA_MATCH,                            # lambda 3 L_GD
                         match_c=LAMBDA_MATCH),                           # lambda 4 L_GC
    encoder       = dict(kl=LAMBDA_KL,                                    # lambda 1 L_KL
                         pixel=LAMBDA_PAIR,                               # lambda 2 L_G
                         feature_d=LAMBDA_PAIR, feature_c=LAMBDA_PAIR))
# Not published: as VAE_GAN_RELATIVISTIC; the discriminator sees the class.
CVAE_GAN_RELATIVISTIC = dict(
    classifier    = dict(classify=1.),
    discriminator = dict(real=1., fake_recon=1., fake_prior=1., r1=1.),
    generator     = dict(feature_d=1e-3, feature_c=1e-3, fool_recon=1., fool_prior=1.,
                         match_c=LAMBDA_MATCH),
    encoder       = dict(kl=1., feature_d=1., feature_c=1., fool_recon=1e3))
# fmt: on

METHODS = dict(
  vae=VAE,
  gan=GAN,
  vae_dis=VAE_DIS,
  vae_gan=VAE_GAN,
  vae_gan_arxiv_v2=VAE_GAN_ARXIV_V2,
  vae_gan_released=VAE_GAN_RELEASED,
  vae_gan_nonsaturating=VAE_GAN_NONSATURATING,
  vae_gan_relativistic=VAE_GAN_RELATIVISTIC,
  cvae=CVAE,
  cgan=CGAN,
  fm_cgan=FM_CGAN,
  cvae_gan=CVAE_GAN,
  cvae_gan_relativistic=CVAE_GAN_RELATIVISTIC,
)

# Methods with a class or attributes as condition; the others are unconditional by default.
CONDITIONAL = ('cvae', 'cgan', 'fm_cgan', 'cvae_gan', 'cvae_gan_relativistic')

# The recommended methods: configs/base.py gives them residual networks and balanced weights.
RELATIVISTIC = ('vae_gan_relativistic', 'cvae_gan_relativistic')

# {method: the method that first trains the networks that it freezes}
FIRST = dict(vae_dis='gan')
