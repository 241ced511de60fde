"""Precision and recall of generated features by nearest neighbours (Kynkaanniemi et al. 2019)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances


class PrecisionRecall(NamedTuple):
  precision: float  # share of fakes inside the manifold of the real points
  recall: float  # share of real points inside the manifold of the fakes


def precision_recall(real: ArrayLike, fake: ArrayLike, *, k: int = 3) -> PrecisionRecall:
  """PrecisionRecall, both in 0..1, of features real [N, F] and fake [M, F].

  The manifold of a set is the union of closed balls around its points, each reaching to the point's
  k-th nearest neighbour in the set. An outlier has a large ball; density is more robust.
  """
  real, fake = distances.centred(*arrays.feature_pair(real, fake))
  k = arrays.nearest(k, len(real), len(fake))
  real_radii, fake_radii = distances.radii(real, k), distances.radii(fake, k)
  precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
  for block, distance in distances.blocks(real, fake):
    precise |= (distance <= real_radii[block, None]).any(0)
    recalled[block] = (distance <= fake_radii).any(1)
  return PrecisionRecall(float(precise.mean()), float(recalled.mean()))
