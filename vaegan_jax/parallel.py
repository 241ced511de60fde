"""One training step on all devices: by jit over a mesh, or by pmap. Both give the same numbers.

`over_mesh` has the semantics of the global batch: batch norm and matching losses see all of it, and
no axis name appears. `over_pmap` is for those who live in pmapped code; its step needs axis_name
AXIS in its networks and its model. A state at rest (to be saved, or to sample from) is the same in
both: one array per leaf, replicated over all devices of all hosts.

Several steps can go into one dispatch (`steps`), each on a batch of its own. That saves what the host takes to
dispatch a step; the numbers are those of single steps, to rounding.
"""

import pathlib
from typing import Callable, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

AXIS = 'devices'
MOST_UNROLLED = 8  # steps in one dispatch on a CPU: each of them is compiled for itself


def compiler_options():
  """What jax.jit is to be told for programs with convolutions, on the backend in use: {} or XLA's options.

  YNNPACK, to which XLA of jax 0.10 gives convolutions on a CPU, has many of them on one core; XLA's own are up to
  twice as fast. Later versions are as fast without it; so are several (virtual) devices, each on a core of its own.
  And the order of operations that saves memory, which small steps are faster in, too. A program with options cannot be
  called inside another jit.
  """
  if jax.default_backend() == 'cpu' and jax.device_count() == 1 and jax.__version_info__ < (0, 11):
    return dict(
      xla_cpu_experimental_ynn_fusion_type='LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE',
      xla_cpu_scheduler_type='CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED',
    )
  return {}


class Parallel(NamedTuple):
  """How a step runs on the devices."""

  step: Callable  # (state, batch, key) -> (state, terms of the last step), compiled; the state is donated
  put_state: Callable  # state at rest -> as `step` takes it
  take_state: Callable  # state as `step` gives it -> at rest
  put_batch: Callable  # this host's part of a batch (numpy; [steps, b, ...] for several) -> as `step` takes it
  resident: (
    Callable  # {name: all examples [N, ...]}, put on each device -> (int32 indices -> as put_batch)
  )
  take_terms: Callable  # terms as `step` gives them -> {name: float}
  like_state: Callable  # shapes of a state at rest -> shapes as `step` takes it
  at_rest: NamedSharding  # of a state at rest


def devices_mesh(devices=None):
  """A mesh of all devices (of all hosts), with the one axis AXIS."""
  devices = jax.devices() if devices is None else devices
  # Explicit axes, the default of make_mesh, would make flax's convolutions raise.
  return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def in_a_row(step, count):
  """`step` made to take `count` batches, stacked, one after the other: gives the terms of the last."""
  if count == 1:
    return step
  # In a loop XLA has the weight gradients of convolutions some 50 times slower, on a CPU.
  unroll = jax.default_backend() == 'cpu'

  def steps(state, batches, key):
    state, terms = lax.scan(
      lambda state, batch: step(state, batch, key), state, batches, unroll=unroll
    )
    return state, jax.tree.map(lambda a: a[-1], terms)

  return steps


def kept_on(devices, spec):
  """Function {name: array [N, ...]}, put whole on each of the local devices -> (indices -> their rows,
  gathered there, both laid out by `spec`). Only the indices travel then."""
  mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
  whole, part = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, spec)
  gather = jax.jit(
    lambda arrays, at: {k: a.at[at].get(mode='promise_in_bounds') for k, a in arrays.items()},
    out_shardings=part,
  )

  def resident(arrays):
    here = jax.device_put(arrays, whole)
    return lambda at: gather(here, jax.device_put(at, part))

  return resident


def over_mesh(step, devices=None, steps=1):
  """Parallel of `step`, compiled by jit with the batch sharded over all devices."""
  mesh = devices_mesh(devices)
  spec = PartitionSpec(AXIS) if steps == 1 else PartitionSpec(None, AXIS)
  at_rest, sharded = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, spec)
  # Programs of this host's devices alone gather: those of all hosts must be started in one order, and batches
  # are made in a thread.
  keep = kept_on([d for d in mesh.devices.flat if d.process_index == jax.process_index()], spec)

  def joined(a):
    shape = list(a.shape)
    shape[spec.index(AXIS)] *= jax.process_count()
    return jax.make_array_from_single_device_arrays(
      tuple(shape), sharded, [s.data for s in a.addressable_shards]
    )

  def resident(arrays):
    gather = keep(arrays)
    return lambda at: {k: joined(a) for k, a in gather(at).items()}

  return Parallel(
    step=jax.jit(
      in_a_row(step, steps),
      in_shardings=(at_rest, sharded, at_rest),
      out_shardings=at_rest,
      donate_argnums=0,
      compiler_options=compiler_options(),
    ),
    put_state=lambda state: state,
    take_state=lambda state: state,
    put_batch=lambda batch: {
      k: jax.make_array_from_process_local_data(sharded, v) for k, v in batch.items()
    },
    resident=resident,
    take_terms=lambda terms: {k: float(v) for k, v in jax.device_get(terms).items()},
    like_state=lambda state: state,
    at_rest=at_rest,
  )


def over_pmap(step, devices=None, steps=1):
  """Parallel of `step`, compiled by pmap: each device takes its part of the batch."""
  devices = jax.devices() if devices is None else devices
  local = [d for d in devices if d.process_index == jax.process_index()]
  at_rest = NamedSharding(devices_mesh(devices), PartitionSpec())
  one = lambda a: np.asarray(a.addressable_shards[0].data)[0]
  axis = 0 if steps == 1 else 1  # of the examples; devices come first
  split = lambda a: np.moveaxis(
    a.reshape(*a.shape[:axis], len(local), -1, *a.shape[axis + 1 :]), axis, 0
  )
  keep = kept_on(local, PartitionSpec(AXIS))
  stacked = NamedSharding(
    Mesh(np.array(local), (AXIS,), axis_types=(AxisType.Auto,)), PartitionSpec(AXIS)
  )

  def put_state(state):
    state = jax.tree.map(lambda a: np.broadcast_to(np.asarray(a), (len(local), *a.shape)), state)
    # As the step gives it back, or the second step would be compiled anew; of several hosts that is not known here.
    return jax.device_put(state, stacked) if jax.process_count() == 1 else state

  def resident(arrays):
    gather = keep(arrays)
    return lambda at: gather(split(at))

  return Parallel(
    step=jax.pmap(
      in_a_row(step, steps), axis_name=AXIS, in_axes=(0, 0, None), donate_argnums=0, devices=devices
    ),
    put_state=put_state,
    take_state=lambda state: jax.device_put(jax.tree.map(one, state), at_rest),
    put_batch=lambda batch: {k: split(v) for k, v in batch.items()},
    resident=resident,
    take_terms=lambda terms: {k: float(one(v)) for k, v in terms.items()},
    like_state=lambda state: jax.tree.map(
      lambda a: jax.ShapeDtypeStruct((len(local), *a.shape), a.dtype), state
    ),
    at_rest=at_rest,
  )


PARALLEL = dict(mesh=over_mesh, pmap=over_pmap)


def free_bytes():
  """Memory that is free on each device of this host, the least of them, or None where nobody knows. CPU devices
  share the main memory."""
  stats = [d.memory_stats() for d in jax.local_devices()]
  if all(s and 'bytes_limit' in s for s in stats):
    return min(s['bytes_limit'] - s.get('bytes_in_use', 0) for s in stats)
  about = pathlib.Path('/proc/meminfo')
  if jax.default_backend() != 'cpu' or not about.exists():
    return None
  free = next(
    line.split()[1] for line in about.read_text().splitlines() if line.startswith('MemAvailable')
  )
  return int(free) * 1024 // jax.local_device_count()


def vmapped(step, keys, devices=None):
  """Parallel of N members in one program: their states, batches and noise stand side by side, [N, ...].

  See of_members. Members are spread over the devices where N is a multiple of their number; else each batch is.
  """
  mesh, count = devices_mesh(devices), len(keys)
  spread = count % mesh.size == 0
  at_rest, members, batches = (
    NamedSharding(mesh, PartitionSpec(*axes))
    for axes in ((), (AXIS,) if spread else (), (AXIS,) if spread else (None, AXIS))
  )
  all_keys, numbers = jax.device_put((jnp.stack(keys), np.arange(count, dtype=np.int32)), members)
  one = jax.jit(
    jax.vmap(step),
    in_shardings=(members, batches, members, members),
    out_shardings=members,
    donate_argnums=0,
    compiler_options=compiler_options(),
  )
  side_by_side = jax.jit(
    lambda states: jax.tree.map(lambda *a: jnp.stack(a), *states), out_shardings=members
  )
  apart = jax.jit(
    lambda states: [jax.tree.map(lambda a: a[i], states) for i in range(count)],
    out_shardings=at_rest,
  )
  terms_of = lambda terms, i: {k: float(v[i]) for k, v in terms.items()}
  return Parallel(
    step=lambda states, batch: one(states, batch, all_keys, numbers),
    put_state=side_by_side,
    take_state=apart,
    put_batch=lambda parts: {
      k: jax.device_put(np.stack([p[k] for p in parts]), batches) for k in parts[0]
    },
    take_terms=lambda terms: [
      terms_of(got, i) for got in [jax.device_get(terms)] for i in range(count)
    ],
    resident=None,
    like_state=None,
    at_rest=at_rest,
  )


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
    resident=None,
    like_state=None,
    at_rest=one.at_rest,
  )


def of_members(step, keys, devices=None):
  """Parallel of a population of N members, each of them (key, number 0..N - 1) trained by `step`.

  step: (state, batch, key, member) -> (state, terms). The Parallel's own takes (states, batches); its functions
  put and take lists of N, of what they put and take for a run train. Side by side on accelerators, where small
  models leave most of the device idle. On a CPU in turn: there convolutions of N members become grouped ones, which
  XLA does slowly. Measured by benchmarks/population.py --config=configs/digits.py:cvae_gan, 3 members, batch 64, 2 cores
  that others used, too, 2026-11-24, in processor time (the clock told little): 102 ms per step and member in turn, 163
  side by side, 100 with the loop over the members unrolled in one program, which took 1.4 times as long to compile.
  """
  return (in_turn if jax.default_backend() == 'cpu' else vmapped)(step, keys, devices)
