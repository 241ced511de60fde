"""Images through a network in batches of one shape, so that it compiles once."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike


def checked(images: ArrayLike) -> np.ndarray:
  """The images as an array, uint8 [N, H, W, C], grey or RGB; otherwise ValueError."""
  images = np.asarray(images)
  if (
    images.dtype != np.uint8
    or images.ndim != 4
    or 0 in images.shape
    or images.shape[3] not in (1, 3)
  ):
    raise ValueError(
      f'images are {images.dtype} {list(images.shape)}: give uint8 [N, H, W, C] with 1 or 3 '
      'channels'
    )
  return images


def outputs(
  function: Callable[[np.ndarray], Iterable], images: ArrayLike, batch_size: int
) -> list[np.ndarray]:
  """The arrays [N, ...] that `function` returns for uint8 [B, H, W, C], joined over batches."""
  images, parts = checked(images), []
  for start in range(0, len(images), batch_size):
    batch = images[start : start + batch_size]
    padded = np.zeros((min(batch_size, len(images)), *batch.shape[1:]), np.uint8)
    padded[: len(batch)] = batch
    parts.append([np.asarray(array)[: len(batch)] for array in function(padded)])
  return [np.concatenate(arrays) for arrays in zip(*parts)]
