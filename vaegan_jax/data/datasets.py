"""Data sets by name: uint8 images at the training size, with labels and attributes, all checked.

Each set is decoded once and then memory-mapped from the cache, so that training needs neither the
encoded files nor TensorFlow; or it stays encoded, see records.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vaegan_jax.data import cache, folders, records, sources
from vaegan_jax.images import fit_image
from vaegan_jax.words import closest

NAMES = ('digits', 'folder', *sources.TFDS_SETS)
CONDITIONS = ('none', 'label', 'attributes')


class Dataset(NamedTuple):
  """A data set, in memory, memory-mapped, or still encoded."""

  name: str
  images: np.ndarray  # uint8 [N, H, W, C], usually a read-only memory map; or records.Records
  labels: np.ndarray | None = None  # int32 [N], 0..K - 1
  class_names: list[str] | None = None  # K
  attributes: np.ndarray | None = None  # uint8 [N, A], 0 or 1
  attribute_names: list[str] | None = None  # A
  skipped: tuple = ()  # (name, reason) of files that could not be read


def default_pipeline(name: str) -> str:
  """How to feed a data set unless told otherwise; see feeds.py."""
  return 'tf.data' if name in sources.TFDS_SETS else 'memory'


def load(
  name: str,
  *,
  image_size: int,
  channels: int,
  split: str = 'train',
  path: str = '',
  label_table: str = '',
  attributes: Sequence[str] = (),
  data_dir: str = '',
  cache_dir: str = '',
  download: bool = False,
  scratch: str = '',
  encoded: bool = False,
) -> Dataset:
  """The Dataset `name`, from the cache or decoded now.

  Args:
    name: digits (part of scikit-learn), a key of sources.TFDS_SETS, or folder.
    image_size: side in pixels; images are cropped to a square, as sources.TFDS_SETS says or to
      their centre.
    channels: 1 (grey) or 3 (RGB).
    split: of the digits or a TFDS set, also train+test or train[:50%]; of a folder: train
      (all images), nine_tenths or tenth.
    path: the folder or .zip for name='folder'; folders.py shows its layout.
    label_table: name or path of a folder's .csv or .json of labels; empty: labels.csv or
      dataset.json, if it has one.
    attributes: the attributes to keep, in this order; empty keeps all.
    data_dir: where TFDS keeps its sets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets.
    cache_dir: where decoded images are kept; empty: paths.cache_home() / 'data'.
    download: let TFDS fetch a missing set.
    scratch: folder for images that are not in the cache yet; empty: the cache itself.
    encoded: leave the images of a TFDS set encoded, for pipeline='stream'; see records.py.

  Raises:
    ValueError: the set is unknown, missing or unfit; the message says what to do.
  """
  _check_request(name, image_size, channels, path, encoded)
  if name == 'digits':
    dataset = _digits(split, image_size, channels)
  else:
    if name == 'folder':
      source = folders.folder_source(path, split, label_table)
    else:
      source = sources.tfds_source(name, split, data_dir, download)
    make = records.indexed if encoded else cache.decoded
    content = make(source, image_size, channels, cache_dir, scratch)
    dataset = Dataset(source.name, **content)
  _check_values(dataset)
  return _with_attributes(dataset, attributes) if attributes else dataset


def check(
  dataset: Dataset, *, batch_size: int, process_count: int = 1, condition: str = 'none'
) -> None:
  """ValueError if the dataset cannot give a batch; the message says what to do."""
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
  if condition == 'label' and dataset.labels is None:
    if dataset.attributes is not None:
      raise ValueError(
        f'{dataset.name} has no labels but the attributes '
        f'{", ".join((dataset.attribute_names or [])[:10])}: add '
        '--config.data.condition=attributes --config.prior_condition=shuffled'
      )
    raise ValueError(
      f'{dataset.name} has no labels: put the images of each class into their own folder, add '
      'labels.csv (file,label), or choose a method without a condition: vae_gan_relativistic'
    )
  if condition == 'attributes' and dataset.attributes is None:
    raise ValueError(
      f'{dataset.name} has no attributes: use data that has some, such as CelebA or a folder with '
      'labels.csv (file,Smiling,Male,...: 0 or 1), or set --config.data.condition to none or label'
    )
  _check_values(dataset)


def check_classes(dataset: Dataset) -> None:
  """ValueError for a class without an image: nothing would teach it, and samples would show it."""
  if dataset.labels is None or not dataset.class_names:
    return
  counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
  if not counts.all():
    raise ValueError(
      f'{dataset.name} has no image of the class {dataset.class_names[counts.argmin()]!r}: add '
      'some (of a folder, a tenth is held out), or remove the class'
    )


def _check_request(name, image_size, channels, path, encoded):
  """ValueError unless load() can mean something by these arguments."""
  if name not in NAMES:
    raise ValueError(
      f'unknown data set {name!r}: set --config.data.name to one of '
      + ', '.join(NAMES)
      + closest(name, NAMES)
    )
  if channels not in (1, 3) or image_size < 1:
    raise ValueError(
      f'image_size {image_size} and channels {channels}: use a positive number of '
      'pixels, and 1 (grey) or 3 (RGB)'
    )
  if path and name != 'folder':
    raise ValueError(f'--config.data.path={path} is for --config.data.name=folder, not for {name}')
  if encoded and name not in sources.TFDS_SETS:
    raise ValueError(
      f'--config.data.pipeline=stream reads the files of TFDS sets, not of {name}: set it to memory'
    )


def _check_values(dataset):
  """ValueError unless images, labels and attributes fit together (networks would give NaN)."""
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


def _digits(split, image_size, channels):
  small, labels = sources.digits(split)
  large = np.stack([fit_image(x, image_size) for x in small])
  return Dataset(f'digits ({split})', large.repeat(channels, -1), labels, list('0123456789'))


def _with_attributes(dataset, names):
  """The dataset with the attributes `names` only."""
  known = dataset.attribute_names or []
  for name in names:
    if name not in known:
      raise ValueError(
        f'{dataset.name} has no attribute {name!r}; it has '
        f'{", ".join(known) or "none"}{closest(name, known)}'
      )
  columns = [known.index(n) for n in names]
  return dataset._replace(attributes=dataset.attributes[:, columns], attribute_names=list(names))
