"""What the latents of an encoder carry: active units, and the KL of each dimension."""

import numpy as np

from vaegan_jax.metrics import arrays


def active_units(mean, *, threshold=0.01) -> int:
  """Number of latent dimensions whose posterior means [N, Z] vary over images by more than `threshold`.

  Variances about the mean over the N images, in squared units of z. Source: Burda et al. 2016 (the
  threshold of 0.01, too, recalled).
  """
  return int((arrays.features('mean', mean).var(0) > threshold).sum())


def kl_per_dimension(mean, logvar):
  """float64 [Z], in nats: KL(N(mean, exp(logvar)) || N(0, 1)) of each dimension, averaged over images.

  Of [N, Z] each. Its sum is the mean of losses.gaussian_kl, without that one's tangent beyond the
  range of log-variances; infinite ones are refused.
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
