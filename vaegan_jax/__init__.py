"""VAE/GAN and CVAE-GAN in JAX: losses, methods, and trained models restored for use.

The public names load on first use: `import vaegan_jax` costs nothing, and
`from vaegan_jax import losses` imports nothing but JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vaegan_jax import (
    data,
    edit,
    export,
    images,
    losses,
    methods,
    metrics,
    model,
    networks,
    optim,
    step,
  )
  from vaegan_jax.export import load
  from vaegan_jax.sample import restore

__version__ = '0.1.0'
__all__ = [
  'data',
  'edit',
  'export',
  'images',
  'load',
  'losses',
  'methods',
  'metrics',
  'model',
  'networks',
  'optim',
  'restore',
  'step',
]


def __getattr__(name: str) -> Any:
  if name == 'restore':
    return importlib.import_module('vaegan_jax.sample').restore
  if name == 'load':
    return importlib.import_module('vaegan_jax.export').load
  if name in __all__:
    return importlib.import_module(f'vaegan_jax.{name}')
  raise AttributeError(f'module vaegan_jax has no attribute {name!r}; it has {", ".join(__all__)}')


def __dir__() -> list[str]:
  return sorted(__all__)
