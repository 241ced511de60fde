"""The order of the examples: one endless stream of epochs, cut into steps; and prefetching.

Each epoch is a permutation of the examples; a batch may straddle two epochs. The batch of a step
depends only on the seed and the step, so that a run resumes exactly, on any number of hosts.
"""

import atexit
from collections.abc import Callable, Generator, Iterable, Iterator
import functools
import itertools
import queue
import threading
from typing import Any

import numpy as np

from vaegan_jax.data.datasets import Dataset


@functools.lru_cache(maxsize=32)  # a population has one order per seed
def example_order(count: int, epoch: int, seed: int) -> np.ndarray:
  """int64 [count], read-only: the permutation of an epoch, the same in every version of NumPy."""
  # Philox's definition fixes its raw words; Generator.permutation may change.
  key = np.array([seed % 2**64, epoch], np.uint64)
  order = np.argsort(np.random.Philox(key=key).random_raw(count), kind='stable')
  order.flags.writeable = False
  return order


def batch_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
  """int64 [batch_size]: the examples of step `step`, counted from 0, over all processes."""
  epoch, offset = divmod(step * batch_size, count)
  pieces, missing = [], batch_size
  while missing:
    pieces.append(example_order(count, epoch, seed)[offset : offset + missing])
    missing -= len(pieces[-1])
    epoch, offset = epoch + 1, 0
  return np.concatenate(pieces)


def indices(
  count: int,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  steps: int = 1,
) -> Iterator[np.ndarray]:
  """Yields this process's examples of each batch, from `start_step` on, without end: int32 [b].

  b is batch_size / process_count. With steps > 1, each item holds that many batches: [steps, b].
  """
  own = slice(
    process_index * batch_size // process_count, (process_index + 1) * batch_size // process_count
  )
  for step in itertools.count(start_step, steps):
    at = [
      batch_indices(count, batch_size, step + i, seed)[own].astype(np.int32) for i in range(steps)
    ]
    yield np.stack(at) if steps > 1 else at[0]


def take(
  dataset: Dataset, at: np.ndarray | slice, condition: str = 'none'
) -> dict[str, np.ndarray]:
  """The examples `at`, indices [...] or a slice, as a batch.

  x: uint8 [..., H, W, C]. c, unless the condition is none: int32 [...] labels or float32 [..., A]
  attributes.
  """
  batch = {'x': dataset.images[at]}
  if condition != 'none':
    batch['c'] = conditions(dataset, condition)[at]
  return batch


def conditions(dataset: Dataset, condition: str) -> np.ndarray:
  """The conditions of all examples, as the step takes them: int32 [N] or float32 [N, A]."""
  values, dtype = {
    'label': (dataset.labels, np.int32),
    'attributes': (dataset.attributes, np.float32),
  }[condition]
  return np.asarray(values, dtype)


def prefetch(
  iterator: Iterable[Any], put: Callable[[Any], Any], depth: int = 2
) -> Generator[Any, None, None]:
  """Yields put(item) of each item, in order, computed ahead in a thread.

  Exceptions of the iterator and of `put` are raised here. Closing the generator ends the thread.

  Args:
    put: turns an item into what the consumer needs, such as arrays on devices.
    depth: finished items that wait for the consumer; the thread works on one more.
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
    except BaseException as error:  # of any kind: the consumer must not wait for ever
      offer(end, error)

  def finish():
    stop.set()
    thread.join(timeout=10)

  thread = threading.Thread(target=work, name='prefetch', daemon=True)
  thread.start()
  # A daemon thread inside JAX can crash the interpreter while it shuts down.
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
