"""Residual networks: shapes, conditions, independence of neighbours, no grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import build, settings
from vaegan_jax.configs import digits
from vaegan_jax.networks import layers, residual

WIDTH, K = 0.05, 3


def made(network, key, *inputs):
  """(network's function of inputs, variables)."""
  variables = layers.init(network, key, *inputs)
  return lambda v, *a: network.apply(v, *a, train=True), variables


def moved(variables, key):
  """The variables with noise added: no convolution is zero any more."""
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(key, len(leaves))
  return tree.unflatten([a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys)])


@pytest.mark.parametrize('size', residual.SIZES)
@pytest.mark.parametrize('channels', [1, 3])
def test_shapes(size, channels, key):
  image = dict(image_size=size, channels=channels, width=WIDTH)
  x, z, c = jnp.zeros((2, size, size, channels)), jnp.zeros((2, 5)), jnp.zeros((2, K))
  shapes = lambda net, *a: jax.tree.map(
    lambda o: (o.shape, o.dtype),
    jax.eval_shape(lambda: net.init_with_output(key, *a, train=True))[0],
  )
  assert shapes(residual.Generator(**image), z, c) == ((2, size, size, channels), jnp.float32)
  mean, logvar = shapes(residual.Encoder(**image, latent_size=5), x, c)
  assert mean == logvar == ((2, 5), jnp.float32)
  logit, feature = shapes(residual.Discriminator(**image), x, None)
  assert logit == ((2,), jnp.float32) and feature[0][1] == 64 * layers.scaled(512, WIDTH)
  logits, _ = shapes(residual.Classifier(**image, num_classes=K), x)
  assert logits == ((2, K), jnp.float32)


@pytest.mark.parametrize('width', [0.1, 0.2])
def test_width_scales_the_channels(width, key):
  net = residual.Discriminator(image_size=16, channels=1, width=width)
  params = jax.eval_shape(lambda: net.init(key, jnp.zeros((1, 16, 16, 1)), None, train=True))
  kernel = params['params']['maps']['block8_0']['reduce']['kernel']
  assert kernel.shape[2] == layers.scaled(512, width)


@pytest.mark.slow
def test_a_logit_depends_on_its_own_image_alone(key):
  x = jax.random.normal(key, (4, 16, 16, 1))
  f, v = made(residual.Discriminator(image_size=16, channels=1, width=WIDTH), key, x, None)
  v = moved(v, key)
  whole, alone = f(v, x, None), f(v, x[1:2], None)
  np.testing.assert_allclose(whole[0][1:2], alone[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(whole[1][1:2], alone[1], rtol=1e-5, atol=1e-5)


def test_there_is_nothing_but_parameters(key):
  x = jnp.zeros((1, 16, 16, 1))
  _, v = made(residual.Discriminator(image_size=16, channels=1, width=WIDTH), key, x, None)
  assert set(v) == {'params'}


def test_blocks_start_as_the_identity(key):
  x = jax.random.normal(key, (2, 4, 4, 8))
  block = residual.Block()
  np.testing.assert_array_equal(block.apply(block.init(key, x), x), x)


@pytest.mark.parametrize('k', [2, 4])
def test_unfolded_inverts_folded(k, key):
  x = jax.random.normal(key, (2, 8, 8, 3))
  assert residual.folded(x, k).shape == (2, 8 // k, 8 // k, 3 * k * k)
  np.testing.assert_array_equal(residual.unfolded(residual.folded(x, k), k), x)


def test_halved_and_doubled_keep_planes(key):
  rows = jnp.arange(8.0)[None, :, None, None] * jnp.ones((1, 1, 8, 2))
  np.testing.assert_allclose(residual.halved(rows)[0, :, 0, 0], [0.5, 2.5, 4.5, 6.5])
  # Between pixel centres the interpolation is exact; the outermost rows repeat the border.
  np.testing.assert_allclose(residual.doubled(rows)[0, 1:-1, 0, 0], jnp.arange(14) / 2 + 0.25)
  x = jax.random.normal(key, (1, 4, 4, 2))
  expected = jax.image.resize(x, (1, 8, 8, 2), 'linear')
  np.testing.assert_allclose(residual.doubled(x), expected, atol=1e-6)


def test_smoothed_takes_a_grid_of_two_pixels_away():
  grid = (-1.0) ** (jnp.arange(8)[:, None] + jnp.arange(8)[None])
  columns = jnp.broadcast_to((-1.0) ** jnp.arange(8), (8, 8))
  for pattern in (grid, columns, columns.T):
    assert abs(residual.smoothed(pattern[None, :, :, None])[0, 1:-1, 1:-1]).max() == 0
  np.testing.assert_allclose(residual.smoothed(jnp.ones((1, 4, 4, 1))), 1.0)


def test_a_generator_of_an_older_run_has_its_old_parameters(key):
  """Their config has no network.detail_channels."""
  now = digits.get_config('vae_gan_relativistic')
  old = settings.to_dict(now)
  del old['network']['detail_channels']
  details = []
  for config in (now, settings.from_dict(old)):
    net = build.networks(config, ['generator'])['generator'].clone(width=WIDTH)
    params = jax.eval_shape(lambda net=net: net.init(key, jnp.zeros((1, 5)), None, train=True))
    kernels = {k: v['kernel'].shape for k, v in params['params'].items() if 'kernel' in v}
    details.append((kernels.get('few'), kernels['detail']))
  trunk = layers.scaled(residual.CHANNELS[now.data.image_size // 2], WIDTH)
  few = layers.scaled(32, WIDTH)
  assert details[0] == ((3, 3, trunk, few), (3, 3, few, now.data.channels))
  assert details[1] == (None, (3, 3, trunk, 4 * now.data.channels))


@pytest.mark.parametrize(('size', 'patches'), [(16, [8]), (32, [8, 16]), (64, [8, 16])])
def test_a_critic_adds_the_mean_logit_of_its_parts(key, size, patches):
  x = jax.random.normal(key, (3, size, size, 3))
  net = residual.Discriminator(image_size=size, channels=3, width=WIDTH, patch_logits=True)
  apply, v = made(net, key, x, None)
  params = dict(v['params'])
  own = {k: params.pop(k) for k in v['params'] if k.startswith('patch')}
  assert sorted(own) == sorted(f'patch{s}' for s in patches)
  whole, _ = made(net.clone(patch_logits=False), key, x, None)
  expected, _ = whole({'params': params}, x, None)
  maps = residual.Descent(WIDTH, 1).apply({'params': params['maps']}, x)
  for s in patches:
    h, p = residual.leaky_relu(maps[s]), own[f'patch{s}']
    expected += (h @ p['kernel'][0, 0] + p['bias']).mean((1, 2, 3))
  np.testing.assert_allclose(apply(v, x, None)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_truncation_sets_the_length_of_latents(key):
  z = jax.random.normal(key, (8, 5))
  net = residual.Generator(image_size=16, channels=1, width=WIDTH)
  whole, v = made(net, key, z, None)
  v = moved(v, key)
  short, _ = made(net.clone(truncation=0.1), key, z, None)
  np.testing.assert_allclose(short(v, z, None), short(v, 3 * z, None), rtol=1e-4, atol=1e-5)
  assert short(v, z, None).var(0).mean() < whole(v, z, None).var(0).mean() * 0.7


@pytest.mark.slow
def test_conditions_reach_every_network(key):
  x, z = jax.random.normal(key, (2, 16, 16, 1)), jax.random.normal(key, (2, 5))
  one, two = jnp.eye(K)[:2], jnp.eye(K)[1:]
  image = dict(image_size=16, channels=1, width=WIDTH)
  for net, first in (
    (residual.Generator(**image), z),
    (residual.Encoder(**image, latent_size=5), x),
    (residual.Discriminator(**image, conditional=True), x),
  ):
    f, v = made(net, key, first, one)
    v = moved(v, key)
    a, b = jax.tree.leaves(f(v, first, one))[0], jax.tree.leaves(f(v, first, two))[0]
    assert not np.allclose(a, b)


def test_errors_name_the_size(key):
  net = residual.Encoder(image_size=16, channels=1, latent_size=5, width=WIDTH)
  with pytest.raises(ValueError, match='resize'):
    net.init(key, jnp.zeros((1, 32, 32, 1)), None, train=True)
  with pytest.raises(ValueError, match='at least one class'):
    residual.Classifier(image_size=16, channels=1).init(key, jnp.zeros((1, 16, 16, 1)), train=True)
