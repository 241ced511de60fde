"""Feature networks: what they learn, that they are kept and restored whole, and what they refuse."""
import logging

import numpy as np
import pytest
from sklearn import datasets

from vaegan_jax import metrics
from vaegan_jax.features import classifier

SMALL = dict(steps=60, width=8, num_features=16, learning_rate=1e-2, shift=0)


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
  assert metrics.top1(judge.logits(images), labels) > .85
  features = judge.features(images)
  assert features.shape == (297, 16) and features.dtype == np.float32 and (features.std(0) > 0).sum() > 8
  np.testing.assert_allclose(judge.predictions(images).sum(1), 1., rtol=1e-5)
  assert '10 classes' in judge.name and '1500 images 8x8x1' in judge.name and 'seed 0' in judge.name


def test_judgement_does_not_depend_on_the_batch(judge, digits):
  images = digits[0][:300]
  np.testing.assert_allclose(judge.features(images)[-3:], judge.features(images[-3:]), rtol=1e-4, atol=1e-5)


def test_saved_and_loaded(judge, digits, tmp_path):
  classifier.save(judge, tmp_path / 'a' / 'judge.npz')
  again = classifier.load(tmp_path / 'a' / 'judge.npz')
  assert again.name == judge.name
  np.testing.assert_array_equal(again.logits(digits[0][:9]), judge.logits(digits[0][:9]))
  assert [p.name for p in (tmp_path / 'a').iterdir()] == ['judge.npz']


def test_cache_is_keyed_by_data_and_settings_and_repairs_itself(digits, tmp_path, monkeypatch, caplog):
  trained = []
  real_train = classifier.train
  monkeypatch.setattr(classifier, 'train', lambda *a, **k: trained.append(k) or real_train(*a, **k))
  images, labels = (a[:64] for a in digits)
  settings = dict(SMALL, steps=1, batch_size=8)
  get = lambda labels, **more: classifier.load_or_train(
      images, labels, cache_dir=tmp_path, **settings, **more)
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
  assert ((got > 0) == wanted).mean() > .85 and np.abs(got).max() <= 1.
  ink = images.mean((1, 2, 3))[:, None] * [1., -1e3]
  scores = classifier.train(images, ink, **SMALL).predictions(images)
  assert (np.square(scores - ink).mean(0) < .2 * ink.var(0)).all()  # in their own units


GREY = np.zeros((9, 16, 16, 1), np.uint8)


@pytest.mark.parametrize('images,labels,settings,told', [
    (GREY / 255., np.zeros(9, int), {}, 'uint8'),
    (GREY[:, :12], np.zeros(9, int), {}, 'squares'),
    (GREY, np.zeros(8, int), {}, 'for 9 images'),
    (GREY, np.zeros(9), {}, 'classes are integers'),
    (GREY, np.full(9, 4), dict(num_classes=4), r'outside 0\.\.3'),
    (GREY, np.full((9, 2), 2), {}, 'give 0 and 1'),
    (GREY, np.full((9, 2), np.nan), {}, 'NaN'),
    (GREY, np.zeros((9, 2)), dict(num_classes=2), 'leave it out'),
    (GREY, np.zeros(9, int), dict(batch_size=10), 'cannot be made from 9'),
])
def test_classifier_refuses(images, labels, settings, told):
  with pytest.raises(ValueError, match=told):
    classifier.train(images, labels, **settings)


def test_classifier_refuses_images_of_another_size(judge):
  with pytest.raises(ValueError, match=r'\[16, 16, 1\].*trained on \[8, 8, 1\]'):
    judge.features(GREY)
