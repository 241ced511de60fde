"""config.every: work that a step does for every n-th image of its batch alone."""

import functools

import jax
import numpy as np
import optax
import pytest

from tests import tiny
from vaegan_jax import checks, methods, parallel
from vaegan_jax.configs import digits
from vaegan_jax.model import Model, judge, losses_of, make, networks_of
from vaegan_jax.routing import Inputs, gradients
from vaegan_jax.step import draw, train_step

TABLE = methods.CVAE_GAN_RELATIVISTIC


def model_of(table, **choices):
  """A Model without batch norm, so that an image's outputs do not depend on the others."""
  names = losses_of(table)
  made = {n: tiny.NETWORKS[n](norm=False) for n in networks_of(names)}
  return Model(made, names, joint_makers=False, joint_critics=False, **choices)


def case(table):
  """(state, inputs of 8 images) of a method."""
  batch = tiny.batch(True, count=8)
  c = jax.nn.one_hot(batch['c'], tiny.K)
  x, noise = draw(tiny.draws(True), jax.random.key(3), batch['x'], c)
  return tiny.state(model_of(table), table, True), Inputs(x, c, noise)


def every_second(inputs):
  return jax.tree.map(lambda a: a[::2], inputs)


def backward(model, table, state, inputs):
  return jax.jit(lambda state, inputs: gradients(model, table, state, inputs))(state, inputs)


def close(a, b):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), a, b)


def test_every_second_image_is_reconstructed_and_every_fake_plays():
  # Without fake_recon, for which the discriminator sees fewer images, too.
  table = {**TABLE, 'discriminator': dict(real=1.0, fake_prior=1.0, r1=1.0)}
  state, inputs = case(table)
  whole = backward(model_of(table), table, state, inputs)
  thin = backward(model_of(table, reconstruct_every=2), table, state, inputs)
  half = backward(model_of(table), table, state, every_second(inputs))
  for name in ('kl', 'feature_d', 'feature_c', 'fool_recon'):
    close(thin.terms[name], half.terms[name])
  for name in ('real', 'fake_prior', 'fool_prior', 'r1', 'classify', 'match_c'):
    close(thin.terms[name], whole.terms[name])
  close(thin.grads['encoder'], half.grads['encoder'])
  for critic in ('discriminator', 'classifier'):
    close(thin.grads[critic], whole.grads[critic])


@pytest.mark.slow
def test_losses_of_reconstructions_compare_images_of_one_place():
  own = dict(pixel=1.0, fool_recon=1.0, classify_recon=1.0)
  table = dict(
    encoder=dict(kl=1.0, pixel=1.0),
    generator=own,
    discriminator=dict(real=1.0, fake_recon=1.0),
    classifier=dict(classify=1.0),
  )
  state, inputs = case(table)
  thin = backward(model_of(table, reconstruct_every=2), table, state, inputs)
  half = backward(model_of(table), table, state, every_second(inputs))
  for name in (*own, 'fake_recon'):
    close(thin.terms[name], half.terms[name])


def test_every_fourth_image_is_penalised():
  table = {**TABLE, 'discriminator': {**TABLE['discriminator'], 'r2': 1.0}}
  state, (x, c, noise) = case(table)

  def penalties(model):
    fakes, _, _ = make(model, state.params, state.stats, x, c, noise)
    terms, _ = judge(model, state.params, state.stats, state.centres, x, c, noise['c_p'], fakes)
    return terms['r1'], terms['r2']

  for thin, whole in zip(penalties(model_of(table, penalise_every=4)), penalties(model_of(table))):
    close(thin, whole[::4])


@functools.cache
def after_a_step(mode, devices):
  """(terms, parameters) after a step on 8 images."""
  axis = parallel.AXIS if mode == 'pmap' else None
  model = model_of(TABLE, reconstruct_every=4, penalise_every=4, axis_name=axis)
  step = train_step(model, TABLE, dict.fromkeys(TABLE, optax.sgd(0.1)), tiny.draws(True))
  on = parallel.PARALLEL[mode](step, jax.devices()[:devices])
  state = on.put_state(jax.device_put(tiny.state(model_of(TABLE), TABLE, True), on.at_rest))
  state, terms = on.step(state, on.put_batch(tiny.batch(True, count=8)), jax.random.key(7))
  return on.take_terms(terms), jax.device_get(on.take_state(state).params)


@pytest.mark.slow
@pytest.mark.parametrize('mode, devices', [('mesh', 8), ('pmap', 2)])
def test_any_number_of_devices_takes_the_same_images(mode, devices):
  """Each device of a mesh of 8 has one image, two of which are reconstructed."""
  close(after_a_step(mode, devices), after_a_step('mesh', 1))


@pytest.mark.parametrize(
  'change, words',
  [
    ({'every.reconstruct': 3}, 'every.reconstruct=3 does not divide the 64 images'),
    ({'every.penalise': 16, 'parallel': 'pmap'}, 'does not divide the 8 .* parallel=mesh'),
    ({'every.penalise': 0}, 'every.penalise=0: use more than 0'),
    ({'normalise.makers': 'joint'}, 'cannot be normalised as one batch'),
  ],
)
def test_what_cannot_be_thinned_is_refused(change, words):
  config = digits.get_config('vae_gan_relativistic,large')
  config.update_from_flattened_dict(change)
  with pytest.raises(ValueError, match=words):
    checks.check(config)


def test_sizes_of_the_relativistic_methods():
  assert digits.get_config('cvae_gan_relativistic,large').network.width == 1
  assert digits.get_config('cvae_gan_relativistic').network.width == 0.25
  for wrong in ('cvae_gan_relativistic,huge', 'cvae_gan,small'):
    with pytest.raises(ValueError, match='sizes are small, medium, large'):
      digits.get_config(wrong)
