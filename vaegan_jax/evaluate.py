"""What a trained model's images are worth: every metric that applies, with the networks that judged.

Real images of the same number are judged beside the generated ones: what two halves of the real
data reach is what can be reached.
"""

from typing import NamedTuple

import numpy as np

from vaegan_jax import build, metrics
from vaegan_jax.features import classifier

SEEDS = dict(features=1, scores=2)  # of the judges; the score's judge is another than that of top-1


class Judges(NamedTuple):
  """The networks that judge; each carries its name."""

  features: object  # .name, .features(images) -> [N, F]; of the distances
  labels: object = None  # .name, .logits(images) -> [N, K]; of top-1
  scores: object = None  # likewise, trained apart; of the Inception-Score-like figure
  attributes: object = None  # .name, .predictions(images) -> [N, A] in -1..1


def judges_for(config, features=None, steps=2000):
  """Judges of a run's data, trained on its training images (minutes on a CPU) or taken from the cache.

  Args:
    config: of the run, as settings.from_dict gives it.
    features: a network of vaegan_jax.features in place of the trained one for the distances.
    steps: of the training of each judge.
  """
  data, home = build.dataset(config), config.data.cache_dir
  train = lambda labels, seed, **more: classifier.load_or_train(
    data.images,
    labels,
    cache_dir=home,
    seed=seed,
    steps=steps,
    flip=config.data.flip,
    batch_size=min(128, len(data.images)),
    **more,
  )
  by_class = by_score = by_attribute = None
  if data.labels is not None and (config.data.condition == 'label' or data.attributes is None):
    by_class, by_score = (
      train(data.labels, SEEDS[k], num_classes=len(data.class_names))
      for k in ('features', 'scores')
    )
  if data.attributes is not None:
    by_attribute = train(data.attributes, SEEDS['features'])
  features = features or by_class or by_attribute
  if features is None:
    raise ValueError(
      f'{data.name} has neither classes nor attributes to train a judge on: name a network '
      'for the features with --features=efficientnet_lite0 or --features=INCEPTION_FILE'
    )
  return Judges(features, by_class, by_score, by_attribute)


def evaluate(model, judges, real, seen, n=1000, seed=0):
  """{group: {figure: float, or list by class}} of a Trained model, and the names of its judges.

  Args:
    real: Dataset of images that were not trained on (of the training set where there are none).
    seen: Dataset of the training images, for the row of real data.
    n: images generated and compared, at most those that `real` has; per-class figures want 50 a class.
    seed: of the noise, and of the choice of real images.
  Groups: `samples`, `real` (training images judged like samples), `ratio` (samples over real; `sharpness` is
  that of gradient energies), and with an encoder `reconstructions` and `latents`; `judges` and `settings` say how.
  """
  rng = np.random.default_rng(seed)
  pick = lambda data, n: np.sort(rng.permutation(len(data.images))[:n])
  n = min(n, len(real.images), len(seen.images))
  at, at_seen = pick(real, n), pick(seen, n)
  reference, known = np.asarray(real.images[at]), np.asarray(seen.images[at_seen])
  kind = model.about['condition']
  # Samples are asked for what the real images of the comparison are, so that the classes weigh alike.
  given = {}
  if kind != 'none':
    given = {
      kind + 's' * (kind == 'label'): (real.labels if kind == 'label' else real.attributes)[at]
    }
  samples = model.sample(n, seed=seed, **given)
  labels = dict(
    samples=given.get('labels'), real=None if seen.labels is None else seen.labels[at_seen]
  )
  result = dict(
    settings=dict(
      n=n,
      seed=seed,
      step=model.step,
      data=real.name,
      method=model.config['method_name'],
      training_seed=model.config['seed'],
    ),
    judges={k: v.name for k, v in judges._asdict().items() if v is not None},
  )
  features = judges.features.features(reference)
  for name, images in (('samples', samples), ('real', known)):
    group = result[name] = distances(features, judges.features.features(images))
    group['gradient_energy'] = float(metrics.gradient_energy(images).mean())
    if judges.scores:
      probabilities = metrics.class_probabilities(judges.scores.logits(images))
      group['score'] = metrics.inception_score(
        probabilities, splits=min(10, n // 50) or 1, seed=seed
      )[0]
    if judges.labels:
      logits = judges.labels.logits(images)
      size = logits.shape[1]
      group['modes'] = metrics.modes_covered(metrics.mode_counts(logits.argmax(1), size))
      if labels[name] is not None:
        by_class = metrics.top1_per_class(logits, labels[name])
        group.update(
          top1=metrics.top1(logits, labels[name]),
          top1_worst=float(np.nanmin(by_class)),
          top1_per_class=by_class.tolist(),
        )
  score = result['samples']
  result['ratio'] = {
    name: score[k] / result['real'][k]
    for name, k in (('top1', 'top1'), ('score', 'score'), ('sharpness', 'gradient_energy'))
    if k in score and result['real'].get(k)
  }
  if labels['samples'] is not None:
    spread = lambda of: metrics.diversity_ratio(
      of(samples), labels['samples'], of(reference), labels['samples'], len(seen.class_names)
    )
    for name, of in (('pixels', lambda images: images), ('features', judges.features.features)):
      ratios = spread(of)
      result['ratio'].update(
        {f'diversity_{name}': float(ratios.mean()), f'diversity_{name}_least': float(ratios.min())}
      )
  if judges.attributes and kind == 'attributes':
    result['attributes'] = attributes(model, judges.attributes, real, at[:200], seed)
  if 'encoder' in model.networks:
    mean, logvar = model.encode(reference, **given)
    again = model.decode(mean, **given)
    group = result['reconstructions'] = distances(features, judges.features.features(again))
    group.update(
      psnr=float(metrics.psnr(again, reference).mean()),
      ssim=float(metrics.ssim(again, reference).mean()),
      sharpness=float(
        metrics.gradient_energy(again).mean() / metrics.gradient_energy(reference).mean()
      ),
    )
    if judges.labels and real.labels is not None:
      group['top1'] = metrics.top1(judges.labels.logits(again), real.labels[at])
    kl = metrics.kl_per_dimension(mean, logvar)
    result['latents'] = dict(
      active_units=metrics.active_units(mean),
      size=model.latent_size,
      kl=float(kl.sum()),
      kl_per_dimension=kl.tolist(),
    )
  return result


def distances(real, fake):
  """{figure: float} that compares features [N, F] of fake images with those of real ones."""
  near, covered = metrics.precision_recall(real, fake), metrics.density_coverage(real, fake)
  return dict(
    frechet_distance=metrics.frechet_distance(real, fake),
    kid=metrics.kid(real, fake),
    precision=near.precision,
    recall=near.recall,
    density=covered.density,
    coverage=covered.coverage,
  )


def attributes(model, judge, real, at, seed, samples=10):
  """Attribute similarity (Larsen et al. 2016, section 4.2) of `samples` images for each of the attribute
  vectors real.attributes[at], and of the real images that these belong to."""
  wanted = 2.0 * real.attributes[at] - 1.0
  predicted = np.stack(
    [
      judge.predictions(
        model.sample(len(at), attributes=real.attributes[at], seed=seed * samples + i)
      )
      for i in range(samples)
    ],
    1,
  )
  own = metrics.attribute_similarity(wanted, predicted)
  there = metrics.attribute_similarity(
    wanted, judge.predictions(np.asarray(real.images[at]))[:, None]
  )
  return dict(
    cosine_best_of_10=own.cosine,
    squared_error=own.squared_error,
    squared_error_deviation=own.squared_error_deviation,
    real_cosine=there.cosine,
    real_squared_error=there.squared_error,
  )


def lines(result):
  """The result as lines of text, a figure each."""
  yield '; '.join(f'{k} {v}' for k, v in result['settings'].items())
  for role, name in result['judges'].items():
    yield f'judge of {role}: {name}'
  yield 'better: distances (Frechet, KID) and squared errors low; ratios near 1; all else high. real: training images'
  for group in ('samples', 'real', 'ratio', 'attributes', 'reconstructions', 'latents'):
    for name, value in result.get(group, {}).items():
      if not isinstance(value, list):
        yield f'{group:16}{name:28}{value:.4g}'
