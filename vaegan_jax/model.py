"""The wiring of the networks: the upper half of Algorithm 1 of both papers, up to the named losses.

The papers' letters, used in this file alone:
  x    real images                      c    their condition: one-hot class, or attributes
  z    sample of the posterior q(z|x)   x_f  its decoding, the reconstruction (Larsen's x tilde)
  z_p  sample of the prior              c_p  condition drawn for it
  x_p  decoding of z_p, c_p

The images x_f and x_p are the waist of the graph, the only link between its two halves: `make` goes
from parameters of the makers (encoder, generator) to them, `judge` from them to the losses, through
the critics (discriminator, classifier). routing.py differentiates the two halves one after the
other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaegan_jax import critic_aids, interleave, losses
from vaegan_jax.losses import softmax_cross_entropy
from vaegan_jax.networks import prior

MAKERS = ('encoder', 'generator')
CRITICS = ('discriminator', 'classifier')

# For each loss, the images that each network processes: r(eal) x, f: x_f, p: x_p. From the losses
# of a method this gives its networks, and the images that each critic sees.
# fmt: off
SEES = dict(
    kl             = dict(encoder='r'),
    pixel          = dict(generator='f'),
    real           = dict(discriminator='r'),
    fake_recon     = dict(discriminator='f'),
    fake_prior     = dict(discriminator='p'),
    fool_recon     = dict(discriminator='f'),
    fool_prior     = dict(discriminator='p'),
    r1             = dict(discriminator='r'),
    r2             = dict(discriminator='p'),
    lecam          = dict(discriminator='r'),  # and the fakes of GAME that the method has
    feature_d      = dict(discriminator='rf'),
    match_d        = dict(discriminator='rp'),
    classify       = dict(classifier='r'),
    classify_recon = dict(classifier='f'),
    classify_prior = dict(classifier='p'),
    feature_c      = dict(classifier='rf'),
    match_c        = dict(classifier='rp'))
# Losses that keep moving averages of features (centres), and the critic whose features they are:
# one centre for the discriminator, one per class for the classifier.
CENTRES = dict(match_d='discriminator', match_c='classifier')
# The fakes that the discriminator learns to tell from real images.
GAME = dict(fake_recon='f', fake_prior='p')
# The critic's loss on real images, on fakes, and the maker's non-saturating loss on fakes.
ADVERSARIAL = dict(
    bce           = (losses.bce_real, losses.bce_fake, losses.bce_fool),
    hinge         = (losses.hinge_real, losses.hinge_fake, losses.hinge_fool),
    least_squares = (losses.least_squares_real, losses.least_squares_fake,
                     losses.least_squares_fool),
    wasserstein   = (losses.wasserstein_real, losses.wasserstein_fake, losses.wasserstein_fool),
    relativistic  = (losses.relativistic_real, losses.relativistic_discriminator,
                     losses.relativistic_generator))
# The last two losses of these take pairs: the logits of x and those of the fakes.
PAIRED = (ADVERSARIAL['relativistic'],)
# fmt: on


class Model(NamedTuple):
  """The networks of a method and the choices that its equations leave open."""

  networks: Mapping[str, Any]  # {name: flax module}
  losses: tuple[str, ...]  # names of the losses to compute, of SEES
  frozen: tuple[str, ...] = ()  # networks without a row in the method: they run as at test time
  joint_makers: bool = True  # normalise x_f and x_p as one batch, or apart
  joint_critics: bool = True  # normalise x, x_f and x_p as one batch, or apart
  adversarial: tuple[Callable, Callable, Callable] = ADVERSARIAL['bce']
  class_loss: Callable = softmax_cross_entropy  # (logits, c) -> [B]
  match_d_decay: float = 0.0  # of the moving average of f_D's mean; 0 takes the batch's own mean
  match_c_decay: float = 0.9  # of the moving averages of f_C's class centres
  lecam_decay: float = 0.99  # of the moving averages of D's mean logits
  critic_augment: critic_aids.CriticAugment | None = None  # of the discriminator's images
  reconstruct_every: int = 1  # n: x_f shows every n-th image of a batch
  penalise_every: int = 1  # n: r1 and r2 see every n-th image
  packed: bool = False  # images are in blocks of 2 x 2 pixels, see networks/blocks.py
  axis_name: str | None = None  # under pmap

  def reconstructed(self, a: Any) -> Any:
    """Of an array [B, ...] or None, the rows of the real images that x_f shows."""
    return every(self.reconstruct_every, a)

  def penalised(self, a: Any) -> Any:
    """Of an array [B, ...] or None, the rows of the images that r1 or r2 sees."""
    return every(self.penalise_every, a)


def every(n: int, a: Any) -> Any:
  """Every n-th row of an array, or None. A batch sharded over devices stays in place."""
  return a if a is None or n == 1 else a[::n]


def losses_of(*tables: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
  """Names of the losses that the tables weigh, in the order of SEES, unknown ones last."""
  named = dict.fromkeys(loss for table in tables for row in table.values() for loss in row)
  return tuple(n for n in SEES if n in named) + tuple(n for n in named if n not in SEES)


def networks_of(names: Iterable[str]) -> tuple[str, ...]:
  """Names of the networks that the losses `names` need, in the order of MAKERS and CRITICS."""
  names = tuple(names)
  seen = {network: ''.join(SEES[n].get(network, '') for n in names) for network in MAKERS + CRITICS}
  images = ''.join(seen.values())
  needed = {n for n in seen if seen[n]}
  needed |= {'encoder', 'generator'} if 'f' in images else set()
  needed |= {'generator'} if 'p' in images else set()
  return tuple(n for n in MAKERS + CRITICS if n in needed)


def can_train(loss: str, network: str) -> bool:
  """Whether a loss can have a gradient for a network.

  A critic's loss on real images reaches the makers only through joint batch norm.
  """
  own = network in CRITICS or 'encoder' in SEES[loss]
  return network in SEES[loss] if own else True


def played(names: Iterable[str]) -> str:
  """The fakes of GAME for the losses `names`: of 'f' and 'p'."""
  names = tuple(names)
  return ''.join(letter for loss, letter in GAME.items() if loss in names)


def seen_by(network: str, names: Iterable[str]) -> str:
  """The images that a network sees for the losses `names`: of 'r', 'f', 'p', in this order."""
  letters = {letter for name in names for letter in SEES[name].get(network, '')}
  return ''.join(k for k in 'rfp' if k in letters)


def passes(
  model: Model, name: str, params: Mapping, stats: Mapping, groups: Sequence[tuple], joint: bool
) -> tuple[list, Any]:
  """Outputs of one network for each group of inputs, and its batch statistics after the step.

  Args:
    groups: tuples of arrays [B, ...] (None allowed): the inputs of each pass.
    joint: normalise all groups as one batch (the code of Larsen et al. does, for real and fake
      images), so that the logits of one group depend on the others; or each group by its own
      statistics.

  Statistics move by exactly one update: that of the joint batch, or the mean over the groups.
  """
  network, variables = model.networks[name], {'params': params[name], 'batch_stats': stats[name]}
  if name in model.frozen:
    return [network.apply(variables, *inputs, train=False) for inputs in groups], stats[name]
  if joint or len(groups) == 1:
    run = 1 if name in MAKERS and not model.packed else interleave.RUN
    inputs = [None if same[0] is None else interleave.merged(same, run) for same in zip(*groups)]
    outputs, state = network.apply(variables, *inputs, train=True, mutable=['batch_stats'])
    leaves, tree = jax.tree.flatten(outputs)
    apart = zip(*(interleave.separated(a, len(groups), run) for a in leaves))
    return [tree.unflatten(own) for own in apart], state.get('batch_stats', stats[name])
  results = [
    network.apply(variables, *inputs, train=True, mutable=['batch_stats']) for inputs in groups
  ]
  moved = [state.get('batch_stats', stats[name]) for _, state in results]
  return [outputs for outputs, _ in results], jax.tree.map(lambda *s: sum(s) / len(s), *moved)


# fmt: off
def make(model: Model, params: Mapping, stats: Mapping, x: jax.Array, c: jax.Array | None,
         noise: Mapping) -> tuple[dict, dict, dict]:
  """Images {'f': x_f, 'p': x_p} [B, H, W, C], {'kl': [B]}, and the makers' statistics.

  With model.reconstruct_every = n, 'f' and 'kl' have B / n rows.

  Args:
    noise: dict with `posterior` [B, Z], `prior` [B, Z] ~ N(0, I), and `c_p` like c.
  """
  terms, moved, groups, z_p = {}, {}, {}, noise['prior']
  images = {k for network in CRITICS + ('generator',) for k in seen_by(network, model.losses)}
  if 'encoder' in networks_of(model.losses):
    x, c, normal = map(model.reconstructed, (x, c, noise['posterior']))
    ((mean, logvar),), moved['encoder'] = passes(model, 'encoder', params, stats, [(x, c)], True)
    terms['kl'] = losses.gaussian_kl(mean, logvar)                           # L_prior, L_KL
    clipped = jnp.clip(logvar, *losses.LOGVAR_RANGE)
    groups['f'] = (mean + jnp.exp(clipped / 2) * normal, c)                  # z ~ q(z|x, c)
    if 'prior' in stats['encoder']:
      known = stats['encoder']['prior']
      z_p = prior.drawn(known, z_p, noise['c_p'])
      learned = prior.moved(known, mean, logvar, c, model.axis_name)
      moved['encoder'] = {**moved['encoder'], 'prior': learned}
  groups['p'] = (z_p, noise['c_p'])                                          # z_p, c_p
  groups = {k: groups[k] for k in 'fp' if k in images}
  decoded = []
  if groups:
    decoded, moved['generator'] = passes(
        model, 'generator', params, stats, list(groups.values()), model.joint_makers)
    if 'prior' in stats['generator']:  # the encoder's, for whoever has the generator alone
      own = prior.of_generator(moved['encoder']['prior'])
      moved['generator'] = {**moved['generator'], 'prior': own}
  return dict(zip(groups, decoded)), {k: v for k, v in terms.items() if k in model.losses}, moved


def judge(model: Model, params: Mapping, stats: Mapping, centres: Mapping, x: jax.Array,
          c: jax.Array | None, c_p: jax.Array | None, fakes: Mapping,
          aids: Mapping = {}) -> tuple[dict, tuple]:
  """Losses {name: [B] or scalar}, then (the critics' statistics, centres, notes).

  The notes are scalars to log: D's mean logits logit_r, logit_f, logit_p; sign_real, if the
  augmentation adapts to it.

  Args:
    centres: {'match_d', 'match_c'}: moving averages as of losses.init_centres, or {}.
    fakes: {'f': x_f, 'p': x_p}, as far as the method has them.
    aids: what critic_aids.py keeps, and `draws` [B, critic_aids.DRAWS] if the model augments.
  """
  thin, some = model.reconstructed, model.penalised
  conditions = dict(f=thin(c), p=c_p)
  images = dict(r=(x, c), **{k: (image, conditions[k]) for k, image in fakes.items()})
  shown = images
  if model.critic_augment:
    shown = critic_aids.shown(model.critic_augment, images, aids)
  moved, centres = {}, dict(centres)
  logits, feature, class_logits, class_feature = {}, {}, {}, {}
  if seen := seen_by('discriminator', model.losses):
    outputs, moved['discriminator'] = passes(
        model, 'discriminator', params, stats, [shown[k] for k in seen], model.joint_critics)
    for k, output in zip(seen, outputs):
      logits[k], feature[k] = output                                         # D, and f_D or Dis_l
  if seen := seen_by('classifier', model.losses):
    outputs, moved['classifier'] = passes(
        model, 'classifier', params, stats, [images[k][:1] for k in seen], model.joint_critics)
    for k, output in zip(seen, outputs):
      class_logits[k], class_feature[k] = output                             # C, and f_C

  def matched(name, features, members, members_p, decay):
    term, centres[name] = losses.class_mean_feature_matching(
        features['r'], features['p'], members, members_p, centres[name],
        decay=decay, axis_name=model.axis_name)
    return term

  # A feature of real images is a target: it receives no gradient (the code of Larsen et al.).
  target, everyone = jax.lax.stop_gradient, jnp.ones((len(x), 1))
  on_real, on_fake, fool = model.adversarial
  rivals = [logits[k] for k in played(model.losses)]

  def compared(k):
    real = thin(logits['r']) if k == 'f' else logits['r']
    return (real, logits[k]) if model.adversarial in PAIRED else (logits[k],)

  terms = dict(
      pixel=lambda: losses.gaussian_nll(fakes['f'], thin(x)),                # L_llike^pixel, L_G
      real=lambda: on_real(logits['r']),                                     # L_D, -L_GAN: log D(x)
      fake_recon=lambda: on_fake(*compared('f')),                            # log(1 - D(x_f))
      fake_prior=lambda: on_fake(*compared('p')),                            # log(1 - D(x_p))
      fool_recon=lambda: fool(*compared('f')),
      fool_prior=lambda: fool(*compared('p')),                               # L'_GD
      r1=lambda: losses.r1(critic_alone(model, params, stats, some(c)), some(shown['r'][0])),
      r2=lambda: losses.r2(
          critic_alone(model, params, stats, some(c_p)), some(shown['p'][0])),
      lecam=lambda: critic_aids.lecam(aids, logits['r'], rivals),
      feature_d=lambda: losses.gaussian_nll(                                 # L_llike^Dis_l, L_G
          feature['f'], target(thin(feature['r']))),
      match_d=lambda: matched(                                               # L_GD
          'match_d', feature, everyone, everyone, model.match_d_decay),
      classify=lambda: model.class_loss(class_logits['r'], c),               # L_C
      classify_recon=lambda: model.class_loss(class_logits['f'], thin(c)),
      classify_prior=lambda: model.class_loss(class_logits['p'], c_p),       # L'_GC
      feature_c=lambda: losses.gaussian_nll(                                 # L_G
          class_feature['f'], target(thin(class_feature['r']))),
      match_c=lambda: matched('match_c', class_feature, c, c_p, model.match_c_decay))   # L_GC
  terms = {name: terms[name]() for name in model.losses if name in terms}
  notes = {f'logit_{k}': v.mean() for k, v in logits.items()}
  if rivals and model.critic_augment and model.critic_augment.adaptive:
    notes['sign_real'] = critic_aids.sign_real(
        logits['r'], rivals, model.adversarial in PAIRED, model.axis_name)
  return terms, (moved, centres, notes)
# fmt: on


def critic_alone(
  model: Model, params: Mapping, stats: Mapping, c: jax.Array | None
) -> Callable[[jax.Array], jax.Array]:
  """D as a function of images alone, normalised by running statistics, for R1.

  A penalty on each example's own gradient needs logits that do not depend on the batch.
  """
  variables = {'params': params['discriminator'], 'batch_stats': stats['discriminator']}

  def logits(x):
    return model.networks['discriminator'].apply(variables, x, c, train=False)[0]

  return logits
