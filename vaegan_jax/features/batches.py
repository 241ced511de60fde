"""Images through a network in batches of one shape, so that it is compiled once."""

import numpy as np


def checked(images):
  """The images as an array, uint8 [N, H, W, C], grey or RGB; otherwise a ValueError."""
  images = np.asarray(images)
  if (
    images.dtype != np.uint8
    or images.ndim != 4
    or 0 in images.shape
    or images.shape[3] not in (1, 3)
  ):
    raise ValueError(
      f'images are {images.dtype} {list(images.shape)}: uint8 [N, H, W, C] with 1 or 3 '
      'channels is wanted'
    )
  return images


def outputs(function, images, batch_size):
  """The arrays [N, ...] that function(uint8 [B, H, W, C]) gives of parts of the images, joined."""
  images, parts = checked(images), []
  for start in range(0, len(images), batch_size):
    batch = images[start : start + batch_size]
    padded = np.zeros((min(batch_size, len(images)), *batch.shape[1:]), np.uint8)
    padded[: len(batch)] = batch
    parts.append([np.asarray(array)[: len(batch)] for array in function(padded)])
  return [np.concatenate(arrays) for arrays in zip(*parts)]
