"""Data: from a name to decoded images, and from these to the batch of any training step.

sources.py     where images come from, still encoded: the digits, TFDS sets
folders.py     your own images, with listings.py (folders, archives) and tables.py (labels)
cache.py       decodes each source once and memory-maps the result
records.py     or leaves it encoded, and indexes it
datasets.py    the Dataset of a name, checked
pipeline.py    the order of the examples, prefetching
feeds.py       the batches: NumPy, tf.data, or decoded as they are needed
"""

from vaegan_jax.data.datasets import (
  CONDITIONS,
  NAMES,
  Dataset,
  check,
  check_classes,
  default_pipeline,
  load,
)
from vaegan_jax.data.feeds import PIPELINES, batches, need_tensorflow
from vaegan_jax.data.pipeline import batch_indices, example_order, indices, prefetch, take

__all__ = [
  'CONDITIONS',
  'NAMES',
  'PIPELINES',
  'Dataset',
  'batch_indices',
  'batches',
  'check',
  'check_classes',
  'default_pipeline',
  'example_order',
  'indices',
  'load',
  'need_tensorflow',
  'prefetch',
  'take',
]
