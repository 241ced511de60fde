"""Data: from a name to decoded images, and from these to the batch of any training step.

sources.py     where images come from, still encoded: the digits, TFDS sets
folders.py     your own images, with listings.py (folders, archives) and tables.py (labels)
cache.py       decodes each source once and memory-maps the result
datasets.py    the Dataset of a name, checked
pipeline.py    the order of the examples, batches, prefetching
"""

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
