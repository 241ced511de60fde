"""Peak signal-to-noise ratio of reconstructions."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


def psnr(images: ArrayLike, reference: ArrayLike) -> np.ndarray:
  """float64 [N], in dB, of images and reference [N, H, W, C], both uint8 or both floats in [-1, 1].

      10 log10(255^2 / mean over pixels and channels of the squared difference in grey levels)

  Infinite for equal images. Tables report the mean of these values, not the value of a mean error.
  """
  images, reference = arrays.image_pair('images', images, 'reference', reference)
  error = np.square(images - reference).mean((1, 2, 3))
  with np.errstate(divide='ignore'):
    return 10.0 * np.log10(255.0**2 / error)
