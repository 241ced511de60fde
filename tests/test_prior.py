"""The learned prior: samples come from where the encoder puts the images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import build, checks, losses, methods, settings
from vaegan_jax.configs import digits
from vaegan_jax.model import Model, losses_of, make
from vaegan_jax.networks import layers, prior, residual

Z = 4
IMAGE = dict(image_size=16, channels=1, width=0.05, learned_prior=True)


@pytest.fixture
def posteriors(key):
  """(mean, logvar) [512, Z] with an offset and correlated directions."""
  mix = jnp.array([[2.0, 0, 0, 0], [1, 0.5, 0, 0], [0, 0, 0.1, 0], [0.3, 0, 0, 1]])
  mean = 3.0 + jax.random.normal(key, (512, Z)) @ mix
  return mean, jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.5, 0.9, 0.2])), mean.shape)


@pytest.fixture
def moments(posteriors):
  """Those of the posteriors, after many steps of them."""
  start = dict(mean=jnp.zeros(Z), excess=jnp.zeros((Z, Z)), scale=jnp.zeros((Z, Z)))
  step = jax.jit(lambda m, _: (prior.moved(m, *posteriors), None))
  return jax.lax.scan(step, start, length=10_000)[0]


@pytest.fixture
def makers(key, moments):
  """(model, params, stats) of an encoder and a generator with these moments."""
  names = losses_of(methods.VAE_GAN_RELATIVISTIC)
  made = dict(
    encoder=residual.Encoder(**IMAGE, latent_size=Z), generator=residual.Generator(**IMAGE)
  )
  x, z = jnp.zeros((2, 16, 16, 1)), jnp.zeros((2, Z))
  variables = {
    k: layers.init(net, key, z if k == 'generator' else x, None) for k, net in made.items()
  }
  params = {k: v['params'] for k, v in variables.items()}
  params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(key, a.shape), params)
  stats = dict(encoder=dict(prior=moments), generator=dict(prior=prior.of_generator(moments)))
  return Model(made, names, joint_makers=False), params, stats


def images(key, n=6):
  return jax.random.uniform(key, (n, 16, 16, 1), minval=-1.0)


def test_the_prior_becomes_the_gaussian_of_all_latents(posteriors, moments, key):
  mean, logvar = posteriors
  z = prior.drawn(moments, jax.random.normal(key, (100_000, Z)))
  wanted = np.cov(mean.T, bias=True) + np.diag(np.exp(logvar[0]))
  np.testing.assert_allclose(z.mean(0), mean.mean(0), atol=0.03)
  np.testing.assert_allclose(np.cov(z.T), wanted, atol=0.06)


@pytest.mark.parametrize('kind', ['classes', 'attributes'])
def test_with_a_condition_the_mean_follows_it(kind, key):
  keys = jax.random.split(key, 3)
  c = jax.nn.one_hot(jnp.arange(600) % 3, 3)
  if kind == 'attributes':
    c = jax.random.bernoulli(keys[0], 0.4, (600, 3)).astype(jnp.float32)
  own = 3.0 * jax.random.normal(keys[1], (3, Z))
  mean = 5.0 + c @ own + jax.random.normal(keys[2], (600, Z))
  start = dict(mean=jnp.zeros(Z), excess=jnp.zeros((Z, Z)), scale=jnp.zeros((Z, Z)))
  start |= dict(by_condition=jnp.zeros((3, Z)))

  def step(moments, i):
    at = jax.random.choice(jax.random.fold_in(key, i), 600, (8,))
    return prior.moved(moments, mean[at], jnp.full((8, Z), -20.0), c[at]), None

  moments = jax.jit(lambda m: jax.lax.scan(step, m, jnp.arange(6000))[0])(start)
  at = jnp.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
  centres = prior.drawn(moments, jnp.zeros((3, Z)), at)
  np.testing.assert_allclose(centres, 5.0 + at @ own, atol=0.6)
  np.testing.assert_allclose(jnp.diag(moments['excess']), 0, atol=0.35)
  z, _ = prior.standardised(moments, centres, jnp.zeros((3, Z)), at)
  np.testing.assert_allclose(z, 0, atol=1e-4)


def test_it_starts_as_a_standard_normal(key):
  start = prior.Kept(Z, of_encoder=False).init(key, None)['batch_stats']
  normal = jax.random.normal(key, (8, Z))
  np.testing.assert_array_equal(prior.drawn(start, normal), normal)


def test_standardised_latents_of_all_images_are_standard_normal(posteriors, moments):
  mean, logvar = prior.standardised(moments, *posteriors)
  np.testing.assert_allclose(mean.mean(0), 0, atol=1e-3)
  variance = np.diag(np.cov(mean.T, bias=True)) + np.exp(logvar).mean(0)
  np.testing.assert_allclose(variance, 1, atol=2e-3)


def test_at_test_time_a_reconstruction_is_that_of_training(makers, key):
  model, params, stats = makers
  apply = lambda name, a, train: model.networks[name].apply(
    {'params': params[name], 'batch_stats': stats[name]}, a, None, train=train
  )
  x = images(key)
  trained, _ = apply('encoder', x, True)
  given, _ = apply('encoder', x, False)
  assert abs(trained - given).max() > 0.1
  np.testing.assert_allclose(
    apply('generator', given, False), apply('generator', trained, True), atol=1e-4
  )


def test_samples_in_training_are_those_at_test_time(makers, key):
  model, params, stats = makers
  noise = dict(posterior=jnp.zeros((6, Z)), prior=jax.random.normal(key, (6, Z)), c_p=None)
  fakes, _, moved = make(model, params, stats, images(key), None, noise)
  again = model.networks['generator'].apply(
    {'params': params['generator'], 'batch_stats': stats['generator']},
    noise['prior'],
    None,
    train=False,
  )
  np.testing.assert_allclose(fakes['p'], again, atol=1e-4)
  for name, value in moved['generator']['prior'].items():
    np.testing.assert_array_equal(value, moved['encoder']['prior'][name])
  assert not np.array_equal(moved['encoder']['prior']['mean'], stats['encoder']['prior']['mean'])


def test_the_averaged_encoder_has_moments_of_its_own(makers, key):
  model, params, stats = makers
  before = {k: dict(params=params[k], stats=stats[k]) for k in params}
  other = jax.tree.map(lambda a: a + 0.05 * jax.random.normal(key, a.shape), params)
  ema = {k: dict(params=other[k], stats=stats[k]) for k in params}
  x = images(key, 64)
  for _ in range(3):
    before = prior.averaged(model.networks, ema, before, (x, None), 0.0)
  mean, logvar = model.networks['encoder'].apply(
    {'params': other['encoder'], 'batch_stats': stats['encoder']}, x, None, train=True
  )
  own = before['encoder']['stats']['prior']
  np.testing.assert_allclose(own['mean'], mean.mean(0), rtol=1e-4, atol=1e-5)
  wanted = np.cov(mean.T) + np.diag(np.exp(logvar).mean(0)) - np.eye(Z)
  np.testing.assert_allclose(own['excess'], wanted, rtol=1e-3, atol=1e-3)
  np.testing.assert_array_equal(before['generator']['stats']['prior']['scale'], own['scale'])
  without = {'generator': dict(params=params['generator'], stats={})}
  assert prior.averaged(model.networks, without, without, (x, None), 0.0) is without


def test_samples_have_no_gradient_for_the_encoder(makers, key):
  model, params, stats = makers
  noise = dict(posterior=jnp.zeros((6, Z)), prior=jax.random.normal(key, (6, Z)), c_p=None)

  def total(encoder, image):
    own = {**params, 'encoder': encoder}
    return make(model, own, stats, images(key), None, noise)[0][image].sum()

  for image, any_gradient in (('p', False), ('f', True)):
    grads = jax.tree.leaves(jax.grad(total)(params['encoder'], image))
    assert any(np.any(g) for g in grads) == any_gradient


def test_truncation_leads_to_the_mean_of_the_prior(makers, key):
  model, params, stats = makers
  variables = {'params': params['generator'], 'batch_stats': stats['generator']}
  z = jax.random.normal(key, (6, Z))

  def spread(truncation):
    net = model.networks['generator'].clone(truncation=truncation)
    return net.apply(variables, z, None, train=False).var(0).mean()

  assert spread(0.01) < 0.01 * spread(1.0)


def test_recommended_runs_learn_the_prior_and_older_ones_do_not():
  config = digits.get_config('vae_gan_relativistic')
  assert build.networks(config, ('encoder', 'generator'))['generator'].learned_prior
  assert not build.networks(config, ('generator',))['generator'].learned_prior  # no encoder
  older = settings.to_dict(config)
  del older['network']['learned_prior']
  assert not build.networks(settings.from_dict(older), ('encoder',))['encoder'].learned_prior


def test_too_many_latents_are_refused():
  config = digits.get_config('vae_gan_relativistic').unlock()
  config.network.latent_size = prior.LARGEST + 1
  with pytest.raises(ValueError, match='learned_prior=True keeps a covariance'):
    checks.check(config)


def test_the_logged_kl_is_that_of_the_encoder_itself(makers, key):
  model, params, stats = makers
  noise = dict(posterior=jnp.zeros((6, Z)), prior=jnp.zeros((6, Z)), c_p=None)
  _, terms, _ = make(model, params, stats, images(key), None, noise)
  own = model.networks['encoder'].apply(
    {'params': params['encoder'], 'batch_stats': stats['encoder']}, images(key), None, train=True
  )
  np.testing.assert_allclose(terms['kl'], losses.gaussian_kl(*own), rtol=1e-5)
