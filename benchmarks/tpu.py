"""Compiles a step for TPUs that are not attached: what cores communicate, memory, cycles.

    python -m benchmarks.tpu --methods=vae_gan,cvae_gan --topology=v5e:2x4
    python -m benchmarks.tpu --estimate --topology=v5e:2x4,v4:2x2x2 --per_core=64,256

XLA's compiler for TPUs comes with the package libtpu (pip install libtpu, in a separate
environment) and needs no TPU. For each method, at 64x64 with published widths and jit over a mesh
of the whole topology, it prints the all-reduces of gradients (those of a megabyte or more) and of
batch norm, with their bytes; a core's memory; FLOPs per image. Nothing runs.

A second table extrapolates from these counts and from the speeds of a core, a link and a hop that
the flags assume: how long a step communicates and computes on more and more cores, with no overlap,
on a ring or a square torus.

--estimate prints the compiler's own estimate instead (see tpu_estimate.py): the cycles of a step,
the share of the peak that they imply, and the --top operations and layers with most cycles.
"""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import os
import time
from typing import Any, NamedTuple
from unittest import mock

from absl import flags
import jax
from jax.experimental import topologies
import numpy as np

from benchmarks import machine, scaling, tpu_estimate
from benchmarks.stepper import colour_config
from vaegan_jax import build, command, methods, parallel, settings
from vaegan_jax.step import init_state

METHODS = flags.DEFINE_list('methods', ['vae_gan', 'cvae_gan'], 'Names in methods.METHODS.')
TOPOLOGY = flags.DEFINE_list(
  'topology', ['v5e:2x4'], 'Kinds of TPU and their chips, such as v5e:2x4 or v4:2x2x2.'
)
DTYPE = flags.DEFINE_enum('dtype', 'bfloat16', ['float32', 'bfloat16'], 'Of the arithmetic.')
CORES = flags.DEFINE_list('cores', ['8', '64', '512'], 'Rows of the second table.')
FLOPS = flags.DEFINE_float(
  'flops', 30e12, 'FLOP/s of a core: half of the peak of a TPU v3 core in bfloat16.'
)
LINK = flags.DEFINE_float(
  'link', 40e9, 'bytes/s between neighbours: half of one link of a v3, as recalled.'
)
HOP = flags.DEFINE_float('hop', 1e-6, 'Seconds of latency from a core to its neighbour.')
PER_CORE = flags.DEFINE_list('per_core', ['64'], 'Images per core; one program for each.')
ESTIMATE = flags.DEFINE_bool('estimate', False, "Print the compiler's estimate of cycles instead.")
TOP = flags.DEFINE_integer('top', 15, 'Operations and layers that --estimate lists.', lower_bound=0)

COUNTED = (
  'method',
  'all-reduces of gradients',
  'their MB',
  'of batch norm',
  'their MB',
  'state of a core, MiB',
  'temporary, MiB',
  'GFLOP per image',
  'seconds to compile',
)
EXTRAPOLATED = (
  'method',
  'cores',
  'MB sent by each',
  'bandwidth, ms',
  'latency, ms: ring, torus',
  'compute, ms',
  'communication over compute: ring, torus',
)


class Counts(NamedTuple):
  """What one step does on one core."""

  bytes: float  # in all-reduces
  all_reduces: int
  flops: float


def as_on_tpu() -> Any:
  """A context in which the package takes a TPU for its backend."""
  return mock.patch.object(jax, 'default_backend', lambda: 'tpu')


def compiled(method: str, cores: Sequence[Any], per_core: int) -> Any:
  """The step of a method on `per_core` images for each of these cores, compiled."""
  config = colour_config(method, 64)
  config.dtype = DTYPE.value
  classes = 10 if config.data.condition == 'label' else 0
  table = settings.method(config.lock())
  transformations = build.optimizers(config, list(table), build.rates(config))
  with as_on_tpu():
    model, step = build.step_of(config, classes, table, (), transformations)
  examples = build.examples(config, classes)
  state = jax.eval_shape(
    lambda key: init_state(model, transformations, key, *examples, config.network.latent_size),
    jax.random.key(0),
  )
  count = per_core * len(cores)
  batch = dict(x=jax.ShapeDtypeStruct((count, 64, 64, 3), np.uint8))
  batch |= dict(c=jax.ShapeDtypeStruct((count,), np.int32)) if classes else {}
  on_mesh = parallel.OverMesh(step, cores)
  with as_on_tpu():
    return on_mesh.step.lower(state, batch, jax.eval_shape(lambda: jax.random.key(0))).compile()


def counted(method: str, cores: Sequence[Any], per_core: int) -> Counts:
  """The Counts of a method's step; prints its row of the first table."""
  start = time.monotonic()
  program = compiled(method, cores, per_core)
  by_line = map(scaling.all_reduces, program.as_text().splitlines())
  sizes = [found.bytes / 1e6 for found in by_line if found.count]
  large, small = [s for s in sizes if s >= 1], [s for s in sizes if s < 1]
  memory, flops = program.memory_analysis(), program.cost_analysis()['flops']
  cells = (
    len(large),
    f'{sum(large):.1f}',
    len(small),
    f'{sum(small):.2f}',
    f'{memory.argument_size_in_bytes / 2**20:.0f}',
    f'{memory.temp_size_in_bytes / 2**20:.0f}',
    f'{flops / per_core / 1e9:.2f}',
    f'{time.monotonic() - start:.0f}',
  )
  print(machine.row(method, *cells), flush=True)
  return Counts(sum(sizes) * 1e6, len(sizes), flops)


def times(cores: int, counts: Counts) -> Iterator[str]:
  """Yields the cells of `cores` that do their all-reduces one after another."""
  sent, compute = 2 * (cores - 1) / cores * counts.bytes, counts.flops / FLOPS.value
  hops = (2 * (cores - 1), 4 * (cores**0.5 - 1))
  ring, torus = (n * counts.all_reduces * HOP.value for n in hops)
  yield f'{sent / 1e6:.0f}'
  yield f'{1e3 * sent / LINK.value:.1f}'
  yield f'{1e3 * ring:.1f}, {1e3 * torus:.1f}'
  yield f'{1e3 * compute:.1f}'
  yield ', '.join(f'{(sent / LINK.value + latency) / compute:.2f}' for latency in (ring, torus))


def communication(cores: Sequence[Any], per_core: int) -> None:
  """Prints both tables of what the methods' steps communicate."""
  print(
    f'{len(cores)} x {cores[0].device_kind}, {per_core} images per core, {DTYPE.value}, '
    f'JAX {jax.__version__}\n\n{machine.table(*COUNTED)}'
  )
  counts = {method: counted(method, cores, per_core) for method in METHODS.value}
  print('\n' + machine.table(*EXTRAPOLATED))
  for method, of_method in counts.items():
    for n in map(int, CORES.value):
      print(machine.row(method, n, *times(n, of_method)))


def estimate(topologies: Mapping[str, Sequence[Any]], counts: Sequence[int]) -> None:
  """Prints the cycles of each step, one row each, then the operations with most cycles."""
  details = []
  print(f'{DTYPE.value}, JAX {jax.__version__}\n\n{machine.table(*tpu_estimate.SUMMARY)}')
  for method, cores, per_core in itertools.product(METHODS.value, topologies.values(), counts):
    program = compiled(method, cores, per_core)
    found, kind = tpu_estimate.operations(program.as_text()), cores[0].device_kind
    total = sum(operation.cycles for operation in found)
    flops = program.cost_analysis()['flops']
    print(tpu_estimate.summary(method, kind, per_core, flops, total), flush=True)
    details.append((f'{method}, {kind}, {per_core} images', found, total))
  for title, found, total in details if TOP.value else ():
    print(f'\n{title}: {len(found):,} operations\n\n{machine.table(*tpu_estimate.OPERATIONS)}')
    for cycles, *rest in found[: TOP.value]:
      print(machine.row(f'{cycles:,}', f'{cycles / total:.1%}', *rest))
    print('\n' + machine.table('cycles', 'share', 'part'))
    for cycles, part in tpu_estimate.by_part(found)[: TOP.value]:
      print(machine.row(f'{cycles:,}', f'{cycles / total:.1%}', part))


def cores_of(topology: str) -> Sequence[Any]:
  """The devices of a topology that is not attached; ValueError if libtpu does not know it."""
  try:
    return topologies.get_topology_desc(platform='tpu', topology_name=topology).devices
  except Exception as e:
    raise ValueError(
      f'--topology={topology}: {" ".join(str(e).split())[:200]} (is libtpu installed?)'
    ) from e


def main() -> int:
  counts = [int(n) if n.isdecimal() else 0 for n in PER_CORE.value]
  if not all(counts):
    raise ValueError(f'--per_core={",".join(PER_CORE.value)}: give whole numbers of images over 0')
  if unknown := [method for method in METHODS.value if method not in methods.METHODS]:
    raise ValueError(
      f'--methods: {unknown[0]} is unknown: use some of {", ".join(methods.METHODS)}'
    )
  jax.config.update('jax_platforms', 'cpu')
  os.environ.update(
    TPU_SKIP_MDS_QUERY='1', TPU_WORKER_HOSTNAMES='localhost', TPU_ACCELERATOR_TYPE='v5litepod-8'
  )
  found = {topology: cores_of(topology) for topology in TOPOLOGY.value}
  if ESTIMATE.value:
    estimate(found, counts)
    return 0
  for cores, per_core in itertools.product(found.values(), counts):
    communication(cores, per_core)
  return 0


if __name__ == '__main__':
  command.run(main)
