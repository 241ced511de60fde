"""Speed and memory of sampling to disk, by the number of samples.

    python -m benchmarks.sampling --largest=1000000

A generator of the digits' size, with untrained weights (they do not change the speed), writes 1,000
samples, then ten times as many, and so on, each as experiments/sample.py writes an .npy. Prints
images/s, processor time per image and its ratio to that of 10,000 images (within 10 % is good), and
the memory of the process after each.
"""

import pathlib
import tempfile
from typing import NamedTuple

from absl import flags
import jax

from benchmarks import machine
from vaegan_jax import command, files, programs
from vaegan_jax.configs import digits
from vaegan_jax.runs import pictures
from vaegan_jax.sample import Trained

LARGEST = flags.DEFINE_integer(
  'largest', 100_000, 'Samples of the last measurement.', lower_bound=1000
)
BATCH = flags.DEFINE_integer('batch', 64, 'Images at a time, a multiple of 64.', lower_bound=64)
REPEATS = flags.DEFINE_integer('repeats', 3, 'Rounds over all numbers of samples.', lower_bound=1)


class Measured(NamedTuple):
  """One measurement, per image but for the memory of the process."""

  seconds: float
  cpu_seconds: float
  mib: float


def untrained() -> Trained:
  """A Trained model of configs/digits.py with the weights that a run starts from."""
  config = digits.get_config('cvae_gan')
  about = dict(condition='label', names=list('0123456789'), size=10)
  (program,) = programs.stages([config], 10)[-1].programs
  state = programs.init(config, 10, program)(jax.random.key(0))
  return pictures.trained(config, about, state, 0)


def measure(model: Trained, n: int, folder: pathlib.Path) -> Measured:
  """Writes n samples and deletes them."""
  d, path = model.config['data'], folder / 'x.npy'
  shape = (n, d['image_size'], d['image_size'], d['channels'])
  start = machine.now()
  files.save_npy(path, model.samples(n, batch=BATCH.value), shape)
  seconds, cpu_seconds = (machine.now() - start) / n
  path.unlink()
  return Measured(seconds, cpu_seconds, machine.resident_mib())


def main() -> int:
  command.keep_compiled_programs()
  model = untrained()
  print(f'digits of 16x16, batches of {BATCH.value}, {REPEATS.value} repeats; {machine.line()}')
  counts = [n for n in (10**k for k in range(3, 12)) if n <= LARGEST.value]
  records = {n: [] for n in counts}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    measure(model, 1000, folder)  # compiles
    for _ in range(REPEATS.value):
      for n in counts:
        records[n].append(measure(model, n, folder))
  reference = counts[min(1, len(counts) - 1)]
  for n, repeats in records.items():
    ratios = [a.cpu_seconds / b.cpu_seconds for a, b in zip(repeats, records[reference])]
    print(
      f'  {n:>11,}: {machine.spread([1 / r.seconds for r in repeats], ",.0f")} images/s, '
      f'{machine.spread([1e6 * r.cpu_seconds for r in repeats])} us of processor time per image, '
      f'{machine.spread(ratios, ".3f")} times that of {reference:,}; '
      f'{machine.spread([r.mib for r in repeats])} MiB'
    )
  return 0


if __name__ == '__main__':
  command.run(main)
