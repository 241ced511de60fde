"""Data: a name -> decoded images -> the batches of any training step."""

from vaegan_jax.data.datasets import CONDITIONS, NAMES, Dataset, check, load
from vaegan_jax.data.pipeline import batch_indices, batches, example_order, indices, prefetch, take

__all__ = [
  'CONDITIONS',
  'NAMES',
  'Dataset',
  'batch_indices',
  'batches',
  'check',
  'example_order',
  'indices',
  'load',
  'prefetch',
  'take',
]
