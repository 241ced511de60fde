"""How a training step runs on the devices: by jit over a mesh, or by pmap.

Both give the same numbers. `OverMesh` has the semantics of the global batch: batch norm and
matching losses see all of it, and no axis name appears. `OverPmap` is for code that already uses
pmap; its networks and its model need axis_name AXIS. A state at rest (to save, or to sample from)
is the same in both: one array per leaf, replicated over all devices of all hosts.

See members.py for the members of a population.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
import re
import resource
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

Devices = Sequence[Any]  # of jax.Device

AXIS = 'devices'
# fmt: off
OPTIONS_OF_JAX_0_10 = dict(  # on one CPU device, see compiler_options
    xla_cpu_experimental_ynn_fusion_type='LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE',
    xla_cpu_scheduler_type='CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED')
# fmt: on
LARGEST_UNROLL = 8  # most steps per dispatch on a CPU, which compiles each of them separately


def compiler_options() -> dict[str, str]:
  """XLA's options for programs with convolutions on this backend, for jax.jit; {} for the defaults.

  With jax 0.10, XLA hands convolutions on a CPU to YNNPACK, which runs many of them on one core;
  XLA's own are up to twice as fast. The scheduler that saves memory also speeds up small steps.
  Later versions are as fast without these options, and so are several virtual devices, each on a
  core of its own. A program with options cannot be called inside another jit.
  """
  if jax.default_backend() == 'cpu' and jax.device_count() == 1 and jax.__version_info__ < (0, 11):
    return dict(OPTIONS_OF_JAX_0_10)
  return {}


def devices_mesh(devices: Devices | None = None) -> Mesh:
  """A mesh of all devices (of all hosts), with the one axis AXIS."""
  devices = jax.devices() if devices is None else devices
  # With explicit axes, the default of make_mesh, flax's convolutions raise an error.
  return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def local_mesh(devices: Devices) -> Mesh:
  """A mesh of these devices of this host, with the one axis AXIS."""
  return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def scanned(step: Callable, count: int) -> Callable:
  """`step` for `count` stacked batches, one after the other; it returns the terms of the last."""
  if count == 1:
    return step
  # On a CPU XLA's weight gradients of convolutions are some 50 times slower inside a loop.
  unroll = jax.default_backend() == 'cpu'

  def steps(state, batches, key):
    state, terms = lax.scan(lambda s, batch: step(s, batch, key), state, batches, unroll=unroll)
    return state, jax.tree.map(lambda a: a[-1], terms)

  return steps


class Resident:
  """A data set that lies whole in the memory of each device: only indices travel to it."""

  def __init__(self, devices: Devices, spec: PartitionSpec, arrays: Mapping):
    """arrays: {name: all examples [N, ...]}; spec: the layout of the indices and of the batch."""
    mesh = local_mesh(devices)
    self.part = NamedSharding(mesh, spec)
    self.arrays = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))

    def gather(arrays, at):
      return {k: a.at[at].get(mode='promise_in_bounds') for k, a in arrays.items()}

    self.gather = jax.jit(gather, out_shardings=self.part)

  def __call__(self, at: np.ndarray) -> dict[str, jax.Array]:
    """The examples of indices int32 [...], gathered on the devices."""
    return self.gather(self.arrays, jax.device_put(at, self.part))


class OverMesh:
  """A step compiled by jit, with the batch sharded over all devices.

  step: (state, batch, key) -> (state, terms of the last step); the state is donated. With `steps`
  over 1 a batch holds several, [steps, b, ...], and one dispatch takes them in order.
  """

  def __init__(self, step: Callable, devices: Devices | None = None, steps: int = 1) -> None:
    mesh = devices_mesh(devices)
    self.spec = PartitionSpec(AXIS) if steps == 1 else PartitionSpec(None, AXIS)
    self.at_rest = NamedSharding(mesh, PartitionSpec())
    self.sharded = NamedSharding(mesh, self.spec)
    self.local = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    self.step = jax.jit(
      scanned(step, steps),
      in_shardings=(self.at_rest, self.sharded, self.at_rest),
      out_shardings=self.at_rest,
      donate_argnums=0,
      compiler_options=compiler_options(),
    )

  def put_state(self, state: Any) -> Any:
    """A state at rest, as `step` takes it."""
    return state

  def take_state(self, state: Any) -> Any:
    """A state of `step`, at rest."""
    return state

  def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This host's part of a batch, as `step` takes it."""
    return {k: jax.make_array_from_process_local_data(self.sharded, v) for k, v in batch.items()}

  def resident(self, arrays: Mapping[str, np.ndarray]) -> Callable:
    """A function of int32 indices to a batch of all examples {name: [N, ...]}."""
    # Only this host's devices gather: all hosts must start programs of all devices in one order,
    # and a thread makes the batches.
    gather = Resident(self.local, self.spec, arrays)

    def joined(a):
      shape = list(a.shape)
      shape[self.spec.index(AXIS)] *= jax.process_count()
      shards = [shard.data for shard in a.addressable_shards]
      return jax.make_array_from_single_device_arrays(tuple(shape), self.sharded, shards)

    return lambda at: {k: joined(a) for k, a in gather(at).items()}

  def take_terms(self, terms: Mapping[str, jax.Array]) -> dict[str, float]:
    """Terms of `step` as numbers."""
    return {k: float(v) for k, v in jax.device_get(terms).items()}

  def skipped(self, state: Any) -> int:
    """The counter `skipped` of a state of `step`."""
    return int(np.max(jax.device_get(state.skipped.addressable_data(0))))

  def like_state(self, state: Any) -> Any:
    """Shapes of a state as `step` takes it, of those at rest."""
    return state


class OverPmap:
  """A step compiled by pmap: each device takes its part of the batch. See OverMesh."""

  def __init__(self, step: Callable, devices: Devices | None = None, steps: int = 1) -> None:
    devices = jax.devices() if devices is None else devices
    self.local = [d for d in devices if d.process_index == jax.process_index()]
    self.at_rest = NamedSharding(devices_mesh(devices), PartitionSpec())
    self.stacked = NamedSharding(local_mesh(self.local), PartitionSpec(AXIS))
    self.axis = 0 if steps == 1 else 1  # of the examples, before devices take the first axis
    self.step = jax.pmap(
      scanned(step, steps),
      axis_name=AXIS,
      in_axes=(0, 0, None),
      donate_argnums=0,
      devices=devices,
    )

  def put_state(self, state: Any) -> Any:
    """A state at rest, as `step` takes it: one copy per local device."""
    count = len(self.local)
    state = jax.tree.map(lambda a: np.broadcast_to(np.asarray(a), (count, *a.shape)), state)
    # Laid out as the step returns it, or the second step would compile again. With several hosts
    # that layout is not known here.
    return jax.device_put(state, self.stacked) if jax.process_count() == 1 else state

  def take_state(self, state: Any) -> Any:
    """A state of `step`, at rest."""
    return jax.device_put(jax.tree.map(self._first, state), self.at_rest)

  def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """This host's part of a batch, as `step` takes it."""
    return {k: self._split(v) for k, v in batch.items()}

  def resident(self, arrays: Mapping[str, np.ndarray]) -> Callable:
    """A function of int32 indices to a batch of all examples {name: [N, ...]}."""
    gather = Resident(self.local, PartitionSpec(AXIS), arrays)
    return lambda at: gather(self._split(at))

  def take_terms(self, terms: Mapping[str, jax.Array]) -> dict[str, float]:
    """Terms of `step` as numbers."""
    return {k: float(self._first(v)) for k, v in terms.items()}

  def skipped(self, state: Any) -> int:
    """The counter `skipped` of a state of `step`."""
    return int(np.max(jax.device_get(state.skipped.addressable_data(0))))

  def like_state(self, state: Any) -> Any:
    """Shapes of a state as `step` takes it, of those at rest."""
    count = len(self.local)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape), a.dtype), state)

  def _first(self, a: jax.Array) -> np.ndarray:
    return np.asarray(a.addressable_shards[0].data)[0]

  def _split(self, a: np.ndarray) -> np.ndarray:
    shape = (*a.shape[: self.axis], len(self.local), -1, *a.shape[self.axis + 1 :])
    return np.moveaxis(a.reshape(shape), self.axis, 0)


PARALLEL = dict(mesh=OverMesh, pmap=OverPmap)


def free_bytes() -> int | None:
  """The least free memory of this host's devices, in bytes, or None if unknown.

  CPU devices share the main memory.
  """
  stats = [d.memory_stats() for d in jax.local_devices()]
  if all(s and 'bytes_limit' in s for s in stats):
    return min(s['bytes_limit'] - s.get('bytes_in_use', 0) for s in stats)
  free = host_free_bytes()
  if jax.default_backend() != 'cpu' or free is None:
    return None
  return free // jax.local_device_count()


def host_free_bytes() -> int | None:
  """Main memory that this process can still have, in bytes, or None where /proc is missing.

  The least of what the machine, the process's control group (as of a container or a batch job) and
  `ulimit -v` and `-d` leave.
  """
  meminfo, status = pathlib.Path('/proc/meminfo'), pathlib.Path('/proc/self/status')
  if not meminfo.exists():
    return None
  kib = lambda file, key: 1024 * int(re.findall(rf'^{key}:\s+(\d+)', file.read_text(), re.M)[0])
  left = [kib(meminfo, 'MemAvailable')]
  for limit, used in ((resource.RLIMIT_AS, 'VmSize'), (resource.RLIMIT_DATA, 'VmData')):
    if (soft := resource.getrlimit(limit)[0]) != resource.RLIM_INFINITY:
      left.append(soft - kib(status, used))
  group = pathlib.Path('/sys/fs/cgroup')
  for most, used in (
    ('memory.max', 'memory.current'),
    ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'),
  ):
    if (group / most).exists() and (limit := (group / most).read_text().strip()) != 'max':
      left.append(int(limit) - int((group / used).read_text()))
  return max(0, min(left))
