"""Data: a name -> decoded images -> the batches of any training step -> devices.

Every set is decoded once, to uint8 at the training size, and kept as a memory-mapped file; batches
are gathered by index. So the batch of step s is a function of the seed and s alone: a run goes on
exactly where it stopped, on any number of hosts, and needs neither encoded files nor TensorFlow.
"""

import difflib
from typing import NamedTuple

import numpy as np

from vaegan_jax.data import cache, folders, sources
from vaegan_jax.images import fit_image

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


def load(
  name,
  *,
  image_size,
  channels,
  split='train',
  path='',
  label_table='',
  attributes=(),
  data_dir='',
  cache_dir='',
  download=False,
  scratch='',
):
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
    raise ValueError(
      f'unknown data set {name!r}{f" (did you mean {close[0]}?)" if close else ""}: '
      f'use one of {", ".join(NAMES)}'
    )
  if channels not in (1, 3) or image_size < 1:
    raise ValueError(
      f'image_size {image_size} and channels {channels}: use a positive number of '
      'pixels, and 1 (grey) or 3 (RGB)'
    )
  if path and name != 'folder':
    raise ValueError(f'--config.data.path={path} is for --config.data.name=folder, not for {name}')
  if name == 'digits':
    dataset = _digits(split, image_size, channels)
  else:
    source = (
      folders.folder_source(path, split, label_table)
      if name == 'folder'
      else sources.tfds_source(name, split, data_dir, download)
    )
    content = cache.decoded(source, image_size, channels, cache_dir, scratch)
    dataset = Dataset(source.name, **content)
  _check_values(dataset)
  return _with_attributes(dataset, attributes) if attributes else dataset


def _digits(split, image_size, channels):
  small, labels = sources.digits(split)
  large = np.stack([fit_image(x, image_size) for x in small])
  return Dataset(f'digits ({split})', large.repeat(channels, -1), labels, list('0123456789'))


def _with_attributes(dataset, names):
  """The dataset with the columns `names` only."""
  known = dataset.attribute_names or []
  for name in names:
    if name not in known:
      close = difflib.get_close_matches(name, known, 1)
      raise ValueError(
        f'{dataset.name} has no attribute {name!r}'
        f'{f" (did you mean {close[0]}?)" if close else ""}; it has '
        f'{", ".join(known) or "none at all"}'
      )
  columns = [known.index(n) for n in names]
  return dataset._replace(attributes=dataset.attributes[:, columns], attribute_names=list(names))


def _check_values(dataset):
  """ValueError unless labels, attributes and images fit together (networks would give NaN)."""
  name, labels, attributes = dataset.name, dataset.labels, dataset.attributes
  if dataset.images.dtype != np.uint8 or dataset.images.ndim != 4:
    raise ValueError(
      f'{name}: images are {dataset.images.dtype} {list(dataset.images.shape)}, not '
      'uint8 [N, H, W, C]'
    )
  for what, values in (('labels', labels), ('rows of attributes', attributes)):
    if values is not None and len(values) != len(dataset.images):
      raise ValueError(f'{name} has {len(dataset.images)} images but {len(values)} {what}')
  if labels is not None:
    bad = np.flatnonzero((labels < 0) | (labels >= len(dataset.class_names)))
    if len(bad):
      raise ValueError(
        f'{name}: the label of image {bad[0]} is {labels[bad[0]]}, not in '
        f'0..{len(dataset.class_names) - 1}'
      )
  if attributes is not None and attributes.size and attributes.max() > 1:
    raise ValueError(f'{name}: attributes must be 0 or 1, not {attributes.max()}')


def check(dataset, *, batch_size, process_count=1, condition='none'):
  """None, or ValueError if no batch of the dataset can be made; says what to do."""
  count = len(dataset.images)
  if batch_size < 1 or batch_size % process_count:
    raise ValueError(
      f'--config.batch_size={batch_size} is not a positive multiple of the '
      f'{process_count} processes of this run'
    )
  if count < batch_size:
    raise ValueError(
      f'{dataset.name} has {count} images, fewer than '
      f'--config.batch_size={batch_size}: set it to {count} or less, or add images'
    )
  if condition not in CONDITIONS:
    raise ValueError(f'--config.data.condition={condition}: use one of {", ".join(CONDITIONS)}')
  if condition == 'label' and dataset.labels is None and dataset.attributes is not None:
    raise ValueError(
      f'{dataset.name} has no labels but the attributes {", ".join(dataset.attribute_names[:10])}: add '
      '--config.data.condition=attributes --config.prior_condition=shuffled'
    )
  if condition == 'label' and dataset.labels is None:
    raise ValueError(
      f'{dataset.name} has no labels: put the images of each class into a folder of '
      'their own or add labels.csv (file,label), or choose a method without '
      'condition such as vae_gan'
    )
  if condition == 'attributes' and dataset.attributes is None:
    raise ValueError(
      f'{dataset.name} has no attributes: take data that have some, such as CelebA or a folder with '
      'labels.csv (file,Smiling,Male,...: 0 or 1), or choose --config.data.condition=none or label'
    )
  _check_values(dataset)


# --- Order: one endless stream of epochs, each a permutation of its own; batches may straddle them.
