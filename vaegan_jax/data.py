"""Data: a name -> decoded images -> the batches of any training step -> devices.

Every set is decoded once, to uint8 at the training size, and kept as a memory-mapped file; batches
are gathered by index. So the batch of step s is a function of the seed and s alone: a run goes on
exactly where it stopped, on any number of hosts, and needs neither encoded files nor TensorFlow.
"""
import atexit
import difflib
import functools
import itertools
import queue
import threading
from typing import NamedTuple

import numpy as np

from vaegan_jax import cache
from vaegan_jax import folders
from vaegan_jax import images as pixels
from vaegan_jax import sources

NAMES = ('digits', 'folder', *sources.TFDS_SETS)
CONDITIONS = ('none', 'label', 'attributes')


class Dataset(NamedTuple):
  """A data set in memory, or as good as."""
  name: str
  images: np.ndarray  # uint8 [N, H, W, C], usually a read-only memory map
  labels: np.ndarray | None = None  # int32 [N], 0..K - 1
  class_names: list[str] | None = None  # K
  attributes: np.ndarray | None = None  # uint8 [N, A], 0 or 1
  attribute_names: list[str] | None = None  # A
  skipped: tuple = ()  # (name, reason) of files that could not be read


def load(name, *, image_size, channels, split='train', path='', label_table='', attributes=(),
         data_dir='', cache_dir='', download=False, scratch=''):
  """The Dataset `name`, decoded now or taken from the cache.

  Args:
    name: digits (embedded in scikit-learn), a key of sources.TFDS_SETS, or folder.
    image_size: side in pixels; images are cropped to a square as the set's table or else centrally.
    channels: 1 (grey) or 3 (RGB).
    split: of a TFDS set, also train+test or train[:50%]; of the digits; train for a folder.
    path: of the folder or .zip for name='folder'; see folders.py for its layout.
    label_table: name or path of a .csv or .json, for a folder that is not labelled as usual.
    attributes: names of those to keep, in this order; empty keeps all.
    data_dir: where TFDS keeps its sets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets.
    cache_dir: of decoded images; empty: $XDG_CACHE_HOME/vaegan_jax/data or ~/.cache/...
    download: let TFDS fetch a set that is not there.
    scratch: folder to decode into what the cache does not have; empty: the cache itself.

  Raises:
    ValueError: the set is unknown, not there, or unfit; the message says what to do.
  """
  if name not in NAMES:
    close = difflib.get_close_matches(name, NAMES, 1)
    raise ValueError(f'unknown data set {name!r}{f" (did you mean {close[0]}?)" if close else ""}: '
                     f'use one of {", ".join(NAMES)}')
  if channels not in (1, 3) or image_size < 1:
    raise ValueError(f'image_size {image_size} and channels {channels}: use a positive number of '
                     'pixels, and 1 (grey) or 3 (RGB)')
  if path and name != 'folder':
    raise ValueError(f'--config.data.path={path} is for --config.data.name=folder, not for {name}')
  if name == 'digits':
    dataset = _digits(split, image_size, channels)
  else:
    source = (folders.folder_source(path, split, label_table) if name == 'folder' else
              sources.tfds_source(name, split, data_dir, download))
    content = cache.decoded(source, image_size, channels, cache_dir, scratch)
    dataset = Dataset(source.name, **content)
  _check_values(dataset)
  return _with_attributes(dataset, attributes) if attributes else dataset


def _digits(split, image_size, channels):
  small, labels = sources.digits(split)
  large = np.stack([pixels.fit_image(x, image_size) for x in small])
  return Dataset(f'digits ({split})', large.repeat(channels, -1), labels, list('0123456789'))


def _with_attributes(dataset, names):
  """The dataset with the columns `names` only."""
  known = dataset.attribute_names or []
  for name in names:
    if name not in known:
      close = difflib.get_close_matches(name, known, 1)
      raise ValueError(f'{dataset.name} has no attribute {name!r}'
                       f'{f" (did you mean {close[0]}?)" if close else ""}; it has '
                       f'{", ".join(known) or "none at all"}')
  columns = [known.index(n) for n in names]
  return dataset._replace(attributes=dataset.attributes[:, columns], attribute_names=list(names))


def _check_values(dataset):
  """ValueError unless labels, attributes and images fit together (networks would give NaN)."""
  name, labels, attributes = dataset.name, dataset.labels, dataset.attributes
  if dataset.images.dtype != np.uint8 or dataset.images.ndim != 4:
    raise ValueError(f'{name}: images are {dataset.images.dtype} {list(dataset.images.shape)}, not '
                     'uint8 [N, H, W, C]')
  for what, values in (('labels', labels), ('rows of attributes', attributes)):
    if values is not None and len(values) != len(dataset.images):
      raise ValueError(f'{name} has {len(dataset.images)} images but {len(values)} {what}')
  if labels is not None:
    bad = np.flatnonzero((labels < 0) | (labels >= len(dataset.class_names)))
    if len(bad):
      raise ValueError(f'{name}: the label of image {bad[0]} is {labels[bad[0]]}, not in '
                       f'0..{len(dataset.class_names) - 1}')
  if attributes is not None and attributes.size and attributes.max() > 1:
    raise ValueError(f'{name}: attributes must be 0 or 1, not {attributes.max()}')


def check(dataset, *, batch_size, process_count=1, condition='none'):
  """None, or ValueError if no batch of the dataset can be made; says what to do."""
  count = len(dataset.images)
  if batch_size < 1 or batch_size % process_count:
    raise ValueError(f'--config.batch_size={batch_size} is not a positive multiple of the '
                     f'{process_count} processes of this run')
  if count < batch_size:
    raise ValueError(f'{dataset.name} has {count} images, fewer than '
                     f'--config.batch_size={batch_size}: set it to {count} or less, or add images')
  if condition not in CONDITIONS:
    raise ValueError(f'--config.data.condition={condition}: use one of {", ".join(CONDITIONS)}')
  if condition == 'label' and dataset.labels is None and dataset.attributes is not None:
    raise ValueError(f'{dataset.name} has no labels but the attributes {", ".join(dataset.attribute_names[:10])}: add '
                     '--config.data.condition=attributes --config.prior_condition=shuffled')
  if condition == 'label' and dataset.labels is None:
    raise ValueError(f'{dataset.name} has no labels: put the images of each class into a folder of '
                     'their own or add labels.csv (file,label), or choose a method without '
                     'condition such as vae_gan')
  if condition == 'attributes' and dataset.attributes is None:
    raise ValueError(f'{dataset.name} has no attributes: take data that have some, such as CelebA or a folder with '
                     'labels.csv (file,Smiling,Male,...: 0 or 1), or choose --config.data.condition=none or label')
  _check_values(dataset)


# --- Order: one endless stream of epochs, each a permutation of its own; batches may straddle them.

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
    parts.append(example_order(count, epoch, seed)[offset:offset + missing])
    missing -= len(parts[-1])
    epoch, offset = epoch + 1, 0
  return np.concatenate(parts)


def indices(count, *, batch_size, seed, start_step=0, process_index=0, process_count=1, steps=1):
  """An endless iterator of this process's examples of every batch, from step `start_step` on: int32
  [b], b = batch_size / process_count; for `steps` > 1 those of so many batches at once, [steps, b]."""
  own = slice(process_index * batch_size // process_count,
              (process_index + 1) * batch_size // process_count)
  for step in itertools.count(start_step, steps):
    at = [batch_indices(count, batch_size, step + i, seed)[own].astype(np.int32) for i in range(steps)]
    yield np.stack(at) if steps > 1 else at[0]


def take(dataset, at, condition='none'):
  """The examples `at` (indices [...] or a slice) as a batch: a dict of x, uint8 [..., H, W, C], and, when
  conditioned, of c: int32 [...] labels, or float32 [..., A] attributes."""
  batch = dict(x=dataset.images[at])
  if condition != 'none':
    c, kind = dict(label=(dataset.labels, np.int32), attributes=(dataset.attributes, np.float32))[condition]
    batch['c'] = c[at].astype(kind)
  return batch


def batches(dataset, *, batch_size, seed, start_step=0, process_index=0, process_count=1,
            condition='none'):
  """An endless iterator of this process's rows of every batch, from step `start_step` on; see take and
  indices. Raises as check does, before the first batch."""
  check(dataset, batch_size=batch_size, process_count=process_count, condition=condition)
  return (take(dataset, at, condition) for at in indices(
      len(dataset.images), batch_size=batch_size, seed=seed, start_step=start_step,
      process_index=process_index, process_count=process_count))


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
