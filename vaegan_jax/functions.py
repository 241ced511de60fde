"""A trained network as a pure function, for programs that know nothing of this library."""

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax import build, checkpoint, settings
from vaegan_jax.step import as_float

Variables = dict[str, Any]  # flax's: {'params': ..., 'batch_stats': ...}


def variables(weights: dict[str, Any]) -> Variables:
  """Flax's variables of {'params', 'stats'}."""
  return {'params': weights['params'], 'batch_stats': weights['stats']}


def pure(name: str, network: Any, shape: tuple[int, ...], size: int) -> Callable[..., Any]:
  """fn(variables, inputs, c=None): a network's outputs as at test time; see Trained.function.

  Args:
    name: for messages.
    shape: of one input.
    size: of a condition; 0 for a network that takes none.

  Raises (fn): ValueError for inputs or conditions of another shape.
  """

  def fn(variables: Variables, inputs: jax.Array, c: jax.Array | None = None) -> Any:
    if inputs.ndim != len(shape) + 1 or inputs.shape[1:] != shape:
      wanted = ', '.join(map(str, shape))
      raise ValueError(f'the {name} takes inputs [B, {wanted}], not {list(inputs.shape)}')
    given = None if c is None else c.shape
    if given != ((inputs.shape[0], size) if size else None):
      wanted = f'c [{inputs.shape[0]}, {size}]' if size else 'no condition'
      raise ValueError(f'the {name} takes {wanted}, not {given and list(given)}')
    rest = () if name == 'classifier' else (c,)
    return network.apply(variables, as_float(inputs), *rest, train=False)

  return fn


class Truncated(NamedTuple):
  """A generator whose latents are shortened: `factor` times as long.

  A generator with a field `truncation` divides z by its length first, and gets the factor there.
  """

  network: Any
  factor: float

  def apply(self, variables: Variables, z: jax.Array, *rest: Any, **kwargs: Any) -> Any:
    if hasattr(self.network, 'truncation'):
      network = self.network.clone(truncation=self.factor)
      return network.apply(variables, z, *rest, **kwargs)
    return self.network.apply(variables, self.factor * z, *rest, **kwargs)


def truncated(generator: Any, factor: float) -> Any:
  """The generator with latents `factor` times as long; with 1, the generator itself.

  Raises ValueError for a factor that is not over 0 and at most 1.
  """
  if not 0 < factor <= 1:
    raise ValueError(f'truncation={factor}: use a number over 0, at most 1')
  if factor == 1:
    return generator
  if isinstance(generator, Truncated):
    return Truncated(generator.network, factor * generator.factor)
  return Truncated(generator, factor)


def critic(
  workdir: str, step: int, config: Mapping[str, Any], size: int, name: str, others: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
  """(network, {'params', 'stats'}) of the critic `name`, read from a checkpoint.

  Args:
    workdir: a run's folder, or '' if the model comes without its critics.
    config, size: what the checkpoint says of its networks and of the condition's size.
    others: names of the model's other networks, for messages.

  Raises ValueError if there is no such critic, or if its checkpoint is gone or damaged.
  """
  read: Any = settings.from_dict(config)
  critics = build.critics(read, size) if workdir else {}
  if name not in critics:
    why = '' if workdir else '; the critics are in the folder of the run alone'
    raise ValueError(f'this model has no {name!r}: it has {", ".join((*others, *critics))}{why}')
  check_intact(workdir, step)
  shapes = build.state_shapes(read, size, {name: critics[name]})
  like = dict(params=shapes.params, stats=shapes.stats)
  saved = checkpoint.load(workdir, step, like, first_device())
  return critics[name], {k: saved[k][name] for k in like}


def first_device() -> jax.sharding.Sharding:
  """The sharding that keeps all on this host's first device."""
  return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def check_intact(workdir: str | os.PathLike[str], step: int) -> None:
  """Raises ValueError if the bytes of a checkpoint are not as saved."""
  if wrong := checkpoint.damage(workdir, step):
    raise ValueError(
      f'checkpoint {step} is damaged: {wrong}; {checkpoint.intact_steps(workdir, step)}; '
      'choose one with --step'
    )


def latents(z: ArrayLike, size: int) -> np.ndarray:
  """`z` as float32 [N, Z] with Z = size; ValueError for other shapes, NaN or infinity."""
  z = np.asarray(z, np.float32)
  if z.ndim != 2 or z.shape[1] != size or not np.isfinite(z).all():
    raise ValueError(f'latents must be finite numbers [N, {size}], not {list(z.shape)}')
  return z
