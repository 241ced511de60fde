"""What the whole training loop costs over its bare step, and whether its memory grows.

    python -m benchmarks.loop --steps=10000

Trains a small VAE/GAN on the digits as any run does, with batches fed and curves logged, but with
pictures and a checkpoint at the end only; before and after, it times the same step on a fixed
batch. Prints ms per step of both, by the clock and of processor time (which tells more on a busy
machine), the difference in per cent (under 5 is good), and the memory of the process over the run
(flat within 1 % after the first tenth is good).
"""

import tempfile
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks import machine
from benchmarks.stepper import Stepper
from vaegan_jax import build, command, programs
from vaegan_jax.configs import digits
from vaegan_jax.runs import train

STEPS = flags.DEFINE_integer('steps', 2000, 'Training steps.', lower_bound=200)
EVERY = flags.DEFINE_integer(
  'log_every_steps', 100, 'Steps between two lines of the log.', lower_bound=10
)
METHOD = flags.DEFINE_string('method', 'vae_gan', 'A name in vaegan_jax.methods.')
WIDTH = flags.DEFINE_float('width', 0.0625, 'Factor on the published widths.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Images in a batch.', lower_bound=1)
ON_DEVICE = flags.DEFINE_bool('on_device', False, 'Keep the images on the devices.')
PER_DISPATCH = flags.DEFINE_integer(
  'steps_per_dispatch', 1, 'Steps of one dispatch.', lower_bound=1
)


def config_of() -> Any:
  """The config of the run."""
  config = digits.get_config(METHOD.value)
  config.batch_size, config.network.width = BATCH_SIZE.value, WIDTH.value
  config.steps = config.sample_every_steps = config.save_every_steps = STEPS.value
  config.log_every_steps, config.steps_per_dispatch = EVERY.value, PER_DISPATCH.value
  config.data.on_device = ON_DEVICE.value
  return config


class BareStep:
  """A run's step on a fixed batch; a call returns its [wall, processor] ms, over EVERY steps."""

  def __init__(self, config: Any):
    dataset = build.dataset(config)
    self.step = Stepper(config, build.about(config, dataset)['size'])
    with programs.feed([config], dataset, 0, [self.step.program]) as batches:
      self.step.batch = next(batches)[0][0]
    self.run(2 * PER_DISPATCH.value)

  def run(self, steps: int) -> np.ndarray:
    start = machine.now()
    for _ in range(0, steps, PER_DISPATCH.value):
      self.step()
    jax.block_until_ready(self.step.state)
    return (machine.now() - start) / steps * 1e3

  def __call__(self) -> np.ndarray:
    return self.run(EVERY.value)


class Log:
  """Collects step, clocks and memory at each line that the run says."""

  def __init__(self):
    self.steps, self.clocks, self.memory = [], [], []

  def __call__(self, text: str) -> None:
    if text.startswith('step '):
      self.steps.append(int(text.split()[1].split('/')[0]))
      self.clocks.append(machine.now())
      self.memory.append(machine.resident_mib())


def main() -> int:
  command.keep_compiled_programs()
  config = config_of()
  print(
    f'{METHOD.value}, digits, width {WIDTH.value:g}, batches of {BATCH_SIZE.value}, {STEPS.value} '
    f'steps, {PER_DISPATCH.value} per dispatch, images on the '
    f'{"devices" if ON_DEVICE.value else "host"}; {machine.line()}'
  )
  step, log = BareStep(config), Log()
  before = [step() for _ in range(5)]
  with tempfile.TemporaryDirectory() as folder:
    train.train(config, folder, say=log)
  after = [step() for _ in range(5)]
  each = np.diff(log.clocks, axis=0) / np.diff(log.steps)[:, None] * 1e3
  each = each[1:]  # the first stretch includes the warm-up
  for i, what in enumerate(('by the clock', 'of processor time')):
    alone = np.array(before + after)[:, i]
    print(
      f'  ms per step {what}: alone {machine.spread(alone, ".2f")}, '
      f'in the loop {machine.spread(each[:, i], ".2f")}: '
      f'{100 * (np.median(each[:, i]) / np.median(alone) - 1):+.1f} %'
    )
  late = np.array(log.steps) >= STEPS.value // 10
  first, memory = np.array(log.steps)[late][0], np.array(log.memory)[late]
  print(
    f'  memory after {first} steps {memory[0]:.1f} MiB, at the end {memory[-1]:.1f} MiB '
    f'({100 * (memory[-1] / memory[0] - 1):+.2f} %), '
    f'between {memory.min():.1f} and {memory.max():.1f}'
  )
  return 0


if __name__ == '__main__':
  command.run(main)
