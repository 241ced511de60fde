"""Seconds from the start of a process to the end of its first step, with a cold and a warm cache.

    python -m benchmarks.cold_start
    python -m benchmarks.cold_start --config=configs/celeba64.py:vae_gan \\
        --config.data.name=celeb_a64

Each start is its own process and does what training does up to its first step: import, read the
data, initialise the state, compile and run the step. `first` starts with an empty folder for
compiled programs (a temporary $JAX_COMPILATION_CACHE_DIR), `again` with the folder that the first
one filled. Prints medians over --repeats, with minimum and maximum, by the clock and of processor
time; the latter tells more on a busy machine.
"""

import itertools
import json
import os
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
STARTED = flags.DEFINE_float(
  'started', 0.0, 'For the processes that this script starts: when, in seconds since the epoch.'
)

PARTS = ('import', 'data', 'init', 'compile and first step')
CLOCKS = ('by the clock', 'of the processor')


def measure() -> None:
  """Prints {part: [seconds, processor seconds]} of this process, as JSON."""
  marks = [(STARTED.value, 0.0)]

  def mark() -> None:
    marks.append((time.time(), time.process_time()))

  import jax

  from vaegan_jax import build, data, programs

  mark()
  command.keep_compiled_programs()
  config = CONFIG.value
  build.check(config)
  dataset = build.dataset(config)
  batches = data.batches(
    dataset, batch_size=config.batch_size, seed=config.seed, condition=config.data.condition
  )
  batch = next(batches)
  mark()
  size = build.about(config, dataset)['size']
  stages, key = programs.stages([config], size), jax.random.key(config.seed)
  parallel, (last,) = stages[0].programs[0].runner.one, stages[-1].programs
  state = jax.block_until_ready(parallel.put_state(programs.init(config, size, last)(key)))
  mark()
  jax.block_until_ready(parallel.step(state, parallel.put_batch(batch), key))
  mark()
  taken = [[b - a for a, b in zip(*pair)] for pair in itertools.pairwise(marks)]
  print(json.dumps(dict(zip(PARTS, taken))))


def run_one(folder: str) -> dict[str, list[float]]:
  """What `measure` prints in its own process, with compiled programs kept in `folder`."""
  line = machine.command('cold_start', [*sys.argv[1:], f'--started={time.time()}'])
  environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': folder}
  done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True)
  if done.returncode:
    raise ValueError(f'a start ended with exit code {done.returncode}')
  return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
  if STARTED.value:
    measure()
    return 0
  records = dict(first=[], again=[])
  for _ in range(REPEATS.value):
    with tempfile.TemporaryDirectory() as folder:
      for name in records:
        records[name].append(run_one(folder))
  # JAX starts here only now: the processes above may have needed the accelerator for themselves.
  config = CONFIG.value
  print(
    f'{config.data.name}, {config.method_name}, {REPEATS.value} repeats; {machine.line()}\n\n'
    + machine.table('seconds', *(f'{name}, {clock}' for name in records for clock in CLOCKS))
  )
  for label, parts in (*((part, (part,)) for part in PARTS), ('all', PARTS)):
    cells = (
      machine.spread([sum(record[part][clock] for part in parts) for record in records[name]])
      for name in records
      for clock in range(len(CLOCKS))
    )
    print(machine.row(label, *cells))
  return 0


if __name__ == '__main__':
  command.run(main)
