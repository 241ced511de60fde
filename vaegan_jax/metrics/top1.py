"""Accuracy of a classifier on images of known classes: whether samples are what was asked for."""

import numpy as np

from vaegan_jax.metrics import arrays


def top1(logits, labels) -> float:
  """Share in 0..1 of rows of logits [N, K] whose largest entry is that of labels [N].

  Ties go to the smaller class. Source: Table 2 of Bao et al. (its number is recalled).
  """
  return float(_right(logits, labels)[0].mean())


def top1_per_class(logits, labels):
  """float64 [K]: top1 of the images of each class; NaN for a class without images."""
  right, labels, num_classes = _right(logits, labels)
  counts = np.bincount(labels, minlength=num_classes)
  hits = np.bincount(labels[right], minlength=num_classes)
  return np.divide(hits, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def _right(logits, labels):
  logits = arrays.logits('logits', logits)
  labels = arrays.labels('labels', labels, logits.shape[1], len(logits))
  return logits.argmax(1) == labels, labels, logits.shape[1]
