"""The digits and TFDS sets: pixels, labels and attributes follow sources.TFDS_SETS."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.files import counted_decodes
from vaegan_jax import data
from vaegan_jax.data import sources


def test_digits_are_real_and_balanced_in_both_splits():
  train = data.load('digits', image_size=16, channels=1)
  test = data.load('digits', image_size=16, channels=1, split='test')
  assert train.images.shape == (1500, 16, 16, 1) and test.images.shape == (297, 16, 16, 1)
  assert train.images.dtype == np.uint8 and train.images.min() == 0 and train.images.max() == 255
  assert train.class_names == list('0123456789') and train.labels.dtype == np.int32
  for part in (train, test):
    assert np.bincount(part.labels).min() / len(part.labels) > 0.08
  means = np.stack([train.images[train.labels == k].mean(0) for k in range(10)])
  nearest = ((test.images[:, None] - means[None]) ** 2).sum((2, 3, 4)).argmin(1)
  assert (nearest == test.labels).mean() > 0.8  # a digit looks like its label


def test_digits_in_other_shapes():
  small = data.load('digits', image_size=8, channels=1).images
  assert set(np.unique(small)) <= set(np.rint(np.arange(17) * 255 / 16))
  colour = data.load('digits', image_size=32, channels=3, split='train+test').images
  assert colour.shape == (1797, 32, 32, 3) and (colour[..., :1] == colour).all()
  with pytest.raises(ValueError, match='no split .val.*train, test'):
    data.load('digits', image_size=16, channels=1, split='val')


def test_digits_need_no_tensorflow_and_no_cache(tmp_path):
  code = (
    'import sys; import vaegan_jax.data as d; '
    's = d.load("digits", image_size=16, channels=1); print(len(s.images)); '
    'print([m for m in ("tensorflow", "tensorflow_datasets", "jax") if m in sys.modules])'
  )
  environment = dict(os.environ, XDG_CACHE_HOME=str(tmp_path), PYTHONPATH=os.pathsep.join(sys.path))
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, env=environment, check=True
  ).stdout.split('\n')
  assert out[:2] == ['1500', '[]'] and not list(tmp_path.iterdir())


# --- TFDS.


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A folder with small TFDS sets of the official names and features."""
  reason = 'reading TFDS sets needs tensorflow and tensorflow-datasets'
  pytest.importorskip('tensorflow', reason=reason)
  tfds = pytest.importorskip('tensorflow_datasets', reason=reason)
  root, rng = tmp_path_factory.mktemp('tfds'), np.random.default_rng(0)

  def store(name, count, features, row, version='1.0.0', splits=('train',)):
    tfds.dataset_builders.store_as_tfds_dataset(
      name=name,
      version=version,
      features=tfds.features.FeaturesDict(features),
      data_dir=str(root),
      disable_shuffling=True,
      split_datasets={s: [(i, row(i, s)) for i in range(count)] for s in splits},
    )

  noise = lambda size: rng.integers(0, 256, (size, size, 3), np.uint8)
  picture, label = tfds.features.Image, tfds.features.ClassLabel
  attributes = {'Young': np.bool_, 'Male': np.bool_}
  digit, face = np.zeros((28, 28, 1), np.uint8), np.zeros((218, 178, 3), np.uint8)
  face[40:188, 15:163] = 200

  mnist = {'image': picture(shape=(28, 28, 1)), 'label': label(num_classes=10)}
  store('mnist', 5, mnist, lambda i, s: {'image': digit, 'label': 0}, '3.0.0')
  store(
    'mnist',
    200,
    mnist,
    lambda i, s: {'image': digit + i + (s == 'test'), 'label': i % 10},
    '3.0.10',
    ('train', 'test'),
  )
  store(
    'celeb_a',
    20,
    {
      'image': picture(shape=(218, 178, 3), encoding_format='jpeg'),
      'attributes': attributes,
      'landmarks': {'lefteye_x': np.int64},
    },
    lambda i, s: {
      'image': face,
      'landmarks': {'lefteye_x': 1},
      'attributes': {'Young': i % 2 == 0, 'Male': i % 3 == 0},
    },
  )
  store(
    'lfw',
    9,
    {'image': picture(shape=(250, 250, 3)), 'label': tfds.features.Text()},
    lambda i, s: {'image': noise(250), 'label': ['Zoë', 'Ann', 'Bob'][i % 3]},
  )
  store(
    'lfw64',
    30,
    {
      'image': picture(shape=(64, 64, 3)),
      'label': tfds.features.Text(),
      'has_attributes': np.bool_,
      'attributes': attributes,
    },
    lambda i, s: {
      'image': np.full((64, 64, 3), i, np.uint8),
      'label': f'p{i}',
      'has_attributes': i % 10 != 0,
      'attributes': {'Young': i > 5, 'Male': False},
    },
  )
  store(
    'celeb_a64',
    10,
    {'image': picture(shape=(64, 64, 3)), 'identity': np.int64, 'attributes': attributes},
    lambda i, s: {
      'image': noise(64),
      'identity': 1000 - i // 2,
      'attributes': {'Young': True, 'Male': False},
    },
  )
  store(
    'stl10',
    10,
    {'image': picture(shape=(96, 96, 3)), 'label': label(num_classes=10)},
    lambda i, s: {'image': noise(96), 'label': -1 if s == 'unlabelled' else i},
    splits=('train', 'unlabelled'),
  )
  store(
    'cifar10',
    4,
    {'image': picture(shape=(32, 32, 3)), 'label': label(names=['cat', 'dog'])},
    lambda i, s: {'image': noise(32), 'label': i % 2},
  )
  return root


@pytest.fixture
def decodes(monkeypatch):
  return counted_decodes(monkeypatch)


@pytest.fixture
def load_tfds(prepared, tmp_path):
  def call(name, size=64, channels=3, **options):
    return data.load(
      name,
      **{
        **dict(
          image_size=size,
          channels=channels,
          data_dir=str(prepared),
          cache_dir=str(tmp_path / 'cache'),
        ),
        **options,
      },
    )

  return call


def test_mnist_is_padded_and_the_newest_version_taken(load_tfds):
  got = load_tfds('mnist', 32, 1)
  assert got.images.shape == (200, 32, 32, 1) and got.class_names == list('0123456789')
  assert got.labels.tolist() == [i % 10 for i in range(200)]
  inner = got.images[:, 2:-2, 2:-2, 0]
  np.testing.assert_array_equal(inner, np.broadcast_to(np.arange(200)[:, None, None], inner.shape))
  assert got.images[:, :2].sum() == 0 and got.images[:, :, -2:].sum() == 0
  assert load_tfds('mnist', 28, 1).images[:, 0, 0, 0].tolist() == list(range(200))
  large = load_tfds('mnist', 64, 3).images
  assert large.shape == (200, 64, 64, 3)
  assert large[150, 0, 0, 0] == 0 and large[150, 32, 32, 0] == 150


def test_splits(load_tfds):
  assert load_tfds('mnist', 32, 1, split='test').images[3, 5, 5, 0] == 4
  assert len(load_tfds('mnist', 32, 1, split='train+test').images) == 400
  assert len(load_tfds('mnist', 32, 1, split='train[:10%]').images) == 20
  with pytest.raises(ValueError, match='mnist has no split .validation.*train, test'):
    load_tfds('mnist', split='validation')
  with pytest.raises(ValueError, match='cannot read the split'):
    load_tfds('mnist', split='train[:x]')


def test_celeb_a_is_cropped_like_larsens(load_tfds):
  got = load_tfds('celeb_a')
  assert got.labels is None and got.attribute_names == ['Male', 'Young']
  assert got.attributes.tolist() == [[int(i % 3 == 0), int(i % 2 == 0)] for i in range(20)]
  assert got.images.min() > 190  # only the box
  assert load_tfds('celeb_a', 32).images.min() > 190
  assert load_tfds('celeb_a', attributes=('Young',)).attributes.tolist() == [[1], [0]] * 10


def test_names_and_numbers_of_persons_become_classes(load_tfds):
  got = load_tfds('lfw')
  assert got.class_names == ['Ann', 'Bob', 'Zoë'] and got.labels.tolist() == [2, 0, 1] * 3
  got = load_tfds('celeb_a64')
  assert got.class_names == ['996', '997', '998', '999', '1000']
  assert got.labels.tolist() == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]


def test_lfw64_leaves_out_faces_without_attributes(load_tfds):
  got = load_tfds('lfw64')
  assert got.images[:, 0, 0, 0].tolist() == [i for i in range(30) if i % 10] and got.skipped == ()
  assert got.attributes[:, 1].tolist() == [int(i > 5) for i in range(30) if i % 10]
  assert len(got.labels) == len(got.class_names) == 27


def test_unlabelled_split(load_tfds):
  got = load_tfds('stl10', split='unlabelled')
  assert got.labels is None and got.class_names is None and len(got.images) == 10
  assert load_tfds('stl10').labels.tolist() == list(range(10))
  with pytest.raises(ValueError, match='label of image 10 is -1'):
    load_tfds('stl10', split='train+unlabelled')


def test_class_names(load_tfds):
  assert load_tfds('cifar10', 32).class_names == ['cat', 'dog']


def test_tfds_cache_needs_no_tensorflow(load_tfds, decodes, prepared, tmp_path):
  one = load_tfds('mnist', 32, 1)
  count = decodes['n']
  np.testing.assert_array_equal(load_tfds('mnist', 32, 1).images, one.images)
  assert decodes['n'] == count
  code = (
    'import sys; from vaegan_jax import data; '
    f'd = data.load("mnist", image_size=32, channels=1, data_dir={str(prepared)!r}, '
    f'cache_dir={str(tmp_path / "cache")!r}); '
    'print(d.images.shape, "tensorflow" in sys.modules)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
  )
  assert out.stdout == '(200, 32, 32, 1) False\n'


def test_a_set_prepared_again_is_decoded_again(load_tfds, decodes, prepared):
  load_tfds('cifar10', 32)
  count, file = decodes['n'], next(prepared.glob('cifar10/*/*.tfrecord*'))
  before = file.stat()
  os.utime(file, (1, 1))
  load_tfds('cifar10', 32)
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
  assert decodes['n'] == 2 * count


def test_the_error_of_a_missing_set_says_where_to_look_and_what_to_do(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'nowhere'))
  (tmp_path / 'here/mnist/3.0.1').mkdir(parents=True)
  (tmp_path / 'here/mnist/3.0.1/dataset_info.json').write_text('{}')
  start = time.perf_counter()
  with pytest.raises(ValueError) as error:
    data.load('celeb_a', image_size=64, channels=3, data_dir=str(tmp_path / 'here'))
  for part in (
    str(tmp_path / 'here/celeb_a'),
    'mnist',
    '--config.data.data_dir',
    '--config.data.download=True',
    '--config.data.name=folder',
  ):
    assert part in str(error.value)
  with pytest.raises(ValueError, match='nowhere'):
    data.load('celeb_a', image_size=64, channels=3)
  with pytest.raises(ValueError) as error:
    data.load('lfw64', image_size=64, channels=3, download=True)
  assert 'nothing downloads lfw64' in str(error.value)
  assert time.perf_counter() - start < 5


def test_configs_of_a_set(tmp_path):
  root = pathlib.Path(tmp_path)
  for name in (
    'plain/1.9.0',
    'plain/1.10.0',
    'plain/2.0.0.incomplete5',
    'one/small/1.0.0',
    'two/a/1.0.0',
    'two/b/1.0.0',
    'some/default/1.0.0',
    'some/b/9.0.0',
  ):
    (root / name).mkdir(parents=True)
    (root / name / 'dataset_info.json').write_text('{}')
  found = lambda name: sources._prepared(root / name).relative_to(root).as_posix()
  assert found('plain') == 'plain/1.10.0' and found('one') == 'one/small/1.0.0'
  assert found('some') == 'some/default/1.0.0' and sources._prepared(root / 'gone') is None
  with pytest.raises(ValueError, match='holds the configs a, b'):
    found('two')


def test_a_damaged_set_is_named(load_tfds, prepared):
  file = next(prepared.glob('lfw/*/*.tfrecord*'))
  raw = file.read_bytes()
  file.write_bytes(raw[: len(raw) // 2])
  try:
    with pytest.raises(ValueError, match='is damaged after example|cannot be read'):
      load_tfds('lfw', 32)
  finally:
    file.write_bytes(raw)


def test_a_missing_feature_is_named(prepared, load_tfds, monkeypatch):
  monkeypatch.setitem(sources.TFDS_SETS, 'mnist', dict(label='species'))
  with pytest.raises(ValueError, match='no feature .species.; it has image, label'):
    load_tfds('mnist')


def test_download_asks_tfds(prepared, tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  class Builder:
    def download_and_prepare(self):
      if 'broken' in root:
        raise ConnectionError('no route')
      (pathlib.Path(root) / 'mnist').symlink_to(prepared / 'mnist')

  root = str(tmp_path / 'fetched')
  pathlib.Path(root).mkdir()
  monkeypatch.setattr(tfds, 'builder', lambda name, data_dir: Builder())
  options = dict(image_size=32, channels=1, download=True, cache_dir=str(tmp_path / 'cache'))
  assert len(data.load('mnist', data_dir=root, **options).images) == 200
  root = str(tmp_path / 'broken')
  message = 'could not fetch mnist into .*broken .ConnectionError: no route.*copy'
  with pytest.raises(ValueError, match=message):
    data.load('mnist', data_dir=root, **options)
