"""Whether the work of a device stays the same when there are more of them, and what they tell each other.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --method=cvae_gan --width=0.25 --devices=1,2,4,8

The devices are virtual ones of this machine's CPU, so that counts (FLOPs, collectives, bytes) say what many real
devices would do, and seconds only what sharing the same cores costs. Three tables, for jit over a mesh and for pmap:
- the same images per device on more and more devices: FLOPs of a device, all-reduces of the compiled step and their
  bytes; once more as two processes on one machine that find each other by jax.distributed, mesh only;
- the same images in all on more and more devices: seconds by the clock and of the processor, per step;
- more and more images on one device: seconds per image.
Larsen's or Bao's networks at --image_size. Each row is a process of its own; compiled programs are kept as in training.
"""

import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time

from absl import flags

from benchmarks import machine
from vaegan_jax import command

os.environ['JAX_PLATFORMS'] = (
  'cpu'  # of the processes that are started, and of what machine.line() tells
)

METHOD = flags.DEFINE_string('method', 'vae_gan', 'Of methods.METHODS.')
IMAGE_SIZE = flags.DEFINE_integer('image_size', 64, 'Pixels: 16, 32, 64 or 128.')
WIDTH = flags.DEFINE_float('width', 0.25, 'Factor on the published widths.')
DEVICES = flags.DEFINE_list('devices', ['1', '2', '4', '8'], 'Numbers of devices.')
PER_DEVICE = flags.DEFINE_integer(
  'per_device', 8, 'Images of a device, for the first table.', lower_bound=1
)
TOTAL = flags.DEFINE_integer('total', 64, 'Images of a step, for the second table.', lower_bound=1)
BATCH_SIZES = flags.DEFINE_list(
  'batch_sizes', ['32', '64', '128', '256'], 'Images of a step, for the third table.'
)
STEPS = flags.DEFINE_integer(
  'steps', 5, 'Timed in a measurement, which is their median; 0: only compiled.', lower_bound=0
)
ONE = flags.DEFINE_string(
  'one', '', 'For the processes that this script starts: one measurement, as JSON.'
)

BYTES = dict(pred=1, s8=1, u8=1, bf16=2, f16=2, f32=4, s32=4, u32=4, f64=8, s64=8, u64=8)


def all_reduces(text):
  """(number, bytes) of the all-reduces in the text of a compiled program."""
  found = re.findall(r'= (.+?) all-reduce(?:-start)?\(', text)
  size = lambda kind, shape: BYTES[kind] * math.prod(map(int, filter(None, shape.split(','))))
  return len(found), sum(
    size(*array) for shapes in found for array in re.findall(r'(\w+)\[([\d,]*)\]', shapes)
  )


def measure(mode, batch_size, steps, processes=1, index=0, port=0):
  """Prints one measurement as JSON; of several processes, the first one does."""
  import jax
  import numpy as np

  from vaegan_jax import build
  from vaegan_jax.configs import base

  if processes > 1:
    jax.distributed.initialize(f'localhost:{port}', processes, index)
  command.keep_compiled_programs()
  config = base.get_config(METHOD.value)
  config.data.image_size, config.data.channels = IMAGE_SIZE.value, 3
  config.network.width, config.batch_size, config.parallel = WIDTH.value, batch_size, mode
  classes = 10 if config.data.condition == 'label' else 0
  phases = build.phases(config.lock(), classes)
  on, key, rng = phases[-1].parallel, jax.random.key(0), np.random.default_rng(index)
  state = on.put_state(build.init(config, classes, phases)(key))
  own = batch_size // processes
  batch = dict(x=rng.integers(0, 256, (own, *[IMAGE_SIZE.value] * 2, 3), np.uint8))
  batch = on.put_batch(
    {**batch, 'c': rng.integers(0, classes, own, np.int32)} if classes else batch
  )
  compiled = on.step.lower(state, batch, key).compile()
  walls, cpus = [], []
  for _ in range(
    steps + 2 if steps else 0
  ):  # two to warm up: pmap takes its own results otherwise than what it began with
    wall, cpu = time.perf_counter(), time.process_time()
    state, terms = jax.block_until_ready(on.step(state, batch, key))
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
  number, size = all_reduces(compiled.as_text())
  if index == 0:
    print(
      json.dumps(
        dict(
          gflops=compiled.cost_analysis()['flops'] / 1e9,
          all_reduces=number,
          mib=size / 2**20,
          seconds=statistics.median(walls[2:]) if steps else None,
          cpu_seconds=statistics.median(cpus[2:]) if steps else None,
        )
      )
    )


def run_one(devices, mode='mesh', processes=1, **settings):
  """The dict that a measurement on so many devices prints, spread over `processes`."""
  flag = f' --xla_force_host_platform_device_count={devices // processes}'
  environment = {**os.environ, 'XLA_FLAGS': os.environ.get('XLA_FLAGS', '') + flag}
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  line = [sys.executable, __file__] + [
    f'--{f}={flags.FLAGS[f].value}' for f in ('method', 'image_size', 'width')
  ]
  started = [
    subprocess.Popen(
      [
        *line,
        '--one=' + json.dumps(dict(settings, mode=mode, processes=processes, index=i, port=port)),
      ],
      env=environment,
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]
  outputs = [process.communicate()[0] for process in started]
  records = [text for text in outputs[0].splitlines() if text.startswith('{')]
  if any(process.returncode for process in started) or not records:
    raise ValueError(
      f'{mode} on {devices} devices of {processes} process(es): exit codes {[p.returncode for p in started]}'
    )
  return json.loads(records[-1])


def main():
  if ONE.value:
    measure(**json.loads(ONE.value))
    return 0
  counts = list(map(int, DEVICES.value))
  print(
    f'{METHOD.value}, {IMAGE_SIZE.value}x{IMAGE_SIZE.value}, width {WIDTH.value:g}; {machine.line()}, '
    f'load average {os.getloadavg()[0]:.1f}\n'
  )
  print(
    f'| {PER_DEVICE.value} images per device | devices | GFLOP per device | all-reduces | their MiB |\n|---|---|---|---|---|'
  )
  many = [(mode, n, 1) for mode in ('mesh', 'pmap') for n in counts] + [
    ('mesh', n, 2) for n in counts if n % 2 == 0
  ][:1]
  for mode, n, processes in many:
    r = run_one(
      n,
      mode,
      processes,
      batch_size=PER_DEVICE.value * n,
      steps=0 if processes == 1 else STEPS.value,
    )
    name = mode if processes == 1 else f'{mode}, {processes} processes'
    print(f'| {name} | {n} | {r["gflops"]:.3f} | {r["all_reduces"]} | {r["mib"]:.2f} |', flush=True)
  if not STEPS.value:
    return 0
  print(
    f'\n| {TOTAL.value} images in all | devices | seconds per step | processor seconds |\n|---|---|---|---|'
  )
  for mode in ('mesh', 'pmap'):
    for n in counts:
      r = run_one(n, mode, batch_size=TOTAL.value, steps=STEPS.value)
      print(f'| {mode} | {n} | {r["seconds"]:.3f} | {r["cpu_seconds"]:.3f} |', flush=True)
  print(
    '\n| images on one device | seconds per step | ms per image | processor ms per image |\n|---|---|---|---|'
  )
  for size in map(int, BATCH_SIZES.value):
    r = run_one(1, batch_size=size, steps=STEPS.value)
    print(
      f'| {size} | {r["seconds"]:.3f} | {1e3 * r["seconds"] / size:.2f} | {1e3 * r["cpu_seconds"] / size:.2f} |',
      flush=True,
    )
  return 0


if __name__ == '__main__':
  command.run(main)
