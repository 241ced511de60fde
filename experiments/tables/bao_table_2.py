"""Section 4.6 of CVAE-GAN (Bao et al. 2017, its table 2): generated images as training data.

    python experiments/tables/bao_table_2.py --workdir=runs/demo

With a trained class-conditional run, a classifier is trained on (1) the real training images, (2) these and
generated images of the known classes, (3) these and generated images of new classes, each the even mixture
of three known labels, which the classifier learns as further classes. Judged on held-out images: top-1 among the
known classes; and verification, whether two images are of one class by the cosine of their features (area under
the ROC curve, and accuracy at the best threshold). --per_class takes few real images, where the gain should
be largest; the generator has seen them all unless its run was trained on so few. Every classifier has as many
steps. Written to WORKDIR/bao_table_2.json.
"""

import pathlib

from absl import flags

from vaegan_jax import command, files, settings

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of a class-conditional method.')
SEEDS = flags.DEFINE_integer('seeds', 3, 'Classifiers of each row.', lower_bound=1)
PER_CLASS = flags.DEFINE_integer(
  'per_class', 0, 'Real images of each class; 0: all.', lower_bound=0
)
GENERATED = flags.DEFINE_integer(
  'generated',
  100,
  'Generated images of each class, known or new (paper: 200 and 100).',
  lower_bound=1,
)
NEW = flags.DEFINE_integer('new_classes', 20, 'New classes (paper: 5,000).', lower_bound=1)
STEPS = flags.DEFINE_integer('steps', 1000, 'Steps of each classifier.', lower_bound=1)


def main():
  import numpy as np

  from vaegan_jax import build, edit, metrics, sample
  from vaegan_jax.features import classifier

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  if model.about['condition'] != 'label' or not config.data.held_out:
    raise ValueError(
      f'{WORKDIR.value} must be a run of a class-conditional method on data with a held-out split'
    )
  real, held_out = build.dataset(config), build.dataset(config, config.data.held_out)
  size = len(real.class_names)
  images, labels = np.asarray(real.images), real.labels
  if PER_CLASS.value:
    few = np.concatenate([np.flatnonzero(labels == k)[: PER_CLASS.value] for k in range(size)])
    images, labels = images[few], labels[few]
  known = np.repeat(np.arange(size), GENERATED.value)
  mixed = np.repeat(edit.mixed_classes(size, NEW.value), GENERATED.value, axis=0)
  rows = {
    'real images': (images, labels),
    '+ known classes': (
      np.concatenate([images, model.sample(len(known), labels=known, seed=1)]),
      np.concatenate([labels, known]),
    ),
    '+ new classes': (
      np.concatenate([images, model.sample(len(mixed), labels=mixed, seed=2)]),
      np.concatenate([labels, size + np.repeat(np.arange(NEW.value), GENERATED.value)]),
    ),
  }
  rng = np.random.default_rng(0)
  pairs = rng.integers(len(held_out.images), size=(20_000, 2))
  pairs = pairs[pairs[:, 0] != pairs[:, 1]]
  same = held_out.labels[pairs[:, 0]] == held_out.labels[pairs[:, 1]]
  # As many pairs of one class as of two, as in LFW's protocol.
  chosen = np.concatenate([np.flatnonzero(same)[:900], np.flatnonzero(~same)[:900]])
  pairs, same = pairs[chosen], same[chosen]
  result = {}
  print(
    '| trained on | images | top-1 | verification, AUC | best accuracy |\n|---|---|---|---|---|'
  )
  for name, (x, y) in rows.items():
    figures = []
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
      features = judge.features(held_out.images)
      features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-12
      figures.append(
        (
          metrics.top1(judge.logits(held_out.images)[:, :size], held_out.labels),
          *verification((features[pairs[:, 0]] * features[pairs[:, 1]]).sum(1), same),
        )
      )
    mean, spread = (
      np.mean(figures, 0),
      np.std(figures, 0, ddof=1) if SEEDS.value > 1 else np.full(3, np.nan),
    )
    print(
      f'| {name} | {len(x)} | '
      + ' | '.join(
        f'{m:.2%}' + ('' if np.isnan(s) else f' ± {s:.2%}') for m, s in zip(mean, spread)
      )
      + ' |'
    )
    result[name] = dict(
      images=len(x),
      top1=[f[0] for f in figures],
      auc=[f[1] for f in figures],
      accuracy=[f[2] for f in figures],
      judge=judge.name,
    )
  files.write_json(pathlib.Path(WORKDIR.value) / 'bao_table_2.json', result)
  return 0


def verification(cosines, same):
  """(area under the ROC curve, accuracy at the best threshold) of cosines [P] for bool same [P]."""
  import numpy as np

  ranked = same[np.argsort(-cosines)]
  hits, misses = np.cumsum(ranked) / same.sum(), np.cumsum(~ranked) / (~same).sum()
  right = hits * same.sum() + (1 - misses) * (~same).sum()
  return float(np.trapezoid(hits, misses)), float(right.max() / len(same))


if __name__ == '__main__':
  command.run(main, needs=dict(workdir='--workdir is missing: name the folder of a run'))
