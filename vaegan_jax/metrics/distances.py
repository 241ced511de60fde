"""Euclidean distances of features, in blocks of rows: memory for one block, not for [N, M, F]."""

import numpy as np

ENTRIES = 2**22  # of a block of distances: 32 MB in float64
# Share of the squared norms below which a squared distance is the rounding error of a distance of 0.
ROUNDING = 1e-13


def row_blocks(count, width):
  """Slices over `count` rows, such that rows x width is at most ENTRIES."""
  rows = max(1, ENTRIES // max(1, width))
  return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def centred(real, fake):
  """Both sets less the mean of real: the same distances with less cancellation."""
  mean = real.mean(0)
  return real - mean, fake - mean


def blocks(rows, columns):
  """Yields (slice, distances [n, M]) for blocks of rows [N, F] against all columns [M, F]."""
  row_norms, column_norms = (np.einsum('nf,nf->n', x, x) for x in (rows, columns))
  for block in row_blocks(len(rows), len(columns)):
    norms = row_norms[block, None] + column_norms
    squared = norms - 2.0 * (rows[block] @ columns.T)
    squared[squared < ROUNDING * norms] = 0.0
    yield block, np.sqrt(squared, out=squared)


def radii(points, k):
  """Distance [N] of each point [N, F] to its k-th nearest other point."""
  result = np.empty(len(points))
  for block, distance in blocks(points, points):
    distance[
      np.arange(len(distance)), np.arange(block.start, block.stop)
    ] = -1.0  # itself comes first
    result[block] = np.partition(distance, k, axis=1)[:, k]
  return result
