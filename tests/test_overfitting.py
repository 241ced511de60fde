"""Measures of overfitting: against brute force and closed forms, and calibrated with a copycat."""

import numpy as np
import pytest

from vaegan_jax import metrics, overfitting, verdict
from vaegan_jax.metrics import distances

TURN = np.random.default_rng(7).normal(size=(16, 16))


def drawn(rng, count):
  """New samples of the data, 16 features that depend on each other."""
  return np.tanh(rng.normal(size=(count, 16)) @ TURN) + 0.3 * rng.normal(size=(count, 16))


def measured(seed, copies):
  """overfitting_figures of a copycat, or of new samples: 150 training points, 150 held out."""
  rng = np.random.default_rng(seed)
  train, test, new = (drawn(rng, 150) for _ in range(3))
  generated = train + rng.normal(0, 0.05, train.shape) if copies else new
  return overfitting.overfitting_figures(train, test, generated, seed)


@pytest.fixture(scope='module')
def calibrated():
  """{measure: [value by seed]} of new samples and of the copycat, 8 seeds each."""
  found = [[measured(seed, copies) for seed in range(8)] for copies in (False, True)]
  return [{key: np.array([f[key] for f in of]) for key in of[0]} for of in found]


def test_every_measure_catches_the_copycat_and_no_new_sample(calibrated):
  new, copied = calibrated
  assert copied['c_t'].max() < -3 < -1.5 < new['c_t'].min() and new['c_t'].max() < 3
  assert copied['authenticity'].max() < 0.02 and new['authenticity'].min() > 0.35
  assert copied['fld_gap'].max() < -1000 < -20 < new['fld_gap'].min()
  # The energy gap is noisy: its mean over the seeds is judged, as its docstring says.
  error = new['energy_gap'].std(ddof=1) / 8**0.5
  assert abs(new['energy_gap'].mean()) < 3 * error and copied['energy_gap'].mean() > 5 * error


def test_the_verdict_names_the_copycat_alone(calibrated):
  samples = dict(samples=dict(recall=0.5, frechet_distance=9.0), real=dict(recall=0.7))
  samples['settings'] = dict(n=1000)
  samples['real']['frechet_distance'] = 3.0
  for values, copies in zip(calibrated, (False, True)):
    result = dict(samples, overfitting={key: value[0] for key, value in values.items()})
    assert ('copies training images (C_T -' in verdict.verdict(result)) == copies


def test_the_null_splits_the_held_out_images():
  rng = np.random.default_rng(0)
  train, test = drawn(rng, 100), drawn(rng, 80)
  assert overfitting.null_figures(train, test, 3) == overfitting.overfitting_figures(
    train, test[::2], test[1::2], 3
  )


def test_the_training_images_compared():
  assert list(overfitting.training_images(7, 10, 0)) == list(range(7))
  some = overfitting.training_images(1000, 20, 0)
  assert len(set(some)) == 200 and some.max() < 1000
  assert (some == overfitting.training_images(1000, 20, 0)).all()


def test_c_t_of_one_cell_against_pairs():
  rng = np.random.default_rng(1)
  train, test, generated = (
    rng.normal(size=(30, 3)),
    rng.normal(size=(20, 3)),
    rng.normal(size=(25, 3)),
  )
  near = lambda x: np.linalg.norm(x[:, None] - train, axis=-1).min(1)
  farther = (near(generated)[:, None] > near(test)).sum()
  want = (farther - 25 * 20 / 2) / np.sqrt(25 * 20 * 46 / 12)
  assert metrics.data_copying(train, test, generated, cells=1) == pytest.approx(want, rel=1e-9)


def test_c_t_weighs_cells_by_their_test_points():
  # Two far blobs; in the left one all samples are copies, in the right one all are far away.
  rng = np.random.default_rng(2)
  left, right = rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 1000.0
  train = np.concatenate([left, right])
  test = np.concatenate([rng.normal(size=(30, 2)), rng.normal(size=(10, 2)) + 1000.0])
  generated = np.concatenate([left, right + 50.0])
  z = lambda m: 40 * m / 2 / np.sqrt(40 * m * (41 + m) / 12)
  want = (30 * -z(30) + 10 * z(10)) / 40
  assert metrics.data_copying(train, test, generated, cells=2) == pytest.approx(want)
  # A cell with few samples does not count; without a test point in the rest there is no value.
  some = np.concatenate([left, right[:5]])
  assert metrics.data_copying(train, test, some, cells=2) == pytest.approx(-z(30))
  assert np.isnan(metrics.data_copying(train, test[30:], left, cells=2))


def test_c_t_of_equal_distances_is_0():
  ones = np.ones((30, 2))
  assert metrics.data_copying(ones, ones, ones, cells=1) == 0.0


def test_authenticity_by_hand():
  train = np.array([[0.0], [1.0], [5.0]])  # the nearest others are 1, 1 and 4 away
  generated = np.array([[0.4], [-1.5], [7.0], [9.5]])  # 0.4, 1.5, 2 and 4.5 away from the nearest
  assert metrics.authenticity(train, generated) == 0.5


def test_energy_of_two_points_by_hand():
  train, test, generated = (
    np.array([[0.0], [2.0]]),
    np.array([[10.0], [11.0]]),
    np.array([[1.0], [3.0]]),
  )
  # 2 mean(1, 1, 3, 1) - 2 - 2, and 2 mean(9, 10, 7, 8) - 1 - 2
  assert metrics.energy_distance(train, generated) == pytest.approx(-1.0)
  assert metrics.energy_distance(test, generated) == pytest.approx(14.0)
  assert metrics.energy_gap(train, test, generated) == pytest.approx(15.0)


def test_energy_gap_is_a_difference_of_energy_distances(monkeypatch):
  monkeypatch.setattr(distances, 'ENTRIES', 500)
  rng = np.random.default_rng(3)
  train, test, generated = drawn(rng, 40), drawn(rng, 30), drawn(rng, 20)
  want = metrics.energy_distance(test, generated) - metrics.energy_distance(train, generated)
  assert metrics.energy_gap(train, test, generated) == pytest.approx(want, abs=1e-9)


def test_fld_gap_of_wide_gaussians_in_closed_form():
  # All generated points agree, so the mixture is one Gaussian with the variance of `train` around
  # it; -log p = F / 2 log(2 pi v) + d^2 / (2 v).
  rng = np.random.default_rng(4)
  train, test = rng.normal(size=(50, 4)), rng.normal(size=(40, 4)) * 1.5
  scaled = lambda x: (x - train.mean(0)) / train.std(0)
  # The mean of `train` as centre: v is 1 after scaling, and the mean of d^2 / F is 1.
  want = 100 * (0.5 * 4 - 0.5 * np.square(scaled(test)).sum(1).mean()) / 4
  got = metrics.fld_gap(train, test, np.tile(train.mean(0), (3, 1)))
  assert got == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize('name', ['data_copying', 'energy_gap', 'fld_gap'])
def test_sets_that_do_not_fit_are_refused(name):
  good, metric = np.random.default_rng(5).normal(size=(20, 4)), getattr(metrics, name)
  for bad in (good[:, :3], good[:1], np.where(good > 1, np.nan, good)):
    with pytest.raises(ValueError):
      metric(good, good, bad)
  with pytest.raises(ValueError, match='cells is 0'):
    metrics.data_copying(good, good, good, cells=0)
