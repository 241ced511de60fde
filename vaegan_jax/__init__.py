"""VAE/GAN and CVAE-GAN in JAX: losses, methods, and trained models restored for use.

The public names are loaded when they are first used, so that `import vaegan_jax` costs nothing and
`from vaegan_jax import losses` imports JAX train.
"""

import importlib

__version__ = '0.1.0'
__all__ = [
  'losses',
  'methods',
  'networks',
  'model',
  'step',
  'optim',
  'images',
  'data',
  'edit',
  'metrics',
  'restore',
]


def __getattr__(name):
  if name == 'restore':
    return importlib.import_module('vaegan_jax.sample').restore
  if name in __all__:
    return importlib.import_module(f'vaegan_jax.{name}')
  raise AttributeError(f'module vaegan_jax has no attribute {name!r}; it has {", ".join(__all__)}')


def __dir__():
  return sorted(__all__)
