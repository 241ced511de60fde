"""Sharpness of images: blur lowers it, noise raises it."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


def gradient_energy(images: ArrayLike) -> np.ndarray:
  """float64 [N], in squared grey levels (0..255) per pixel, of images [N, H, W, C].

      mean over pixels of dx^2 + dy^2, differences of neighbours, then over channels

  Images are uint8 or floats in [-1, 1]. Report the mean over generated images as a ratio to that of
  real ones: below 1 they are blurred.
  """
  images = arrays.images('images', images)
  if min(images.shape[1:3]) < 2:
    raise ValueError(f'images of {images.shape[1]} x {images.shape[2]} pixels have no gradient')
  vertical, horizontal = (np.square(np.diff(images, axis=axis)).mean((1, 2, 3)) for axis in (1, 2))
  return vertical + horizontal
