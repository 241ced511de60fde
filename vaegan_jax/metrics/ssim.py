"""Structural similarity of reconstructions (Wang et al. 2004)."""

import numpy as np

from vaegan_jax.metrics import arrays

WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2


def ssim(images, reference):
  """float64 [N] in -1..1, of images and reference [N, H, W, C], both uint8 or both floats in [-1, 1].

      (2 m m' + C1)(2 cov + C2) / ((m^2 + m'^2 + C1)(var + var' + C2))

  with moments under a Gaussian window of 11 pixels and sigma 1.5 (divided by its sum, not by N - 1),
  averaged over the windows that lie wholly inside, then over channels. 1 for equal images. (torchmetrics
  also counts windows over mirrored borders.)
  """
  images, reference = arrays.image_pair('images', images, 'reference', reference)
  if min(images.shape[1:3]) < WINDOW:
    raise ValueError(
      f'images of {images.shape[1]} x {images.shape[2]} pixels are smaller than the window of '
      f'{WINDOW} x {WINDOW}: SSIM is not defined for them'
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
  """[N, C, H - 10, W - 10]: Gaussian-weighted means of [N, H, W, C] over all whole windows."""
  height, width = images.shape[1:3]
  return _windows(height) @ images.transpose(0, 3, 1, 2) @ _windows(width).T


def _windows(size):
  """[size - 10, size]: a row for each position of the one-dimensional window."""
  weights = np.exp(-0.5 * (np.arange(WINDOW) - WINDOW // 2) ** 2 / SIGMA**2)
  weights /= weights.sum()
  count = size - WINDOW + 1
  rows = np.zeros((count, size))
  for offset, weight in enumerate(weights):
    rows[np.arange(count), np.arange(count) + offset] = weight
  return rows
