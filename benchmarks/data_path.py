"""Speed of the data path, compared with the training step that it feeds.

    python -m benchmarks.data_path --width=0.25
    python -m benchmarks.data_path --tfds=celeb_a64 --data_dir=FOLDER

Random colour images lie in a memory map, as the cache keeps decoded ones. Three measurements take
turns, with compilation left out: batches prefetched to the devices with nobody to wait for (the
path of training, programs.feed), from images on the host (`streamed`) and on the devices
(`on device`), and a step of VAE/GAN on a fixed batch. Prints medians with minimum and maximum over
the repeats, the data path's rate over the step's (at least 3 is good), and the cost of a batch in
per cent of a step (on the devices under 2 is good).

With --tfds the images are those of a TFDS set at 64x64. The ways are those of data.pipeline (see
vaegan_jax/data/feeds.py), and the step is that of configs/folder.py:vae_gan_relativistic, with its
batches. Also prints the anonymous memory of the process (without the pages of mapped files) after
each repeat.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import pathlib
import tempfile
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks import machine
from benchmarks.stepper import Stepper, colour_config
from vaegan_jax import build, command, data, files, programs
from vaegan_jax.configs import folder

SIZES = flags.DEFINE_list(
  'sizes', ['32', '64'], 'Sides of the images in pixels; one block of lines each.'
)
IMAGES = flags.DEFINE_integer('images', 20_000, 'Images of the set.', lower_bound=1000)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in a batch.', lower_bound=1)
WIDTH = flags.DEFINE_float('width', 0.25, 'Factor on the published widths.')
BATCHES = flags.DEFINE_integer(
  'batches', 100, 'Batches per measurement of the data path.', lower_bound=1
)
STEPS = flags.DEFINE_integer('steps', 3, 'Steps per measurement of training.', lower_bound=1)
TFDS = flags.DEFINE_string('tfds', None, 'A TFDS set of colour images to read instead.')
DATA_DIR = flags.DEFINE_string('data_dir', '', 'Where TFDS keeps its sets, with --tfds.')
REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements of each, taking turns.', lower_bound=1)


def random_images(path: pathlib.Path, size: int) -> np.ndarray:
  """uint8 [IMAGES, size, size, 3], a read-only memory map of a new file."""
  rng, shape = np.random.default_rng(0), (IMAGES.value, size, size, 3)
  chunks = (
    rng.integers(0, 256, (min(1000, shape[0] - i), *shape[1:]), np.uint8)
    for i in range(0, shape[0], 1000)
  )
  files.save_npy(path, chunks, shape)
  return np.asarray(np.load(path, mmap_mode='r'))


def seconds_each(call: Callable[[], Any], count: int) -> float:
  """Seconds of one of `count` calls in a row; `call` returns what to wait for at the end."""
  start = time.perf_counter()
  for _ in range(count):
    result = call()
  jax.block_until_ready(result)
  return (time.perf_counter() - start) / count


def fetch(batches: Iterator[Any]) -> Any:
  """The next batch, once it is on the devices."""
  return jax.block_until_ready(next(batches))


def ways(
  config: Any, dataset: data.Dataset, closing: contextlib.ExitStack
) -> dict[str, Callable[[], float]]:
  """{way: function that returns seconds per batch}, the step's among them, compiled and warm."""
  step, made = Stepper(config, 0), {}

  def feed(on_device: bool) -> Any:
    config.data.on_device = on_device
    build.check_feed(config, dataset)
    return closing.enter_context(programs.feed([config], dataset, 0, [step.program]))

  for way, on_device in (('streamed', False), ('on device', True)):
    batches = feed(on_device)
    made[way] = functools.partial(seconds_each, functools.partial(fetch, batches), BATCHES.value)
  step.batch = next(batches)[0][0]
  made['step'] = functools.partial(seconds_each, step, STEPS.value)
  for run in made.values():
    run()
  return made


def measured(size: int) -> dict[str, np.ndarray]:
  """{way: seconds per batch [REPEATS]} of images of this side."""
  with contextlib.ExitStack() as closing:
    folder = closing.enter_context(tempfile.TemporaryDirectory())
    dataset = data.Dataset('random', random_images(pathlib.Path(folder) / 'images.npy', size))
    config = colour_config('vae_gan', size, WIDTH.value)
    config.batch_size = BATCH_SIZE.value
    made = ways(config, dataset, closing)
    taken = [{way: run() for way, run in made.items()} for _ in range(REPEATS.value)]
  return {way: np.array([t[way] for t in taken]) for way in made}


def tfds_config() -> Any:
  """The unlocked config of the recommended method on the set --tfds."""
  config = folder.get_config('vae_gan_relativistic').unlock()
  config.data.name, config.data.data_dir = TFDS.value, DATA_DIR.value
  config.data.split, config.data.held_out = 'train', ''
  return config


def report_tfds() -> None:
  """Prints the rates of all pipelines of a TFDS set, and the memory of the process."""
  config, memory = tfds_config(), []
  with contextlib.ExitStack() as closing:
    step, made, count = Stepper(config, 0), {}, 0
    for way in data.PIPELINES:
      config.data.pipeline = way
      dataset = build.dataset(config)
      build.check_feed(config, dataset)
      count = len(dataset.images)
      feed = programs.feed([config], dataset, 0, [step.program])
      batches = closing.enter_context(feed)
      made[way] = functools.partial(seconds_each, functools.partial(fetch, batches), BATCHES.value)
      step.batch = fetch(batches)[0][0]
    made['step'] = functools.partial(seconds_each, step, STEPS.value)
    for run in made.values():
      run()
    taken = []
    for _ in range(REPEATS.value):
      memory.append(machine.anonymous_mib())
      taken.append({way: run() for way, run in made.items()})
    memory.append(machine.anonymous_mib())
  print(
    f'{TFDS.value}, {count:,} images, {config.data.image_size}x{config.data.image_size}, batches '
    f'of {config.batch_size}, {REPEATS.value} repeats of {BATCHES.value:,} batches each; '
    f'{machine.line()}'
  )
  report(config.batch_size, {way: np.array([t[way] for t in taken]) for way in made})
  print('  anonymous memory, MiB: ' + ', '.join(f'{m:,.0f}' for m in memory))


def report(batch_size: int, seconds: dict[str, np.ndarray]) -> None:
  """Prints a line per way; `seconds` per batch, the step's among them."""
  for way, each in seconds.items():
    rate = machine.spread(batch_size / each, ',.0f')
    text = f'  {way:10s} {rate} images/s, {machine.spread(each * 1e3, ",.2f")} ms'
    if way != 'step':
      text += (
        f"; {machine.spread(seconds['step'] / each)} times the step's rate, "
        f'a batch costs {machine.spread(100 * each / seconds["step"], ".2f")} % of a step'
      )
    print(text)


def main() -> int:
  command.keep_compiled_programs()
  if TFDS.value:
    report_tfds()
    return 0
  print(
    f'VAE/GAN, width {WIDTH.value:g}, batches of {BATCH_SIZE.value}, {IMAGES.value:,} images, '
    f'{REPEATS.value} repeats; {machine.line()}'
  )
  for size in map(int, SIZES.value):
    seconds = measured(size)
    print(f'{size}x{size}:')
    report(BATCH_SIZE.value, seconds)
  return 0


if __name__ == '__main__':
  command.run(main)
