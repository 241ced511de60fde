"""Sharpness of images, for which blur is too low and noise too high."""

import numpy as np

from vaegan_jax.metrics import arrays


def gradient_energy(images):
  """float64 [N], in squared grey levels (of 255) per pixel, of images [N, H, W, C], uint8 or in [-1, 1].

      mean over pixels of dx^2 + dy^2, differences of neighbours, then over channels

  Give its mean over generated images as a ratio to real ones: below 1 they are blurred.
  """
  images = arrays.images('images', images)
  if min(images.shape[1:3]) < 2:
    raise ValueError(f'images of {images.shape[1]} x {images.shape[2]} pixels have no gradient')
  return sum(np.square(np.diff(images, axis=axis)).mean((1, 2, 3)) for axis in (1, 2))
