"""Does a generator copy its training data? Two tests by nearest neighbours, in any features."""

import warnings

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances

COPIES = -3.0  # C_T below this: copied (Meehan et al. 2020)
LEAST = 20  # generated points that make a cell count


def data_copying(
  train: ArrayLike, test: ArrayLike, generated: ArrayLike, *, cells: int = 5, seed: int = 0
) -> float:
  """C_T of features train [N, F], test [M, F], generated [L, F]; about 0 for new samples.

      C_T = sum over cells of M_cell Z_cell / sum over cells of M_cell
      Z = (U - l m / 2) / sqrt(l m (l + m + 1) / 12)

  Source: Meehan et al. 2020, "A non-parametric test to detect data-copying in generative models".
  U is the Mann-Whitney statistic of the distances to the nearest training point: the pairs in which
  the generated point (one of l in the cell) is farther away than the test point (one of m). Below
  COPIES the generated points are too near to the training points; far above 0 they miss the data.

  The cells are those of k-means on `train` from `seed`. Cells with fewer than LEAST generated
  points (or than L / cells, if that is less) do not count. NaN if no test point lies in the rest.
  """
  train, test, generated = arrays.feature_sets(train, test, generated)
  if not 1 <= cells <= len(train):
    raise ValueError(f'cells is {cells}: use 1 to the number of training points, {len(train)}')
  from sklearn import cluster  # takes a second to import

  with warnings.catch_warnings():
    warnings.simplefilter('ignore', UserWarning)  # fewer different points than cells are harmless
    centres = cluster.KMeans(cells, n_init='auto', random_state=seed).fit(train).cluster_centers_
  test_cell, generated_cell = (distances.nearest(x, centres)[1] for x in (test, generated))
  far_test, far_generated = (distances.nearest(x, train)[0] for x in (test, generated))
  least, total, weight = min(LEAST, len(generated) // cells), 0.0, 0
  for cell in range(cells):
    of_test, of_generated = far_test[test_cell == cell], far_generated[generated_cell == cell]
    if len(of_test) and len(of_generated) >= max(1, least):
      total += len(of_test) * _mann_whitney(of_generated, of_test)
      weight += len(of_test)
  return float(total / weight) if weight else float('nan')


def _mann_whitney(first, second):
  """Z of how often an entry of `first` [l] is larger than one of `second` [m]."""
  l, m, ranked = len(first), len(second), np.sort(second)
  u = sum(np.searchsorted(ranked, first, side).sum() for side in ('left', 'right')) / 2  # ties: 1/2
  return (u - l * m / 2) / np.sqrt(l * m * (l + m + 1) / 12)


def authenticity(train: ArrayLike, generated: ArrayLike) -> float:
  """Share, in 0..1, of generated [L, F] that are no copies of train [N, F]; about 1/2 for new ones.

  Source: Alaa et al. 2022, "How faithful is your synthetic data?". A generated point is authentic
  if it is farther from its nearest training point than that point is from its own nearest other.
  The share of new real samples depends on the data: compare with that of held-out images.
  """
  train, generated = arrays.feature_sets(train, generated)
  distance, at = distances.nearest(generated, train)
  return float((distance > distances.radii(train, 1)[at]).mean())
