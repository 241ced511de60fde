"""Batches of several groups as one, in an order that keeps a sharded batch in place."""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

RUN = 64  # adjacent examples of a group at most, see run_length


def merged(groups: Sequence[jax.Array], longest: int = RUN) -> jax.Array:
  """[n B, ...] of n groups [B, ...]: a run of each in turn, so that every device keeps its own."""
  length = run_length(len(groups[0]), longest)
  if length == 1:
    return jnp.stack(groups, 1).reshape(-1, *groups[0].shape[1:])
  runs = [a.reshape(-1, length, *a.shape[1:]) for a in groups]
  return jnp.concatenate(runs, 1).reshape(-1, *groups[0].shape[1:])


def separated(a: jax.Array, n: int, longest: int = RUN) -> list[jax.Array]:
  """The n groups [B, ...] of a `merged` array [n B, ...], for the same `longest`."""
  length = run_length(len(a) // n, longest)
  if length == 1:
    return [a[i::n] for i in range(n)]
  runs = jnp.split(a.reshape(-1, n * length, *a.shape[1:]), n, 1)
  return [own.reshape(-1, *a.shape[1:]) for own in runs]


def run_length(examples: int, longest: int = RUN) -> int:
  """Adjacent examples of a group in a merged batch; it divides the examples of each device.

  1 on a CPU. On a TPU, single examples would have to be copied out of tiles of several. Images of 3
  channels have tiles along the batch: there, single ones cost less than runs (see model.passes).
  """
  if jax.default_backend() == 'cpu':
    return 1
  return math.gcd(max(1, examples // jax.device_count()), examples, longest)
