"""Modes on stacked MNIST: three digits as the colours of one image, 1,000 modes in all.

    python experiments/tables/stacked_mnist.py --digits=mnist --seeds=3
    python experiments/tables/stacked_mnist.py --digits=digits --set=steps=2000

Trains each method without classes on random stacks. A classifier of single digits, trained on the
real ones (vaegan_jax/features/classifier.py), names the three digits of each of 25,600 samples.
Prints the number of modes that occur and the KL of the samples' modes from uniform ones, in nats,
with the same for real stacks that were not trained on. Metz et al. 2017 count so (recalled).
Writes table.md, table.json and samples.png (one block of rows per method) to WORKDIR.
"""

from collections.abc import Mapping
from typing import Any
import zipfile

from absl import flags

from vaegan_jax import command, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

import numpy as np

from vaegan_jax import data, files, metrics, paths
from vaegan_jax.experiments import study
from vaegan_jax.features import classifier

SIZES = dict(digits=16, mnist=32)  # pixels
DIGITS = flags.DEFINE_enum(
  'digits', 'digits', ['digits', 'mnist'], 'scikit-learn digits, or MNIST of TFDS.'
)
DATA_DIR = flags.DEFINE_string('data_dir', '', 'Of TFDS; empty: $TFDS_DATA_DIR.')
STACKS = flags.DEFINE_integer('stacks', 30_000, 'Images to train on.', lower_bound=1000)
SEEDS = flags.DEFINE_integer('seeds', 3, 'Seeds per method, counted from 0.', lower_bound=1)
flags.DEFINE_multi_string('set', [], 'A field of every config: --set=steps=500.')
N = flags.DEFINE_integer('n', 25_600, 'Samples to count.', lower_bound=1000)
WORKDIR = flags.DEFINE_string('workdir', 'runs/stacked_mnist', 'Folder of the runs and the table.')
SMALL = {'network.width': 0.25, 'batch_size': 32, 'ema_decay': 0.99}
METHODS = {
  'vae_gan_relativistic': ('vae_gan_relativistic', {}),
  'vae_gan': ('vae_gan', SMALL),
  'vae_gan_gate': ('vae_gan', {**SMALL, 'gate.on': True}),
  'gan': ('gan', SMALL),
}
CHOSEN = flags.DEFINE_list('methods', 'vae_gan_relativistic,vae_gan,vae_gan_gate,gan', 'Rows.')
COLUMNS = (
  ('modes of 1,000', 'samples', 'modes', '.1f'),
  ('KL from uniform, nats', 'samples', 'kl', '.3f'),
)


def main() -> int:
  if unknown := set(CHOSEN.value) - set(METHODS):
    raise ValueError(f'--methods={",".join(unknown)}: choose from {", ".join(METHODS)}')
  command.keep_compiled_programs()
  size = SIZES[DIGITS.value]
  train, test = (
    data.load(DIGITS.value, image_size=size, channels=1, split=split, data_dir=DATA_DIR.value)
    for split in ('train', 'test')
  )
  judge = classifier.load_or_train(train.images, train.labels, num_classes=10)
  stacks, _ = stacked(train, STACKS.value, seed=0)
  path = zipped(stacks, paths.open_path(WORKDIR.value) / f'{DIGITS.value}_{STACKS.value}.zip')
  held_out, modes = stacked(test, N.value, seed=1)
  named = modes_of(judge, held_out)
  real, right = figures(named), (named == modes).mean()
  print(f'real stacks: {real["modes"]} modes, KL {real["kl"]:.3f}; {right:.2%} named rightly')
  results = {name: [] for name in CHOSEN.value}
  for seed in range(SEEDS.value):
    for name in results:
      model = study.trained(
        config(name, seed, path, size), paths.open_path(WORKDIR.value) / name / f'seed_{seed}'
      )
      found = figures(modes_of(judge, model.sample(N.value)))
      print(f'{name}, seed {seed}: {found["modes"]} modes, KL {found["kl"]:.3f}', flush=True)
      results[name].append(dict(samples=found, step=model.step))
  study.write(WORKDIR.value, results, COLUMNS)
  study.picture(WORKDIR.value, results, rows=2)
  return 0


def config(name: str, seed: int, path: Any, size: int) -> Any:
  """The config of a row: a folder of images without classes, not mirrored."""
  data_of = {'data.path': str(path), 'data.image_size': size, 'data.flip': False}
  method, own = METHODS[name]
  return study.config_of('folder', method, seed, {**data_of, **own, **study.settings_of_flags()})


def stacked(digits: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Random stacks uint8 [count, H, W, 3] of three digits each, and their modes int [count]."""
  at = np.random.default_rng(seed).integers(0, len(digits.images), (3, count))
  images = np.stack([np.asarray(digits.images)[i][..., 0] for i in at], -1)
  return images, mode(*(digits.labels[i] for i in at))


def mode(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
  """The number 0 to 999 of three digits."""
  return 100 * red + 10 * green + blue


def zipped(images: np.ndarray, path: Any) -> Any:
  """A zip of PNGs of the images, written unless it is there already."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as f, zipfile.ZipFile(f, 'w') as z:
      for number, image in enumerate(images):
        z.writestr(f'{number:06d}.png', files.png(image))
  return path


def modes_of(judge: Any, images: np.ndarray) -> np.ndarray:
  """The modes int [N] of stacks uint8 [N, H, W, 3], by a classifier of single digits."""
  return mode(*(judge.logits(images[..., i : i + 1]).argmax(1) for i in range(3)))


def figures(modes: np.ndarray) -> Mapping[str, float]:
  """Modes that occur, and the KL of their shares from uniform ones."""
  counts = metrics.mode_counts(modes, 1000)
  return dict(
    modes=metrics.modes_covered(counts), kl=metrics.mode_kl(counts, np.ones(1000, np.int64))
  )


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
