"""Arrays as the metrics want them: float64, of the right shape, finite; otherwise a ValueError.

Axes: N real and M fake examples, F features, K classes, S samples, A attributes, H W C images.
"""

import numpy as np

SLACK = 1e-3  # by which float images may leave [-1, 1]


def features(name, values, *, at_least=2):
  """float64 [N, F] of features; `at_least` is the smallest N that the metric has a value for."""
  values = numbers(name, values, 'features [N, F]', 2)
  if len(values) < at_least:
    raise ValueError(
      f'{name} has {len(values)} examples, at least {at_least} are needed: give more images'
    )
  return values


def feature_pair(real, fake, *, at_least=2):
  """(float64 [N, F], float64 [M, F]) of features of one network."""
  real, fake = features('real', real, at_least=at_least), features('fake', fake, at_least=at_least)
  if real.shape[1] != fake.shape[1]:
    raise ValueError(
      f'real has {real.shape[1]} features and fake {fake.shape[1]}: both must come from one network'
    )
  return real, fake


def nearest(k, *counts):
  """k, if each of the sets has a k-th neighbour."""
  if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1 or k >= min(counts):
    raise ValueError(
      f'k is {k!r} with {min(counts)} examples: k must be an integer from 1 to one less than '
      'their number'
    )
  return int(k)


def probabilities(name, values):
  """float64 [N, K] of class probabilities; each row sums to 1."""
  values = numbers(name, values, 'class probabilities [N, K]', 2)
  if values.min() < -1e-6 or np.abs(values.sum(1) - 1.0).max() > 1e-3:
    raise ValueError(
      f'rows of {name} are no probabilities (least entry {values.min():.3g}, sums from '
      f'{values.sum(1).min():.3g} to {values.sum(1).max():.3g}): give those of logits by '
      'class_probabilities(logits)'
    )
  return np.clip(values, 0.0, None) / values.sum(1, keepdims=True)


def logits(name, values):
  """float64 [N, K] of logits."""
  return numbers(name, values, 'logits [N, K]', 2)


def labels(name, values, num_classes, count=None):
  """int64 [N] of labels in 0..num_classes-1; `count` is the N of what they belong to."""
  values = np.asarray(values)
  if values.ndim != 1 or not len(values) or values.dtype.kind not in 'iu':
    raise ValueError(f'{name} is {values.dtype} {list(values.shape)}: integers [N] are wanted')
  if count is not None and len(values) != count:
    raise ValueError(f'{name} has {len(values)} entries for {count} examples')
  if values.min() < 0 or values.max() >= num_classes:
    raise ValueError(
      f'{name} lie in {values.min()}..{values.max()}, outside 0..{num_classes - 1}: wrong '
      'labels or a wrong number of classes'
    )
  return values.astype(np.int64)


def images(name, values):
  """float64 [N, H, W, C] in grey levels 0..255 of uint8 images, or of float images in [-1, 1]."""
  values = np.asarray(values)
  if values.ndim != 4 or 0 in values.shape or values.shape[3] not in (1, 3):
    raise ValueError(
      f'{name} has shape {list(values.shape)}: images [N, H, W, C] with 1 or 3 channels are wanted'
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


def image_pair(first_name, first, second_name, second):
  """Two float64 [N, H, W, C] in grey levels 0..255, of one shape and given in one range."""
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


def numbers(name, values, meaning, ndim, floats=False):
  """float64 array of `ndim` axes, finite and not empty; `meaning` is for the message."""
  values = np.asarray(values)
  # bfloat16 has NumPy's kind 'V'.
  is_float = values.dtype.kind == 'f' or values.dtype.name == 'bfloat16'
  if (
    not (is_float or values.dtype.kind in 'iu' and not floats)
    or values.ndim != ndim
    or 0 in values.shape
  ):
    raise ValueError(
      f'{name} is {values.dtype} {list(values.shape)}: {meaning}, not empty, is wanted'
    )
  values = values.astype(np.float64)
  if not np.isfinite(values).all():
    bad = int((~np.isfinite(values)).any(axis=tuple(range(1, ndim))).sum())
    raise ValueError(
      f'{name} has NaN or infinite values in {bad} of {len(values)} examples: the network or '
      'its input is broken'
    )
  return values
