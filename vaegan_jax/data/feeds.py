"""The batches of any step, made in one of three ways. All give the same batches, bit for bit.

    memory   NumPy takes them from decoded images; needs no TensorFlow
    tf.data  TensorFlow gathers them from the same images, in parallel and ahead
    stream   threads read and decode them ahead, from the files of a TFDS set (see records.py)

Mirroring and augmentation are part of the training step, on the devices, under its key.
"""

import collections
from collections.abc import Iterator
from concurrent import futures
import os
import types
from typing import Any

import numpy as np

from vaegan_jax.data.datasets import Dataset, check
from vaegan_jax.data.pipeline import conditions, example_order, indices, take
from vaegan_jax.data.records import Records
from vaegan_jax.data.sources import tensorflow

ALIGNED = 64  # bytes: TensorFlow's gather may need its input to start at a multiple of it
AHEAD = 4  # images per thread that `stream` has in flight, at least


def batches(
  dataset: Dataset,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  condition: str = 'none',
  steps: int = 1,
  pipeline: str = 'memory',
) -> Iterator[dict[str, np.ndarray]]:
  """This process's part of each batch, from `start_step` on, without end; see indices and take.

  Args:
    pipeline: a key of PIPELINES; `stream` takes a dataset loaded for it, the others one that is
      not.

  Raises:
    ValueError: at the call, not at the first batch; see check. Of `stream` also at a batch with an
      image that cannot be read.
  """
  check(dataset, batch_size=batch_size, process_count=process_count, condition=condition)
  if isinstance(dataset.images, Records) != (pipeline == 'stream'):
    raise ValueError(f'{dataset.name} is not loaded for pipeline={pipeline}: see data.load')
  place = dict(
    batch_size=batch_size,
    seed=seed,
    start_step=start_step,
    process_index=process_index,
    process_count=process_count,
    steps=steps,
  )
  return PIPELINES[pipeline](dataset, condition, place)


def _from_memory(dataset, condition, place):
  return (take(dataset, at, condition) for at in indices(len(dataset.images), **place))


def need_tensorflow() -> Any:
  """The module of TensorFlow for pipeline='tf.data'; ValueError if it cannot be imported."""
  return tensorflow(
    '--config.data.pipeline=tf.data (the default for TFDS sets)',
    ', or set --config.data.pipeline=memory, which gives the same batches',
  )


def _from_tf_data(dataset, condition, place):
  """The batches of `_from_memory`, by a tf.data pipeline."""
  tf = need_tensorflow()
  count, batch_size, seed = len(dataset.images), place['batch_size'], place['seed']
  first, offset = divmod(place['start_step'] * batch_size, count)
  own = batch_size // place['process_count']
  begin = place['process_index'] * own
  examples = {'x': _tensor(tf, dataset.images)}
  if condition != 'none':
    examples['c'] = tf.constant(conditions(dataset, condition))

  def of_epoch(epoch):
    order = tf.numpy_function(lambda e: example_order(count, int(e), seed), [epoch], tf.int64)
    start = tf.where(epoch == first, tf.constant(offset, tf.int64), 0)
    return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, [count])[start:])

  def gathered(at):
    return {name: tf.gather(values, at) for name, values in examples.items()}

  made = tf.data.Dataset.range(first, np.iinfo(np.int64).max).flat_map(of_epoch)
  made = made.batch(batch_size, drop_remainder=True).map(lambda at: at[begin : begin + own])
  if place['steps'] > 1:
    made = made.batch(place['steps'])
  made = made.map(gathered, num_parallel_calls=2, deterministic=True).prefetch(2)
  options = tf.data.Options()
  # To rewrite the graph, tf.data would write out the tensors in it: a copy of all images.
  options.experimental_optimization.apply_default_optimizations = False
  options.autotune.enabled = False
  return made.with_options(options).as_numpy_iterator()


def _tensor(tf, images):
  """A tensor in the memory of `images`, without a copy where that is possible."""
  if images.ctypes.data % ALIGNED or not images.flags.c_contiguous:
    return tf.constant(images)
  # DLPack refuses what cannot be written to, such as the map of the cache; gathering only reads.
  seen = {**images.__array_interface__, 'data': (images.ctypes.data, False)}
  view = np.asarray(types.SimpleNamespace(__array_interface__=seen, owner=images))
  return tf.experimental.dlpack.from_dlpack(view.__dlpack__())


def _from_records(dataset, condition, place):
  """The batches of encoded images, decoded ahead by threads."""
  images = dataset.images
  known = conditions(dataset, condition) if condition != 'none' else None
  has_affinity = hasattr(os, 'sched_getaffinity')
  workers = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
  pending = collections.deque()
  with futures.ThreadPoolExecutor(workers, 'stream') as pool:
    try:
      for at in indices(len(images), **place):
        pending.append((at, [pool.submit(images.decode, int(i)) for i in at.flat]))
        if (len(pending) - 1) * at.size < AHEAD * workers:
          continue
        at, decoded = pending.popleft()
        x = np.stack([image.result() for image in decoded])
        batch = {'x': x.reshape(*at.shape, *images.shape[1:])}
        yield batch if known is None else {**batch, 'c': known[at]}
    finally:
      pool.shutdown(cancel_futures=True)


PIPELINES = {'memory': _from_memory, 'tf.data': _from_tf_data, 'stream': _from_records}
