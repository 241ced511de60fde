"""Frechet distance of two sets of features: of the Gaussians that have their means and covariances.

      |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))

Heusel et al. 2017, who call it FID when the features are the 2048 of the Inception network of 2015;
on any other network's features it must be named after that network. Covariances are those of a
sample (divided by N - 1). The value is biased upwards for few images: compare equal N only.
"""

from typing import NamedTuple

import numpy as np

from vaegan_jax.metrics import arrays


class FeatureStats(NamedTuple):
  """Sums over a set of features; add up those of parts of it by merge_stats."""

  count: int  # N
  mean: np.ndarray  # float64 [F]
  scatter: np.ndarray  # float64 [F, F], sum over the set of (f - mean)(f - mean)^T

  @property
  def covariance(self):
    """float64 [F, F], divided by N - 1."""
    if self.count < 2:
      raise ValueError(f'{self.count} example has no covariance: give at least 2')
    return self.scatter / (self.count - 1)


def feature_stats(features) -> FeatureStats:
  """FeatureStats of features [N, F], which may be one batch of many."""
  features = arrays.features('features', features, at_least=1)
  mean = features.mean(0)
  features = features - mean
  return FeatureStats(len(features), mean, features.T @ features)


def merge_stats(first: FeatureStats | None, second: FeatureStats) -> FeatureStats:
  """FeatureStats of two sets together; `first` may be None, the set of nothing.

  About means, not about zero: sums of squares would lose the digits of features far from zero.
  """
  if first is None:
    return second
  if first.mean.shape != second.mean.shape:
    raise ValueError(
      f'statistics of {len(first.mean)} and of {len(second.mean)} features cannot be added'
    )
  count = first.count + second.count
  apart = second.mean - first.mean
  mean = first.mean + apart * (second.count / count)
  between = np.outer(apart, apart) * (first.count * second.count / count)
  return FeatureStats(count, mean, first.scatter + second.scatter + between)


def frechet_distance(real, fake) -> float:
  """Frechet distance, in squared units of the features, of real [N, F] and fake [M, F]."""
  real, fake = arrays.feature_pair(real, fake)
  return frechet_distance_of_stats(feature_stats(real), feature_stats(fake))


def frechet_distance_of_stats(real: FeatureStats, fake: FeatureStats) -> float:
  """Frechet distance of two sets by their FeatureStats."""
  return frechet_distance_of_gaussians(real.mean, real.covariance, fake.mean, fake.covariance)


def frechet_distance_of_gaussians(mean, covariance, other_mean, other_covariance) -> float:
  """Frechet distance of the Gaussians (mean [F], covariance [F, F]) and the other.

  With C = L L^T, tr (C C')^(1/2) is the sum of the singular values of L^T L'. Other than the root of
  the product, that is exact for singular covariances, those of fewer images than features.
  """
  means = [
    arrays.numbers(n, m, 'a mean [F]', 1) for n, m in (('mean', mean), ('other_mean', other_mean))
  ]
  covariances = [
    arrays.numbers(n, c, 'a covariance [F, F]', 2)
    for n, c in (('covariance', covariance), ('other_covariance', other_covariance))
  ]
  size = len(means[0])
  for array in (*means, *covariances):
    if set(array.shape) != {size}:
      raise ValueError(
        f'an array of shape {list(array.shape)} does not fit a mean of {size} features'
      )
  first, second = (_factor(c) for c in covariances)
  cross = (
    np.linalg.svd(first.T @ second, compute_uv=False).sum() if first.size and second.size else 0.0
  )
  traces = sum(np.trace(c) for c in covariances)
  return float(max(0.0, np.square(means[0] - means[1]).sum() + traces - 2.0 * cross))


def _factor(covariance):
  """L [F, rank], with L L^T the covariance."""
  scale = np.abs(covariance).max()
  if np.abs(covariance - covariance.T).max() > 1e-6 * scale:
    raise ValueError('a covariance is not symmetric')
  values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
  if values[0] < -1e-6 * scale:
    raise ValueError(
      f'a covariance has the eigenvalue {values[0]:.3g}: it must not have negative ones'
    )
  # What rounding alone makes of a zero eigenvalue; its root would not be small.
  kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  return vectors[:, kept] * np.sqrt(values[kept])
