"""A classifier's accuracy on images of known classes: do samples show the requested class?"""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


def top1(logits: ArrayLike, labels: ArrayLike) -> float:
  """Share, in 0..1, of rows of logits [N, K] whose largest entry is at the label, integers [N].

  Ties go to the smaller class. Source: Table 2 of Bao et al. (its number is recalled).
  """
  return float(_right(logits, labels)[0].mean())


def top1_per_class(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
  """float64 [K]: top1 of each class's images; NaN for a class without images."""
  right, labels, num_classes = _right(logits, labels)
  counts = np.bincount(labels, minlength=num_classes)
  hits = np.bincount(labels[right], minlength=num_classes)
  return np.divide(hits, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def _right(logits, labels):
  logits = arrays.logits('logits', logits)
  labels = arrays.labels('labels', labels, logits.shape[1], len(logits))
  return logits.argmax(1) == labels, labels, logits.shape[1]
