"""Checked arrays for the metrics: float64, of the right shape, finite; otherwise ValueError.

Axes: N real and M fake examples, F features, K classes, S samples, A attributes, H W C images.
"""

import numpy as np
from numpy.typing import ArrayLike

SLACK = 1e-3  # by how much float images may leave [-1, 1]


def features(name: str, values: ArrayLike, *, at_least: int = 2) -> np.ndarray:
  """float64 [N, F] of features; `at_least` is the smallest N for which the metric is defined."""
  values = numbers(name, values, 'features [N, F]', 2)
  if len(values) < at_least:
    raise ValueError(
      f'{name} has {len(values)} examples, at least {at_least} are needed: give more images'
    )
  return values


def feature_pair(
  real: ArrayLike, fake: ArrayLike, *, at_least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
  """(float64 [N, F], float64 [M, F]) of features of one network."""
  real, fake = features('real', real, at_least=at_least), features('fake', fake, at_least=at_least)
  if real.shape[1] != fake.shape[1]:
    raise ValueError(
      f'real has {real.shape[1]} features and fake {fake.shape[1]}: both must come from one network'
    )
  return real, fake


def feature_sets(*sets: ArrayLike) -> tuple[np.ndarray, ...]:
  """float64 [N, F] of each set of features of one network, minus the mean of the first one.

  Distances stay the same, and lose fewer digits.
  """
  checked = [features(f'set {i}', values) for i, values in enumerate(sets, 1)]
  sizes = [x.shape[1] for x in checked]
  if len(set(sizes)) > 1:
    raise ValueError(f'the sets have {sizes} features: all must come from one network')
  mean = checked[0].mean(0)
  return tuple(x - mean for x in checked)


def nearest(k: int, *counts: int) -> int:
  """k, if a set of each of these sizes has a k-th neighbour for every point."""
  if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1 or k >= min(counts):
    raise ValueError(
      f'k is {k!r} with {min(counts)} examples: k must be an integer from 1 to one less than '
      'their number'
    )
  return int(k)


def probabilities(name: str, values: ArrayLike) -> np.ndarray:
  """float64 [N, K] of class probabilities; each row sums to 1."""
  values = numbers(name, values, 'class probabilities [N, K]', 2)
  if values.min() < -1e-6 or np.abs(values.sum(1) - 1.0).max() > 1e-3:
    raise ValueError(
      f'rows of {name} are not probabilities (least entry {values.min():.3g}, sums from '
      f'{values.sum(1).min():.3g} to {values.sum(1).max():.3g}): convert logits by '
      'class_probabilities(logits)'
    )
  return np.clip(values, 0.0, None) / values.sum(1, keepdims=True)


def logits(name: str, values: ArrayLike) -> np.ndarray:
  """float64 [N, K] of logits."""
  return numbers(name, values, 'logits [N, K]', 2)


def labels(name: str, values: ArrayLike, num_classes: int, count: int | None = None) -> np.ndarray:
  """int64 [N] of labels in 0..num_classes-1; `count` is the N of the examples they belong to."""
  values = np.asarray(values)
  if values.ndim != 1 or not len(values) or values.dtype.kind not in 'iu':
    raise ValueError(f'{name} is {values.dtype} {list(values.shape)}: give integers [N]')
  if count is not None and len(values) != count:
    raise ValueError(f'{name} has {len(values)} entries for {count} examples')
  if values.min() < 0 or values.max() >= num_classes:
    raise ValueError(
      f'{name} lie in {values.min()}..{values.max()}, outside 0..{num_classes - 1}: wrong '
      'labels or a wrong number of classes'
    )
  return values.astype(np.int64)


def images(name: str, values: ArrayLike) -> np.ndarray:
  """float64 [N, H, W, C] in grey levels 0..255 of uint8 images, or of float images in [-1, 1]."""
  values = np.asarray(values)
  if values.ndim != 4 or 0 in values.shape or values.shape[3] not in (1, 3):
    raise ValueError(
      f'{name} has shape {list(values.shape)}: give images [N, H, W, C] with 1 or 3 channels'
    )
  if values.dtype == np.uint8:
    return values.astype(np.float64)
  values = numbers(name, values, 'images uint8 or float [N, H, W, C]', 4, floats=True)
  low, high = values.min(), values.max()
  if low < -1.0 - SLACK or high > 1.0 + SLACK:
    raise ValueError(
      f'{name} are float images in {low:.3g}..{high:.3g}: give uint8, or floats in -1..1'
    )
  if low >= 0.0:
    raise ValueError(
      f'{name} are float images in {low:.3g}..{high:.3g}, which looks like a range of 0..1: '
      'give uint8, or floats in -1..1'
    )
  return (values + 1.0) * 127.5


def image_pair(
  first_name: str, first: ArrayLike, second_name: str, second: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Two float64 [N, H, W, C] in grey levels 0..255, given with the same shape and range."""
  first, second = np.asarray(first), np.asarray(second)
  if first.shape != second.shape:
    raise ValueError(
      f'{first_name} has shape {list(first.shape)} and {second_name} {list(second.shape)}: '
      'nothing is broadcast'
    )
  if (first.dtype == np.uint8) != (second.dtype == np.uint8):
    raise ValueError(
      f'{first_name} is {first.dtype} and {second_name} {second.dtype}: give both as uint8, '
      'or both as floats in -1..1'
    )
  return images(first_name, first), images(second_name, second)


def numbers(
  name: str, values: ArrayLike, meaning: str, ndim: int, floats: bool = False
) -> np.ndarray:
  """float64 array of `ndim` axes, finite and not empty; `meaning` describes it in the error."""
  values = np.asarray(values)
  # bfloat16 has NumPy's kind 'V'.
  is_float = values.dtype.kind == 'f' or values.dtype.name == 'bfloat16'
  if (
    not (is_float or (values.dtype.kind in 'iu' and not floats))
    or values.ndim != ndim
    or 0 in values.shape
  ):
    raise ValueError(f'{name} is {values.dtype} {list(values.shape)}: expected non-empty {meaning}')
  values = values.astype(np.float64)
  if not np.isfinite(values).all():
    bad = int((~np.isfinite(values)).any(axis=tuple(range(1, ndim))).sum())
    raise ValueError(
      f'{name} has NaN or infinite values in {bad} of {len(values)} examples: the network or '
      'its input is broken'
    )
  return values
