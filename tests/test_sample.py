"""Trained models restored: what they give, and what they refuse."""
import importlib

import jax
import numpy as np
import pytest

from vaegan_jax import build
from vaegan_jax import checkpoint
from vaegan_jax import restore
from vaegan_jax import sample


def saved(workdir, method, about, **changes):
  """A workdir with a checkpoint of an untrained model."""
  config = importlib.import_module('configs.digits').get_config(method)
  config.network.width, config.network.latent_size = 0.0625, 4
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  phases = build.phases(config, about['size'])
  state = build.init(config, about['size'], phases)(jax.random.key(0))
  checkpoint.save(workdir, 7, state, keep=1, config=build.to_dict(config), about=about).result()
  return workdir


@pytest.fixture(scope='module')
def conditional(tmp_path_factory):
  about = dict(condition='label', names=list('0123456789'), size=10)
  return restore(saved(tmp_path_factory.mktemp('run'), 'cvae', about))


@pytest.fixture(scope='module')
def by_attributes(tmp_path_factory):
  about = dict(condition='attributes', names=['Male', 'Smiling'], size=2, examples=[[0, 1], [1, 0], [1, 1]])
  return restore(saved(tmp_path_factory.mktemp('run'), 'cvae', about, **{
      'data.condition': 'attributes', 'prior_condition': 'shuffled'}))


def test_samples(conditional):
  images = conditional.sample(70)
  assert images.shape == (70, 16, 16, 1) and images.dtype == np.uint8
  np.testing.assert_array_equal(images[:10], conditional.sample(10))  # the first do not depend on n
  assert (images[:10] != conditional.sample(10, seed=1)).any()
  np.testing.assert_array_equal(conditional.sample(4, labels='3'), conditional.sample(4, labels=[3, 3, 3, 3]))
  mixed = np.zeros((1, 10))
  mixed[0, [1, 2, 3]] = 1 / 3
  assert conditional.sample(1, labels=mixed).shape == (1, 16, 16, 1)


def test_a_class_by_number_or_by_name():
  names = ['1', '2', 'two']
  assert [sample.class_number(given, names) for given in (1, '1', 'two', '0')] == [1, 0, 2, 0]
  with pytest.raises(ValueError, match="no class 3; classes are 0=1, 1=2, 2=two"):
    sample.class_number(3, names)


def test_labels_take_turns():
  about = dict(condition='label', names=['cat', 'dog', 'eel'], size=3)
  rows = sample.condition(about, 5, ['dog', 2])
  assert rows.argmax(1).tolist() == [1, 2, 1, 2, 1]
  assert sample.condition(about, 4).argmax(1).tolist() == [0, 1, 2, 0]


def test_attributes_that_are_not_asked_for_are_those_of_real_images(by_attributes):
  rows = sample.condition(by_attributes.about, 200, attributes=dict(Smiling=1))
  assert (rows[:, 1] == 1).all() and 0 < rows[:, 0].mean() < 1
  assert by_attributes.sample(3, attributes=dict(Smiling=1)).shape == (3, 16, 16, 1)


def test_encode_decode_reconstruct_interpolate(conditional):
  images = conditional.sample(6)
  labels = list(range(6))
  mean, logvar = conditional.encode(images, labels=labels)
  assert mean.shape == logvar.shape == (6, 4)
  again = conditional.reconstruct(images, labels=labels)
  np.testing.assert_array_equal(again, conditional.decode(mean, labels=labels))
  lines = conditional.interpolate(images[:2], images[2:4], steps=5, labels=[1, 2])
  assert lines.shape == (2, 5, 16, 16, 1)
  np.testing.assert_array_equal(lines[:, 0], conditional.reconstruct(images[:2], labels=[1, 2]))
  np.testing.assert_array_equal(lines[:, -1], conditional.reconstruct(images[2:4], labels=[1, 2]))


@pytest.mark.parametrize('call,words', [
    (lambda m: m.sample(3, labels=10), 'no class 10'), (lambda m: m.sample(3, labels=-1), 'no class -1'),
    (lambda m: m.sample(3, labels='x'), "no class 'x'"), (lambda m: m.sample(3, attributes=dict(Male=1)), 'condition label'),
    (lambda m: m.sample(0), 'at least one image'), (lambda m: m.decode(np.zeros((2, 5)), labels=1), r'latents must be \[N, 4\]'),
    (lambda m: m.decode(np.zeros((2, 4))), 'conditional: pass labels'),
    (lambda m: m.encode(np.zeros((2, 16, 16, 1)), labels=1), 'uint8'),
    (lambda m: m.encode(np.zeros((2, 8, 8, 1), np.uint8), labels=1), '16, 16, 1'),
    (lambda m: m.sample(2, labels=np.full((2, 10), np.nan)), 'finite')])
def test_requests_that_cannot_be_met(conditional, call, words):
  with pytest.raises(ValueError, match=words):
    call(conditional)


def test_attributes_that_do_not_exist_are_named(by_attributes):
  with pytest.raises(ValueError, match="no attribute 'Smilin'; did you mean Smiling"):
    by_attributes.sample(2, attributes=dict(Smilin=1))


def test_a_gan_has_no_encoder(tmp_path):
  model = restore(saved(tmp_path, 'gan', dict(condition='none', names=[], size=0)))
  assert model.sample(3).shape == (3, 16, 16, 1)
  with pytest.raises(ValueError, match='gan has no encoder'):
    model.encode(model.sample(3))


def test_restoring_what_is_not_there(tmp_path):
  with pytest.raises(ValueError, match='has no checkpoint'):
    restore(tmp_path)
  workdir = saved(tmp_path / 'run', 'vae', dict(condition='none', names=[], size=0))
  (workdir / 'checkpoints/9999').mkdir()  # a stray folder is no checkpoint
  assert restore(workdir).step == 7
  with pytest.raises(ValueError, match='no checkpoint of step 8; it has 7'):
    restore(workdir, 8)


def test_restored_from_the_ema_weights_alone(tmp_path):
  workdir = saved(tmp_path, 'vae', dict(condition='none', names=[], size=0))
  model = restore(workdir)
  assert set(model.weights) == {'encoder', 'generator'} and set(model.weights['generator']) == {'params', 'stats'}
  before = model.sample(2)
  (workdir / 'config.json').unlink(missing_ok=True)
  np.testing.assert_array_equal(restore(workdir).sample(2), before)
