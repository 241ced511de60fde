"""Speed of the data path alone, beside that of the training step that it feeds.

    python benchmarks/data_path.py --width=0.25

Random colour images lie in a memory map, as the cache keeps decoded ones. Timed are batches made ahead and put on
the devices with nobody to wait for (train.train's own path, build.feed), from images on the host (`streamed`) and on
the devices (`on device`), and a step of VAE/GAN on a fixed batch. The three take turns; compiling is left out.
Prints medians and spread (least to largest) over the repeats, the data path's rate over the step's (to be at least
3), and what a batch costs in per cent of a step (on the devices to be under 2).
"""

import contextlib
import itertools
import pathlib
import tempfile
import time

from absl import flags
import numpy as np

from benchmarks import machine
from vaegan_jax import command, files

SIZES = flags.DEFINE_list(
  'sizes', ['32', '64'], 'Sides of the images in pixels; a block of lines each.'
)
IMAGES = flags.DEFINE_integer('images', 20_000, 'Images of the set.', lower_bound=1000)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in a batch.', lower_bound=1)
WIDTH = flags.DEFINE_float('width', 0.25, "Of the networks; 1 is the paper's.")
BATCHES = flags.DEFINE_integer(
  'batches', 100, 'Of the data path, in each measurement.', lower_bound=1
)
STEPS = flags.DEFINE_integer('steps', 3, 'Of training, in each measurement.', lower_bound=1)
REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements of each, in turn.', lower_bound=1)


def random_images(path, size):
  """uint8 [IMAGES, size, size, 3], a read-only memory map of a new file."""
  rng, shape = np.random.default_rng(0), (IMAGES.value, size, size, 3)
  parts = (
    rng.integers(0, 256, (min(1000, shape[0] - i), *shape[1:]), np.uint8)
    for i in range(0, shape[0], 1000)
  )
  files.save_npy(path, parts, shape)
  return np.asarray(np.load(path, mmap_mode='r'))


def config_of(size):
  from vaegan_jax.configs import base

  config = base.get_config('vae_gan')
  config.batch_size, config.network.width = BATCH_SIZE.value, WIDTH.value
  config.data.image_size, config.data.channels = size, 3
  return config


def ways(config, dataset):
  """({way: function that takes seconds for one batch}, the step's among them), compiled and warm."""
  import jax

  from vaegan_jax import build

  phase = build.phases(config, 0)[-1]
  key = jax.random.key(0)
  state = [phase.parallel.put_state(build.init(config, 0, [phase])(key))]

  def data(on_device):
    config.data.on_device = on_device
    build.check_memory(config, dataset)
    batches = build.feed(config, dataset, 0, phase.parallel)

    def run():
      begun = time.perf_counter()
      for batch in itertools.islice(batches, BATCHES.value):
        jax.block_until_ready(batch)
      return (time.perf_counter() - begun) / BATCHES.value

    return batches, run

  made, closing = {}, contextlib.ExitStack()
  for way, on_device in (('streamed', False), ('on device', True)):
    batches, made[way] = data(on_device)
    closing.enter_context(contextlib.closing(batches))
  batch = next(batches)

  def step():
    begun = time.perf_counter()
    for _ in range(STEPS.value):
      state[0], _ = phase.parallel.step(state[0], batch, key)
    jax.block_until_ready(state[0])
    return (time.perf_counter() - begun) / STEPS.value

  made['step'] = step
  for run in made.values():
    run()
  return closing, made


def main():
  from vaegan_jax import data

  command.keep_compiled_programs()
  print(
    f'VAE/GAN, width {WIDTH.value:g}, batches of {BATCH_SIZE.value}, {IMAGES.value:,} images, {REPEATS.value} repeats; '
    f'{machine.line()}'
  )
  for size in map(int, SIZES.value):
    with tempfile.TemporaryDirectory() as folder:
      dataset = data.Dataset('random', random_images(pathlib.Path(folder) / 'images.npy', size))
      closing, made = ways(config_of(size), dataset)
      with closing:
        taken = [{way: run() for way, run in made.items()} for _ in range(REPEATS.value)]
    seconds = {way: np.array([t[way] for t in taken]) for way in made}
    print(f'{size}x{size}:')
    for way, each in seconds.items():
      print(
        f'  {way:10s} {machine.spread(BATCH_SIZE.value / each, ",.0f")} images/s, {machine.spread(each * 1e3, ",.2f")} ms',
        end='',
      )
      print(
        ''
        if way == 'step'
        else f"; {machine.spread(seconds['step'] / each)} times the step's rate, "
        f'a batch is {machine.spread(100 * each / seconds["step"], ".2f")} % of a step'
      )
  return 0


if __name__ == '__main__':
  command.run(main)
