"""What the comparisons with reference packages share."""

from typing import Any

import numpy as np


def relative(ours: Any, theirs: Any) -> float:
  """The largest difference, relative to the largest entry."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def verdict(good: bool) -> str:
  """The last word of a table."""
  return 'good' if good else 'BAD'
