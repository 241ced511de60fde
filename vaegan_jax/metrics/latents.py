"""Information in an encoder's latents: active units, and the KL of each dimension."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


def active_units(mean: ArrayLike, *, threshold: float = 0.01) -> int:
  """Number of latent dimensions whose posterior means [N, Z] vary by more than `threshold`.

  The variance is over the N images, in squared units of z. Source: Burda et al. 2016 (recalled, as
  is the threshold of 0.01).
  """
  return int((arrays.features('mean', mean).var(0) > threshold).sum())


def kl_per_dimension(mean: ArrayLike, logvar: ArrayLike) -> np.ndarray:
  """float64 [Z], in nats: mean over images of KL(N(mean, exp(logvar)) || N(0, 1)), both [N, Z].

  Its sum is the mean of losses.gaussian_kl, but without the tangent beyond LOGVAR_RANGE.

  Raises:
    ValueError: also for log-variances above 700, where the variance overflows.
  """
  mean = arrays.features('mean', mean, at_least=1)
  logvar = arrays.features('logvar', logvar, at_least=1)
  if mean.shape != logvar.shape:
    raise ValueError(
      f'mean has shape {list(mean.shape)} and logvar {list(logvar.shape)}: nothing is broadcast'
    )
  if logvar.max() > 700.0:
    raise ValueError(
      f'logvar reaches {logvar.max():.3g}, where the variance overflows: the encoder is broken'
    )
  return (0.5 * (mean**2 + np.expm1(logvar) - logvar)).mean(0)
