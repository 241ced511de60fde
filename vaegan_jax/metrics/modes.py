"""Modes of the data that a generator reaches, by the class that a classifier gives each sample."""

import numpy as np

from vaegan_jax.metrics import arrays


def mode_counts(classes, num_modes=None, *, confidence=0.0):
  """int64 [K]: samples in each mode, of `classes`, int [N] (with num_modes) or probabilities [N, K].

  Of probabilities the most likely class counts, if it has at least `confidence`; else the sample is
  in no mode.
  """
  if np.ndim(classes) == 1:
    if num_modes is None or confidence:
      raise ValueError(
        'labels need num_modes and know no confidence: give them, or probabilities [N, K]'
      )
    return np.bincount(arrays.labels('classes', classes, num_modes), minlength=num_modes)
  probabilities = arrays.probabilities('classes', classes)
  if num_modes not in (None, probabilities.shape[1]):
    raise ValueError(
      f'num_modes is {num_modes} for probabilities of {probabilities.shape[1]} classes'
    )
  sure = probabilities.max(1) >= confidence
  return np.bincount(probabilities.argmax(1)[sure], minlength=probabilities.shape[1])


def modes_covered(counts, *, at_least=1) -> int:
  """Number of modes with at least `at_least` samples, of counts [K] by mode_counts."""
  if at_least < 1:
    raise ValueError(f'at_least is {at_least}: every mode would count, give 1 or more')
  return int((_counts('counts', counts) >= at_least).sum())


def mode_kl(fake_counts, real_counts) -> float:
  """KL(fake || real) of the two histograms [K] of modes, in nats: 0 if they agree, log K at most for
  balanced data, infinite if a fake is in a mode that the data do not have.

  The reverse KL of Metz et al. 2017 on stacked digits (recalled); modes that are missed add nothing
  but through those that take their place.
  """
  fake, real = _counts('fake_counts', fake_counts), _counts('real_counts', real_counts)
  if fake.shape != real.shape:
    raise ValueError(
      f'{len(fake)} and {len(real)} modes: both must be counted with the same classes'
    )
  for name, counts in (('fake_counts', fake), ('real_counts', real)):
    if not counts.sum():
      raise ValueError(f'{name} are all zero: there is no histogram')
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
