"""Density and coverage of generated features by nearest neighbours (Naeem et al. 2020)."""

from typing import NamedTuple

import numpy as np

from vaegan_jax.metrics import arrays, distances


class DensityCoverage(NamedTuple):
  density: (
    float  # mean number of real balls that a fake is in, over k; 1 is that of real, more may be
  )
  coverage: float  # share of real balls with a fake in them


def density_coverage(real, fake, *, k=5) -> DensityCoverage:
  """Both at least 0, of real [N, F] and fake [M, F]; closed balls reach to the k-th nearest real one.

  For equal distributions coverage is expected at 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)), 0.97 for
  k = 5 and N = M large.
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
