"""Losses of VAEs and GANs: float32 [B], one number per example, unless batch-level (a scalar).

Conventions, settled here once:
- Axes: B examples (P fakes where their number may differ), Z latent, K classes, A attributes,
  F features; `...` is one or more further axes.
- Reduction: a sum over every axis but the batch; the caller takes the mean over the batch. The
  papers' gamma and lambdas mean nothing under any other reduction.
- Sign: every loss is to be minimised. Larsen et al. write L_GAN as a log-likelihood: the sum of
  bce_real(D(x)), bce_fake(D(x_f)) and bce_fake(D(x_p)) is -L_GAN. The saturating (minimax) loss of
  the generator is -bce_fake: weight -1 in its row.
- Logits, never probabilities; log-variances, never standard deviations. Units are nats.
- Results are float32, computed in float32, whatever the input's float dtype. Values and gradients
  are finite for logits and log-variances in [-1e4, 1e4].
- Gradients reach every argument unless the docstring says that one is held constant.
- Batch-level losses take `axis_name`, the mapped axis of pmap or shard_map(check_vma=False). They
  return the value of the global batch, and the mean over devices (pmean) of the per-device
  gradients is the gradient of the global loss. Under jit with sharded arrays leave it None.
- Nothing is broadcast. Every function raises ValueError for shapes that do not fit, naming the
  arguments and their shapes, and TypeError for anything but float arrays.

Sources: Larsen et al. 2016 (arXiv 1512.09300; equations as in its v2) and Bao et al. 2017 (arXiv
1703.10155; its equation numbers, and the bodies of Eqs. 7 and 8, are recalled). Notation: x real
image, x_f its reconstruction, x_p a prior sample, f_D and f_C features of the discriminator and the
classifier. Other papers are cited without equation numbers.
"""

from collections.abc import Callable, Mapping

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.typing import ArrayLike

# fmt: off
__all__ = [
    'LOGVAR_RANGE',
    'gaussian_kl', 'gaussian_kl_per_dim',
    'gaussian_nll', 'bernoulli_nll', 'laplace_nll',
    'mean_feature_matching', 'class_mean_feature_matching', 'init_centres',
    'bce_real', 'bce_fake', 'bce_fool',
    'hinge_real', 'hinge_fake', 'hinge_fool',
    'least_squares_real', 'least_squares_fake', 'least_squares_fool',
    'wasserstein_real', 'wasserstein_fake', 'wasserstein_fool',
    'relativistic_real', 'relativistic_discriminator', 'relativistic_generator',
    'lecam_real', 'lecam_fake',
    'softmax_cross_entropy', 'softmax_cross_entropy_with_labels', 'sigmoid_cross_entropy',
    'r1', 'r2', 'gradient_penalty',
]
# fmt: on

# Where exp(logvar) is exact. Samplers clip logvar to it; gaussian_kl_per_dim leads back into it.
LOGVAR_RANGE = (-30.0, 20.0)


def _checked(**arguments: tuple) -> list[Array]:
  """The arrays of name=(array, axes[, kind]), floats as float32; nothing is broadcast.

  A letter in `axes` stands for one length in all arguments, `...` for the same axes in all.
  """
  given = ', '.join(
    f'{name} {getattr(array, "shape", "?")} as {_axes(axes)}'
    for name, (array, axes, *_) in arguments.items()
  )
  lengths, arrays = {}, []
  for name, (array, axes, *kinds) in arguments.items():
    kind = kinds[0] if kinds else jnp.floating
    dtype = getattr(array, 'dtype', None)
    if dtype is None or not jnp.issubdtype(dtype, kind):
      raise TypeError(
        f'{name} must be an array of {kind.__name__} dtype, got '
        f'{dtype or type(array).__name__}; convert it first'
      )
    letters = axes.removesuffix('...')
    rest = array.shape[len(letters) :]
    sizes = dict(zip(letters, array.shape), **({'...': rest} if axes != letters else {}))
    fits = array.ndim >= len(letters) and bool(rest) == (axes != letters) and 0 not in array.shape
    if not fits or any(lengths.setdefault(k, size) != size for k, size in sizes.items()):
      raise ValueError(
        f'{name} has shape {array.shape}, expected {_axes(axes)}; given {given}: a letter is one '
        'length throughout, no axis may be empty, and nothing is broadcast'
      )
    arrays.append(jnp.asarray(array, jnp.float32 if kind is jnp.floating else None))
  return arrays


def _axes(axes: str) -> str:
  """'B...' as '[B, ...]', for error messages."""
  return f'[{", ".join(axes.removesuffix("..."))}{", ..." if axes.endswith("...") else ""}]'


def _sum(values: Array) -> Array:
  """[B]: the sum of values [B, ...] over every axis but the batch."""
  return values.sum(axis=tuple(range(1, values.ndim)))


# --- The variational autoencoder


def gaussian_kl_per_dim(mean: ArrayLike, logvar: ArrayLike) -> Array:
  """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent dimension [B, Z], in nats.

      1/2 (mean^2 + exp(logvar) - 1 - logvar)

  Exact for logvar in LOGVAR_RANGE. Outside, the loss continues along its tangent at the nearer end
  (below -30 that is the exact value to float32). It stays finite, and its derivative, -1/2 below
  and 1/2 (e^20 - 1) above, leads back. A plain clip has derivative zero there: a latent outside
  would stay outside.

  Source: Kingma & Welling 2014; Bao Eq. 7. Used by: gaussian_kl, counts of active latents.
  """
  mean, logvar = _checked(mean=(mean, 'B...'), logvar=(logvar, 'B...'))
  inside = jnp.clip(logvar, *LOGVAR_RANGE)
  # expm1 keeps the digits of exp(logvar) - 1 - logvar near logvar = 0.
  excess = jnp.expm1(inside) + jnp.exp(inside) * (logvar - inside) - logvar
  return 0.5 * (jnp.square(mean) + excess)


def gaussian_kl(mean: ArrayLike, logvar: ArrayLike, *, free_bits: ArrayLike = 0.0) -> Array:
  """KL(N(mean, exp(logvar)) || N(0, I)) [B], in nats, summed over the latent axes [B, Z].

      sum_j max(free_bits, KL_j),   KL_j of gaussian_kl_per_dim

  `free_bits` (a scalar, in nats despite its name) is what each dimension may carry for free: below
  it, the gradient is zero. The maximum is per example and dimension, so the result is [B]. Kingma
  et al. 2016 take it of the mini-batch mean for a group of dimensions (recalled): never a larger
  loss than this one, and it frees all examples at once or none.

  Source: L_prior of Larsen; L_KL, Eq. 7, of Bao. Used by: the encoder of every method.

  >>> gaussian_kl(jnp.ones((1, 128)), jnp.zeros((1, 128)))
  Array([64.], dtype=float32)
  """
  if jnp.ndim(free_bits):
    raise ValueError(f'free_bits must be a scalar, got shape {jnp.shape(free_bits)}')
  kl = gaussian_kl_per_dim(mean, logvar)
  return _sum(jnp.maximum(kl, jnp.asarray(free_bits, jnp.float32)))


def gaussian_nll(prediction: ArrayLike, target: ArrayLike) -> Array:
  """-log N(target | prediction, I) [B], in nats, without its constant, of arrays [B, ...].

      1/2 sum (prediction - target)^2        (dropped: log(2 pi) / 2 per element)

  The papers write this in three ways:
  - on pixels: L_llike^pixel (Larsen) and the pixel part of L_G (Bao Eq. 8);
  - on features of the discriminator's l-th layer: L_llike^Dis_l (Larsen Eqs. 6, 7);
  - on f_D and f_C: the pairwise feature matching in L_G (Bao Eq. 8).
  In the latter two the prediction is the reconstruction's features. Larsen's code stops the
  gradient at the target's: pass `lax.stop_gradient(target)` for that.

  Source: as named above. Used by: encoder and generator of every method with reconstructions.

  >>> gaussian_nll(jnp.ones((1, 8, 8, 256)), jnp.zeros((1, 8, 8, 256)))
  Array([8192.], dtype=float32)
  """
  prediction, target = _checked(prediction=(prediction, 'B...'), target=(target, 'B...'))
  return 0.5 * _sum(jnp.square(prediction - target))


def bernoulli_nll(logits: ArrayLike, target: ArrayLike) -> Array:
  """-log Bernoulli(target | sigmoid(logits)) [B], in nats, of logits and targets in 0..1 [B, ...].

      sum  target softplus(-logits) + (1 - target) softplus(logits)

  For binary pixels; with targets between 0 and 1 it is a cross-entropy whose minimum is not 0.
  Targets outside 0..1, such as images in [-1, 1], are not detected, and the loss has no minimum.

  Source: Kingma & Welling 2014. Used by: VAEs on binary images; sigmoid_cross_entropy.
  """
  logits, target = _checked(logits=(logits, 'B...'), target=(target, 'B...'))
  return _sum(target * jax.nn.softplus(-logits) + (1.0 - target) * jax.nn.softplus(logits))


def laplace_nll(prediction: ArrayLike, target: ArrayLike) -> Array:
  """-log Laplace(target | prediction, scale 1) [B], in nats, without its constant, of [B, ...].

      sum |prediction - target|        (dropped: log 2 per element)

  The gradient is 0 where both are equal.

  Source: the density. Used by: pixel losses sharper than gaussian_nll; neither paper has it.
  """
  prediction, target = _checked(prediction=(prediction, 'B...'), target=(target, 'B...'))
  return _sum(jnp.abs(prediction - target))


# --- Mean feature matching, batch-level


def mean_feature_matching(
  real: ArrayLike, fake: ArrayLike, *, axis_name: str | None = None
) -> Array:
  """Half the squared distance of the mean features of real [B, F] and fake [P, F]: a scalar.

      1/2 || mean_i f(x_i) - mean_i f(x_p_i) ||^2

  With moving averages of both means this is class_mean_feature_matching with K=1 and memberships
  of ones. The gradient is zero once the mini-batch means agree, so this loss alone does not prevent
  mode collapse.

  Source: L_GD, Bao Eq. 3; feature matching of Salimans et al. 2016. Used by: generator of CVAE-GAN
  and FM-CGAN.
  """
  real, fake = _checked(real=(real, 'BF'), fake=(fake, 'PF'))
  difference = real.mean(0) - fake.mean(0)
  if axis_name is not None:
    difference = lax.pmean(difference, axis_name)
  return 0.5 * jnp.square(difference).sum()


def init_centres(num_classes: int, num_features: int) -> dict[str, Array]:
  """Centres for class_mean_feature_matching before any class was seen.

  Dict of float32: `real` and `fake` [K, F], the moving averages; `real_count` and `fake_count` [K],
  the number of batches that had each class (0: the centre means nothing yet).

  Raises:
    ValueError: fewer than 1 class or 1 feature.
  """
  if num_classes < 1 or num_features < 1:
    raise ValueError(
      f'expected at least 1 class and 1 feature, got {num_classes} and {num_features}'
    )
  centre, count = jnp.zeros((num_classes, num_features)), jnp.zeros(num_classes)
  return {
    name: values.astype(jnp.float32)
    for name, values in dict(real=centre, fake=centre, real_count=count, fake_count=count).items()
  }


def _class_means(features, membership, axis_name):
  """Means [K, F] of features [B, F] weighted by membership [B, K], and classes present [K]."""
  # Accelerators multiply float32 matrices in fewer bits unless told not to.
  sums = jnp.matmul(membership.T, features, precision=lax.Precision.HIGHEST)
  weights = membership.sum(0)
  if axis_name is not None:
    sums, weights = lax.psum((sums, weights), axis_name)
  present = weights > 0
  return sums / jnp.where(present, weights, 1.0)[:, None], present


def _checked_matching(real, fake, real_membership, fake_membership, centres):
  """The arguments of class_mean_feature_matching as float32 arrays that fit, or an error."""
  axes = dict(real='KF', fake='KF', real_count='K', fake_count='K')
  if set(centres) != set(axes):
    raise ValueError(f'centres has keys {sorted(centres)}; make it with init_centres')
  real, fake, real_membership, fake_membership, *old = _checked(
    real=(real, 'BF'),
    fake=(fake, 'PF'),
    real_membership=(real_membership, 'BK'),
    fake_membership=(fake_membership, 'PK'),
    **{f'centres[{k!r}]': (centres[k], axes[k]) for k in axes},
  )
  return real, fake, real_membership, fake_membership, dict(zip(axes, old))


def _updated(centre, count, mean, present, decay):
  """Centre [K, F] and count [K] after a batch: absent classes stay, a first mean sets a centre."""
  keep = jnp.where(present, jnp.where(count > 0, decay, 0.0), 1.0)[:, None]
  return keep * centre + (1.0 - keep) * mean, count + present.astype(jnp.float32)


def class_mean_feature_matching(
  real: ArrayLike,
  fake: ArrayLike,
  real_membership: ArrayLike,
  fake_membership: ArrayLike,
  centres: Mapping[str, ArrayLike],
  *,
  decay: ArrayLike = 0.9,
  axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
  """Squared distances of real and fake class centres, and the centres after this batch.

      1/2 sum_k || centre_k(f(x)) - centre_k(f(x_p)) ||^2        a scalar
      centre_k <- decay centre_k + (1 - decay) sum_i w_ik f_i / sum_i w_ik

  Args:
    real, fake: features [B, F] of real images and [P, F] of fakes.
    real_membership, fake_membership: weights w >= 0 [B, K] and [P, K]: one-hot classes, attributes
      0 or 1, or soft mixtures. A class is present if the sum of its weights is positive, even tiny.
    centres: the centres so far, from init_centres or the previous step.
    decay: of the moving averages, in [0, 1); 0 compares the centres of the latest batches.
    axis_name: the mapped axis; the new centres are equal on all devices.

  Bao et al. ask for moving averages on both sides and leave the rest open. Our choices:
  - The first batch with a class sets its centre; an absent class keeps its centre.
  - A class of which no real or no fake was ever seen contributes exactly 0.
  - Distances are between the centres after the update, this batch included.
  - Straight-through: the gradient for `fake` is that of the batch's own centres, whatever the
    decay. Otherwise it would be 1 - decay times as large, and lambda 4 would mean something else.
    It is zero for the features of examples in no class.
  - Real features, memberships and old centres are constants; the new centres carry no gradient.
  A feature that is not finite spoils the centres: if a step is refused for that, keep the old ones.

  Source: L_GC, Bao Eq. 6. Used by: generator of CVAE-GAN and FM-CGAN; with K=1 for L_GD's moving
  historical average. Errors: also ValueError for decay outside [0, 1) or other keys in centres.

  >>> one_hot, features = jnp.eye(2), jnp.array([[1., 0.], [0., 1.]])
  >>> loss, centres = class_mean_feature_matching(
  ...     features, features[::-1], one_hot, one_hot, init_centres(2, 2))
  >>> loss  # the global means are equal, the class means are swapped
  Array(2., dtype=float32)
  """
  if isinstance(decay, (int, float)) and not 0 <= decay < 1:
    raise ValueError(f'decay must be in [0, 1), got {decay}')
  real, fake, *constants = _checked_matching(real, fake, real_membership, fake_membership, centres)
  real, w_real, w_fake, old = lax.stop_gradient((real, *constants))
  decay = jnp.asarray(decay, jnp.float32)

  real_mean, real_present = _class_means(real, w_real, axis_name)
  fake_mean, fake_present = _class_means(fake, w_fake, axis_name)
  fixed = lax.stop_gradient(fake_mean)
  real_centre, real_count = _updated(old['real'], old['real_count'], real_mean, real_present, decay)
  fake_centre, fake_count = _updated(old['fake'], old['fake_count'], fixed, fake_present, decay)

  seen = (real_count > 0) & (fake_count > 0)
  straight_through = fake_centre + (fake_mean - fixed)
  difference = jnp.where(seen[:, None], real_centre - straight_through, 0.0)
  return 0.5 * jnp.square(difference).sum(), dict(
    real=real_centre, fake=fake_centre, real_count=real_count, fake_count=fake_count
  )


# --- Adversarial losses, one per group of logits [B] so that a method can weigh the groups: the
# critic's on real images, the critic's on fakes, and the generator's on fakes.


def bce_real(logits: ArrayLike) -> Array:
  """-log sigmoid(logits) [B] = softplus(-logits), in nats, of the critic's logits on real images.

  Source: Goodfellow et al. 2014; -log Dis(x) in Larsen Eq. 10 and Bao Eq. 1. Used by: the
  discriminator; with weight -1 by Larsen's generator.

  >>> bce_real(jnp.array([0., 1e4, -1e4])).round(4)
  Array([6.931e-01, 0.000e+00, 1.000e+04], dtype=float32)
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jax.nn.softplus(-logits)


def bce_fake(logits: ArrayLike) -> Array:
  """-log(1 - sigmoid(logits)) [B] = softplus(logits), in nats, of the critic's logits on fakes.

  The saturating (minimax) loss of the generator is -bce_fake, as in Larsen's paper and code.

  Source: Goodfellow et al. 2014; -log(1 - Dis(x_f)), -log(1 - Dis(x_p)) in Larsen Eq. 10 and Bao
  Eq. 1. Used by: discriminator; with weight -1 by Larsen's generator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jax.nn.softplus(logits)


def bce_fool(logits: ArrayLike) -> Array:
  """-log sigmoid(logits) [B] = softplus(-logits), in nats: the non-saturating loss on fakes.

  Source: Goodfellow et al. 2014; L'_GD, Bao Eq. 2, which CVAE-GAN rejects. Used by: generator of
  GAN and CGAN.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jax.nn.softplus(-logits)


def hinge_real(logits: ArrayLike) -> Array:
  """max(0, 1 - logits) [B], of the critic's logits on real images; gradient 0 from logit 1 up.

  Source: Lim & Ye 2017, Miyato et al. 2018. Used by: discriminator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jax.nn.relu(1.0 - logits)


def hinge_fake(logits: ArrayLike) -> Array:
  """max(0, 1 + logits) [B], of the critic's logits on fakes; gradient 0 from logit -1 down.

  Source: Lim & Ye 2017, Miyato et al. 2018. Used by: discriminator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jax.nn.relu(1.0 + logits)


def hinge_fool(logits: ArrayLike) -> Array:
  """-logits [B], the generator's loss against a critic trained by hinge_real and hinge_fake.

  Source: Lim & Ye 2017, Miyato et al. 2018. Used by: generator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return -logits


def least_squares_real(logits: ArrayLike) -> Array:
  """1/2 (logits - 1)^2 [B], of the critic's outputs (no sigmoid) on real images.

  Source: Mao et al. 2017, with a=0, b=c=1. Used by: discriminator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return 0.5 * jnp.square(logits - 1.0)


def least_squares_fake(logits: ArrayLike) -> Array:
  """1/2 logits^2 [B], of the critic's outputs (no sigmoid) on fakes.

  Source: Mao et al. 2017, with a=0, b=c=1. Used by: discriminator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return 0.5 * jnp.square(logits)


def least_squares_fool(logits: ArrayLike) -> Array:
  """1/2 (logits - 1)^2 [B], the generator's loss on fakes.

  Source: Mao et al. 2017, with a=0, b=c=1. Used by: generator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return 0.5 * jnp.square(logits - 1.0)


def wasserstein_real(logits: ArrayLike) -> Array:
  """-logits [B], of the critic's outputs on real images; unbounded without a Lipschitz penalty.

  Source: Arjovsky et al. 2017. Used by: discriminator, with gradient_penalty.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return -logits


def wasserstein_fake(logits: ArrayLike) -> Array:
  """logits [B], of the critic's outputs on fakes; unbounded without a Lipschitz penalty.

  Source: Arjovsky et al. 2017. Used by: discriminator, with gradient_penalty.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return logits


def wasserstein_fool(logits: ArrayLike) -> Array:
  """-logits [B], the generator's loss on fakes.

  Source: Arjovsky et al. 2017. Used by: generator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return -logits


def relativistic_real(logits: ArrayLike) -> Array:
  """0 [B]: relativistic_discriminator alone trains a relativistic critic, on pairs.

  Source: Jolicoeur-Martineau 2019. Used by: the discriminator, so that a method's row keeps its
  form under every adversarial loss.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jnp.zeros_like(logits)


def relativistic_discriminator(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
  """softplus(fake_logits - real_logits) [B], in nats, of pairs of a real image and a fake.

  Source: Jolicoeur-Martineau 2019; R3GAN (Huang et al. 2024) adds r1 and r2. Used by: the
  discriminator.
  """
  real, fake = _checked(real_logits=(real_logits, 'B'), fake_logits=(fake_logits, 'B'))
  return jax.nn.softplus(fake - real)


def relativistic_generator(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
  """softplus(real_logits - fake_logits) [B], in nats, of pairs of a real image and a fake.

  Source: Jolicoeur-Martineau 2019; R3GAN (Huang et al. 2024). Used by: generator.
  """
  real, fake = _checked(real_logits=(real_logits, 'B'), fake_logits=(fake_logits, 'B'))
  return jax.nn.softplus(real - fake)


def lecam_real(logits: ArrayLike, fake_mean: ArrayLike) -> Array:
  """max(0, logits - fake_mean)^2 [B], of the critic's logits on real images.

  `fake_mean`, a scalar, is a moving average of the critic's mean logit on fakes. The loss keeps the
  critic from rating real images far above what it rates fakes on average.

  Source: LeCam regularisation, Tseng et al. 2021, with one half of the sum here. Used by: the
  discriminator, as `lecam`, together with lecam_fake; for few images.
  """
  logits, mean = _checked(logits=(logits, 'B'), fake_mean=(fake_mean, ''))
  return jnp.square(jax.nn.relu(logits - mean))


def lecam_fake(logits: ArrayLike, real_mean: ArrayLike) -> Array:
  """max(0, real_mean - logits)^2 [B], of the critic's logits on fakes; see lecam_real.

  `real_mean`, a scalar, is a moving average of the critic's mean logit on real images.

  Source: Tseng et al. 2021. Used by: the discriminator, as `lecam`.
  """
  logits, mean = _checked(logits=(logits, 'B'), real_mean=(real_mean, ''))
  return jnp.square(jax.nn.relu(mean - logits))


# --- Classification


def softmax_cross_entropy(logits: ArrayLike, probabilities: ArrayLike) -> Array:
  """-sum_k p_k log softmax(logits)_k [B], in nats, of logits and class probabilities [B, K].

  The probabilities are one-hot or a soft mixture; they are not checked to sum to 1.

  Source: L_C, Bao Eq. 4 (real images); on fakes L'_GC, Eq. 5, which CVAE-GAN rejects.
  Used by: classifier of CVAE-GAN, FM-CGAN and CGAN; generator of CGAN.
  """
  logits, probabilities = _checked(logits=(logits, 'BK'), probabilities=(probabilities, 'BK'))
  return -_sum(probabilities * jax.nn.log_softmax(logits))


def softmax_cross_entropy_with_labels(logits: ArrayLike, labels: ArrayLike) -> Array:
  """-log softmax(logits)_label [B], in nats, of logits [B, K] and integer labels [B] in 0..K-1.

  A label outside 0..K-1 makes the loss and gradient of its example NaN: it neither wraps nor goes
  unnoticed.

  Source: L_C, Bao Eq. 4. Used by: classifiers with integer labels. Errors: also TypeError for
  labels that are not integers.

  >>> softmax_cross_entropy_with_labels(jnp.zeros((3, 4)), jnp.array([0, -1, 4])).round(4)
  Array([1.3863,    nan,    nan], dtype=float32)
  """
  logits, labels = _checked(logits=(logits, 'BK'), labels=(labels, 'B', jnp.integer))
  # Compare in the labels' own dtype, since a conversion may wrap; K may exceed its limits.
  largest = min(logits.shape[1] - 1, jnp.iinfo(labels.dtype).max)
  valid = (labels >= 0) & (labels <= largest)
  index = jnp.where(valid, labels, 0).astype(jnp.int32)[:, None]
  picked = jnp.take_along_axis(jax.nn.log_softmax(logits), index, axis=1)[:, 0]
  return -picked * jnp.where(valid, 1.0, jnp.nan)


def sigmoid_cross_entropy(logits: ArrayLike, targets: ArrayLike) -> Array:
  """Binary cross-entropy [B], in nats, summed over attributes, of logits and targets 0..1 [B, A].

      sum_a  t_a softplus(-logits_a) + (1 - t_a) softplus(logits_a)

  Source: bernoulli_nll, of attributes. Used by: a classifier of attributes, instead of L_C.
  """
  logits, targets = _checked(logits=(logits, 'BA'), targets=(targets, 'BA'))
  return bernoulli_nll(logits, targets)


# --- Penalties on the critic's gradient


def _squared_gradient(logits_fn, name, images):
  """|| d logits_fn(x)_i / d x_i ||^2 [B] at images [B, ...], by a single backward pass."""
  (images,) = _checked(**{name: (images, 'B...')})

  def total(images):
    logits, _ = _checked(**{f'logits_fn({name})': (logits_fn(images), 'B'), name: (images, 'B...')})
    return logits.sum()

  return _sum(jnp.square(jax.grad(total)(images)))


def r1(logits_fn: Callable[[Array], ArrayLike], real: ArrayLike) -> Array:
  """1/2 || gradient of logits_fn at x ||^2 [B], at real images x [B, ...]; gamma is the weight.

  `logits_fn` maps float32 images [B, ...] to [B]. The logit of one example must not depend on the
  others: call a discriminator with batch norm with its running statistics (train=False).

  Source: Mescheder et al. 2018, R1 = gamma/2 E || grad ||^2. Used by: discriminator.

  >>> r1(lambda x: (3. * x).sum(1), jnp.ones((1, 2)))
  Array([9.], dtype=float32)
  """
  return 0.5 * _squared_gradient(logits_fn, 'real', real)


def r2(logits_fn: Callable[[Array], ArrayLike], fake: ArrayLike) -> Array:
  """1/2 || gradient of logits_fn at x ||^2 [B], at fakes x [B, ...]; gamma is the weight.

  `logits_fn` as in r1. The penalty also has a gradient for the generator, through the fakes.

  Source: Mescheder et al. 2018. Used by: discriminator, with r1 in R3GAN.
  """
  return 0.5 * _squared_gradient(logits_fn, 'fake', fake)


def gradient_penalty(
  logits_fn: Callable[[Array], ArrayLike],
  real: ArrayLike,
  fake: ArrayLike,
  key: Array,
  *,
  target: float = 1.0,
  one_sided: bool = False,
) -> Array:
  """(|| gradient of logits_fn at y || - target)^2 [B], y between a real image and a fake [B, ...].

      y = fake + u (real - fake),   u ~ U(0, 1) for each example

  `one_sided` penalises only norms above the target. `logits_fn` as in r1. Where the norm is zero,
  its gradient is zero, not NaN. Under pmap give each device its own key.

  Source: WGAN-GP, Gulrajani et al. 2017, with weight 10. Used by: discriminator of wasserstein_*.
  """
  real, fake = _checked(real=(real, 'B...'), fake=(fake, 'B...'))
  u = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1), jnp.float32)
  squared = _squared_gradient(logits_fn, 'real', fake + u * (real - fake))
  # sqrt has no derivative at 0: never evaluate it there, not even in the branch that where drops.
  positive = squared > jnp.finfo(jnp.float32).tiny
  norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
  excess = norm - target
  return jnp.square(jax.nn.relu(excess) if one_sided else excess)
