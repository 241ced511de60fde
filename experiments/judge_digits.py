"""Judges sampled digits with a classifier trained on the real ones (scikit-learn).

    python experiments/judge_digits.py --workdir=runs/demo

Prints two figures and writes them to WORKDIR/judge_digits.json: how many of 100 samples per class
a support vector machine recognises (fitted to the 1,500 training digits; its accuracy on the other
297 is given too), and the mean distance between two samples of a class over that of real digits.
"""

from absl import flags
import numpy as np

from vaegan_jax import command, files, paths

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run of a conditional method on the digits.'
)
SEED = command.define_seed_flag('Seed of the noise.')
PER_CLASS = 100


def main() -> int:
  from sklearn import svm

  from vaegan_jax import data, sample

  model = sample.restore(WORKDIR.value)
  if model.config['data']['name'] != 'digits' or model.about['condition'] != 'label':
    raise ValueError(f'{WORKDIR.value} is not a run of a conditional method on the digits')
  size = model.config['data']['image_size']
  real, held_out = (
    data.load('digits', image_size=size, channels=1, split=s) for s in ('train', 'test')
  )
  judge = svm.SVC(C=10.0).fit(flat(real.images), real.labels)
  own = judge.score(flat(held_out.images), held_out.labels)
  labels = np.repeat(np.arange(10), PER_CLASS)
  samples = flat(model.sample(len(labels), labels=labels, seed=SEED.value))
  right = [(judge.predict(samples[labels == k]) == k).mean() for k in range(10)]
  spread = [
    distance(samples[labels == k]) / distance(flat(real.images[real.labels == k]))
    for k in range(10)
  ]
  print(
    f'recognised: {np.mean(right):.1%} of {len(labels)} samples of step {model.step}, '
    f'worst class {np.argmin(right)} with {min(right):.1%} (held-out real digits: {own:.1%})'
  )
  print(
    f'distance within a class, over that of real digits: {np.mean(spread):.2f}, '
    f'smallest {min(spread):.2f} for class {np.argmin(spread)}'
  )
  result = dict(
    step=model.step,
    seed=SEED.value,
    recognised=np.mean(right),
    by_class=right,
    held_out_real=own,
    spread=np.mean(spread),
    spread_by_class=spread,
  )
  files.write_json(paths.open_path(WORKDIR.value) / 'judge_digits.json', result)
  return 0


def flat(images: np.ndarray) -> np.ndarray:
  """Pixel values 0..1 [N, F] of images uint8 [N, H, W, C]."""
  return images.reshape(len(images), -1) / 255.0


def distance(images: np.ndarray) -> float:
  """Mean Euclidean distance between two different rows of [N, F], in pixel values of 0..1."""
  square = (images**2).sum(1)
  apart = np.sqrt(np.maximum(square[:, None] + square - 2 * images @ images.T, 0))
  return apart.sum() / (len(images) * (len(images) - 1))


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN)


if __name__ == '__main__':
  cli()
