"""The toy example: the ring, its measures, and a population that trains as its members do alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaegan_jax import optim, toy
from vaegan_jax.experiments.figures import toy_curves
from vaegan_jax.networks import mlp

pytestmark = pytest.mark.slow

SMALL = toy.Toy(batch_size=8)


def on_circle(angles, radius=50.0):
  return np.array(toy.CENTRE) + (radius * np.stack([np.cos(angles), np.sin(angles)])).T


def even(count, first=0.0, last=2 * np.pi):
  return first + (np.arange(count) + 0.5) / count * (last - first)


def test_real_points_are_a_ring(key):
  thin = toy.Toy(radius=10.0, width=0.03)
  points = np.asarray(toy.ring(key, 40000, thin))
  radii = np.hypot(*(points - toy.CENTRE).T)
  assert abs(radii.mean() - 10.0) < 0.01 and abs(radii.std() - 0.3) < 0.01
  found = toy.measures(points, 10.0)
  assert found['coverage'] == found['coverage_on_ring'] == 1.0 and found['unevenness'] < 0.02
  assert (
    abs(found['radius_error'] - 0.03 * np.sqrt(2 / np.pi)) < 5e-4 and found['radius_bias'] < 1e-3
  )


def test_measures_of_a_perfect_ring():
  found = toy.measures(on_circle(even(3600)))
  assert found['coverage'] == found['coverage_on_ring'] == 1.0
  assert max(found['unevenness'], found['radius_error'], found['radius_bias']) < 1e-9


@pytest.mark.parametrize('turns', [1, 1 / 4, 1 / 36])
def test_measures_of_an_arc(turns):
  found = toy.measures(on_circle(even(7200, last=2 * np.pi * turns)))
  assert found['coverage'] == found['coverage_on_ring'] == pytest.approx(turns)
  assert found['unevenness'] == pytest.approx(1 - turns) and found['radius_error'] < 1e-9


def test_a_collapsed_sample_is_caught():
  point = np.array(toy.CENTRE) + [50.0, 1.0]
  blob = point + np.random.default_rng(0).normal(size=(2000, 2))
  assert toy.measures(blob)['coverage'] <= 2 / 36 and toy.measures(blob)['unevenness'] > 0.9


def test_a_disc_is_no_ring():
  random = np.random.default_rng(0)
  disc = on_circle(random.uniform(0, 2 * np.pi, 20000), 50 * np.sqrt(random.uniform(size=20000)))
  found = toy.measures(disc)
  assert found['coverage'] == 1.0 and found['radius_error'] == pytest.approx(1 / 3, abs=0.01)
  assert toy.measures(disc / 10 + 90.0)['coverage_on_ring'] == 0.0  # a blob in the centre


def test_a_ring_of_wrong_radius():
  found = toy.measures(on_circle(even(3600), 55.0))
  assert found['radius_error'] == found['radius_bias'] == pytest.approx(0.1)
  both = toy.measures(np.concatenate([on_circle(even(3600), r) for r in (40.0, 60.0)]))
  assert both['radius_error'] == pytest.approx(0.2) and both['radius_bias'] < 1e-9


@pytest.mark.parametrize('points', [np.full((3, 2), np.nan), np.zeros((3, 3)), np.zeros((0, 2))])
def test_points_that_cannot_be_measured(points):
  with pytest.raises(ValueError):
    toy.measures(points)


SEEDS = tuple(range(3, 11))  # conftest.py makes eight devices


@pytest.fixture(scope='module')
def population():
  return toy.population(tuple(toy.RECIPES), SEEDS, SMALL)


@pytest.fixture(scope='module')
def trained(population):
  """Start, state and terms after 20 steps of all members."""
  start = jax.device_get(population.init())
  return start, *jax.device_get(population.advance(population.init(), 20))


@pytest.mark.parametrize('name', toy.RECIPES)
def test_a_member_is_its_seed_trained_alone(trained, name):
  init, step = toy.member(name, SMALL)
  init, step = jax.jit(init), jax.jit(step)
  start, states, terms = trained
  for i in (0, 5):
    key = jax.random.key(SEEDS[i])
    state, real = init(key), []
    for a, b in zip(jax.tree.leaves(start[name]), jax.tree.leaves(state)):
      np.testing.assert_allclose(a[i], b, rtol=1e-6)
    for _ in range(20):
      state, term = step(state, key)
      real.append(term['real'])
    for got, want in zip(jax.tree.leaves(states[name]), jax.tree.leaves(state)):
      np.testing.assert_allclose(got[i], want, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(terms[name]['real'][i], np.mean(real), rtol=1e-3, atol=1e-4)
  kernels = states[name].params['generator']['point']['kernel']
  assert abs(kernels[0] - kernels[5]).max() > 0.01


def test_a_run_may_be_cut_anywhere(population, trained):
  states, _ = population.advance(population.init(), 7)
  states, _ = population.advance(states, 13)
  for a, b in zip(jax.tree.leaves(trained[1]), jax.tree.leaves(jax.device_get(states))):
    np.testing.assert_array_equal(a, b)


def test_members_are_spread_over_devices(population):
  states = population.init()
  assert len(states['gan'].step.sharding.device_set) == len(jax.devices()) == len(SEEDS)
  assert population.generated(states, 5)['matching'].shape == (len(SEEDS), 5, 2)


def test_clipping_holds_all_of_wgans_critic_and_nothing_else(trained):
  for name, clipped in dict(wgan=True, gan=False).items():
    largest = {
      n: max(abs(a).max() for a in jax.tree.leaves(p)) for n, p in trained[1][name].params.items()
    }
    assert largest['generator'] > 0.1
    assert (largest['discriminator'] <= SMALL.bound * (1 + 1e-5)) == clipped


def test_clipped_parameters():
  transformation = optax.chain(optax.sgd(1.0), optim.clipped_parameters(0.5))
  params = dict(a=jnp.array([2.0, 0.1, -0.4]))
  updates, _ = transformation.update(
    dict(a=jnp.array([1.0, -0.1, 0.3])), transformation.init(params), params
  )
  np.testing.assert_allclose(optax.apply_updates(params, updates)['a'], [0.5, 0.2, -0.5], rtol=1e-6)
  with pytest.raises(ValueError):
    optim.clipped_parameters(0.0)


def test_matching_uses_the_features_alone(trained):
  assert {'real', 'fake_prior', 'match_d'} <= set(trained[2]['matching'])
  assert 'fool_prior' not in trained[2]['matching'] and 'match_d' not in trained[2]['gan']


def test_an_unknown_method_is_named():
  with pytest.raises(ValueError, match='gan, wgan, matching'):
    toy.member('gans')


def test_unit_scales_what_goes_in_and_out(key):
  z = jax.random.normal(key, (4, 2))
  generator, discriminator = mlp.Generator(), mlp.Discriminator()
  g, d = generator.init(key, z, None, train=False), discriminator.init(key, z, None, train=False)
  points = generator.apply(g, z, None, train=False)
  np.testing.assert_allclose(
    generator.clone(unit=50.0).apply(g, z, None, train=False), 50 * points, rtol=1e-5
  )
  logits, _ = discriminator.apply(d, points, None, train=False)
  np.testing.assert_allclose(
    discriminator.clone(unit=50.0).apply(d, 50 * points, None, train=False)[0],
    logits,
    rtol=1e-4,
    atol=1e-5,
  )


def test_a_batch_of_fixed_points_holds_no_other(key):
  points = jnp.arange(40.0).reshape(20, 2)
  few = toy.batch(key, toy.Toy(batch_size=500), toy.Fixed(points, 7))
  assert set(np.asarray(few)[:, 0]) == set(range(0, 14, 2))  # all of the first 7, and no other
  np.testing.assert_array_equal(few[:, 1], few[:, 0] + 1)
  new = toy.batch(key, SMALL, toy.Fixed(points, 0))
  np.testing.assert_array_equal(new, toy.ring(key, 8, SMALL))
  np.testing.assert_array_equal(new, toy.batch(key, SMALL))


def test_members_with_fixed_points_train_on_their_own():
  points = jnp.stack([jnp.full((3, 2), 80.0), jnp.full((3, 2), 120.0)] * 4)
  fixed = toy.Fixed(points, jnp.array([3, 3, 0, 0] * 2))
  population = toy.population(['gan'], [0, 0, 0, 1] * 2, SMALL, fixed=fixed)
  states, _ = population.advance(population.init(), 3)
  first, second, third, fourth = np.asarray(population.generated(states, 5)['gan'])[:4]
  assert abs(first - second).max() > 0 and abs(third - fourth).max() > 0
  state, step = population.init()['gan'], jax.jit(toy.member('gan', SMALL).step)
  state = jax.tree.map(lambda a: a[0], state)
  for _ in range(3):
    state, _ = step(state, jax.random.key(0), toy.Fixed(points[0], 3))
  np.testing.assert_allclose(first, toy.generated(state, 5, SMALL), rtol=1e-3)
  logits = population.logits(states, points)['gan']
  np.testing.assert_allclose(logits[0], toy.logits(state, points[0], SMALL), rtol=1e-2, atol=1e-4)


def test_ticks_are_round_and_few():
  assert toy_curves.ticks(0, 200_000) == [0, 50_000, 100_000, 150_000, 200_000]
  for low, high in ((-20.3, 24.1), (-0.06, 0.31), (-7.0, -6.9), (0.0, 1.0)):
    found = toy_curves.ticks(low, high)
    assert 4 <= len(found) <= 9 and low <= found[0] and found[-1] <= high


def test_the_picture_shows_a_curve_where_it_is():
  def row(values):
    return dict.fromkeys(('c_t', 'energy_gap', 'logit_gap'), values)

  def drawn(last):
    of_method = {
      k: row([[0.0], [0.0]]) for k in ('fresh_64', 'fresh_512', 'fresh_4096', '512', '4096')
    }
    of_method['64'] = row([[0.0], [last]])
    copycat = {str(size): dict(c_t=[-6.0], energy_gap=[3.0]) for size in (64, 512, 4096)}
    result = dict(sizes=[64, 512, 4096], iterations=[0, 10], measures=dict(matching=of_method))
    return toy_curves.picture(dict(result, copycat=copycat))

  flat, sloped = drawn(0.0), drawn(-6.0)
  assert flat.shape == sloped.shape and flat.shape[0] < 500
  # The pixels of the curve of 64 points lie lower in the first panel.
  first = slice(toy_curves.LEFT, toy_curves.LEFT + toy_curves.WIDTH - 20)

  def mean_row(picture):
    like = np.abs(picture[toy_curves.TOP :, first].astype(int) - toy_curves.COLOURS[0]).sum(-1) < 60
    assert like.any()
    return np.flatnonzero(like.any(1)).mean()

  assert mean_row(sloped) > mean_row(drawn(6.0)) + 25
