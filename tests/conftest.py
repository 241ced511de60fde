"""Eight virtual CPU devices, and programs compiled without most optimisations: small tests spend
their time compiling."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

import jax
import pytest

from vaegan_jax import data

jax.config.update('jax_disable_most_optimizations', True)


@pytest.fixture
def key():
  return jax.random.key(0)


@pytest.fixture
def load(tmp_path):
  """load of a folder or zip, with a cache of its own."""

  def call(path, size=8, channels=1, **options):
    return data.load(
      'folder',
      path=str(path),
      image_size=size,
      channels=channels,
      cache_dir=str(tmp_path / '.cache'),
      **options,
    )

  return call
