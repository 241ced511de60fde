"""Modes of the data that a generator reaches, by the class a classifier assigns to each sample."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


def mode_counts(
  classes: ArrayLike, num_modes: int | None = None, *, confidence: float = 0.0
) -> np.ndarray:
  """int64 [K]: number of samples in each mode.

  Args:
    classes: integers [N], or probabilities [N, K], of which the most likely class counts.
    num_modes: K, required with integers.
    confidence: a sample whose most likely class has a smaller probability is in no mode.
  """
  if np.ndim(classes) == 1:
    if num_modes is None or confidence:
      raise ValueError(
        'labels need num_modes and have no confidence: give num_modes, or probabilities [N, K]'
      )
    return np.bincount(arrays.labels('classes', classes, num_modes), minlength=num_modes)
  probabilities = arrays.probabilities('classes', classes)
  if num_modes not in (None, probabilities.shape[1]):
    raise ValueError(
      f'num_modes is {num_modes} for probabilities of {probabilities.shape[1]} classes'
    )
  sure = probabilities.max(1) >= confidence
  return np.bincount(probabilities.argmax(1)[sure], minlength=probabilities.shape[1])


def modes_covered(counts: ArrayLike, *, at_least: int = 1) -> int:
  """Number of modes with at least `at_least` samples, from the counts [K] of mode_counts."""
  if at_least < 1:
    raise ValueError(f'at_least is {at_least}: every mode would count, give 1 or more')
  return int((_counts('counts', counts) >= at_least).sum())


def mode_kl(fake_counts: ArrayLike, real_counts: ArrayLike) -> float:
  """KL(fake || real) of two histograms [K] of modes, in nats: 0 if they agree.

  At most log K for balanced data; infinite if a fake is in a mode that the data lack. A missed mode
  counts only through the modes that take its place.

  Source: the reverse KL of Metz et al. 2017 on stacked digits (recalled).
  """
  fake, real = _counts('fake_counts', fake_counts), _counts('real_counts', real_counts)
  if fake.shape != real.shape:
    raise ValueError(f'{len(fake)} and {len(real)} modes: count both with the same classes')
  for name, counts in (('fake_counts', fake), ('real_counts', real)):
    if not counts.sum():
      raise ValueError(f'{name} are all zero: give counts of at least one sample')
  fake, real = fake / fake.sum(), real / real.sum()
  present = fake > 0
  if (real[present] == 0).any():
    return float('inf')
  return float(max(0.0, (fake[present] * np.log(fake[present] / real[present])).sum()))


def _counts(name, counts):
  counts = arrays.numbers(name, counts, 'counts [K]', 1)
  if counts.min() < 0:
    raise ValueError(f'{name} has negative entries')
  return counts
