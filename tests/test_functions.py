"""Trained networks as pure functions: for jit, vmap, grad and jax.export."""

import shutil

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import run_of
from vaegan_jax import build, functions, restore, settings
from vaegan_jax.configs import digits

pytestmark = pytest.mark.slow
NETWORKS = ('encoder', 'generator', 'discriminator', 'classifier')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return run_of(tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def model(run):
  return restore(run)


def test_a_function_is_the_models_own_network(model):
  """jit and vmap at once: an outer axis of one batch."""
  z, c = np.ones((3, 4), np.float32), np.eye(10, dtype=np.float32)[[3, 5, 7]]
  fn, variables = model.function('generator')
  assert set(variables) == {'params', 'batch_stats'}
  images = jax.jit(jax.vmap(fn, (None, 0, 0)))(variables, z[None], c[None])[0]
  decoded = model.decode(z, labels=[3, 5, 7]).astype(float)
  assert np.abs((images + 1) * 127.5 - decoded).max() < 0.51  # rounded to whole numbers
  fn, variables = model.function('encoder')
  means, _ = jax.jit(fn)(variables, model.decode(z, labels=[3, 5, 7]), c)
  known, _ = model.encode(model.decode(z, labels=[3, 5, 7]), labels=[3, 5, 7])
  np.testing.assert_allclose(means, known, rtol=1e-5, atol=1e-6)


def test_latents_that_please_the_discriminator(model):
  """The gradient of a logit by z, through both networks; the step along it raises the logit."""
  make, made_by = model.function('generator')
  judge, judged_by = model.function('discriminator')
  c = jnp.eye(10)[:2]

  @jax.jit
  @jax.value_and_grad
  def logit(z):
    return judge(judged_by, make(made_by, z, c), c)[0].sum()

  z = jax.random.normal(jax.random.key(0), (2, 4))
  before, gradient = logit(z)
  assert (jnp.abs(gradient).max(1) > 0).all()
  assert logit(z + 1e-2 * gradient / jnp.linalg.norm(gradient))[0] > before


@pytest.mark.parametrize('name', NETWORKS)
def test_shapes_with_a_free_batch(model, name):
  fn, variables = model.function(name)
  (b,) = export.symbolic_shape('b')
  shapes = [(b, 4) if name == 'generator' else (b, 16, 16, 1), (b, 10)]
  arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  made = export.export(jax.jit(fn), platforms=('cpu', 'cuda', 'tpu'))(
    variables, *(arguments[:1] if name == 'classifier' else arguments)
  )
  features = made.out_avals[-1].shape[-1]
  assert [a.shape for a in made.out_avals] == dict(
    encoder=[(b, 4), (b, 4)],
    generator=[(b, 16, 16, 1)],
    discriminator=[(b,), (b, features)],
    classifier=[(b, 10), (b, features)],
  )[name]


def test_a_gradient_with_a_free_batch(model):
  fn, variables = model.function('discriminator')
  (b,) = export.symbolic_shape('b')
  x = jax.ShapeDtypeStruct((b, 16, 16, 1), jnp.float32)
  c = jax.ShapeDtypeStruct((b, 10), jnp.float32)
  gradient = jax.grad(lambda v, x, c: fn(v, x, c)[0].sum(), (0, 1))
  made = export.export(jax.jit(gradient))(variables, x, c)
  assert made.out_avals[-1].shape == (b, 16, 16, 1)


@pytest.mark.parametrize('name', ['larsen', 'residual'])
def test_other_networks_with_a_free_batch(name):
  (b,) = export.symbolic_shape('b')
  kinds = ('encoder', 'generator', 'discriminator')
  config = settings.with_settings(
    digits.get_config('vae_gan'), {'network.name': name, 'network.width': '0.0625'}
  )
  made = build.networks(config, kinds)
  shapes = build.state_shapes(config, 0, made)
  for kind in kinds:
    shape = (b, 16) if kind == 'generator' else (b, 16, 16, 1)
    fn = functions.pure(kind, made[kind], shape[1:], 0)
    variables = {'params': shapes.params[kind], 'batch_stats': shapes.stats[kind]}
    exported = export.export(jax.jit(fn))(variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert exported.out_avals[0].shape[0] == b


def test_requests_that_cannot_be_met(model, run, tmp_path):
  fn, variables = model.function('generator')
  with pytest.raises(ValueError, match=r'the generator takes c \[3, 10\], not None'):
    fn(variables, jnp.zeros((3, 4)))
  with pytest.raises(ValueError, match=r'the generator takes inputs \[B, 4\], not \[3, 5\]'):
    fn(variables, jnp.zeros((3, 5)), jnp.zeros((3, 10)))
  with pytest.raises(ValueError, match="no 'judge': it has encoder, generator, discriminator, cla"):
    model.function('judge')
  with pytest.raises(ValueError, match='the critics are in the folder of the run alone'):
    model._replace(workdir='').function('classifier')
  gone = restore(shutil.copytree(run, tmp_path / 'gone'))
  shutil.rmtree(tmp_path / 'gone' / 'checkpoints' / '7')
  with pytest.raises(ValueError, match='checkpoint 7 is damaged'):
    gone.function('classifier')
