"""One training step on all devices: by jit over a mesh, or by pmap. Both give the same numbers.

`over_mesh` has the semantics of the global batch: batch norm and matching losses see all of it, and
no axis name appears. `over_pmap` is for those who live in pmapped code; its step needs axis_name
AXIS in its networks and its model. A state at rest (to be saved, or to sample from) is the same in
both: one array per leaf, replicated over all devices of all hosts.
"""
from typing import Callable, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import jax.numpy as jnp
import numpy as np

AXIS = 'devices'


class Parallel(NamedTuple):
  """How a step runs on the devices."""
  step: Callable  # (state, batch, key) -> (state, terms), compiled; the state is donated
  put_state: Callable  # state at rest -> as `step` takes it
  take_state: Callable  # state as `step` gives it -> at rest
  put_batch: Callable  # this host's part of a batch (numpy) -> as `step` takes it
  take_terms: Callable  # terms as `step` gives them -> {name: float}
  like_state: Callable  # shapes of a state at rest -> shapes as `step` takes it
  at_rest: NamedSharding  # of a state at rest


def devices_mesh(devices=None):
  """A mesh of all devices (of all hosts), with the one axis AXIS."""
  devices = jax.devices() if devices is None else devices
  # Explicit axes, the default of make_mesh, would make flax's convolutions raise.
  return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def over_mesh(step, devices=None):
  """Parallel of `step`, compiled by jit with the batch sharded over all devices."""
  mesh = devices_mesh(devices)
  at_rest, sharded = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (AXIS,)))
  return Parallel(
      step=jax.jit(step, in_shardings=(at_rest, sharded, at_rest), out_shardings=at_rest,
                   donate_argnums=0),
      put_state=lambda state: state,
      take_state=lambda state: state,
      put_batch=lambda batch: {k: jax.make_array_from_process_local_data(sharded, v)
                               for k, v in batch.items()},
      take_terms=lambda terms: {k: float(v) for k, v in jax.device_get(terms).items()},
      like_state=lambda state: state,
      at_rest=at_rest)


def over_pmap(step, devices=None):
  """Parallel of `step`, compiled by pmap: each device takes its part of the batch."""
  devices = jax.devices() if devices is None else devices
  local = [d for d in devices if d.process_index == jax.process_index()]
  at_rest = NamedSharding(devices_mesh(devices), PartitionSpec())
  one = lambda a: np.asarray(a.addressable_shards[0].data)[0]
  return Parallel(
      step=jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, None), donate_argnums=0, devices=devices),
      put_state=lambda state: jax.tree.map(
          lambda a: np.broadcast_to(np.asarray(a), (len(local), *a.shape)), state),
      take_state=lambda state: jax.device_put(jax.tree.map(one, state), at_rest),
      put_batch=lambda batch: {k: v.reshape(len(local), -1, *v.shape[1:]) for k, v in batch.items()},
      take_terms=lambda terms: {k: float(one(v)) for k, v in terms.items()},
      like_state=lambda state: jax.tree.map(
          lambda a: jax.ShapeDtypeStruct((len(local), *a.shape), a.dtype), state),
      at_rest=at_rest)


PARALLEL = dict(mesh=over_mesh, pmap=over_pmap)


def vmapped(step, keys, devices=None):
  """Parallel of N members in one program: their states, batches and noise stand side by side, [N, ...].

  See of_members. Members are spread over the devices where N is a multiple of their number; else each batch is.
  """
  mesh, count = devices_mesh(devices), len(keys)
  spread = count % mesh.size == 0
  at_rest, members, batches = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (
      (), (AXIS,) if spread else (), (AXIS,) if spread else (None, AXIS)))
  all_keys, numbers = jax.device_put((jnp.stack(keys), np.arange(count, dtype=np.int32)), members)
  one = jax.jit(jax.vmap(step), in_shardings=(members, batches, members, members), out_shardings=members,
                donate_argnums=0)
  side_by_side = jax.jit(lambda states: jax.tree.map(lambda *a: jnp.stack(a), *states), out_shardings=members)
  apart = jax.jit(lambda states: [jax.tree.map(lambda a: a[i], states) for i in range(count)], out_shardings=at_rest)
  terms_of = lambda terms, i: {k: float(v[i]) for k, v in terms.items()}
  return Parallel(
      step=lambda states, batch: one(states, batch, all_keys, numbers),
      put_state=side_by_side,
      take_state=apart,
      put_batch=lambda parts: {k: jax.device_put(np.stack([p[k] for p in parts]), batches) for k in parts[0]},
      take_terms=lambda terms: [terms_of(got, i) for got in [jax.device_get(terms)] for i in range(count)],
      like_state=None,
      at_rest=at_rest)


def in_turn(step, keys, devices=None):
  """Parallel of N members by one program that is called for each of them. See of_members."""
  one = over_mesh(lambda state, batch, key_and_number: step(state, batch, *key_and_number), devices)
  own = [jax.device_put((key, np.int32(i)), one.at_rest) for i, key in enumerate(keys)]
  return Parallel(
      step=lambda states, batches: tuple(zip(*map(one.step, states, batches, own))),
      put_state=lambda states: states,
      take_state=lambda states: states,
      put_batch=lambda batches: [one.put_batch(batch) for batch in batches],
      take_terms=lambda terms: [one.take_terms(t) for t in terms],
      like_state=None,
      at_rest=one.at_rest)


def of_members(step, keys, devices=None):
  """Parallel of a population of N members, each of them (key, number 0..N - 1) trained by `step`.

  step: (state, batch, key, member) -> (state, terms). The Parallel's own takes (states, batches); its functions
  put and take lists of N, of what they put and take for a run alone. Side by side on accelerators, where small
  models leave most of the device idle. On a CPU in turn: there convolutions of N members become grouped ones, which
  XLA does slowly. Measured with benchmarks/population.py's digits, CVAE-GAN, 3 members, batch 64 (2 shared cores,
  2026-11-24, processor time, for the clock told little): 113 ms per step and member in turn, 164 side by side, 111
  with the loop over the members unrolled within one program, which took 1.4 times as long to compile.
  """
  return (in_turn if jax.default_backend() == 'cpu' else vmapped)(step, keys, devices)
