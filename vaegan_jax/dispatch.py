"""Forward passes of a trained network over any number of examples, in dispatches of one size."""

import collections
from collections.abc import Callable, Iterable, Iterator
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaegan_jax.parallel import compiler_options
from vaegan_jax.step import as_float

BATCH = 64  # examples per dispatch: one compilation serves any number of them
AHEAD = 2  # dispatches that may be in flight


class Dispatch(NamedTuple):
  """The inputs of one call of a network."""

  inputs: jax.Array | np.ndarray  # [length, ...], or already filled up
  c: np.ndarray | None
  length: int  # outputs to keep


def outputs(
  network: Any, weights: dict[str, Any], dispatches: Iterable[Dispatch], batch: int
) -> Iterator[Any]:
  """Yields the network's outputs [length, ...] for each dispatch, filled up to `batch` rows.

  The devices compute the next dispatch while the host fetches one.
  """
  in_flight = collections.deque()
  for inputs, c, length in dispatches:
    out = compiled()(network, weights, filled(inputs, batch), filled(c, batch))
    jax.tree.map(lambda a: a.copy_to_host_async(), out)
    in_flight.append((out, length))
    if len(in_flight) > AHEAD:
      yield fetched(*in_flight.popleft())
  for out, length in in_flight:
    yield fetched(out, length)


def filled(rows: Any, batch: int) -> Any:
  """Rows [batch, ...], the last one repeated; None stays None."""
  if rows is None or len(rows) == batch:
    return rows
  return np.concatenate([rows, np.repeat(rows[-1:], batch - len(rows), 0)])


def fetched(out: Any, length: int) -> Any:
  """The first `length` rows of a tree of arrays, on the host."""
  return jax.tree.map(lambda a: np.asarray(a)[:length], out)


@functools.cache
def compiled() -> Callable:
  """`forward`, compiled for the backend in use."""
  return jax.jit(forward, static_argnums=0, compiler_options=compiler_options())


def forward(network: Any, weights: dict[str, Any], x: jax.Array, c: jax.Array | None) -> Any:
  """A network's outputs as at test time; images enter and leave as uint8."""
  variables = {'params': weights['params'], 'batch_stats': weights['stats']}
  out = network.apply(variables, as_float(x), c, train=False)
  if isinstance(out, tuple):
    return out
  return jnp.round((jnp.clip(out, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def latents(n: int, size: int, seed: int) -> np.ndarray:
  """z float32 [n, size] ~ N(0, I); the first rows do not depend on n."""
  key = key_of(seed)
  rows = [blocks(key, i, 1, size) for i in range(-(-n // BATCH))]
  return np.concatenate([np.zeros((0, size), np.float32), *rows])[:n]


def key_of(seed: int) -> jax.Array:
  """JAX's key of a seed; ValueError for a seed out of range."""
  if not 0 <= seed < 2**32:
    raise ValueError(f'seed={seed}: use 0 to 2**32 - 1')
  return jax.random.key(seed)


@functools.partial(jax.jit, static_argnums=(2, 3))
def blocks(key: jax.Array, start: int, count: int, size: int) -> jax.Array:
  """z float32 [count * BATCH, size]: rows from start * BATCH on of a key's endless table."""
  rows = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (BATCH, size)))
  return rows(start + jnp.arange(count)).reshape(-1, size)
