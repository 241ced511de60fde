"""Edits of images by a trained model: add attributes, fill holes, enlarge, mix classes."""

from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.conditions import Attributes, Labels

if TYPE_CHECKING:
  from vaegan_jax.sample import Trained


def attribute_vectors(
  model: 'Trained',
  images: np.ndarray,
  attributes: ArrayLike,
  *,
  labels: Labels | None = None,
  condition: Attributes | None = None,
) -> np.ndarray:
  """float32 [A, Z]: mean latent of images with an attribute minus that of images without it.

  Visual attribute vectors of Larsen et al. 2016, section 4.1. We use the means of the posterior;
  the authors' code uses samples.

  Args:
    model: has an encoder.
    images: uint8 [N, H, W, C].
    attributes: 0 or 1 [N, A]; ValueError for one that all or none of the images have.
    labels: of the images, for a model that takes labels.
    condition: attributes of the images, for a model that takes attributes.
  """
  attributes = np.asarray(attributes, bool)
  if attributes.ndim != 2 or len(attributes) != len(images):
    raise ValueError(f'attributes must be [{len(images)}, A], not {list(attributes.shape)}')
  constant = np.flatnonzero(attributes.all(0) | ~attributes.any(0))
  if len(constant):
    raise ValueError(
      f'all images agree in attribute {constant[0]}: give images with and without it'
    )
  mean, _ = model.encode(images, labels=labels, attributes=condition)
  return np.stack([mean[has].mean(0) - mean[~has].mean(0) for has in attributes.T])


def inpaint(
  model: 'Trained',
  images: np.ndarray,
  hole: ArrayLike,
  *,
  iterations: int = 10,
  labels: Labels | None = None,
  attributes: Attributes | None = None,
) -> np.ndarray:
  """Images uint8 [iterations, N, H, W, C]: `images` with the hole filled, after each iteration.

      x <- hole G(E(x, c), c) + (1 - hole) x

  Bao et al. 2017, section 4.4 (recalled). The hole starts out grey, 128, whatever the images have
  there.

  Args:
    hole: bool [H, W] or [N, H, W], true where the image is missing.
    iterations: how often the hole is filled.
    labels, attributes: of the images, for a conditional model.
  """
  images, hole = np.asarray(images), np.asarray(hole, bool)
  hole = np.broadcast_to(hole, images.shape[:3])[..., None] if hole.ndim == 2 else hole[..., None]
  if hole.shape[:3] != images.shape[:3]:
    raise ValueError(
      f'the hole must be [H, W] or [N, H, W] of images {list(images.shape)}, '
      f'not {list(hole.shape[:3])}'
    )
  if iterations < 1:
    raise ValueError(f'iterations={iterations}: use 1 or more')
  filled, course = np.where(hole, np.uint8(128), images), []
  for _ in range(iterations):
    again = model.reconstruct(filled, labels=labels, attributes=attributes)
    filled = np.where(hole, again, filled)
    course.append(filled)
  return np.stack(course)


def enlarge(
  model: 'Trained',
  low: np.ndarray,
  *,
  iterations: int = 10,
  labels: Labels | None = None,
  attributes: Attributes | None = None,
) -> np.ndarray:
  """Images uint8 [iterations, N, H, W, C]: `low` at the model's size, after each iteration.

      x <- y + up(low - down(y)), y = G(E(x, c), c), from x = up(low)

  Super-resolution by iterated reconstruction, as CVAE-GAN's abstract promises (Bao et al. 2017; the
  paper's own procedure is not known). `up` is bicubic and `down` the mean of each block, so that
  the low frequencies stay close to those of `low`.

  Args:
    low: uint8 [N, h, w, C], whose sides divide those of the model's images.
    labels, attributes: of the images, for a conditional model.
  """
  low, size = np.asarray(low), model.config['data']['image_size']
  if low.ndim != 4 or low.dtype != np.uint8 or any(not s or size % s for s in low.shape[1:3]):
    raise ValueError(
      f'low must be uint8 [N, h, w, C] with sides that divide {size}, not {low.dtype} '
      f'{list(low.shape)}'
    )
  if iterations < 1:
    raise ValueError(f'iterations={iterations}: use 1 or more')
  x, course = rounded(bicubic(low, size)), []
  for _ in range(iterations):
    x = put_back(model.reconstruct(x, labels=labels, attributes=attributes), low)
    course.append(x)
  return np.stack(course)


def put_back(images: np.ndarray, low: np.ndarray) -> np.ndarray:
  """uint8 [N, H, W, C]: images plus up(low - down(images)), with low [N, h, w, C]."""
  missing = low - block_means(images, low.shape[1:3])
  return rounded(images + bicubic(missing, images.shape[1]))


def bicubic(images: np.ndarray, size: int) -> np.ndarray:
  """float32 [N, size, size, C] of images [N, h, w, C]."""
  shape = (len(images), size, size, images.shape[3])
  return np.asarray(jax.image.resize(np.asarray(images, np.float32), shape, 'cubic'))


def block_means(images: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
  """float32 [N, h, w, C] of images [N, H, W, C]: means over blocks, for sides h, w."""
  (h, w), (n, height, width, c) = sides, images.shape
  blocks = np.reshape(images, (n, h, height // h, w, width // w, c))
  return blocks.mean((2, 4), dtype=np.float32)


def rounded(images: np.ndarray) -> np.ndarray:
  """uint8 of grey levels."""
  return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def mixed_classes(size: int, count: int, *, of: int = 3, seed: int = 0) -> np.ndarray:
  """float32 [count, size]: new classes, each an even mixture of `of` known ones drawn at random.

  Bao et al. 2017, section 4.6 (recalled; the weights of the mixture are not known).
  """
  if not 1 <= of <= size:
    raise ValueError(f'of={of}: a mixture needs from 1 to {size} of the {size} classes')
  rng = np.random.default_rng(seed)
  return np.stack(
    [np.isin(np.arange(size), rng.permutation(size)[:of]) / of for _ in range(count)]
  ).astype(np.float32)
