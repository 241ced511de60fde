"""What the whole training loop costs over its bare step, and whether its memory grows.

    python benchmarks/loop.py --steps=10000

Trains a small VAE/GAN on the digits by train.train, with batches fed and curves logged as in any run, and pictures
and a checkpoint at the end only. The same step on a fixed batch is timed before and after it. Prints ms per step of
both, by the clock and of processor time (which tells more where the machine does other work, too), the difference in
per cent (to be under 5), and the memory of the process over the run (to be flat within 1 % after the first tenth).
"""

import tempfile
import time

from absl import flags
import numpy as np

from benchmarks import machine
from vaegan_jax import command

STEPS = flags.DEFINE_integer('steps', 2000, 'Of training.', lower_bound=200)
EVERY = flags.DEFINE_integer(
  'log_every_steps', 100, 'Steps between two lines of the log.', lower_bound=10
)
METHOD = flags.DEFINE_string('method', 'vae_gan', 'Of vaegan_jax.methods.')
WIDTH = flags.DEFINE_float('width', 0.0625, 'Of the networks.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Images in a batch.', lower_bound=1)
ON_DEVICE = flags.DEFINE_bool('on_device', False, 'Keep the images on the devices.')
EACH = flags.DEFINE_integer(
  'steps_per_dispatch', 1, 'Steps handed to the devices at once.', lower_bound=1
)


def config_of():
  from vaegan_jax.configs import digits

  config = digits.get_config(METHOD.value)
  config.batch_size, config.network.width = BATCH_SIZE.value, WIDTH.value
  config.steps = config.sample_every_steps = config.save_every_steps = STEPS.value
  config.log_every_steps, config.steps_per_dispatch = EVERY.value, EACH.value
  config.data.on_device = ON_DEVICE.value
  return config


def now():
  """Seconds by the clock and of processor time."""
  return np.array([time.perf_counter(), time.process_time()])


def bare(config):
  """Function that gives [wall, processor] ms of a step on a fixed batch, of EVERY steps one after the other."""
  import contextlib

  import jax

  from vaegan_jax import build

  dataset = build.dataset(config)
  size = build.about(config, dataset)['size']
  phases, key = build.phases(config, size), jax.random.key(0)
  parallel = phases[-1].parallel
  state = [parallel.put_state(build.init(config, size, phases)(key))]
  with contextlib.closing(build.feed(config, dataset, 0, parallel)) as batches:
    batch = next(batches)

  def run(steps=EVERY.value):
    begun = now()
    for _ in range(0, steps, EACH.value):
      state[0], _ = parallel.step(state[0], batch, key)
    jax.block_until_ready(state[0])
    return (now() - begun) / steps * 1e3

  run(2 * EACH.value)
  return run


def main():
  from vaegan_jax.runs import train

  command.keep_compiled_programs()
  config = config_of()
  print(
    f'{METHOD.value}, digits, width {WIDTH.value:g}, batches of {BATCH_SIZE.value}, {STEPS.value} steps, '
    f'{EACH.value} a dispatch, images on the {"devices" if ON_DEVICE.value else "host"}; {machine.line()}'
  )
  step, seen = bare(config), []

  def note(text):
    if text.startswith('step '):
      seen.append((int(text.split()[1].split('/')[0]), now(), machine.resident_mib()))

  before = [step() for _ in range(5)]
  with tempfile.TemporaryDirectory() as folder:
    train.train(config, folder, say=note)
  after = [step() for _ in range(5)]
  steps, at, memory = map(np.array, zip(*seen))
  each = (np.diff(at, axis=0) / np.diff(steps)[:, None] * 1e3)[
    1:
  ]  # the first stretch holds the warming up
  for i, what in enumerate(('by the clock', 'of processor time')):
    alone = np.array(before + after)[:, i]
    print(
      f'  ms per step {what}: alone {machine.spread(alone, ".2f")}, in the loop {machine.spread(each[:, i], ".2f")}: '
      f'{100 * (np.median(each[:, i]) / np.median(alone) - 1):+.1f} %'
    )
  warm = memory[steps >= STEPS.value // 10]
  print(
    f'  memory after {steps[steps >= STEPS.value // 10][0]} steps {warm[0]:.1f} MiB, at the end {warm[-1]:.1f} MiB '
    f'({100 * (warm[-1] / warm[0] - 1):+.2f} %), between {warm.min():.1f} and {warm.max():.1f}'
  )
  return 0


if __name__ == '__main__':
  command.run(main)
