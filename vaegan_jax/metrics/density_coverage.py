"""Density and coverage of generated features by nearest neighbours (Naeem et al. 2020)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances


class DensityCoverage(NamedTuple):
  density: float  # mean number of real balls around a fake, over k; real images have 1, no maximum
  coverage: float  # share of real balls that contain a fake


def density_coverage(real: ArrayLike, fake: ArrayLike, *, k: int = 5) -> DensityCoverage:
  """DensityCoverage, both at least 0, of features real [N, F] and fake [M, F].

  Closed balls around real points reach to their k-th nearest real neighbour. For equal
  distributions the expected coverage is 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)), 0.97 for k = 5 and
  large N = M.
  """
  real, fake = distances.centred(*arrays.feature_pair(real, fake, at_least=1))
  k = arrays.nearest(k, len(real))
  radii = distances.radii(real, k)
  inside, covered = 0, np.zeros(len(real), bool)
  for block, distance in distances.blocks(real, fake):
    within = distance <= radii[block, None]
    inside += int(within.sum())
    covered[block] = within.any(1)
  return DensityCoverage(inside / (k * len(fake)), float(covered.mean()))
