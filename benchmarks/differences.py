"""What the comparisons share."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def relative(ours: Any, theirs: Any) -> float:
  """The largest difference, relative to the largest entry."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def verdict(good: bool) -> str:
  """The last word of a table."""
  return 'good' if good else 'BAD'


def of_curves(
  theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray], names: Iterable[str]
) -> dict[str, float]:
  """{name: |a - b| / max(|a|, 1)}, of the means a, b over the second halves of two curves.

  Infinite if a curve is missing or its second half is not finite.
  """
  found = {}
  for name in names:
    a, b = (curves.get(name, np.array([np.nan])) for curves in (theirs, ours))
    a, b = (curve[len(curve) // 2 :].mean() for curve in (a, b))
    distance = abs(a - b) / max(abs(a), 1.0)
    found[name] = float(distance) if np.isfinite(distance) else float('inf')
  return found
