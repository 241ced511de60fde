"""The three ways to make batches: equal bit for bit, on any hosts, resumed anywhere."""

import pathlib
import sys
import threading
import time

import jax
import numpy as np
import pytest

from vaegan_jax import build, data, programs, settings
from vaegan_jax.configs import cifar10, digits
from vaegan_jax.data import records, sources
from vaegan_jax.runs import train

PLACES = [(0, 1), (0, 4), (1, 4), (2, 4), (3, 4)]  # process_index, process_count


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """A folder with TFDS sets under the names of known ones, in several files."""
  reason = 'TFDS sets need tensorflow and tensorflow-datasets'
  pytest.importorskip('tensorflow', reason=reason)
  tfds = pytest.importorskip('tensorflow_datasets', reason=reason)
  home, rng = tmp_path_factory.mktemp('tfds'), np.random.default_rng(0)

  def store(name, count, features, row, **more):
    tfds.dataset_builders.store_as_tfds_dataset(
      name=name,
      version='1.0.0',
      features=tfds.features.FeaturesDict(features),
      data_dir=str(home),
      disable_shuffling=True,
      split_datasets={s: [(i, row(i)) for i in range(count)] for s in ('train', 'test')},
      **more,
    )

  picture, attributes = tfds.features.Image, {'Young': np.bool_, 'Male': np.bool_}
  noise = lambda *shape: rng.integers(0, 256, shape, np.uint8)
  faces = {'Young': True, 'Male': False}
  kind = {'image': picture(shape=(32, 32, 3)), 'label': tfds.features.ClassLabel(num_classes=10)}
  store('cifar10', 50, kind, lambda i: {'image': noise(32, 32, 3), 'label': i % 10})
  kind = {'image': picture(shape=(28, 28, 1)), 'label': tfds.features.ClassLabel(num_classes=10)}
  store('mnist', 9, kind, lambda i: {'image': noise(28, 28, 1), 'label': i})
  kind = {
    'image': picture(shape=(218, 178, 3), encoding_format='jpeg'),
    'attributes': attributes,
  }
  store('celeb_a', 9, kind, lambda i: {'image': noise(218, 178, 3), 'attributes': faces})
  kind = {
    'image': picture(shape=(64, 64, 3)),
    'label': tfds.features.Text(),
    'has_attributes': np.bool_,
    'attributes': attributes,
  }
  store(
    'lfw64',
    20,
    kind,
    lambda i: {
      'image': noise(64, 64, 3),
      'label': f'person {i % 3}',
      'has_attributes': i % 4 > 0,
      'attributes': dict(faces, Young=i % 2 == 0),
    },
  )
  return home


@pytest.fixture(scope='module')
def sets(root, tmp_path_factory):
  """A function to both forms of a set: (decoded, encoded)."""
  cache = str(tmp_path_factory.mktemp('cache'))

  def call(name, size=32, channels=3, **more):
    return tuple(
      data.load(
        name,
        image_size=size,
        channels=channels,
        data_dir=str(root),
        cache_dir=cache,
        encoded=encoded,
        **more,
      )
      for encoded in (False, True)
    )

  return call


def made(dataset, count, **options):
  batches = data.batches(dataset, condition='label', **options)
  return [b for _, b in zip(range(count), batches)]


def assert_equal(ones, others):
  assert len(ones) == len(others) > 0
  for one, other in zip(ones, others):
    assert set(one) == set(other) == {'x', 'c'}
    for key in one:
      assert one[key].dtype == other[key].dtype
      np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize('pipeline', ['tf.data', 'stream'])
def test_batches_are_those_of_memory_on_any_hosts_from_any_step(sets, pipeline):
  decoded, encoded = sets('cifar10')
  dataset = encoded if pipeline == 'stream' else decoded
  for index, count in PLACES:
    kind = dict(batch_size=8, seed=3, process_index=index, process_count=count)
    whole = made(decoded, 20, **kind)  # over three epochs of 50 images
    assert_equal(made(dataset, 20, pipeline=pipeline, **kind), whole)
    for start in np.random.default_rng(index).integers(1, 17, 2):
      assert_equal(
        made(dataset, 3, pipeline=pipeline, start_step=int(start), **kind), whole[start:][:3]
      )
  kind = dict(batch_size=8, seed=3, start_step=5, process_index=1, process_count=2, steps=4)
  several = made(dataset, 3, pipeline=pipeline, **kind)
  assert several[0]['x'].shape == (4, 4, 32, 32, 3)
  assert_equal(several, made(decoded, 3, **kind))


@pytest.mark.parametrize('pipeline', ['memory', 'tf.data', 'stream'])
def test_each_epoch_visits_every_image_once_over_all_hosts(sets, pipeline):
  dataset = sets('cifar10')[pipeline == 'stream']
  hosts = [
    made(dataset, 25, batch_size=8, seed=1, process_index=i, process_count=4, pipeline=pipeline)
    for i in range(4)
  ]
  stream = np.concatenate([host[step]['x'] for step in range(25) for host in hosts])
  every = sorted(image.tobytes() for image in sets('cifar10')[0].images)
  epochs = [[image.tobytes() for image in stream[i : i + 50]] for i in range(0, 200, 50)]
  assert [sorted(epoch) for epoch in epochs] == [every] * 4
  assert epochs[0] != epochs[1]


@pytest.mark.parametrize('pipeline', ['memory', 'tf.data', 'stream'])
def test_step_one_million_comes_at_once(sets, pipeline):
  dataset = sets('cifar10')[pipeline == 'stream']
  made(dataset, 1, batch_size=8, seed=0, pipeline=pipeline)
  start = time.process_time()
  one = made(dataset, 1, batch_size=8, seed=0, start_step=1_000_000, pipeline=pipeline)
  assert time.process_time() - start < 2
  np.testing.assert_array_equal(
    one[0]['c'], sets('cifar10')[0].labels[data.batch_indices(50, 8, 1_000_000, 0)]
  )


@pytest.mark.parametrize(
  'name, size, channels, split',
  [
    ('cifar10', 16, 3, 'test+train[10:20]'),
    ('mnist', 32, 1, 'train'),  # padded
    ('celeb_a', 64, 3, 'train[20%:]'),  # cropped, JPEG
    ('lfw64', 64, 3, 'train'),  # only those with attributes; names become classes
    ('lfw64', 32, 1, 'train'),
  ],
)
def test_encoded_images_have_the_pixels_and_labels_of_the_cache(sets, name, size, channels, split):
  decoded, encoded = sets(name, size, channels, split=split)
  assert encoded.images.shape == decoded.images.shape and encoded.images.nbytes
  np.testing.assert_array_equal(np.asarray(encoded.images), decoded.images)
  np.testing.assert_array_equal(encoded.images[[3, 1]], decoded.images[[3, 1]])
  np.testing.assert_array_equal(encoded.images[2], decoded.images[2])
  for field in ('labels', 'attributes'):
    one, other = getattr(encoded, field), getattr(decoded, field)
    assert (one is None) == (other is None)
    np.testing.assert_array_equal(one, other)
  assert encoded[3:4] + encoded[5:] == decoded[3:4] + decoded[5:] and encoded.name == decoded.name


def test_an_index_is_read_once_and_needs_no_tensorflow(sets, monkeypatch):
  _, encoded = sets('cifar10')
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  again = sets('cifar10')[1]
  whole = made(again, 1, batch_size=50, seed=0, pipeline='stream')
  np.testing.assert_array_equal(whole[0]['x'], encoded.images[data.example_order(50, 0, 0)])


def test_a_damaged_image_is_named_with_a_remedy(sets, root, tmp_path):
  _, encoded = sets('mnist', 32, 1)
  images = encoded.images
  (path,) = images.files
  content = bytearray(pathlib.Path(path).read_bytes())
  first = images.ranges[4, 1]
  content[first : first + 8] = bytes(8)
  (tmp_path / 'damaged').write_bytes(content)
  images.files = [str(tmp_path / 'damaged')]
  assert images[3].shape == (32, 32, 1)
  message = rf'image 4 cannot be read, \d+ bytes from byte {first} of .*damaged.*pipeline=memory'
  with pytest.raises(ValueError, match=message):
    made(encoded, 1, batch_size=9, seed=0, pipeline='stream')
  images.files = [str(tmp_path / 'gone')]
  with pytest.raises(ValueError, match='gone.*restore that file'):
    images[0]


def test_threads_end_with_their_consumer(sets):
  batches = data.batches(sets('cifar10')[1], batch_size=8, seed=0, pipeline='stream')
  stream = data.prefetch(batches, lambda b: b)
  next(stream)
  stream.close()
  del batches, stream
  assert not [t for t in threading.enumerate() if t.name.startswith(('stream', 'prefetch'))]


# --- From a config.


def config_of(kind, root, tmp_path, **changes):
  small = {
    'network.width': 0.0625,
    'batch_size': 16,
    'steps': 2,
    'data.image_size': 16,
    'data.data_dir': str(root),
    'data.cache_dir': str(tmp_path / 'cache'),
  }
  return settings.with_settings(kind.get_config('vae'), {**small, **changes})


class Direct:
  """The runner of a program that leaves batches on the host."""

  def put_batches(self, batches):
    return batches


def test_the_feed_of_a_run_is_the_same_in_each_way(root, tmp_path):
  seen = {}
  for pipeline in ('auto', 'memory', 'stream'):
    config = config_of(cifar10, root, tmp_path, **{'data.pipeline': pipeline})
    assert build.pipeline(config) == pipeline.replace('auto', 'tf.data')
    dataset = build.dataset(config)
    build.check_feed(config, dataset)
    with programs.feed([config], dataset, 7, [programs.Program([0], None, Direct())]) as batches:
      seen[pipeline] = [next(batches)[0][0]['x'] for _ in range(4)]
  for other in ('auto', 'stream'):
    np.testing.assert_array_equal(seen[other], seen['memory'])


def test_auto_is_tf_data_for_tfds_sets_alone(root, tmp_path):
  assert build.pipeline(config_of(digits, root, tmp_path)) == 'memory'
  on_device = config_of(cifar10, root, tmp_path, **{'data.on_device': True})
  assert build.pipeline(on_device) == 'memory'
  older = settings.to_dict(config_of(cifar10, root, tmp_path))
  del older['data']['pipeline']
  assert build.pipeline(settings.from_dict(older)) == 'tf.data'
  assert not settings.differences(
    config_of(cifar10, root, tmp_path, **{'data.pipeline': 'stream'}), older
  )


def test_digits_by_tf_data(root, tmp_path):
  config = config_of(digits, root, tmp_path, **{'data.pipeline': 'tf.data'})
  dataset = build.dataset(config)
  kind = dict(batch_size=16, seed=0)
  assert_equal(made(dataset, 3, pipeline='tf.data', **kind), made(dataset, 3, **kind))


@pytest.mark.parametrize(
  'kind, changes, message',
  [
    (digits, {'data.pipeline': 'tfdata'}, r'pipeline=tfdata: use one of auto, .*mean tf.data\?'),
    (digits, {'data.pipeline': 'stream'}, 'stream reads the files of TFDS sets, not of digits'),
    (
      cifar10,
      {'data.pipeline': 'stream', 'data.on_device': True},
      'pipeline=stream makes batches on the host, --config.data.on_device=True on the devices',
    ),
  ],
)
def test_bad_values_are_refused_before_compilation(
  root, tmp_path, monkeypatch, kind, changes, message
):
  monkeypatch.setattr(jax, 'jit', None)
  with pytest.raises(ValueError, match=message):
    train.train(config_of(kind, root, tmp_path, **changes), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_missing_tensorflow_is_one_clear_error(root, tmp_path, monkeypatch):
  config = config_of(cifar10, root, tmp_path)
  build.dataset(config)  # decoded already
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  message = r'pipeline=tf.data .* needs tensorflow.*pip install .*data.pipeline=memory'
  with pytest.raises(ValueError, match=message):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_set_must_be_loaded_for_its_way(sets):
  for dataset, pipeline in zip(sets('cifar10'), ('stream', 'tf.data')):
    with pytest.raises(ValueError, match=f'is not loaded for pipeline={pipeline}'):
      data.batches(dataset, batch_size=8, seed=0, pipeline=pipeline)


def test_a_stream_needs_tfrecord_files_in_a_local_folder(tmp_path):
  for shards in ((), (sources.Shard('gs://bucket/a.tfrecord', 0, 1),)):
    content = sources.Content(1, iter(()), shards=shards)
    source = sources.Source('remote (train)', [len(shards)], lambda content=content: content)
    with pytest.raises(ValueError, match='stream reads TFRecord files in a local folder, which re'):
      records.indexed(source, 16, 3, str(tmp_path))
