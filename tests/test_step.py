"""The train step: who gets which gradient, one forward pass, any number of devices."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaegan_jax import methods
from vaegan_jax import model as wiring
from vaegan_jax import optim
from vaegan_jax import parallel
from vaegan_jax import step as stepping
from vaegan_jax.networks import bao
from vaegan_jax.networks import larsen

Z, K, B = 6, 3, 8
SIZE = dict(image_size=16, channels=1, width=1 / 16)


def make_model(table, *, conditional, networks=None, **choices):
  """A Model of tiny networks for a table."""
  names = wiring.losses_of(table)
  module = networks or (bao if conditional else larsen)
  axis = dict(axis_name=choices.get('axis_name'))
  made = dict(encoder=lambda: module.Encoder(**SIZE, **axis, latent_size=Z),
              generator=lambda: module.Generator(**SIZE, **axis),
              discriminator=lambda: module.Discriminator(**SIZE, **axis),
              classifier=lambda: bao.Classifier(**SIZE, **axis, num_classes=K))
  made = {n: made[n]() for n in wiring.networks_of(names)}
  return wiring.Model(made, names, frozen=tuple(n for n in made if n not in table), **choices)


def example(conditional, key=jax.random.key(1), count=B):
  """x [B, 16, 16, 1], c, noise."""
  keys = jax.random.split(key, 5)
  x = jax.random.uniform(keys[0], (count, 16, 16, 1), minval=-1)
  one_hot = lambda k: jax.nn.one_hot(jax.random.randint(k, (count,), 0, K), K)
  noise = dict(posterior=jax.random.normal(keys[1], (count, Z)), prior=jax.random.normal(keys[2], (count, Z)),
               c_p=one_hot(keys[3]) if conditional else None)
  return x, one_hot(keys[4]) if conditional else None, noise


def init(model, table, x, c, optimizer=optax.sgd(0.1)):
  return stepping.init_state(model, {n: optimizer for n in table}, jax.random.key(0), x, c, Z)


def row_loss(model, row, params, state, x, c, noise):
  """One network's row as a scalar, by a plain forward pass."""
  fakes, terms, _ = wiring.make(model, params, state.stats, x, c, noise)
  critic_terms, _ = wiring.judge(model, params, state.stats, state.centres, x, c, noise['c_p'], fakes)
  return sum(weight * {**terms, **critic_terms}[loss].mean() for loss, weight in row.items())


ALL = [(name, joint) for name in methods.METHODS for joint in (True, False)
       if joint or name in ('vae_gan', 'cvae_gan', 'cgan')]


@pytest.mark.parametrize('name,joint', ALL)
def test_gradients_are_those_of_each_networks_own_row(name, joint):
  table, conditional = methods.METHODS[name], name in methods.CONDITIONAL
  model = make_model(table, conditional=conditional, joint_makers=joint, joint_critics=joint)
  x, c, noise = example(conditional)
  state = init(model, table, x, c)
  if 'match_c' in model.losses:  # classes that were seen before, so that every centre counts
    state = state.replace(centres=jax.tree.map(lambda a: a + 1., state.centres))
  grads, *_ = jax.jit(functools.partial(stepping.gradients, model, table))(
      state.params, state.stats, state.centres, x, c, noise)
  assert grads.keys() == table.keys()

  @jax.jit
  def one_by_one(params):
    return {network: jax.grad(lambda own, n=network, r=row: row_loss(
        model, r, {**params, n: own}, state, x, c, noise))(params[network]) for network, row in table.items()}

  expected = one_by_one(state.params)
  for network in table:
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[network]))
    assert largest > 0
    for got, want in zip(jax.tree.leaves(grads[network]), jax.tree.leaves(expected[network])):
      np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(jnp.abs(want).max()) + 1e-6 * largest)
