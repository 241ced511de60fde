"""Frechet distance of two sets of features: of Gaussians with their means and covariances.

      |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))

Source: Heusel et al. 2017, who call it FID on the 2048 features of the Inception network of 2015;
on other features, name it after their network. Covariances are those of a sample (divided by
N - 1). Few images bias the value upwards: compare only at equal N.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


class FeatureStats(NamedTuple):
  """Sums over a set of features; merge_stats adds those of its parts."""

  num_examples: int  # N
  mean: np.ndarray  # float64 [F]
  scatter: np.ndarray  # float64 [F, F], sum over the set of (f - mean)(f - mean)^T

  @property
  def covariance(self) -> np.ndarray:
    """float64 [F, F], divided by N - 1; ValueError for fewer than 2 examples."""
    if self.num_examples < 2:
      raise ValueError(f'{self.num_examples} example has no covariance: give at least 2')
    return self.scatter / (self.num_examples - 1)


def feature_stats(features: ArrayLike) -> FeatureStats:
  """FeatureStats of features [N, F], which may be one batch of many."""
  values = arrays.features('features', features, at_least=1)
  mean = values.mean(0)
  centred = values - mean
  return FeatureStats(len(values), mean, centred.T @ centred)


def merge_stats(first: FeatureStats | None, second: FeatureStats) -> FeatureStats:
  """FeatureStats of the union of two sets; None is the empty set.

  Scatter is about the means: sums of squares would lose the digits of features far from zero.
  """
  if first is None:
    return second
  if first.mean.shape != second.mean.shape:
    raise ValueError(
      f'statistics of {len(first.mean)} and of {len(second.mean)} features do not merge: use one '
      'network for both'
    )
  total = first.num_examples + second.num_examples
  shift = second.mean - first.mean
  mean = first.mean + shift * (second.num_examples / total)
  between = np.outer(shift, shift) * (first.num_examples * second.num_examples / total)
  return FeatureStats(total, mean, first.scatter + second.scatter + between)


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
  """Frechet distance, in squared units of the features, of real [N, F] and fake [M, F]."""
  real, fake = arrays.feature_pair(real, fake)
  return frechet_distance_of_stats(feature_stats(real), feature_stats(fake))


def frechet_distance_of_stats(real: FeatureStats, fake: FeatureStats) -> float:
  """Frechet distance, in squared units of the features, of two sets with these FeatureStats."""
  return frechet_distance_of_gaussians(real.mean, real.covariance, fake.mean, fake.covariance)


def frechet_distance_of_gaussians(
  mean: ArrayLike, covariance: ArrayLike, other_mean: ArrayLike, other_covariance: ArrayLike
) -> float:
  """Frechet distance of two Gaussians with means [F] and covariances [F, F].

  With C = L L^T, tr (C C')^(1/2) is the sum of the singular values of L^T L'. Unlike the root of
  the product, that is exact for singular covariances, those of fewer images than features.
  """
  means = [
    arrays.numbers(n, m, 'mean [F]', 1) for n, m in (('mean', mean), ('other_mean', other_mean))
  ]
  covariances = [
    arrays.numbers(n, c, 'covariance [F, F]', 2)
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
  """L [F, rank] such that L L^T is the covariance."""
  scale = np.abs(covariance).max()
  if np.abs(covariance - covariance.T).max() > 1e-6 * scale:
    raise ValueError('a covariance is not symmetric')
  values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
  if values[0] < -1e-6 * scale:
    raise ValueError(
      f'a covariance has the eigenvalue {values[0]:.3g}: it must have no negative ones'
    )
  # Drop what rounding alone makes of a zero eigenvalue; its root would not be small.
  kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  return vectors[:, kept] * np.sqrt(values[kept])
