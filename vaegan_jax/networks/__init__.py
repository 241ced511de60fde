"""The networks of both papers; each module has an Encoder, a Generator, and a Discriminator.

`bao` also has a Classifier. `mlp`, for points in the plane, belongs to the toy example alone. A
module of your own on sys.path does as well: its classes take the arguments of those in `bao` and
return the same shapes.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import NamedTuple

from vaegan_jax.networks import bao, larsen, residual
from vaegan_jax.words import closest

NETWORKS = dict(bao=bao, larsen=larsen, residual=residual)


class Name(NamedTuple):
  """A field of a config that names a module of networks, ours or one on sys.path."""

  def complaint(self, value: str) -> str:
    """What to use instead of `value`; '' if there is such a module. It imports none."""
    try:
      if value in NETWORKS or importlib.util.find_spec(value) is not None:
        return ''
    except (ImportError, ValueError):  # a parent that is not there; no name of a module
      pass
    return (
      f'use one of {", ".join(NETWORKS)}{closest(value, NETWORKS)}; or a module of your own: '
      'none of this name is on sys.path, where PYTHONPATH=FOLDER puts the modules in FOLDER'
    )


def module(name: str) -> ModuleType:
  """The module of networks that a config names.

  Raises ValueError if it cannot be imported.
  """
  if name in NETWORKS:
    return NETWORKS[name]
  try:
    return importlib.import_module(name)
  except Exception as e:  # the module is a program: it may raise anything
    said = ' '.join(str(e).split())
    raise ValueError(
      f'--config.network.name={name}: importing it failed: {type(e).__name__}: {said}'
    ) from e
