"""Table 2 of CVAE-GAN (Bao et al. 2017, section 4.6): generated images as training data.

    python experiments/tables/bao_table_2.py --workdir=runs/demo

Takes a class-conditional run and trains classifiers on (1) the real training images, (2) these and
generated images of the known classes, (3) these and generated images of new classes. A new class is
the even mixture of three known labels and becomes a further class of the classifier. Judged on
held-out images: top-1 among the known classes, and verification, which decides from the cosine of
their features whether two images show the same class (area under the ROC curve, and accuracy at the
best threshold). --per_class uses only a few real images, where the gain should be largest; the
generator has seen all of them unless its run was trained on as few. All classifiers train for the
same number of steps. Writes WORKDIR/bao_table_2.json.
"""

import math
from typing import Any, NamedTuple

from absl import flags
import numpy as np

from vaegan_jax import command, files, paths, settings

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of a class-conditional method.')
SEEDS = flags.DEFINE_integer('seeds', 3, 'Classifiers per row.', lower_bound=1)
PER_CLASS = flags.DEFINE_integer('per_class', 0, 'Real images per class; 0: all.', lower_bound=0)
GENERATED = flags.DEFINE_integer(
  'generated', 100, 'Generated images per known or new class (paper: 200, 100).', lower_bound=1
)
NEW = flags.DEFINE_integer('new_classes', 20, 'New classes (paper: 5,000).', lower_bound=1)
STEPS = flags.DEFINE_integer('steps', 1000, 'Training steps per classifier.', lower_bound=1)
PAIRS = 900  # images of the same class, and as many of two classes


class Labelled(NamedTuple):
  images: np.ndarray  # uint8 [N, H, W, C]
  labels: np.ndarray  # int [N]


class Pairs(NamedTuple):
  """Pairs of held-out images, half of them of the same class, as in LFW's protocol."""

  first: np.ndarray  # int [P], index of an image
  second: np.ndarray
  same: np.ndarray  # bool [P]


class Scores(NamedTuple):
  """What one classifier reaches."""

  top1: float
  auc: float
  accuracy: float


def main() -> int:
  from vaegan_jax import build, sample
  from vaegan_jax.features import classifier

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  if model.about['condition'] != 'label' or not config.data.held_out:
    raise ValueError(
      f'{WORKDIR.value} must be a run of a class-conditional method on data with a held-out split'
    )
  real, held_out = build.dataset(config), build.held_out(config)
  size = len(real.class_names)
  pairs, result = verification_pairs(held_out.labels), {}
  print(
    '| trained on | images | top-1 | verification, AUC | best accuracy |\n|---|---|---|---|---|'
  )
  for name, (x, y) in training_sets(model, real, size).items():
    scores = []
    for seed in range(SEEDS.value):
      judge = classifier.train(
        x,
        y,
        num_classes=int(y.max()) + 1,
        seed=seed,
        steps=STEPS.value,
        batch_size=min(128, len(x)),
        flip=config.data.flip,
      )
      scores.append(judged(judge, held_out, pairs, size))
    print(f'| {name} | {len(x)} | {" | ".join(cells(scores))} |')
    result[name] = dict(
      images=len(x),
      top1=[s.top1 for s in scores],
      auc=[s.auc for s in scores],
      accuracy=[s.accuracy for s in scores],
      judge=judge.name,
    )
  files.write_json(paths.open_path(WORKDIR.value) / 'bao_table_2.json', result)
  return 0


def training_sets(model: Any, real: Any, size: int) -> dict[str, Labelled]:
  """The training images of each row of the table."""
  from vaegan_jax import edit

  if NEW.value > (most := math.comb(size, 3)):
    raise ValueError(
      f'--new_classes={NEW.value}: {size} classes have {most} mixtures of three: use at most {most}'
    )
  images, labels = np.asarray(real.images), real.labels
  if PER_CLASS.value:
    few = np.concatenate([np.flatnonzero(labels == k)[: PER_CLASS.value] for k in range(size)])
    images, labels = images[few], labels[few]
  known = np.repeat(np.arange(size), GENERATED.value)
  mixed = np.repeat(edit.mixed_classes(size, NEW.value), GENERATED.value, axis=0)
  new = size + np.repeat(np.arange(NEW.value), GENERATED.value)
  return {
    'real images': Labelled(images, labels),
    '+ known classes': Labelled(
      np.concatenate([images, model.sample(len(known), labels=known, seed=1)]),
      np.concatenate([labels, known]),
    ),
    '+ new classes': Labelled(
      np.concatenate([images, model.sample(len(mixed), labels=mixed, seed=2)]),
      np.concatenate([labels, new]),
    ),
  }


def verification_pairs(labels: np.ndarray) -> Pairs:
  """Random pairs of held-out images with these labels."""
  rng = np.random.default_rng(0)
  pairs = rng.integers(len(labels), size=(20_000, 2))
  pairs = pairs[pairs[:, 0] != pairs[:, 1]]
  same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
  chosen = np.concatenate([np.flatnonzero(same)[:PAIRS], np.flatnonzero(~same)[:PAIRS]])
  return Pairs(*pairs[chosen].T, same[chosen])


def judged(judge: Any, held_out: Any, pairs: Pairs, size: int) -> Scores:
  """Scores of a classifier whose first `size` classes are the known ones."""
  from vaegan_jax import metrics

  features = judge.features(held_out.images)
  features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-12
  cosines = (features[pairs.first] * features[pairs.second]).sum(1)
  top1 = metrics.top1(judge.logits(held_out.images)[:, :size], held_out.labels)
  return Scores(top1, *verification(cosines, pairs.same))


def verification(cosines: np.ndarray, same: np.ndarray) -> tuple[float, float]:
  """Area under the ROC curve and accuracy at the best threshold, of cosines [P], bool same [P]."""
  ranked = same[np.argsort(-cosines)]
  hits, misses = np.cumsum(ranked) / same.sum(), np.cumsum(~ranked) / (~same).sum()
  right = hits * same.sum() + (1 - misses) * (~same).sum()
  return float(np.trapezoid(hits, misses)), float(right.max() / len(same))


def cells(scores: list[Scores]) -> list[str]:
  """Mean of each figure over the classifiers, with its deviation if there are several."""
  if len(scores) == 1:
    return [f'{value:.2%}' for value in scores[0]]
  return [
    f'{mean:.2%} ± {spread:.2%}'
    for mean, spread in zip(np.mean(scores, 0), np.std(scores, 0, ddof=1))
  ]


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN)


if __name__ == '__main__':
  cli()
