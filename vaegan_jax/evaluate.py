"""What a trained model's images are worth: every metric that applies, and the judges' names.

The same metrics judge as many real images: the distance between two halves of the real data is the
best that a model can reach.
"""

from collections.abc import Iterator
import logging
from typing import Any, NamedTuple

import numpy as np

from vaegan_jax import metrics, overfitting
from vaegan_jax.data import Dataset
from vaegan_jax.judges import Judges
from vaegan_jax.sample import Trained
from vaegan_jax.verdict import verdict

log = logging.getLogger(__name__)

LEAST = 6  # images: distances compare the five nearest
ATTRIBUTE_VECTORS, ATTRIBUTE_SAMPLES = 200, 10  # vectors compared, images of each
GROUPS = (
  *('samples', 'real', 'ratio', 'attributes', 'reconstructions', 'latents'),
  *('overfitting', 'held_out'),
)


class Compared(NamedTuple):
  """The images that the metrics compare, N of each kind."""

  at: np.ndarray  # int [N]: which real images
  reference: np.ndarray  # the real images
  known: np.ndarray  # training images
  known_labels: np.ndarray | None
  samples: np.ndarray
  given: dict[str, np.ndarray]  # labels or attributes of samples and reference alike

  @property
  def labels(self) -> np.ndarray | None:
    """The classes that the samples were asked for, or None."""
    return self.given.get('labels')


def evaluate(
  model: Trained, judges: Judges, real: Dataset, seen: Dataset, n: int = 1000, seed: int = 0
) -> dict[str, Any]:
  """{group: {figure: float, or list by class}} of a model, with the names of its judges.

  Groups: `samples`, `real` (training images judged like samples), `ratio` (samples over real;
  `sharpness` compares gradient energies), with an encoder `reconstructions` and `latents`, and with
  a held-out split `overfitting` and its null `held_out`;
  `judges` and `settings` say how, and `verdict` tells it in a line.

  Args:
    real: images that the model was not trained on (the training images if there are no others).
    seen: the training images, for the row of real data.
    n: images to generate and compare, at most as many as `real` has; per-class figures want 50 per
      class.
    seed: of the noise, and of the choice of real images.
  """
  log.info('drawing samples and choosing real images')
  compared = images_to_compare(model, real, seen, n, seed)
  about = dict(
    n=len(compared.at),
    seed=seed,
    step=model.step,
    data=real.name,
    method=model.config['method_name'],
    training_seed=model.config['seed'],
  )
  names = {role: judge.name for role, judge in judges._asdict().items() if judge is not None}
  result = dict(settings=about, judges=names)
  target = judges.features.features(compared.reference)
  log.info('judging %d samples', len(compared.samples))
  features = judges.features.features(compared.samples)
  result['samples'] = image_figures(
    judges, target, features, compared.samples, compared.labels, seed
  )
  log.info('judging %d real images', len(compared.known))
  known = judges.features.features(compared.known)
  result['real'] = image_figures(judges, target, known, compared.known, compared.known_labels, seed)
  if real is not seen:
    result |= overfitting_groups(judges, target, features, seen, seed)
  result['ratio'] = ratios(result['samples'], result['real'])
  if compared.labels is not None:
    result['ratio'] |= diversity_ratios(judges, compared, len(seen.class_names))
  if judges.attributes and model.about['condition'] == 'attributes':
    at = compared.at[:ATTRIBUTE_VECTORS]
    result['attributes'] = attribute_figures(model, judges.attributes, real, at, seed)
  if 'encoder' in model.networks:
    labels = None if real.labels is None else real.labels[compared.at]
    log.info('judging %d reconstructions', len(compared.at))
    mean, logvar = model.encode(compared.reference, **compared.given)
    again = model.decode(mean, **compared.given)
    result['reconstructions'] = reconstruction_figures(
      judges, target, again, compared.reference, labels
    )
    result['latents'] = latent_figures(mean, logvar)
  return dict(verdict=verdict(result), **result)


def check_count(real: Dataset, seen: Dataset) -> None:
  """Raises ValueError if there are too few images to compare."""
  for images in (real, seen):
    if len(images.images) < LEAST:
      raise ValueError(
        f'{images.name} has {len(images.images)} images, and distances need {LEAST}: add images'
      )


def images_to_compare(model: Trained, real: Dataset, seen: Dataset, n: int, seed: int) -> Compared:
  """Images drawn by the seed; the samples have the conditions of the real images.

  So every class weighs the same on both sides.
  """
  rng = np.random.default_rng(seed)
  n = min(n, len(real.images), len(seen.images))
  at, at_seen = (np.sort(rng.permutation(len(data.images))[:n]) for data in (real, seen))
  given = {}
  if model.about['condition'] == 'label':
    given = dict(labels=real.labels[at])
  elif model.about['condition'] == 'attributes':
    given = dict(attributes=real.attributes[at])
  return Compared(
    at,
    reference=np.asarray(real.images[at]),
    known=np.asarray(seen.images[at_seen]),
    known_labels=None if seen.labels is None else seen.labels[at_seen],
    samples=model.sample(n, seed=seed, **given),
    given=given,
  )


def image_figures(
  judges: Judges,
  target: np.ndarray,
  features: np.ndarray,
  images: np.ndarray,
  labels: np.ndarray | None,
  seed: int,
) -> dict[str, Any]:
  """{figure: value} of images [N, H, W, C], their features, and labels [N] or None.

  target: features of real images.
  """
  figures = distances(target, features)
  figures['gradient_energy'] = float(metrics.gradient_energy(images).mean())
  if judges.scores:
    probabilities = metrics.class_probabilities(judges.scores.logits(images))
    splits = min(10, len(images) // 50) or 1
    figures['score'] = metrics.inception_score(probabilities, splits=splits, seed=seed)[0]
  if judges.labels:
    logits = judges.labels.logits(images)
    counts = metrics.mode_counts(logits.argmax(1), logits.shape[1])
    figures['modes'] = metrics.modes_covered(counts)
    if labels is not None:
      by_class = metrics.top1_per_class(logits, labels)
      figures.update(
        top1=metrics.top1(logits, labels),
        top1_worst=float(np.nanmin(by_class)),
        top1_per_class=by_class.tolist(),
      )
  return figures


def overfitting_groups(
  judges: Judges, target: np.ndarray, features: np.ndarray, seen: Dataset, seed: int
) -> dict[str, dict[str, float]]:
  """`overfitting` of samples, `held_out` of held-out images, from features of both."""
  at = overfitting.training_images(len(seen.images), len(features), seed)
  log.info('comparing the samples with %d training images', len(at))
  train = judges.features.features(np.asarray(seen.images[at]))
  return dict(
    overfitting=overfitting.overfitting_figures(train, target, features, seed),
    held_out=overfitting.null_figures(train, target, seed),
  )


def ratios(samples: dict[str, Any], real: dict[str, Any]) -> dict[str, float]:
  """{figure: samples over real}, for what both have and real has more than 0 of."""
  figures = dict(top1='top1', score='score', sharpness='gradient_energy')
  return {
    name: samples[figure] / real[figure]
    for name, figure in figures.items()
    if figure in samples and real.get(figure)
  }


def diversity_ratios(judges: Judges, compared: Compared, num_classes: int) -> dict[str, float]:
  """Diversity within classes, samples over real: the mean over classes, and the least.

  Classes with fewer than two real images are left out; {} if that leaves none.
  """
  several = np.flatnonzero(np.bincount(compared.labels, minlength=num_classes) > 1)
  at = np.flatnonzero(np.isin(compared.labels, several))
  if not len(at):
    return {}
  labels, figures = np.searchsorted(several, compared.labels[at]), {}
  for name, of in (('pixels', lambda images: images), ('features', judges.features.features)):
    by_class = metrics.diversity_ratio(
      of(compared.samples[at]), labels, of(compared.reference[at]), labels, len(several)
    )
    figures[f'diversity_{name}'] = float(by_class.mean())
    figures[f'diversity_{name}_least'] = float(by_class.min())
  return figures


def reconstruction_figures(
  judges: Judges,
  target: np.ndarray,
  again: np.ndarray,
  reference: np.ndarray,
  labels: np.ndarray | None,
) -> dict[str, float]:
  """{figure: float} of the reconstructions `again` of the images `reference`."""
  energy, real_energy = metrics.gradient_energy(again), metrics.gradient_energy(reference)
  figures = distances(target, judges.features.features(again))
  figures.update(
    psnr=float(metrics.psnr(again, reference).mean()),
    ssim=float(metrics.ssim(again, reference).mean()),
    sharpness=float(energy.mean() / real_energy.mean()),
  )
  if judges.labels and labels is not None:
    figures['top1'] = metrics.top1(judges.labels.logits(again), labels)
  return figures


def latent_figures(mean: np.ndarray, logvar: np.ndarray) -> dict[str, Any]:
  """{figure: value} of posteriors with means and log-variances [N, Z]; KL in nats."""
  kl = metrics.kl_per_dimension(mean, logvar)
  return dict(
    active_units=metrics.active_units(mean),
    size=mean.shape[1],
    kl=float(kl.sum()),
    kl_per_dimension=kl.tolist(),
  )


def distances(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
  """{figure: float} that compares features [N, F] of fake images with those of real ones."""
  by_radius, by_density = metrics.precision_recall(real, fake), metrics.density_coverage(real, fake)
  return dict(
    frechet_distance=metrics.frechet_distance(real, fake),
    kid=metrics.kid(real, fake),
    precision=by_radius.precision,
    recall=by_radius.recall,
    density=by_density.density,
    coverage=by_density.coverage,
  )


def attribute_figures(
  model: Trained, judge: Any, real: Dataset, at: np.ndarray, seed: int
) -> dict[str, float]:
  """Attribute similarity (Larsen et al. 2016, section 4.2), of samples and of real images.

  For each attribute vector real.attributes[at] it takes ATTRIBUTE_SAMPLES samples, and the real
  image that has it.
  """
  vectors, k = real.attributes[at], ATTRIBUTE_SAMPLES
  wanted = 2.0 * vectors - 1.0
  samples = (model.sample(len(at), attributes=vectors, seed=seed * k + i) for i in range(k))
  predicted = np.stack([judge.predictions(images) for images in samples], 1)
  of_samples = metrics.attribute_similarity(wanted, predicted)
  predicted = judge.predictions(np.asarray(real.images[at]))[:, None]
  of_real = metrics.attribute_similarity(wanted, predicted)
  return dict(
    cosine_best_of_10=of_samples.cosine,
    squared_error=of_samples.squared_error,
    squared_error_deviation=of_samples.squared_error_deviation,
    real_cosine=of_real.cosine,
    real_squared_error=of_real.squared_error,
  )


def lines(result: dict[str, Any]) -> Iterator[str]:
  """Yields the result as text: the verdict, then one figure per line."""
  if 'verdict' in result:  # evaluations of older versions have none
    yield result['verdict']
  yield '; '.join(f'{k} {v}' for k, v in result['settings'].items())
  for role, name in result['judges'].items():
    yield f'judge of {role}: {name}'
  yield (
    'better: low distances (Frechet, KID) and squared errors; ratios near 1; all else high. '
    'real: training images'
  )
  if 'overfitting' in result:
    yield (
      'signs of copies: C_T below -3; an authenticity or FLD gap far below that of held_out '
      '(held-out images judged as samples); an energy gap far above it'
    )
  for group in GROUPS:
    for name, value in result.get(group, {}).items():
      if value is not None and not isinstance(value, list):  # JSON has null for NaN
        yield f'{group:16}{name:28}{value:.4g}'
