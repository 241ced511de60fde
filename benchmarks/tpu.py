"""Compiles a step for TPUs that are not here: what its cores tell each other, and the memory that it takes.

    python benchmarks/tpu.py --methods=vae_gan,cvae_gan --topology=v5e:2x4

XLA's compiler for TPUs comes with the package libtpu (pip install libtpu, in an environment of its own) and needs no
TPU. Prints, of each method at 64x64 with published widths, jit over a mesh of the whole topology: all-reduces of
gradients (those that carry a megabyte or more) and of batch norm, with their bytes; memory of a core; FLOPs per image.
Nothing is run. From these counts, and from the speeds of a core, of a link and of a hop that the flags assume, a second
table: how long a step communicates and computes on more and more cores, nothing overlapping, the cores in one ring
or in a square torus.
"""

import os
import time
from unittest import mock

from absl import flags

from benchmarks import scaling
from vaegan_jax import command, settings
from vaegan_jax.step import init_state

METHODS = flags.DEFINE_list('methods', ['vae_gan', 'cvae_gan'], 'Of methods.METHODS.')
TOPOLOGY = flags.DEFINE_string(
  'topology', 'v5e:2x4', 'Kind of TPU and its chips, such as v5e:2x4 or v4:2x2x2.'
)
DTYPE = flags.DEFINE_enum('dtype', 'bfloat16', ['float32', 'bfloat16'], 'Of the arithmetic.')
CORES = flags.DEFINE_list('cores', ['8', '64', '512'], 'Of the second table.')
FLOPS = flags.DEFINE_float(
  'flops', 30e12, 'FLOP/s that a core reaches: half of what a TPU v3 core has in bfloat16.'
)
LINK = flags.DEFINE_float(
  'link', 40e9, 'bytes/s between neighbours: half of one link of a v3, as recalled.'
)
HOP = flags.DEFINE_float('hop', 1e-6, 'Seconds of latency from a core to its neighbour.')
PER_CORE = flags.DEFINE_integer('per_core', 64, 'Images of a core.', lower_bound=1)


def compiled(method, cores):
  """The step of a method, compiled for these cores."""
  import jax
  import numpy as np

  from vaegan_jax import build, parallel
  from vaegan_jax.configs import base

  config = base.get_config(method)
  config.data.image_size, config.data.channels, config.dtype = 64, 3, DTYPE.value
  classes = 10 if config.data.condition == 'label' else 0
  table = settings.method(config.lock())
  transformations = build.optimizers(config, list(table), build.rates(config))
  model, step = build.step_of(config, classes, table, (), transformations)
  state = jax.eval_shape(
    lambda key: init_state(
      model, transformations, key, *build.examples(config, classes), config.network.latent_size
    ),
    jax.random.key(0),
  )
  count = PER_CORE.value * len(cores)
  batch = dict(x=jax.ShapeDtypeStruct((count, 64, 64, 3), np.uint8))
  batch |= dict(c=jax.ShapeDtypeStruct((count,), np.int32)) if classes else {}
  return (
    parallel.over_mesh(step, cores)
    .step.lower(state, batch, jax.eval_shape(lambda: jax.random.key(0)))
    .compile()
  )


def main():
  os.environ.update(
    JAX_PLATFORMS='cpu',
    TPU_SKIP_MDS_QUERY='1',
    TPU_WORKER_HOSTNAMES='localhost',
    TPU_ACCELERATOR_TYPE='v5litepod-8',
  )
  import jax
  from jax.experimental import topologies

  try:
    cores = topologies.get_topology_desc(platform='tpu', topology_name=TOPOLOGY.value).devices
  except Exception as e:
    raise ValueError(
      f'--topology={TOPOLOGY.value}: {" ".join(str(e).split())[:200]} (is libtpu installed?)'
    ) from e
  print(
    f'{len(cores)} x {cores[0].device_kind}, {PER_CORE.value} images per core, {DTYPE.value}, JAX {jax.__version__}\n\n'
    '| method | all-reduces of gradients | their MB | of batch norm | their MB | state of a core, MiB | temporary, MiB '
    '| GFLOP per image | seconds to compile |\n|---|---|---|---|---|---|---|---|---|'
  )
  counted = {}
  for method in METHODS.value:
    begun = time.monotonic()
    with mock.patch.object(jax, 'default_backend', lambda: 'tpu'):
      program = compiled(method, cores)
    sizes = [
      size / 1e6
      for number, size in map(scaling.all_reduces, program.as_text().splitlines())
      if number
    ]
    large, small = [s for s in sizes if s >= 1], [s for s in sizes if s < 1]
    memory = program.memory_analysis()
    print(
      f'| {method} | {len(large)} | {sum(large):.1f} | {len(small)} | {sum(small):.2f} | {memory.argument_size_in_bytes / 2**20:.0f} | '
      f'{memory.temp_size_in_bytes / 2**20:.0f} | {program.cost_analysis()["flops"] / PER_CORE.value / 1e9:.2f} | '
      f'{time.monotonic() - begun:.0f} |',
      flush=True,
    )
    counted[method] = sum(sizes) * 1e6, len(sizes), program.cost_analysis()['flops']
  print(
    '\n| method | cores | MB sent by each | bandwidth, ms | latency, ms: ring, torus | compute, ms | communication over compute: ring, '
    'torus |\n|---|---|---|---|---|---|---|'
  )
  for method, (size, number, flops) in counted.items():
    for n in map(int, CORES.value):
      print(f'| {method} | {n} | ' + ' | '.join(times(n, size, number, flops)) + ' |')
  return 0


def times(n, size, number, flops):
  """Yields the cells of n cores that all-reduce `size` bytes in `number` operations, one after the other."""
  sent, compute = 2 * (n - 1) / n * size, flops / FLOPS.value
  ring, torus = (hops * number * HOP.value for hops in (2 * (n - 1), 4 * (n**0.5 - 1)))
  yield f'{sent / 1e6:.0f}'
  yield f'{1e3 * sent / LINK.value:.1f}'
  yield f'{1e3 * ring:.1f}, {1e3 * torus:.1f}'
  yield f'{1e3 * compute:.1f}'
  yield ', '.join(f'{(sent / LINK.value + latency) / compute:.2f}' for latency in (ring, torus))


if __name__ == '__main__':
  command.run(main)
