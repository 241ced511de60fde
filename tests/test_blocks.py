"""Images in blocks of 2 x 2 pixels, as on TPUs: networks and step stay what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import build, methods, optim
from vaegan_jax.configs import base
from vaegan_jax.networks import blocks, larsen, layers
from vaegan_jax.step import init_state

SIZE, WIDTH = 16, 0.125
NETWORKS = dict(
  encoder=(larsen.Encoder(SIZE, 3, 5, width=WIDTH), (4, SIZE, SIZE, 3)),
  generator=(larsen.Generator(SIZE, 3, WIDTH), (4, 5)),
  discriminator=(larsen.Discriminator(SIZE, 3, WIDTH), (4, SIZE, SIZE, 3)),
)


def packed(a):
  """Images in blocks; anything else as it is."""
  return blocks.packed(a) if a.ndim == 4 else a


def outputs_and_gradients(net, variables, x):
  """Outputs, new statistics, gradients by the parameters and by x (in blocks); outputs at rest."""

  def weighted(params, x):
    x = packed(x) if net.packed else x
    out, moved = net.apply({**variables, 'params': params}, x, None, True, mutable=['batch_stats'])
    out = out if net.packed else jax.tree.map(packed, out)
    weights = [jnp.cos(jnp.arange(a.size).reshape(a.shape)) for a in jax.tree.leaves(out)]
    return sum((w * a).sum() for w, a in zip(weights, jax.tree.leaves(out))), (out, moved)

  grads, kept = jax.jit(jax.grad(weighted, (0, 1), has_aux=True))(variables['params'], x)
  at_rest = jax.jit(lambda x: net.apply(variables, x, None, False))(packed(x) if net.packed else x)
  return *kept, *grads, at_rest if net.packed else jax.tree.map(packed, at_rest)


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_blocks_change_rounding_alone(name):
  """With the same parameters: outputs, statistics, and gradients of both kinds."""
  net, shape = NETWORKS[name]
  x = jax.random.normal(jax.random.key(1), shape)
  variables = layers.init(net, jax.random.key(0), x, None)
  plain = outputs_and_gradients(net, variables, x)
  found = outputs_and_gradients(net.clone(packed=True), variables, x)
  assert jax.tree.structure(plain) == jax.tree.structure(found)
  for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(found)):
    np.testing.assert_allclose(b, a, rtol=0, atol=2e-5 * max(1e-3, np.abs(a).max()))


def test_blocks_are_those_of_2_by_2_pixels():
  x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  np.testing.assert_array_equal(blocks.packed(x)[1, 1, 2], x[1, 2:4, 4:6].ravel())
  with pytest.raises(ValueError, match='3 x 4 pixels have no blocks'):
    blocks.packed(x[:, :3, :4])


@pytest.mark.slow
@pytest.mark.parametrize('method, classes', (('vae_gan', 0), ('cvae_gan', 3)))
def test_a_step_for_a_tpu_is_the_step(method, classes, monkeypatch):
  """The gradients, by plain gradient descent: blocks, pools, and batches merged in runs."""
  config = base.get_config(method)
  config.data.image_size, config.data.channels, config.network.width = SIZE, 3, 0.0625
  config.optimizer.name, config.data.augment = 'sgd', 'none'
  config = config.lock()
  table = methods.METHODS[method]
  optimizers = {n: optim.optimizer('sgd', 0.1) for n in table}
  batch = dict(x=jax.random.normal(jax.random.key(2), (8, SIZE, SIZE, 3)))
  batch |= dict(c=jnp.arange(8) % classes) if classes else {}

  def after():
    model, step = build.step_of(config, classes, table, (), optimizers)
    example = build.examples(config, classes)
    state = init_state(model, optimizers, jax.random.key(0), *example, config.network.latent_size)
    return jax.jit(step)(state, batch, jax.random.key(0))

  plain = after()
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  monkeypatch.setattr(jax, 'device_count', lambda: 2)
  found = after()
  assert jax.tree.structure(plain) == jax.tree.structure(found)
  for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(found)):
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())
