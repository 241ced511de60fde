"""Structural similarity of reconstructions (Wang et al. 2004)."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays

WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2


def ssim(images: ArrayLike, reference: ArrayLike) -> np.ndarray:
  """float64 [N] in -1..1, of images and reference [N, H, W, C]; 1 for equal images.

      (2 m m' + C1)(2 cov + C2) / ((m^2 + m'^2 + C1)(var + var' + C2))

  Both are uint8 or both floats in [-1, 1]. Moments are under a Gaussian window of 11 pixels and
  sigma 1.5 (divided by its sum, not by N - 1). The mean is over the windows that lie wholly inside,
  then over channels; torchmetrics also counts windows over mirrored borders.

  Raises:
    ValueError: also for images smaller than the window.
  """
  images, reference = arrays.image_pair('images', images, 'reference', reference)
  if min(images.shape[1:3]) < WINDOW:
    raise ValueError(
      f'images of {images.shape[1]} x {images.shape[2]} pixels are smaller than the window of '
      f'{WINDOW} x {WINDOW}: SSIM is undefined for them'
    )
  mean, other = _local_mean(images), _local_mean(reference)
  variance = _local_mean(images**2) - mean**2
  other_variance = _local_mean(reference**2) - other**2
  covariance = _local_mean(images * reference) - mean * other
  similarity = (
    (2.0 * mean * other + C1)
    * (2.0 * covariance + C2)
    / ((mean**2 + other**2 + C1) * (variance + other_variance + C2))
  )
  return similarity.mean((1, 2, 3))


def _local_mean(images):
  """[N, C, H - 10, W - 10]: Gaussian-weighted means of images [N, H, W, C] over whole windows."""
  height, width = images.shape[1:3]
  return _windows(height) @ images.transpose(0, 3, 1, 2) @ _windows(width).T


def _windows(size):
  """[size - 10, size]: one row per position of the one-dimensional window."""
  weights = np.exp(-0.5 * (np.arange(WINDOW) - WINDOW // 2) ** 2 / SIGMA**2)
  weights /= weights.sum()
  count = size - WINDOW + 1
  rows = np.zeros((count, size))
  for offset, weight in enumerate(weights):
    rows[np.arange(count), np.arange(count) + offset] = weight
  return rows
