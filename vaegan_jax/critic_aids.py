"""Two optional aids for a discriminator that wins because it knows its few images by heart.

- The averages of the loss `lecam` (Tseng et al. 2021): moving averages of D's mean logits.
- Augmentation of what the discriminator sees (DiffAugment, Zhao et al. 2020), each transformation
  with probability p. p is fixed, or follows how often the discriminator is right (ADA, Karras et
  al. 2020).

The numbers that they keep from step to step lie in TrainState.averages.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from vaegan_jax import losses

# Largest changes, as in DiffAugment: added to images in [-1, 1]; on a factor of 1; on a factor of
# 1; shift in images; side of the square that is cut out, in images.
BRIGHTNESS, SATURATION, CONTRAST, SHIFT, SQUARE = 0.5, 1.0, 0.5, 1 / 8, 1 / 2
DRAWS = 13  # uniform numbers per image: 6 decide what acts, 7 say how much
LARGEST = 0.8  # p that adapts stays below: from here on fakes may look augmented (Karras et al.)


class CriticAugment(NamedTuple):
  """How strongly the discriminator's images are augmented."""

  strength: float = 0.0  # p in [0, 1], fixed or at the start
  adaptive: bool = False
  target: float = 0.6  # of r_t, see sign_real
  images: float = 50_000.0  # real images over which p may move by 1


def augmented(x: jax.Array, draws: jax.Array, strength: jax.Array | float) -> jax.Array:
  """Images [B, H, W, C]: each transformation acts on an image with probability `strength`.

  Mirror (half as often), brightness, saturation, contrast, translation, cutout. Grey fills what
  they leave empty. Differentiable in x, and x itself at strength 0.

  Args:
    x: images [B, H, W, C] in [-1, 1].
    draws: [B, DRAWS], uniform in [0, 1).
    strength: scalar in [0, 1].
  """
  often = jnp.array([0.5, 1.0, 1.0, 1.0, 1.0, 1.0])
  acts = (draws[:, :6] < strength * often).astype(x.dtype)
  amounts = 2.0 * draws[:, 6:] - 1.0
  x = recoloured(x, acts[:, 1:4] * amounts[:, :3])
  x = shifted(x, acts[:, 4:5] * amounts[:, 3:5], acts[:, 0])
  return x * (1.0 - acts[:, 5, None, None, None] * square(x.shape[1:3], amounts[:, 5:]))


def recoloured(x: jax.Array, amounts: jax.Array) -> jax.Array:
  """Images [B, H, W, C] with other brightness, saturation, contrast: amounts [B, 3] in [-1, 1)."""
  brightness, saturation, contrast = amounts.T[..., None, None, None]
  x = x + BRIGHTNESS * brightness
  x = x + (x - x.mean(3, keepdims=True)) * (SATURATION * saturation)
  return x + (x - x.mean((1, 2, 3), keepdims=True)) * (CONTRAST * contrast)


def shifted(x: jax.Array, amounts: jax.Array, mirrored: jax.Array) -> jax.Array:
  """Images [B, H, W, C] mirrored left to right, then moved by whole pixels.

  Args:
    amounts: [B, 2] in [-1, 1): down and right, in units of SHIFT.
    mirrored: [B], 1 or 0.
  """
  height, width = x.shape[1:3]
  down, right = jnp.round(amounts * SHIFT * jnp.array([height, width])).T[..., None]
  row, column = jnp.arange(height) - down, jnp.arange(width) - right  # sources, [B, H] and [B, W]
  column = jnp.where(mirrored[:, None] > 0, width - 1 - column, column)
  # One-hot matrices: their gradient is a product too, where a gather's would be a slow scatter.
  # Accelerators multiply float32 matrices in fewer bits unless told not to.
  rows, columns = (
    (at[..., None] == jnp.arange(n)).astype(x.dtype) for at, n in ((row, height), (column, width))
  )
  x = jnp.einsum('bij,bjkc->bikc', rows, x, precision=lax.Precision.HIGHEST)
  return jnp.einsum('blk,bikc->bilc', columns, x, precision=lax.Precision.HIGHEST)


def square(shape: tuple[int, ...], amounts: jax.Array) -> jax.Array:
  """[B, H, W, 1]: 1 inside a rectangle of SQUARE of each side about a random centre, else 0.

  Args:
    shape: (H, W).
    amounts: [B, 2] in [-1, 1): the centre, from edge to edge.
  """
  inside = [
    jnp.abs((jnp.arange(n) + 0.5) / n - (amounts[:, i, None] + 1) / 2) < SQUARE / 2
    for i, n in enumerate(shape)
  ]
  return (inside[0][:, :, None] & inside[1][:, None, :])[..., None].astype(amounts.dtype)


def shown(augment: CriticAugment, images: Mapping, aids: Mapping) -> dict[str, tuple]:
  """The discriminator's inputs: `images`, {letter: (images [B, H, W, C], condition)}, augmented.

  The images of one place in the batch, real and fake, share their draws: `feature_d` compares x
  with x_f, and must not measure the augmentation.

  Args:
    aids: `draws` [B, DRAWS], and `augment_strength` if the strength adapts.
  """
  strength = aids['augment_strength'] if augment.adaptive else augment.strength
  draws = aids['draws']
  own = {k: draws[:: len(draws) // len(x)] for k, (x, _) in images.items()}
  return {k: (augmented(x, own[k], strength), c) for k, (x, c) in images.items()}


def lecam(averages: Mapping, real: jax.Array, fakes: Sequence[jax.Array]) -> jax.Array:
  """losses.lecam_real + losses.lecam_fake, a scalar; 0 before the first step, without averages.

  Args:
    real: logits [B] of real images; fakes: logits [P] of each group of fakes, groups weigh alike.
  """
  on_fakes = [losses.lecam_fake(logits, averages['lecam_real']).mean() for logits in fakes]
  both = losses.lecam_real(real, averages['lecam_fake']).mean() + sum(on_fakes) / len(fakes)
  return jnp.where(averages['lecam_steps'] > 0, both, 0.0)


def sign_real(
  real: jax.Array, fakes: Sequence[jax.Array], paired: bool, axis_name: str | None
) -> jax.Array:
  """r_t, a scalar in [-1, 1]: the mean sign of D(x) minus the mean logit of the fakes.

  ADA takes the sign of D(x), but not every critic puts its border at 0. A relativistic one has no
  border at all, only pairs: `paired` takes the sign of D(x) minus the logit of its own fake.

  Args:
    real: logits [B] of real images; fakes: logits of each group of fakes, [B] or (of every n-th
      image) [B / n]; groups weigh alike.
  """
  if paired:
    pairs = [(real[:: len(real) // len(fake)], fake) for fake in fakes]
  else:
    means = [logits.mean() for logits in fakes]
    pairs = [(real, m if axis_name is None else lax.pmean(m, axis_name)) for m in means]
  return jnp.stack([jnp.sign(real - fake).mean() for real, fake in pairs]).mean()


def init(names: Iterable[str], augment: CriticAugment | None) -> dict[str, jax.Array]:
  """The averages at step 0, float32 [] each: of `lecam` if it is in `names`; p if it adapts."""
  means = ('lecam_real', 'lecam_fake', 'lecam_steps') if 'lecam' in names else ()
  kept: dict[str, float] = dict.fromkeys(means, 0.0)
  if augment and augment.adaptive:
    kept['augment_strength'] = augment.strength
  return {name: jnp.full((), value, jnp.float32) for name, value in kept.items()}


def moved(
  averages: Mapping[str, jax.Array],
  terms: Mapping[str, jax.Array],
  game: str,
  decay: float,
  augment: CriticAugment | None,
  images: int,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """(what a step changes in the averages, {'augment_strength': p of that step} if it adapts).

  A phase of a run without `lecam` or without the adversarial game leaves what it kept.

  Args:
    terms: of the step, means over all devices.
    game: letters of the fakes that the discriminator tells from real images.
    decay: of the mean logits. Before 1 / (1 - decay) steps they are plain means of all steps.
    images: real images of the step.
  """
  after, told = {}, {}
  if 'lecam' in terms:
    steps = averages['lecam_steps']
    keep = jnp.minimum(decay, steps / (steps + 1.0))
    fake = sum(terms[f'logit_{k}'] for k in game) / len(game)
    for name, value in dict(lecam_real=terms['logit_r'], lecam_fake=fake).items():
      after[name] = keep * averages[name] + (1.0 - keep) * value
    after['lecam_steps'] = steps + 1.0
  if augment and 'sign_real' in terms:
    told['augment_strength'] = averages['augment_strength']
    after['augment_strength'] = moved_strength(
      augment, told['augment_strength'], terms['sign_real'], images
    )
  return after, told


def moved_strength(
  augment: CriticAugment, strength: jax.Array, sign: jax.Array, images: int
) -> jax.Array:
  """p after a step: p + images / augment.images * sign(r_t - target), within [0, LARGEST].

  Args:
    strength: p of the step; sign: its r_t; images: its number of real images.
  """
  step = images / augment.images * jnp.sign(sign - augment.target)
  return jnp.clip(strength + step, 0.0, LARGEST)
