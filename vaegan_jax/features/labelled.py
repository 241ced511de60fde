"""Labelled images for training a classifier: checks, digest, order of batches, augmentation."""

from collections.abc import Iterator, Sequence
import hashlib

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.features import batches


def checked_images(images: ArrayLike, shape: Sequence[int] | None = None) -> np.ndarray:
  """uint8 [N, H, W, C], squares of 8 to 256 pixels; ValueError unless [H, W, C] is `shape`."""
  images = batches.checked(images)
  if shape is not None and list(images.shape[1:]) != list(shape):
    raise ValueError(
      f'images are {list(images.shape[1:])}, the classifier was trained on {list(shape)}: '
      'train one for these'
    )
  if images.shape[1] != images.shape[2] or not 8 <= images.shape[1] <= 256:
    raise ValueError(f'images are {list(images.shape[1:])}: give squares of 8 to 256 pixels')
  return images


def checked_labels(
  labels: ArrayLike, num_classes: int | None, count: int
) -> tuple[np.ndarray, str, int]:
  """(labels as the loss takes them, their kind, number of outputs), or ValueError.

  The kind is `classes` (int32 [N]), `attributes` or `scores` (float32 [N, A]); N is `count`.
  """
  labels = np.asarray(labels)
  if (
    labels.ndim not in (1, 2)
    or len(labels) != count
    or labels.dtype.kind not in 'biuf'
    or not labels.size
  ):
    raise ValueError(
      f'labels are {labels.dtype} {list(labels.shape)} for {count} images: give integers [N] for '
      'classes, or 0 and 1 or floats [N, A]'
    )
  if labels.ndim == 1:
    return _checked_classes(labels, num_classes)
  if num_classes is not None:
    raise ValueError('num_classes is given for labels [N, A], which are not classes: leave it out')
  if labels.dtype.kind in 'biu':
    if labels.max() > 1 or labels.min() < 0:
      raise ValueError(
        f'attributes lie in {labels.min()}..{labels.max()}: give 0 and 1, or floats for scores'
      )
    return labels.astype(np.float32), 'attributes', labels.shape[1]
  if not np.isfinite(labels).all():
    raise ValueError('labels have NaN or infinite scores: leave out the images without scores')
  return labels.astype(np.float32), 'scores', labels.shape[1]


def _checked_classes(labels, num_classes):
  if labels.dtype.kind not in 'iu':
    raise ValueError(f'labels [N] are {labels.dtype}: classes are integers; give scores as [N, 1]')
  num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(f'labels lie in {labels.min()}..{labels.max()}, outside 0..{num_classes - 1}')
  return labels.astype(np.int32), 'classes', num_classes


def digest(images: np.ndarray, labels: np.ndarray) -> str:
  """16 hexadecimal digits that identify the data."""
  state = hashlib.sha256()
  for array in (images, labels):
    state.update(f'{array.dtype.str} {array.shape}'.encode())
    state.update(np.ascontiguousarray(array).data)
  return state.hexdigest()[:16]


def order(
  rng: np.random.Generator, count: int, batch_size: int, steps: int
) -> Iterator[np.ndarray]:
  """Yields int64 [batch_size], `steps` times; each epoch visits each of `count` images once."""
  waiting = np.empty(0, np.int64)
  for _ in range(steps):
    if len(waiting) < batch_size:
      waiting = np.concatenate([waiting, rng.permutation(count)])
    chosen, waiting = waiting[:batch_size], waiting[batch_size:]
    yield chosen


def augmented(images: np.ndarray, rng: np.random.Generator, shift: int, flip: bool) -> np.ndarray:
  """uint8 [B, H, W, C]: each image shifted by up to `shift` pixels; `flip` mirrors half of them."""
  if flip:
    mirrored = rng.random(len(images)) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
  if not shift:
    return images
  size = images.shape[1]
  padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), 'edge')
  down, right = rng.integers(0, 2 * shift + 1, (2, len(images), 1)) + np.arange(size)
  return padded[np.arange(len(images))[:, None, None], down[:, :, None], right[:, None, :]]
