"""Metrics against closed forms, their invariances, and their errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import losses, metrics
from vaegan_jax.metrics import distances

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(size=(300, 8)), RNG.normal(0.3, 1.2, (200, 8))
IMAGES = RNG.integers(0, 256, (4, 16, 20, 3)).astype(np.uint8)


def test_frechet_distance_of_two_gaussians():
  # Commuting covariances, one of them singular.
  a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0])
  turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
  got = metrics.frechet_distance_of_gaussians(
    np.zeros(3), turn @ np.diag(a) @ turn.T, np.array([0.0, 3.0, 0.0]), turn @ np.diag(b) @ turn.T
  )
  assert got == pytest.approx(9.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


def test_frechet_distance_is_zero_symmetric_and_turns_with_the_features():
  turn = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
  value = metrics.frechet_distance(REAL, FAKE)
  assert metrics.frechet_distance(REAL, REAL) < 1e-10
  assert metrics.frechet_distance(FAKE, REAL) == pytest.approx(value, rel=1e-10)
  assert metrics.frechet_distance(REAL @ turn + 5.0, FAKE @ turn + 5.0) == pytest.approx(
    value, rel=1e-10
  )


def test_frechet_distance_of_fewer_images_than_features():
  few = RNG.normal(size=(5, 40))
  both = np.concatenate([few, np.zeros((5, 40))], 1), np.concatenate([np.zeros((5, 40)), few], 1)
  assert metrics.frechet_distance(few, few.copy()) < 1e-10
  # Orthogonal supports: the cross term is zero, so both traces remain.
  want = np.square(both[0].mean(0) - both[1].mean(0)).sum() + 2.0 * few.var(0, ddof=1).sum()
  assert metrics.frechet_distance(*both) == pytest.approx(want, rel=1e-10)


def test_stats_of_batches_are_those_of_the_whole_far_from_zero():
  far, stats = REAL + 1e6, None
  for part in np.array_split(far, 7):
    stats = metrics.merge_stats(stats, metrics.feature_stats(part))
  assert stats.num_examples == 300
  np.testing.assert_allclose(stats.covariance, np.cov(REAL.T), rtol=1e-6, atol=1e-8)
  assert metrics.frechet_distance_of_stats(stats, metrics.feature_stats(far)) < 1e-6


def test_kid_against_its_sum_over_pairs(monkeypatch):
  monkeypatch.setattr(distances, 'ENTRIES', 700)  # several blocks, the last one short
  kernel = lambda x, y: (x @ y / 8 + 1) ** 3
  mean = lambda a, b: np.mean(
    [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(b) if a is not b or i != j]
  )
  a, b = REAL[:30], FAKE[:20]
  assert metrics.kid(a, b) == pytest.approx(mean(a, a) + mean(b, b) - 2 * mean(a, b), rel=1e-12)


def test_kid_is_unbiased():
  values = [metrics.kid(*np.random.default_rng(s).normal(size=(2, 20, 4))) for s in range(200)]
  assert min(values) < 0 and abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
  mean, deviation = metrics.kid_of_subsets(REAL, FAKE, num_subsets=50, subset_size=100)
  assert mean == pytest.approx(metrics.kid(REAL, FAKE), abs=3 * deviation)


def test_precision_recall_and_density_coverage_by_hand():
  real = np.array([[0.0], [1.0], [2.0], [10.0]])  # radii for k = 1: 1, 1, 1, 8
  fake = np.array([[0.5], [2.5], [100.0]])  # radii: 2, 2, 97.5
  assert metrics.precision_recall(real, fake, k=1) == (2 / 3, 1.0)
  # 0.5 lies in two balls, 2.5 in those of 2 and 10.
  assert metrics.density_coverage(real, fake, k=1) == (4 / 3, 1.0)
  assert metrics.density_coverage(real, fake[2:], k=1) == (0.0, 0.0)


def test_neighbours_of_a_set_with_itself_and_of_duplicates():
  for points in (REAL, np.repeat(REAL[:4] * 1e3, 5, 0)):  # all radii of duplicates are 0
    assert metrics.precision_recall(points, points.copy()) == (1.0, 1.0)
    assert metrics.density_coverage(points, points.copy(), k=4).coverage == 1.0


def test_neighbours_do_not_depend_on_blocks_shift_or_scale(monkeypatch):
  want = metrics.precision_recall(REAL, FAKE) + metrics.density_coverage(REAL, FAKE)
  assert min(want) > 0.0 and min(want[:2]) < 1.0
  monkeypatch.setattr(distances, 'ENTRIES', 1000)
  assert metrics.precision_recall(8.0 * REAL + 1e3, 8.0 * FAKE + 1e3) == want[:2]
  assert metrics.density_coverage(8.0 * REAL + 1e3, 8.0 * FAKE + 1e3) == want[2:]


def test_inception_score_of_certain_and_of_uniform_classifiers():
  sure = np.eye(10)[np.arange(1000) // 100]  # sorted by class
  assert metrics.inception_score(sure, splits=1) == pytest.approx((10.0, 0.0))
  assert metrics.inception_score(sure)[0] > 9.0  # shuffled before it is split
  assert metrics.inception_score(sure, seed=None) == pytest.approx((1.0, 0.0))
  assert metrics.inception_score(np.full((50, 10), 0.1)) == pytest.approx((1.0, 0.0))


def test_class_probabilities_of_large_logits():
  got = metrics.class_probabilities(jnp.array([[1e4, 1e4, -1e4]]))
  np.testing.assert_allclose(got, [[0.5, 0.5, 0.0]])


def test_top1():
  logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
  labels = np.array([0, 1, 1, 0])
  assert metrics.top1(logits, labels) == 0.75
  np.testing.assert_array_equal(metrics.top1_per_class(logits, labels), [1.0, 0.5, np.nan])


def test_within_class_distance_against_all_pairs():
  labels = np.arange(300) % 3
  labels[labels == 2] = 1
  labels[0] = 2
  got = metrics.within_class_distance(REAL, labels, 4)
  pairs = [
    np.linalg.norm(x - y) for i, x in enumerate(REAL[labels == 1]) for y in REAL[labels == 1][:i]
  ]
  assert got[1] == pytest.approx(np.mean(pairs), rel=1e-10) and np.isnan(got[2:]).all()


def test_diversity_ratio_of_contracted_images():
  images, labels = np.repeat(IMAGES, 2, 0), np.repeat([0, 1], 4)
  images = images + RNG.integers(-3, 3, images.shape).astype(np.uint8)
  floats = images / 127.5 - 1.0
  mean = floats.mean(0)
  got = metrics.diversity_ratio(mean + 0.25 * (floats - mean), labels, images, labels, 2)
  np.testing.assert_allclose(got, 0.25)


def test_modes():
  probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]])
  assert list(metrics.mode_counts(probabilities)) == [2, 1, 0]
  assert list(metrics.mode_counts(probabilities, confidence=0.7)) == [1, 1, 0]
  assert list(metrics.mode_counts(np.array([2, 2, 0]), 4)) == [1, 0, 2, 0]
  assert metrics.modes_covered([2, 1, 0]) == 2 and metrics.modes_covered([2, 1, 0], at_least=2) == 1
  assert metrics.mode_kl([5, 0], [50, 50]) == pytest.approx(np.log(2.0))
  assert metrics.mode_kl([5, 5], [50, 50]) == 0.0 and metrics.mode_kl([5, 5], [50, 0]) == np.inf


def test_psnr_of_a_known_error_and_of_none():
  image = np.full((2, 8, 8, 1), 100, np.uint8)
  np.testing.assert_allclose(metrics.psnr(image + np.uint8(10), image), 20.0 * np.log10(25.5))
  assert (metrics.psnr(IMAGES, IMAGES) == np.inf).all()


def test_ssim_of_equal_and_of_constant_images():
  np.testing.assert_allclose(metrics.ssim(IMAGES, IMAGES), 1.0)
  dark, bright = np.full((1, 16, 16, 1), 50, np.uint8), np.full((1, 16, 16, 1), 150, np.uint8)
  c1 = (0.01 * 255) ** 2
  np.testing.assert_allclose(
    metrics.ssim(dark, bright), (2 * 50 * 150 + c1) / (50**2 + 150**2 + c1)
  )
  assert (metrics.ssim(IMAGES, 255 - IMAGES) < 0).all()


def test_image_metrics_are_those_of_floats():
  other, floats = IMAGES[::-1], lambda x: jnp.asarray(x / 127.5 - 1.0, jnp.float32)
  for metric in (metrics.psnr, metrics.ssim):
    np.testing.assert_allclose(
      metric(floats(IMAGES), floats(other)), metric(IMAGES, other), rtol=1e-4
    )
  np.testing.assert_allclose(
    metrics.gradient_energy(floats(IMAGES)), metrics.gradient_energy(IMAGES), rtol=1e-4
  )


def test_gradient_energy_of_a_ramp_and_of_a_blurred_image():
  ramp = np.broadcast_to(3 * np.arange(10, dtype=np.uint8)[:, None, None], (1, 10, 12, 3))
  np.testing.assert_allclose(metrics.gradient_energy(ramp), 9.0)
  blurred = ((IMAGES.astype(int) + np.roll(IMAGES, 1, 1)) // 2).astype(np.uint8)
  assert (metrics.gradient_energy(blurred) < 0.9 * metrics.gradient_energy(IMAGES)).all()


def test_active_units_and_kl():
  # Variances 0.04 and 0.0025.
  mean = np.stack([np.tile([-0.2, 0.2], 50), np.tile([-0.05, 0.05], 50)], 1)
  assert metrics.active_units(mean) == 1 and metrics.active_units(mean, threshold=1e-3) == 2
  logvar = RNG.normal(size=(100, 2))
  want = losses.gaussian_kl_per_dim(jnp.float32(mean), jnp.float32(logvar)).mean(0)
  np.testing.assert_allclose(metrics.kl_per_dimension(mean, logvar), want, rtol=1e-5)
  np.testing.assert_allclose(metrics.kl_per_dimension(np.ones((3, 2)), np.zeros((3, 2))), 0.5)


def test_attribute_similarity_by_hand():
  wanted = np.array([[1.0, 0.0], [1.0, 1.0]])
  predicted = np.array([[[0.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [-1.0, -1.0]]])
  got = metrics.attribute_similarity(wanted, predicted)
  # Cosines of the best: 1 and 1. Errors: sample 0 has 2 and 0, sample 1 has 1 and 8.
  assert got[:2] == pytest.approx((1.0, 2.75)) and got[2] == pytest.approx(3.5 / 2**0.5)
  assert np.isnan(metrics.attribute_similarity(wanted, predicted[:, :1]).squared_error_deviation)


BROKEN = REAL.copy()
BROKEN[3, 1] = np.nan


@pytest.mark.parametrize(
  'call,told',
  [
    (lambda: metrics.frechet_distance(REAL[:1], FAKE), 'real has 1 examples, at least 2'),
    (lambda: metrics.frechet_distance(REAL, BROKEN), 'fake has NaN .* in 1 of 300'),
    (lambda: metrics.kid(REAL, FAKE[:, :5]), 'one network'),
    (lambda: metrics.kid(REAL[0], FAKE), r'real is float64 \[8\]'),
    (lambda: metrics.kid_of_subsets(REAL, FAKE, subset_size=201), 'smaller subset_size'),
    (lambda: metrics.precision_recall(REAL, FAKE, k=200), 'k is 200 with 200'),
    (lambda: metrics.density_coverage(REAL, FAKE, k=0), 'k is 0'),
    (lambda: metrics.feature_stats(REAL[:1]).covariance, 'at least 2'),
    (lambda: metrics.merge_stats(*map(metrics.feature_stats, (REAL, REAL[:, :3]))), '8 and of 3'),
    (
      lambda: metrics.frechet_distance_of_gaussians([0.0], [[-1.0]], [0.0], [[1.0]]),
      'eigenvalue -1',
    ),
    (
      lambda: metrics.frechet_distance_of_gaussians(
        [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]], [0.0, 0.0], np.eye(2)
      ),
      'not symmetric',
    ),
    (lambda: metrics.inception_score(REAL), 'class_probabilities'),
    (lambda: metrics.inception_score(np.full((12, 4), 0.25)), 'fewer splits'),
    (lambda: metrics.top1(REAL, np.full(300, 8)), r'outside 0\.\.7'),
    (lambda: metrics.top1(REAL, np.zeros(299, int)), '299 entries for 300'),
    (lambda: metrics.top1(REAL, np.zeros(300)), 'integers'),
    (
      lambda: metrics.diversity_ratio(FAKE, np.arange(200) % 2, REAL, np.zeros(300, int), 2),
      'real has fewer than 2 examples of class 1',
    ),
    (lambda: metrics.mode_counts(np.zeros(3, int)), 'num_modes'),
    (lambda: metrics.mode_kl([1, 2], [1, 2, 3]), '2 and 3 modes'),
    (lambda: metrics.psnr(IMAGES, IMAGES[:1]), 'nothing is broadcast'),
    (lambda: metrics.psnr(IMAGES, IMAGES / 127.5 - 1.0), 'uint8 and reference float64'),
    (lambda: metrics.psnr(*[IMAGES.astype(np.float32)] * 2), r'0\.\.255'),
    (lambda: metrics.psnr(*[IMAGES / 255.0] * 2), r'looks like a range of 0\.\.1'),
    (lambda: metrics.psnr(*[IMAGES.astype(int)] * 2), 'images uint8 or float'),
    (lambda: metrics.ssim(*[IMAGES[:, :8]] * 2), 'smaller than the window'),
    (lambda: metrics.gradient_energy(IMAGES[..., :2]), '1 or 3 channels'),
    (lambda: metrics.kl_per_dimension(REAL, REAL[:, :3]), 'nothing is broadcast'),
    (lambda: metrics.kl_per_dimension(REAL, REAL + 1e4), 'overflows'),
    (lambda: metrics.attribute_similarity(REAL, REAL), r'\[N, S, A\]'),
    (lambda: metrics.attribute_similarity(REAL, REAL[:, None, :5]), 'equal N and A'),
    (lambda: metrics.attribute_similarity(np.zeros((2, 3)), np.ones((2, 1, 3))), '-1 and 1'),
  ],
)
def test_refused(call, told):
  with pytest.raises(ValueError, match=told):
    call()
