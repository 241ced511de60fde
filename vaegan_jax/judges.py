"""The networks that judge a model's images: classifiers trained on the real data of its run."""

from typing import Any, NamedTuple

import numpy as np

from vaegan_jax import build
from vaegan_jax.features import classifier, efficientnet

SEEDS = dict(features=1, scores=2)  # the score needs another judge than top-1


class Judges(NamedTuple):
  """The networks that judge; each carries its name."""

  features: Any  # .name, .features(images) -> [N, F]; for the distances
  labels: Any = None  # .name, .logits(images) -> [N, K]; for top-1
  scores: Any = None  # likewise, trained separately; for the Inception-Score-like figure
  attributes: Any = None  # .name, .predictions(images) -> [N, A] in -1..1


def judges_for(config: Any, features: Any = None, steps: int = 2000) -> Judges:
  """Judges of a run's data, trained on its training images (minutes on a CPU) or from the cache.

  Images without classes and attributes teach no judge: EfficientNet-Lite0 takes its place.

  Args:
    config: of the run, as from settings.from_dict.
    features: a network of vaegan_jax.features that replaces the trained one for the distances.
    steps: training steps of each judge.

  Raises:
    ValueError: EfficientNet-Lite0 is needed, and its weights are not installed.
  """
  data = build.dataset(config)

  def train(targets: np.ndarray, seed: int, **more: Any) -> Any:
    return classifier.load_or_train(
      data.images,
      targets,
      cache_dir=config.data.cache_dir,
      seed=seed,
      steps=steps,
      flip=config.data.flip,
      batch_size=min(128, len(data.images)),
      **more,
    )

  labels = scores = attributes = None
  if data.labels is not None and (config.data.condition == 'label' or data.attributes is None):
    classes = len(data.class_names)
    labels = train(data.labels, SEEDS['features'], num_classes=classes)
    scores = train(data.labels, SEEDS['scores'], num_classes=classes)
  if data.attributes is not None:
    attributes = train(data.attributes, SEEDS['features'])
  return Judges(features or labels or attributes or efficientnet.load(), labels, scores, attributes)
