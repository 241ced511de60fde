"""Energy distance of two sets of points, and whether generated ones lie nearer to training data."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances


def energy_distance(real: ArrayLike, fake: ArrayLike) -> float:
  """E = 2 E|x - y| - E|x - x'| - E|y - y'| of features real [N, F] and fake [M, F].

  Source: Szekely and Rizzo 2013. The estimate is unbiased (x and x' are different examples): it is
  0 on average for equal distributions, and may be negative.
  """
  real, fake = arrays.feature_sets(real, fake)
  return _between(real, fake) - _within(real) - _within(fake)


def energy_gap(train: ArrayLike, test: ArrayLike, generated: ArrayLike) -> float:
  """E(generated, test) - E(generated, train), features [N, F], [M, F], [L, F]; E as above.

  Above 0 the generated points lie nearer to the training points than to new ones; for new samples
  it is 0 on average. Its deviation is of the order of E|x - x'| / min(N, M), as is the gap of exact
  copies, 2 E|x - x'| / N: the test needs many dimensions, or a mean over runs.
  """
  train, test, generated = arrays.feature_sets(train, test, generated)
  of_test = _between(generated, test) - _within(test)
  return of_test - (_between(generated, train) - _within(train))


def _between(first: np.ndarray, second: np.ndarray) -> float:
  """2 E|x - y|."""
  return 2.0 * _sum(first, second) / (len(first) * len(second))


def _within(points: np.ndarray) -> float:
  """E|x - x'| over pairs of different points."""
  return _sum(points, points) / (len(points) * (len(points) - 1))


def _sum(rows, columns):
  return sum(float(distance.sum()) for _, distance in distances.blocks(rows, columns))
