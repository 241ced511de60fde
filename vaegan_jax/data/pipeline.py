"""The order of the examples, and batches made ahead of the step."""

import atexit
import functools
import itertools
import queue
import threading

import numpy as np

from vaegan_jax.data.datasets import check


@functools.lru_cache(maxsize=32)  # a population has an order for each of its seeds
def example_order(count, epoch, seed):
  """int64 [count], read-only: the permutation of an epoch, the same with every version of NumPy."""
  # Raw Philox words are fixed by its definition; Generator.permutation may change.
  key = np.array([seed % 2**64, epoch], np.uint64)
  order = np.argsort(np.random.Philox(key=key).random_raw(count), kind='stable')
  order.flags.writeable = False
  return order


def batch_indices(count, batch_size, step, seed):
  """int64 [batch_size]: the examples of step `step` (from 0 on), over all processes."""
  epoch, offset = divmod(step * batch_size, count)
  parts, missing = [], batch_size
  while missing:
    parts.append(example_order(count, epoch, seed)[offset : offset + missing])
    missing -= len(parts[-1])
    epoch, offset = epoch + 1, 0
  return np.concatenate(parts)


def indices(count, *, batch_size, seed, start_step=0, process_index=0, process_count=1, steps=1):
  """An endless iterator of this process's examples of every batch, from step `start_step` on: int32
  [b], b = batch_size / process_count; for `steps` > 1 those of so many batches at once, [steps, b]."""
  own = slice(
    process_index * batch_size // process_count, (process_index + 1) * batch_size // process_count
  )
  for step in itertools.count(start_step, steps):
    at = [
      batch_indices(count, batch_size, step + i, seed)[own].astype(np.int32) for i in range(steps)
    ]
    yield np.stack(at) if steps > 1 else at[0]


def take(dataset, at, condition='none'):
  """The examples `at` (indices [...] or a slice) as a batch: a dict of x, uint8 [..., H, W, C], and, when
  conditioned, of c: int32 [...] labels, or float32 [..., A] attributes."""
  batch = dict(x=dataset.images[at])
  if condition != 'none':
    c, kind = dict(label=(dataset.labels, np.int32), attributes=(dataset.attributes, np.float32))[
      condition
    ]
    batch['c'] = c[at].astype(kind)
  return batch


def batches(
  dataset, *, batch_size, seed, start_step=0, process_index=0, process_count=1, condition='none'
):
  """An endless iterator of this process's rows of every batch, from step `start_step` on; see take and
  indices. Raises as check does, before the first batch."""
  check(dataset, batch_size=batch_size, process_count=process_count, condition=condition)
  return (
    take(dataset, at, condition)
    for at in indices(
      len(dataset.images),
      batch_size=batch_size,
      seed=seed,
      start_step=start_step,
      process_index=process_index,
      process_count=process_count,
    )
  )


def prefetch(iterator, put, depth=2):
  """Yields put(item) of each item in order, made ahead in a thread: `depth` wait, one is in work.

  put: item -> what the consumer wants, e.g. arrays on devices. Exceptions of the iterator and of
  put are raised here. Closing the generator ends the thread.
  """
  ready, stop, end = queue.Queue(depth), threading.Event(), object()

  def offer(item, error=None):
    while not stop.is_set():
      try:
        return ready.put((item, error), timeout=0.1)
      except queue.Full:
        pass

  def work():
    try:
      for item in iterator:
        offer(put(item))
        if stop.is_set():
          return
      offer(end)
    except BaseException as error:  # whatever it is, the consumer must not wait for ever
      offer(end, error)

  def finish():
    stop.set()
    thread.join(timeout=10)

  thread = threading.Thread(target=work, name='prefetch', daemon=True)
  thread.start()
  # A daemon thread inside JAX while the interpreter shuts down can crash it.
  atexit.register(finish)
  try:
    while True:
      item, error = ready.get()
      if error is not None:
        raise error
      if item is end:
        return
      yield item
  finally:
    finish()
    atexit.unregister(finish)
