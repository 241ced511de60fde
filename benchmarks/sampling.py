"""Speed and memory of sampling to disk, by the number of samples.

    python benchmarks/sampling.py --largest=1000000

A generator of the digits' size with weights as they start (the speed does not depend on them) writes 1,000 samples,
ten times as many, and so on, each as experiments/sample.py does to an .npy. Prints images/s, processor time per image
and its ratio to that of 10,000 images (to be within 10 %), and the memory of the process after each.
"""

import pathlib
import tempfile
import time

from absl import flags

from benchmarks import machine
from vaegan_jax import command, files

LARGEST = flags.DEFINE_integer(
  'largest', 100_000, 'Samples of the last measurement.', lower_bound=1000
)
BATCH = flags.DEFINE_integer('batch', 64, 'Images at a time, a multiple of 64.', lower_bound=64)
REPEATS = flags.DEFINE_integer(
  'repeats', 3, 'Of each number of samples, one round after the other.', lower_bound=1
)


def untrained():
  """A Trained model of configs/digits.py with the weights that a run starts from."""
  import jax

  from vaegan_jax import build, train
  from vaegan_jax.configs import digits

  config = digits.get_config('cvae_gan')
  about = dict(condition='label', names=list('0123456789'), size=10)
  state = build.init(config, 10, build.phases(config, 10))(jax.random.key(0))
  return train.trained(config, about, state, 0)


def measured(model, n, folder):
  """(seconds, processor seconds) per image, and MiB of the process after n samples."""
  begun = time.perf_counter(), time.process_time()
  d = model.config['data']
  files.save_npy(
    folder / 'x.npy',
    model.samples(n, batch=BATCH.value),
    (n, d['image_size'], d['image_size'], d['channels']),
  )
  taken = time.perf_counter() - begun[0], time.process_time() - begun[1]
  (folder / 'x.npy').unlink()
  return *(t / n for t in taken), machine.resident_mib()


def main():
  command.keep_compiled_programs()
  model = untrained()
  print(f'digits of 16x16, batches of {BATCH.value}, {REPEATS.value} repeats; {machine.line()}')
  counts = [n for n in (10**k for k in range(3, 12)) if n <= LARGEST.value]
  rows = {n: [] for n in counts}
  with tempfile.TemporaryDirectory() as folder:
    measured(model, 1000, pathlib.Path(folder))  # compiles
    for _ in range(REPEATS.value):
      for n in counts:
        rows[n].append(measured(model, n, pathlib.Path(folder)))
  base = [row[1] for row in rows[counts[min(1, len(counts) - 1)]]]
  for n, measures in rows.items():
    seconds, processor, memory = zip(*measures)
    print(
      f'  {n:>11,}: {machine.spread([1 / s for s in seconds], ",.0f")} images/s, '
      f'{machine.spread([1e6 * s for s in processor])} us of processor time per image, '
      f'{machine.spread([p / b for p, b in zip(processor, base)], ".3f")} times that of {counts[min(1, len(counts) - 1)]:,}; '
      f'{machine.spread(memory)} MiB'
    )
  return 0


if __name__ == '__main__':
  command.run(main)
