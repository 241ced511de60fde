"""Edits of images by a trained model: add attributes, fill holes, mix classes."""

from typing import TYPE_CHECKING

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
