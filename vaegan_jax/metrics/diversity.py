"""Diversity within a class: mean distance of two images, or of their features, of one class."""

import numpy as np

from vaegan_jax.metrics import arrays, distances


def within_class_distance(points, labels, num_classes):
  """float64 [K]: mean Euclidean distance of two different points of a class; NaN below two points.

  `points` are features [N, F], in units of the features, or images [N, H, W, C], in grey levels
  (0..255) over all pixels.
  """
  points = _flat('points', points)
  labels = arrays.labels('labels', labels, num_classes, len(points))
  result = np.full(num_classes, np.nan)
  for k in range(num_classes):
    if (labels == k).sum() > 1:
      result[k] = _mean_distance(points[labels == k])
  return result


def diversity_ratio(fake, fake_labels, real, real_labels, num_classes):
  """float64 [K]: within_class_distance of fake over that of real; 1 where both vary as much.

  Raises:
    ValueError: a class has less than two images on either side, or all real ones of it are equal.
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
      f'fake has shape {list(np.shape(fake))} and real {list(np.shape(real))}: images of one '
      'size or features of one network are wanted'
    )
  if not distance['real'].all():
    raise ValueError(
      f'all real examples of class {np.argmin(distance["real"])} are equal: there is no ratio'
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
