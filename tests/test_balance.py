"""Weights from losses and gradients: closed forms, and what they do to a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from tests.conftest import QUICK
from vaegan_jax import balance, methods
from vaegan_jax.balance import Balance
from vaegan_jax.step import init_state, train_step


def averages_of(values, decay=0.9):
  """Averages after steps whose losses and norms are the rows of {name: [step values]}."""
  kept = {f'loss_{k}' if k in balance.KINDS['reconstruction'] else k: jnp.zeros(()) for k in values}
  state = {**kept, 'steps': jnp.zeros(())}
  for step in zip(*values.values()):
    state = balance.moved(state, dict(zip(values, step)), decay)
  return state


def test_the_mean_of_a_constant_is_the_constant_from_the_first_step_on():
  for steps in (1, 2, 50):
    state = averages_of(dict(pixel=[3.0] * steps))
    np.testing.assert_allclose(balance.mean(state, 'loss_pixel', 0.9), 3.0, rtol=1e-5)


def test_calibrated_weight_is_that_of_the_likeliest_variance(key):
  error = 0.3 * jax.random.normal(key, (64, 100))
  loss = 0.5 * jnp.square(error).sum(1).mean()
  weight = balance.calibrated(averages_of(dict(pixel=[loss])), dict(pixel=100), 0.9)['pixel']
  np.testing.assert_allclose(weight, 1 / jnp.square(error).mean(), rtol=1e-5)
  # The Gaussian's negative log-likelihood has its minimum at that variance.
  nll = lambda v: loss / v + 50 * jnp.log(v)
  np.testing.assert_allclose(jax.grad(nll)(1 / weight), 0.0, atol=1e-2)


def test_calibrated_weight_is_bounded_and_zero_before_the_first_step():
  nothing = balance.init(('pixel',), ())
  assert balance.calibrated(nothing, dict(pixel=10), 0.9)['pixel'] == 0
  exact = balance.calibrated(averages_of(dict(pixel=[0.0])), dict(pixel=10), 0.9)['pixel']
  np.testing.assert_allclose(exact, 1 / balance.LEAST_VARIANCE, rtol=1e-5)


def test_balanced_norms_have_the_shares_that_were_asked_for():
  state = averages_of(dict(norm_adversarial=[2.0] * 3, norm_reconstruction=[50.0] * 3))
  weights = balance.balanced(state, dict(reconstruction=0.5), 0.9)
  np.testing.assert_allclose(weights['adversarial'], 1.0)
  np.testing.assert_allclose(weights['reconstruction'] * 50, 0.5 * 2, rtol=1e-5)


def test_without_an_adversary_matching_is_the_reference():
  state = averages_of(dict(norm_matching=[2.0], norm_reconstruction=[8.0]))
  weights = balance.balanced(state, dict(reconstruction=1.0, matching=4.0), 0.9)
  np.testing.assert_allclose(weights['matching'], 1.0)
  np.testing.assert_allclose(weights['reconstruction'] * 8 * 4, 2.0, rtol=1e-5)


def test_weights_are_bounded_where_a_gradient_is_gone():
  state = averages_of(dict(norm_adversarial=[1.0], norm_reconstruction=[0.0]))
  assert balance.balanced(state, {}, 0.9)['reconstruction'] == balance.WIDEST


def test_norm_at_images_is_the_sum_of_norms(key):
  gradient = jax.random.normal(key, (5, 4, 4, 3)).at[0].set(0.0)
  expected = np.linalg.norm(np.asarray(gradient).reshape(5, -1), axis=1).sum()
  np.testing.assert_allclose(balance.norm_at_images([gradient]), expected, rtol=1e-5)
  assert np.isfinite(jax.grad(lambda g: balance.norm_at_images([g]))(gradient)).all()


def after(table, balanced, conditional, steps=3):
  model = tiny.model(table)
  optimizers = {n: optax.sgd(1e-2) for n in table}
  batch = tiny.batch(conditional)
  x, c = jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, tiny.K)) if conditional else None
  descended = None if balanced is None else tuple(table['generator'])
  state = init_state(model, optimizers, jax.random.key(0), x, c, tiny.Z, descended)
  # As training compiles it: conftest.QUICK may fuse, and so round, two programs in two ways.
  options = {'xla_cpu_use_fusion_emitters': True} if QUICK else None
  step = train_step(model, table, optimizers, tiny.draws(conditional), balanced=balanced)
  step = jax.jit(step, compiler_options=options)
  for _ in range(steps):
    state, terms = step(state, batch, jax.random.key(2))
  return state, terms


@pytest.mark.parametrize('name', ['vae_gan', pytest.param('cvae_gan', marks=pytest.mark.slow)])
def test_the_shadow_changes_no_bit(name):
  table, conditional = methods.METHODS[name], name in methods.CONDITIONAL
  off, _ = after(table, None, conditional)
  shadow, terms = after(table, Balance(act=False), conditional)
  jax.tree.map(np.testing.assert_array_equal, off.params, shadow.params)
  assert 'weight_feature_d' in terms and 'weight_reconstruction' in terms


@pytest.mark.slow
def test_a_weight_of_the_table_does_not_matter_to_balanced_kinds():
  nonsaturating = methods.VAE_GAN_NONSATURATING
  row = {**nonsaturating['generator'], 'feature_d': 3.0}
  one, _ = after(nonsaturating, Balance(), False)
  two, _ = after({**nonsaturating, 'generator': row}, Balance(), False)
  first = lambda state: jax.tree.leaves(state.params['generator'])[-1]
  off = after(nonsaturating, None, False)[0]
  assert np.isfinite(first(one)).all()
  assert not np.array_equal(first(one), first(off))
  assert np.isfinite(first(two)).all()
