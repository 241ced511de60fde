"""Seconds from the start of a process to the end of its first step, without and with kept compiled programs.

    python benchmarks/cold_start.py
    python benchmarks/cold_start.py --config=configs/celeba64.py:vae_gan --config.data.name=celeb_a64

Each start is a process of its own that does what experiments/train.py does before and in its first step: import, read
the data, initialise the state, compile and run the step. `first` has an empty folder for compiled programs
($JAX_COMPILATION_CACHE_DIR, a temporary one), `again` the folder that the first one filled. Seconds by the clock, and
of the processor, which tell more where the machine does other work. Prints the medians over --repeats, and least to largest.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags
from ml_collections import config_flags

from benchmarks import machine
from vaegan_jax import command

CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/digits.py:cvae_gan', help_string='As experiments/train.py takes it.'
)
REPEATS = flags.DEFINE_integer('repeats', 3, 'Pairs of starts.', lower_bound=1)
BEGUN = flags.DEFINE_float(
  'begun', 0.0, 'For the processes that this script starts: seconds since the epoch, when it did.'
)

PARTS = ('import', 'data', 'init', 'compile and first step')


def measure():
  """Prints {part: [seconds, processor seconds]} of this process, as JSON."""
  marks = [(BEGUN.value, 0.0)]
  mark = lambda: marks.append((time.time(), time.process_time()))
  import jax

  from vaegan_jax import build, data

  mark()
  command.keep_compiled_programs()
  config = CONFIG.value
  build.check(config)
  dataset = build.dataset(config)
  batch = next(
    data.batches(
      dataset, batch_size=config.batch_size, seed=config.seed, condition=config.data.condition
    )
  )
  mark()
  size = build.about(config, dataset)['size']
  phases, key = build.phases(config, size), jax.random.key(config.seed)
  on = phases[0].parallel
  state = jax.block_until_ready(on.put_state(build.init(config, size, phases)(key)))
  mark()
  jax.block_until_ready(on.step(state, on.put_batch(batch), key))
  mark()
  print(
    json.dumps(
      {part: [b - a for a, b in zip(*pair)] for part, pair in zip(PARTS, zip(marks, marks[1:]))}
    )
  )


def run_one(folder):
  """What `measure` prints in a process of its own, with compiled programs kept in `folder`."""
  environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': folder}
  line = [sys.executable, *sys.argv, f'--begun={time.time()}']
  done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True)
  if done.returncode:
    raise ValueError(f'a start ended with exit code {done.returncode}')
  return json.loads(done.stdout.splitlines()[-1])


def main():
  if BEGUN.value:
    measure()
    return 0
  records = dict(first=[], again=[])
  for _ in range(REPEATS.value):
    with tempfile.TemporaryDirectory() as folder:
      for name in records:
        records[name].append(run_one(folder))
  # After the starts, which may need an accelerator for themselves.
  print(
    f'{CONFIG.value.data.name}, {CONFIG.value.method_name}, {REPEATS.value} repeats; {machine.line()}, '
    f'Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}\n'
  )
  print(
    '| seconds | first, by the clock | first, of the processor | again, by the clock | again, of the processor |\n|---|---|---|---|---|'
  )
  for part in (*PARTS, 'all'):
    cells = []
    for name in records:
      for i in (0, 1):
        values = [
          sum(r[p][i] for p in (PARTS if part == 'all' else (part,))) for r in records[name]
        ]
        cells.append(f'{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})')
    print(f'| {part} | {" | ".join(cells)} |')
  return 0


if __name__ == '__main__':
  command.run(main)
