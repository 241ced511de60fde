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
- Maths and results are float32 whatever the input's float dtype. Values and gradients are finite
  for logits and log-variances in [-1e4, 1e4].
- Gradients reach every argument; where one is held constant the docstring says so.
- Batch-level losses take `axis_name`, the mapped axis of pmap or shard_map(check_vma=False): the
  value is that of the global batch, and the mean over devices (pmean) of the per-device gradients
  is the gradient of the global loss. Under jit with sharded arrays it stays None.
- Nothing is broadcast. Errors of every function: ValueError for shapes that do not fit, naming the
  arguments and their shapes; TypeError for integers, booleans or lists in place of float arrays.

Sources: Larsen et al. 2016 (arXiv 1512.09300; equations as in its v2) and Bao et al. 2017 (arXiv
1703.10155; the numbers of its equations, and the bodies of Eqs. 7 and 8, are recalled), with the
notation x real image, x_f its reconstruction, x_p a prior sample, f_D and f_C features of the
discriminator and the classifier. Equation numbers of other papers are not given.
"""

from collections.abc import Callable

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
    'relativistic_discriminator', 'relativistic_generator',
    'softmax_cross_entropy', 'softmax_cross_entropy_with_labels', 'sigmoid_cross_entropy',
    'r1', 'r2', 'gradient_penalty',
]
# fmt: on

# Where exp(logvar) is exact; whoever samples clips logvar to it, gaussian_kl_per_dim leads back.
LOGVAR_RANGE = (-30.0, 20.0)


def _checked(**arguments) -> list[Array]:
  """The arrays of name=(array, axes[, kind]), floats as float32; nothing fits by broadcasting.

  The same letter in `axes` is the same length in all arguments, and the same `...` the same axes.
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
        f'{name} has shape {array.shape} where {_axes(axes)} is wanted; given {given}: a letter '
        'is one length throughout, no axis may be empty, and nothing is broadcast'
      )
    arrays.append(jnp.asarray(array, jnp.float32 if kind is jnp.floating else None))
  return arrays


def _axes(axes: str) -> str:
  """'B...' as '[B, ...]', for messages."""
  return f'[{", ".join(axes.removesuffix("..."))}{", ..." if axes.endswith("...") else ""}]'


def _sum(values: Array) -> Array:
  """[B]: sums of [B, ...] over everything but the batch."""
  return values.sum(axis=tuple(range(1, values.ndim)))


# --- The variational autoencoder


def gaussian_kl_per_dim(mean: ArrayLike, logvar: ArrayLike) -> Array:
  """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent dimension [B, Z], in nats.

      1/2 (mean^2 + exp(logvar) - 1 - logvar)

  Exact for logvar in LOGVAR_RANGE. Outside, the loss goes on along its tangent at the nearer end
  (below -30 that is the exact value to float32): it stays finite, and its derivative, -1/2 below
  and 1/2 (e^20 - 1) above, leads back. A plain clip has derivative zero there: a latent that
  strays out would stay out.

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

  `free_bits` (a scalar, in nats in spite of its name) is what each dimension may carry for free:
  below it, its gradient is zero. Here the maximum is taken for each example and dimension, so that
  the result is [B]. Kingma et al. 2016 take it of the mini-batch mean for a group of dimensions
  (recalled): never a larger loss than this one, and it frees all examples at once or none.

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

  One function for what the papers write in three ways: on pixels L_llike^pixel (Larsen) and the
  pixel part of L_G (Bao Eq. 8); on features of the l-th layer of the discriminator L_llike^Dis_l
  (Larsen Eqs. 6, 7); on f_D and f_C the pairwise feature matching of L_G (Bao Eq. 8). There the
  prediction is the reconstruction's features. Larsen's code lets no gradient into the target's:
  pass `lax.stop_gradient(target)` for that.

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
  Targets outside 0..1, such as images in [-1, 1], are not detected and have no minimum.

  Source: Kingma & Welling 2014. Used by: VAEs on binary images; sigmoid_cross_entropy.
  """
  logits, target = _checked(logits=(logits, 'B...'), target=(target, 'B...'))
  return _sum(target * jax.nn.softplus(-logits) + (1.0 - target) * jax.nn.softplus(logits))


def laplace_nll(prediction: ArrayLike, target: ArrayLike) -> Array:
  """-log Laplace(target | prediction, scale 1) [B], in nats, without its constant, of [B, ...].

      sum |prediction - target|        (dropped: log 2 per element)

  The gradient where both are equal is 0. Source: the density. Used by: sharper pixel losses than
  gaussian_nll; neither paper has it.
  """
  prediction, target = _checked(prediction=(prediction, 'B...'), target=(target, 'B...'))
  return _sum(jnp.abs(prediction - target))


# --- Matching of mean features, batch-level


def mean_feature_matching(
  real: ArrayLike, fake: ArrayLike, *, axis_name: str | None = None
) -> Array:
  """Half the squared distance of the mean features of real [B, F] and fake [P, F]: a scalar.

      1/2 || mean_i f(x_i) - mean_i f(x_p_i) ||^2

  With a moving average of both means it is class_mean_feature_matching with K=1 and memberships of
  ones. A generator whose mini-batch matches in mean has gradient zero: this loss alone does not
  keep it from collapsing.

  Source: L_GD, Bao Eq. 3; feature matching of Salimans et al. 2016. Used by: generator of CVAE-GAN
  and FM-CGAN.
  """
  real, fake = _checked(real=(real, 'BF'), fake=(fake, 'PF'))
  difference = real.mean(0) - fake.mean(0)
  if axis_name is not None:
    difference = lax.pmean(difference, axis_name)
  return 0.5 * jnp.square(difference).sum()


def init_centres(num_classes: int, num_features: int) -> dict[str, Array]:
  """Centres for class_mean_feature_matching in which no class was ever seen.

  Dict of float32: `real` and `fake` [K, F], the moving averages; `real_count` and `fake_count` [K],
  the number of batches that each class was in, 0 for a centre that means nothing yet.
  """
  if num_classes < 1 or num_features < 1:
    raise ValueError(f'wanted at least 1 class and 1 feature, got {num_classes} and {num_features}')
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


def _moved(centre, count, mean, present, decay):
  """Centre [K, F] and count [K] after a batch: the absent stay, a first mean sets its centre."""
  keep = jnp.where(present, jnp.where(count > 0, decay, 0.0), 1.0)[:, None]
  return keep * centre + (1.0 - keep) * mean, count + present.astype(jnp.float32)


def class_mean_feature_matching(
  real: ArrayLike,
  fake: ArrayLike,
  real_membership: ArrayLike,
  fake_membership: ArrayLike,
  centres: dict[str, ArrayLike],
  *,
  decay: float = 0.9,
  axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
  """Half the squared distances of real and fake feature centres, summed over classes: a scalar; and
  the centres after this batch, of features real [B, F] and fake [P, F].

      1/2 sum_k || centre_k(f(x)) - centre_k(f(x_p)) ||^2
      centre_k <- decay centre_k + (1 - decay) sum_i w_ik f_i / sum_i w_ik

  Args:
    real_membership: [B, K], fake_membership: [P, K]: weights w >= 0: one-hot classes, attributes
      0 or 1, or soft mixtures. A class is present if the sum of its weights is positive, even tiny.
    centres: the centres so far, from init_centres or the step before.
    decay: of the moving averages, in [0, 1); 0 compares the centres of the latest batches.

  Bao et al. ask for moving averages on both sides, and leave the rest open. What is chosen here:
  - The first batch with a class sets its centre; a class that is absent keeps its centre.
  - A class of which no real or no fake was ever seen contributes exactly 0.
  - Distances are of the centres after the update, this batch included.
  - Straight-through: the gradient for `fake` is that of the batch's own centres, whatever the
    decay (else it would be 1 - decay times as large, and lambda 4 would mean something else). It
    is zero for the features of examples that are in no class.
  - Real centres, memberships and old centres are constants, and the new centres carry no gradient:
    this is a loss of the generator.
  Under pmap the new centres are equal on all devices. A feature that is not finite spoils centres:
  where a step is refused for that, keep the old ones.

  Source: L_GC, Bao Eq. 6. Used by: generator of CVAE-GAN and FM-CGAN; with K=1 for L_GD's moving
  historical average. Errors: also ValueError for a decay outside [0, 1) and centres of other keys.

  >>> one_hot, features = jnp.eye(2), jnp.array([[1., 0.], [0., 1.]])
  >>> loss, centres = class_mean_feature_matching(
  ...     features, features[::-1], one_hot, one_hot, init_centres(2, 2))
  >>> loss  # the global means are equal, the class means are swapped
  Array(2., dtype=float32)
  """
  if set(centres) != {'real', 'fake', 'real_count', 'fake_count'}:
    raise ValueError(f'centres has keys {sorted(centres)}; make it with init_centres')
  if isinstance(decay, (int, float)) and not 0 <= decay < 1:
    raise ValueError(f'decay must be in [0, 1), got {decay}')
  axes = dict(real='KF', fake='KF', real_count='K', fake_count='K')
  real, fake, real_membership, fake_membership, *old = _checked(
    real=(real, 'BF'),
    fake=(fake, 'PF'),
    real_membership=(real_membership, 'BK'),
    fake_membership=(fake_membership, 'PK'),
    **{f'centres[{k!r}]': (centres[k], axes[k]) for k in axes},
  )
  real, real_membership, fake_membership, old = lax.stop_gradient(
    (real, real_membership, fake_membership, dict(zip(axes, old)))
  )
  decay = jnp.asarray(decay, jnp.float32)

  real_mean, real_present = _class_means(real, real_membership, axis_name)
  fake_mean, fake_present = _class_means(fake, fake_membership, axis_name)
  fixed = lax.stop_gradient(fake_mean)
  real_centre, real_count = _moved(old['real'], old['real_count'], real_mean, real_present, decay)
  fake_centre, fake_count = _moved(old['fake'], old['fake_count'], fixed, fake_present, decay)

  seen = (real_count > 0) & (fake_count > 0)
  straight_through = fake_centre + (fake_mean - fixed)
  difference = jnp.where(seen[:, None], real_centre - straight_through, 0.0)
  return 0.5 * jnp.square(difference).sum(), dict(
    real=real_centre, fake=fake_centre, real_count=real_count, fake_count=fake_count
  )


# --- Adversarial losses of one group of logits [B] each, so that a method can weigh the groups:
# the critic's on real images, the critic's on fakes, and the generator's on fakes.


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
  """max(0, 1 - logits) [B], of the critic's logits on real images; gradient 0 from the corner on.

  Source: Lim & Ye 2017, Miyato et al. 2018. Used by: discriminator.
  """
  (logits,) = _checked(logits=(logits, 'B'))
  return jax.nn.relu(1.0 - logits)


def hinge_fake(logits: ArrayLike) -> Array:
  """max(0, 1 + logits) [B], of the critic's logits on fakes; gradient 0 from the corner on.

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


def relativistic_discriminator(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
  """softplus(fake_logits - real_logits) [B], in nats, of a real image and a fake side by side.

  Source: Jolicoeur-Martineau 2019; R3GAN (Huang et al. 2024) adds r1 and r2. Used by: the
  discriminator.
  """
  real, fake = _checked(real_logits=(real_logits, 'B'), fake_logits=(fake_logits, 'B'))
  return jax.nn.softplus(fake - real)


def relativistic_generator(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
  """softplus(real_logits - fake_logits) [B], in nats, of a real image and a fake side by side.

  Source: Jolicoeur-Martineau 2019; R3GAN (Huang et al. 2024). Used by: generator.
  """
  real, fake = _checked(real_logits=(real_logits, 'B'), fake_logits=(fake_logits, 'B'))
  return jax.nn.softplus(real - fake)


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

  An example whose label is outside 0..K-1 has loss and gradient NaN: nothing wraps, and nothing
  trains on silently.

  Source: L_C, Bao Eq. 4. Used by: classifiers fed with labels. Errors: also TypeError for labels
  that are no integers.

  >>> softmax_cross_entropy_with_labels(jnp.zeros((3, 4)), jnp.array([0, -1, 4])).round(4)
  Array([1.3863,    nan,    nan], dtype=float32)
  """
  logits, labels = _checked(logits=(logits, 'BK'), labels=(labels, 'B', jnp.integer))
  # Compared in the labels' own dtype, whose limits K may exceed: a conversion may wrap.
  largest = min(logits.shape[1] - 1, jnp.iinfo(labels.dtype).max)
  valid = (labels >= 0) & (labels <= largest)
  index = jnp.where(valid, labels, 0).astype(jnp.int32)[:, None]
  picked = jnp.take_along_axis(jax.nn.log_softmax(logits), index, axis=1)[:, 0]
  return -picked * jnp.where(valid, 1.0, jnp.nan)


def sigmoid_cross_entropy(logits: ArrayLike, targets: ArrayLike) -> Array:
  """Binary cross-entropy [B], in nats, summed over attributes, of logits and targets 0..1 [B, A].

      sum_a  t_a softplus(-logits_a) + (1 - t_a) softplus(logits_a)

  Source: bernoulli_nll, of attributes. Used by: a classifier of attributes in place of L_C.
  """
  logits, targets = _checked(logits=(logits, 'BA'), targets=(targets, 'BA'))
  return bernoulli_nll(logits, targets)


# --- Penalties on the critic's gradient


def _squared_gradient(logits_fn, name, images):
  """|| d logits_fn(x)_i / d x_i ||^2 [B] at images [B, ...], all gradients in one backward pass."""
  (images,) = _checked(**{name: (images, 'B...')})

  def total(images):
    logits, _ = _checked(**{f'logits_fn({name})': (logits_fn(images), 'B'), name: (images, 'B...')})
    return logits.sum()

  return _sum(jnp.square(jax.grad(total)(images)))


def r1(logits_fn: Callable[[Array], ArrayLike], real: ArrayLike) -> Array:
  """1/2 || gradient of logits_fn at x ||^2 [B], at real images x [B, ...]; gamma is the weight.

  `logits_fn` maps [B, ...] to [B], and the logit of one example must not depend on the others:
  a discriminator with batch norm is called with its running statistics (train=False). The images
  are handed to it as float32.

  Source: Mescheder et al. 2018, R1 = gamma/2 E || grad ||^2. Used by: discriminator.

  >>> r1(lambda x: (3. * x).sum(1), jnp.ones((1, 2)))
  Array([9.], dtype=float32)
  """
  return 0.5 * _squared_gradient(logits_fn, 'real', real)


def r2(logits_fn: Callable[[Array], ArrayLike], fake: ArrayLike) -> Array:
  """1/2 || gradient of logits_fn at x ||^2 [B], at fakes x [B, ...]; gamma is the weight.

  `logits_fn` as in r1. Through the fakes the penalty also has a gradient for their generator.

  Source: Mescheder et al. 2018. Used by: discriminator, beside r1 in R3GAN.
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

  `one_sided` penalises norms above the target only. `logits_fn` as in r1. The norm's gradient where
  it is zero is zero, not NaN. Under pmap give each device a key of its own.

  Source: WGAN-GP, Gulrajani et al. 2017, with weight 10. Used by: discriminator of wasserstein_*.
  """
  real, fake = _checked(real=(real, 'B...'), fake=(fake, 'B...'))
  u = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1), jnp.float32)
  squared = _squared_gradient(logits_fn, 'real', fake + u * (real - fake))
  # sqrt has no derivative at 0: it must not be evaluated there, not even on a branch not taken.
  positive = squared > jnp.finfo(jnp.float32).tiny
  norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
  excess = norm - target
  return jnp.square(jax.nn.relu(excess) if one_sided else excess)
