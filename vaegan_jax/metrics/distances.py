"""Euclidean distances of features, block by block: memory for one block, not for [N, M, F]."""

from collections.abc import Iterator

import numpy as np

ENTRIES = 2**22  # distances per block: 32 MB in float64
ROUNDING = 1e-13  # squared distances below this share of the squared norms are rounding errors of 0


def row_blocks(count: int, width: int) -> list[slice]:
  """Slices over `count` rows, with at most ENTRIES numbers per block of rows x width."""
  rows = max(1, ENTRIES // max(1, width))
  return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def centred(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """real [N, F] and fake [M, F] minus the mean of real: equal distances, less cancellation."""
  mean = real.mean(0)
  return real - mean, fake - mean


def blocks(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
  """Yields (slice, distances [n, M]) for blocks of rows [N, F] against all columns [M, F]."""
  row_norms, column_norms = (np.einsum('nf,nf->n', x, x) for x in (rows, columns))
  for block in row_blocks(len(rows), len(columns)):
    norms = row_norms[block, None] + column_norms
    squared = norms - 2.0 * (rows[block] @ columns.T)
    squared[squared < ROUNDING * norms] = 0.0
    yield block, np.sqrt(squared, out=squared)


def radii(points: np.ndarray, k: int) -> np.ndarray:
  """Distance [N] of each point [N, F] to its k-th nearest other point."""
  result = np.empty(len(points))
  for block, distance in blocks(points, points):
    # The point itself comes first.
    distance[np.arange(len(distance)), np.arange(block.start, block.stop)] = -1.0
    result[block] = np.partition(distance, k, axis=1)[:, k]
  return result


def nearest(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(distance [N], index [N]) of the nearest of columns [M, F] to each of rows [N, F]."""
  distance, at = np.empty(len(rows)), np.empty(len(rows), int)
  for block, found in blocks(rows, columns):
    at[block] = found.argmin(1)
    distance[block] = found.min(1)
  return distance, at
