"""One training step on all devices: by jit over a mesh, or by pmap. Both give the same numbers.

`over_mesh` has the semantics of the global batch: batch norm and matching losses see all of it, and
no axis name appears. `over_pmap` is for those who live in pmapped code; its step needs axis_name
AXIS in its networks and its model. A state at rest (to be saved, or to sample from) is the same in
both: one array per leaf, replicated over all devices of all hosts.
"""
from typing import Callable, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
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
