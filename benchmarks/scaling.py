"""Whether a device's work stays the same on more devices, and what the devices communicate.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --method=cvae_gan --width=0.25 --devices=1,2,4,8

The devices are virtual ones of this machine's CPU: counts (FLOPs, collectives, bytes) hold for as
many real devices, while seconds only show what sharing the same cores costs. Three tables, for jit
over a mesh and for pmap:
- the same images per device on more and more devices: FLOPs of a device, all-reduces of the
  compiled step and their bytes; once more as two processes on one machine that find each other by
  jax.distributed (mesh only);
- the same images in all on more and more devices: seconds per step, wall and processor;
- more and more images on one device: seconds per image.
Larsen's or Bao's networks at --image_size. Each row is its own process; compiled programs are kept
as in training.
"""

import json
import math
import os
import re
import socket
import statistics
import subprocess
from typing import Any, NamedTuple

from absl import flags
import jax

from benchmarks import machine
from benchmarks.stepper import Stepper, colour_config, random_batch
from vaegan_jax import command

METHOD = flags.DEFINE_string('method', 'vae_gan', 'A name in methods.METHODS.')
IMAGE_SIZE = flags.DEFINE_integer('image_size', 64, 'Pixels: 16, 32, 64 or 128.')
WIDTH = flags.DEFINE_float('width', 0.25, 'Factor on the published widths.')
DEVICES = flags.DEFINE_list('devices', ['1', '2', '4', '8'], 'Numbers of devices.')
PER_DEVICE = flags.DEFINE_integer(
  'per_device', 8, 'Images per device, in the first table.', lower_bound=1
)
TOTAL = flags.DEFINE_integer('total', 64, 'Images per step, in the second table.', lower_bound=1)
BATCH_SIZES = flags.DEFINE_list(
  'batch_sizes', ['32', '64', '128', '256'], 'Images per step, in the third table.'
)
STEPS = flags.DEFINE_integer(
  'steps', 5, 'Steps timed in a measurement, which is their median; 0 compiles only.', lower_bound=0
)
ONE = flags.DEFINE_string(
  'one', '', 'For the processes that this script starts: one measurement, as JSON.'
)

MODES = ('mesh', 'pmap')
BYTES = dict(pred=1, s8=1, u8=1, bf16=2, f16=2, f32=4, s32=4, u32=4, f64=8, s64=8, u64=8)


class AllReduces(NamedTuple):
  """All-reduces of a compiled program."""

  count: int
  bytes: int


def all_reduces(text: str) -> AllReduces:
  """The AllReduces in the text of a compiled program, or in one line of it."""
  found = re.findall(r'= (.+?) all-reduce(?:-start)?\(', text)
  arrays = [array for shapes in found for array in re.findall(r'(\w+)\[([\d,]*)\]', shapes)]
  sizes = (
    BYTES[kind] * math.prod(map(int, filter(None, dims.split(',')))) for kind, dims in arrays
  )
  return AllReduces(len(found), sum(sizes))


def measure(
  mode: str,
  batch_size: int,
  steps: int,
  devices: int,
  processes: int = 1,
  index: int = 0,
  port: int = 0,
) -> None:
  """Prints one measurement as JSON; of several processes, the first one does."""
  jax.config.update('jax_num_cpu_devices', devices // processes)
  if processes > 1:
    jax.distributed.initialize(f'localhost:{port}', processes, index)
  command.keep_compiled_programs()
  config = colour_config(METHOD.value, IMAGE_SIZE.value, WIDTH.value)
  config.batch_size, config.parallel = batch_size, mode
  classes = 10 if config.data.condition == 'label' else 0
  step = Stepper(config.lock(), classes)
  batch = random_batch(batch_size // processes, IMAGE_SIZE.value, classes, seed=index)
  step.batch = step.parallel.put_batch(batch)
  compiled = step.compile()
  # Two to warm up: pmap lays its results out differently from its first inputs.
  taken = machine.timed(step, warmup=2, count=steps) if steps else None
  count, size = all_reduces(compiled.as_text())
  if index == 0:
    record = dict(
      gflops=compiled.cost_analysis()['flops'] / 1e9,
      all_reduces=count,
      mib=size / 2**20,
      seconds=statistics.median(taken.wall) if taken else None,
      cpu_seconds=statistics.median(taken.cpu) if taken else None,
    )
    print(json.dumps(record))


def run_one(devices: int, mode: str = 'mesh', processes: int = 1, **settings: Any) -> dict:
  """The record that a measurement on `devices`, spread over `processes`, prints."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  settings |= dict(mode=mode, devices=devices, processes=processes, port=port)
  network = [f'--{f}={flags.FLAGS[f].value}' for f in ('method', 'image_size', 'width')]
  started = [
    subprocess.Popen(
      machine.command('scaling', [*network, f'--one={json.dumps(dict(settings, index=i))}']),
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]
  outputs = [process.communicate()[0] for process in started]
  records = [text for text in outputs[0].splitlines() if text.startswith('{')]
  codes = [process.returncode for process in started]
  if any(codes) or not records:
    raise ValueError(f'{mode} on {devices} devices, {processes} process(es): exit codes {codes}')
  return json.loads(records[-1])


def same_per_device(counts: list[int]) -> None:
  """Prints the first table."""
  columns = ('devices', 'GFLOP per device', 'all-reduces', 'their MiB')
  print(machine.table(f'{PER_DEVICE.value} images per device', *columns))
  rows = [(mode, n, 1) for mode in MODES for n in counts]
  rows += [('mesh', n, 2) for n in counts if n % 2 == 0][:1]
  for mode, n, processes in rows:
    steps = 0 if processes == 1 else STEPS.value
    r = run_one(n, mode, processes, batch_size=PER_DEVICE.value * n, steps=steps)
    name = mode if processes == 1 else f'{mode}, {processes} processes'
    cells = f'{r["gflops"]:.3f}', r['all_reduces'], f'{r["mib"]:.2f}'
    print(machine.row(name, n, *cells), flush=True)


def same_in_all(counts: list[int]) -> None:
  """Prints the second table."""
  columns = ('devices', 'seconds per step', 'processor seconds')
  print('\n' + machine.table(f'{TOTAL.value} images in all', *columns))
  for mode in MODES:
    for n in counts:
      r = run_one(n, mode, batch_size=TOTAL.value, steps=STEPS.value)
      print(machine.row(mode, n, f'{r["seconds"]:.3f}', f'{r["cpu_seconds"]:.3f}'), flush=True)


def one_device() -> None:
  """Prints the third table."""
  columns = ('seconds per step', 'ms per image', 'processor ms per image')
  print('\n' + machine.table('images on one device', *columns))
  for size in map(int, BATCH_SIZES.value):
    r = run_one(1, batch_size=size, steps=STEPS.value)
    each = (f'{1e3 * r[k] / size:.2f}' for k in ('seconds', 'cpu_seconds'))
    print(machine.row(size, f'{r["seconds"]:.3f}', *each), flush=True)


def main() -> int:
  jax.config.update('jax_platforms', 'cpu')
  if ONE.value:
    measure(**json.loads(ONE.value))
    return 0
  counts = list(map(int, DEVICES.value))
  print(
    f'{METHOD.value}, {IMAGE_SIZE.value}x{IMAGE_SIZE.value}, width {WIDTH.value:g}; '
    f'{machine.line()}\n'
  )
  same_per_device(counts)
  if STEPS.value:
    same_in_all(counts)
    one_device()
  return 0


if __name__ == '__main__':
  command.run(main)
