"""Diversity within a class: the mean distance between two of its images or their features."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances


def within_class_distance(points: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
  """float64 [K]: mean Euclidean distance of two points of a class; NaN for fewer than two points.

  `points` are features [N, F], with distances in units of the features, or images [N, H, W, C],
  with distances in grey levels (0..255) over all pixels. `labels` are integers [N].
  """
  points = _flat('points', points)
  labels = arrays.labels('labels', labels, num_classes, len(points))
  result = np.full(num_classes, np.nan)
  for k in range(num_classes):
    if (labels == k).sum() > 1:
      result[k] = _mean_distance(points[labels == k])
  return result


def diversity_ratio(
  fake: ArrayLike,
  fake_labels: ArrayLike,
  real: ArrayLike,
  real_labels: ArrayLike,
  num_classes: int,
) -> np.ndarray:
  """float64 [K]: within_class_distance of fake over that of real; 1 where both vary equally.

  Raises:
    ValueError: a class has fewer than two images on either side, or all its real ones are equal.
  """
  distance = {}
  for name, points, labels in (('fake', fake, fake_labels), ('real', real, real_labels)):
    distance[name] = within_class_distance(points, labels, num_classes)
    short = np.flatnonzero(np.isnan(distance[name]))
    if len(short):
      raise ValueError(
        f'{name} has fewer than 2 examples of class {short[0]}'
        + f' and {len(short) - 1} others' * (len(short) > 1)
        + ': give more of them'
      )
  if np.shape(fake)[1:] != np.shape(real)[1:]:
    raise ValueError(
      f'fake has shape {list(np.shape(fake))} and real {list(np.shape(real))}: give images of one '
      'size or features of one network'
    )
  if not distance['real'].all():
    raise ValueError(
      f'all real examples of class {np.argmin(distance["real"])} are equal: the ratio is undefined'
    )
  return distance['fake'] / distance['real']


def _flat(name, points):
  if np.ndim(points) == 4:
    points = arrays.images(name, points)
    return points.reshape(len(points), -1)
  return arrays.features(name, points, at_least=1)


def _mean_distance(points):
  points, _ = distances.centred(points, points[:1])
  total = sum(distance.sum() for _, distance in distances.blocks(points, points))
  return total / (len(points) * (len(points) - 1))
