"""Where images come from, still encoded: scikit-learn's digits and TFDS sets; see also folders.py.

Finding a source decodes no image, so that an unusable data set fails at once. TensorFlow is only
imported to read a TFDS set, which happens once: cache.py keeps the images.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import json
import logging
import os
import re
from typing import Any, NamedTuple

import numpy as np

from vaegan_jax.paths import open_path


class Example(NamedTuple):
  """An image, still encoded."""

  name: str
  encoded: Any  # bytes, a path, or a function that returns bytes
  label: Any = None  # the index of a class; without class names, any sortable value
  attributes: Any = None  # uint8 [A]
  number: int = 0  # of its record, in the order of the source's shards


class Shard(NamedTuple):
  """Consecutive records of a TFRecord file."""

  path: str
  skip: int  # records before them
  take: int  # how many


class Content(NamedTuple):
  """What reading a source gives."""

  length: int  # at most
  examples: Iterator[Example]
  class_names: list[str] | None = None
  attribute_names: list[str] | None = None
  refused: tuple = ()  # (name, reason) of images that must not be read
  shards: tuple[Shard, ...] = ()  # where the records of the examples lie, in order


class Source(NamedTuple):
  """Images that can be read, and how to crop them."""

  name: str  # for messages
  identity: list  # JSON values: everything that the content depends on
  read: Callable[[], Content]
  crop: tuple | None = None  # top, left, height, width
  border: int | None = None  # pixels: smaller images are padded with zeros to this side


# --- The digits need no network, no TensorFlow and no cache.


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
  """uint8 [N, 8, 8, 1] and int32 [N]: scikit-learn's handwritten digits, 0..16 scaled to 0..255.

  train holds the first 1,500, test the last 297, by other writers; both have the classes in about
  equal numbers.
  """
  splits = {'train': slice(0, 1500), 'test': slice(1500, None), 'train+test': slice(None)}
  if split not in splits:
    raise ValueError(
      f'digits has no split {split!r}: set --config.data.split or data.held_out to one of '
      + ', '.join(splits)
    )
  try:
    from sklearn import datasets
  except ImportError as error:
    raise ValueError('the digits come with scikit-learn: pip install scikit-learn') from error
  table: Any = datasets.load_digits()
  images = np.rint(table.images[splits[split]] * (255 / 16)).astype(np.uint8)
  return images[..., None], table.target[splits[split]].astype(np.int32)


# --- TensorFlow Datasets.

# A new set is one line: the names of its features, and its crop (top, left, height, width).
TFDS_SETS: dict[str, dict[str, Any]] = dict(
  mnist=dict(label='label', border=32),
  fashion_mnist=dict(label='label', border=32),
  cifar10=dict(label='label'),
  celeb_a=dict(attributes='attributes', crop=(40, 15, 148, 148)),  # Larsen et al.'s code
  celeb_a64=dict(label='identity', attributes='attributes', download=False),  # already cropped
  lfw=dict(label='label', crop=(50, 50, 150, 150)),  # Larsen et al.'s code
  lfw64=dict(label='label', attributes='attributes', only='has_attributes', download=False),
  stl10=dict(label='label'),  # 'unlabelled' has no classes
  oxford_flowers102=dict(label='label'),  # Bao et al. crop to masks, which TFDS does not have
  # Bao et al.: "original images", no bounding boxes
  caltech_birds2011=dict(label='label'),
)


def tfds_source(name: str, split: str, data_dir: str, download: bool) -> Source:
  """The Source of a split (train+test, train[:50%]) of a prepared TFDS set; see datasets.load."""
  from etils import epath

  spec = TFDS_SETS[name]
  home = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  open_path(home, '--config.data.data_dir=')  # its scheme is known, and its client there
  root = epath.Path(home).expanduser()
  folder = _prepared(root / name)
  if folder is None and download:
    if not spec.get('download', True):
      raise ValueError(
        f"nothing downloads {name}: write it into {root} with TFDS's "
        'store_as_tfds_dataset, and set --config.data.download=False'
      )
    _download(name, root)
    folder = _prepared(root / name)
  if folder is None:
    raise _missing(name, root, spec)
  info = (folder / 'dataset_info.json').read_text()
  splits = [s['name'] for s in json.loads(info)['splits']]
  for part in split.split('+'):
    if part.split('[')[0] not in [*splits, 'all']:
      raise ValueError(
        f'{name} has no split {part!r}: set --config.data.split or data.held_out to one of '
        f'{", ".join(splits)}, a part such as {splits[0]}[:90%], or a sum of these with +'
      )
  files = sorted((p.name, p.stat().length, p.stat().mtime) for p in folder.iterdir())
  read = functools.partial(_read_tfds, str(folder), split, spec)
  identity = ['tfds', str(folder), split, files, sorted(spec.items()), info]
  return Source(f'{name} ({split})', identity, read, spec.get('crop'), spec.get('border'))


def _missing(name, root, spec):
  """The ValueError that says where a set was looked for."""
  found = sorted({p.parent.parent.name for p in root.glob('*/*/dataset_info.json')})
  can_fetch = spec.get('download', True)
  fetch = 'set --config.data.download=True to let TFDS fetch it, ' if can_fetch else ''
  return ValueError(
    f'the data set {name} is not in {root} (looked for {root / name}/<version>/dataset_info.json; '
    f'{root} holds {", ".join(found) or "no data set"}): {fetch}set --config.data.data_dir to the '
    f'folder that holds {name}/, or use your own images with --config.data.name=folder and '
    '--config.data.path'
  )


def _prepared(folder):
  """The newest version of a prepared set without configs, or of its default or only config."""
  if not folder.is_dir():
    return None
  found = [
    p.parent
    for pattern in ('*/dataset_info.json', '*/*/dataset_info.json')
    for p in folder.glob(pattern)
    if re.fullmatch(r'\d+\.\d+\.\d+', p.parent.name)
  ]
  configs = {'' if p.parent == folder else p.parent.name for p in found}
  if not configs:
    return None
  config = next((c for c in ('', 'default') if c in configs), min(configs))
  if config not in ('', 'default') and len(configs) > 1:
    raise ValueError(f'{folder} holds the configs {", ".join(sorted(configs))}: keep one of them')
  home = folder / config if config else folder
  return max(
    (p for p in found if p.parent == home), key=lambda p: [int(x) for x in p.name.split('.')]
  )


def tensorflow(what: str = 'reading TFDS sets', remedy: str = '') -> Any:
  """The module of TensorFlow, kept off the accelerators, whose memory JAX needs.

  Args:
    what: needs it, for the error.
    remedy: besides installing it, for the error.

  Raises:
    ValueError: it cannot be imported.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  try:
    import tensorflow as tf
    import tensorflow_datasets  # noqa: F401 -- one extra installs both
  except ImportError as error:
    raise ValueError(
      f'{what} needs tensorflow and tensorflow-datasets ({error}): '
      f'pip install "vaegan_jax[data]"{remedy}'
    ) from error
  # TFDS warns about its own code, ten times for a set with attributes.
  logging.getLogger('absl').addFilter(lambda r: 'FeatureConnector.dtype' not in str(r.msg))
  for kind in ('GPU', 'TPU'):
    with contextlib.suppress(RuntimeError):  # the caller already uses TensorFlow's devices
      tf.config.set_visible_devices([], kind)
  return tf


def _tensorflow_datasets() -> Any:
  tensorflow()
  import tensorflow_datasets as tfds

  return tfds


def _download(name, root):
  tfds = _tensorflow_datasets()
  try:
    tfds.builder(name, data_dir=str(root)).download_and_prepare()
  except Exception as error:  # network, checksums, quotas, disk
    raise ValueError(
      f'TFDS could not fetch {name} into {root} ({type(error).__name__}: {error}): try again '
      "later (CelebA's host has a daily quota), or prepare it on another machine and copy "
      f'{root / name} here'
    ) from error


def _read_tfds(folder, split, spec):
  """The Content of a prepared set, in the order of its files."""
  tfds = _tensorflow_datasets()
  builder = tfds.builder_from_directory(folder)
  features = builder.info.features
  keys = [spec[k] for k in ('label', 'attributes', 'only') if k in spec]
  missing = [k for k in ['image', *keys] if k not in features]
  if missing:
    raise ValueError(
      f'the data set in {folder} has no feature {missing[0]!r}; it has '
      f'{", ".join(sorted(features))}'
    )
  label: Any = features[spec['label']] if 'label' in spec else None
  names = sorted(features[spec['attributes']]) if 'attributes' in spec else None
  classes = list(label.names) if isinstance(label, tfds.features.ClassLabel) else None
  try:
    info = builder.info.splits[split]
    rows = builder.as_dataset(
      split=split,
      shuffle_files=False,
      decoders=tfds.decode.PartialDecoding(
        dict.fromkeys(['image', *keys], True), {'image': tfds.decode.SkipDecoding()}
      ),
      read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    batches = rows.batch(256).prefetch(2).as_numpy_iterator()
  except Exception as error:  # TFDS cannot parse the split, or tf.data cannot read the format
    raise ValueError(
      f'TFDS cannot read the split {split!r} in {folder} ({type(error).__name__}: {error})'
    ) from error
  shards = tuple(Shard(str(i.filename), i.skip, i.take) for i in info.file_instructions)
  examples = _examples(batches, spec, names, folder, split)
  return Content(info.num_examples, examples, classes, names, shards=shards)


def _examples(batches, spec, names, folder, split):
  """Yields the Examples of batches that TFDS reads."""
  number = 0
  try:
    for batch in batches:
      size = len(batch['image'])
      labels: Any = batch[spec['label']] if 'label' in spec else [None] * size
      if names:
        columns = [batch[spec['attributes']][k] for k in names]
        attributes = np.stack(columns, 1).astype(np.uint8)
      else:
        attributes = [None] * size
      wanted = batch[spec['only']] if 'only' in spec else [True] * size
      for i, encoded in enumerate(batch['image']):
        if wanted[i]:
          label = labels[i].decode() if isinstance(labels[i], bytes) else labels[i]
          yield Example(f'{split} {number + i}', encoded, label, attributes[i], number + i)
      number += size
  except Exception as error:  # such as tf.errors.DataLossError
    raise ValueError(
      f'{folder} is damaged after example {number} of {split} '
      f'({type(error).__name__}: {error}): prepare it again'
    ) from error
