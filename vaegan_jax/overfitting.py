"""Does a model repeat its training images? Four measures of features, and their null."""

from collections.abc import Mapping

import numpy as np

from vaegan_jax import metrics
from vaegan_jax.metrics.data_copying import COPIES

TRAIN_PER_SAMPLE = 10  # training images that the samples are compared with, at most
FLD_IMAGES = 1000  # of each set; the fit takes time and memory for all pairs


def training_images(count: int, samples: int, seed: int) -> np.ndarray:
  """int [at most count]: which of `count` training images to compare so many samples with."""
  kept = min(count, TRAIN_PER_SAMPLE * samples)
  return np.sort(np.random.default_rng(seed).permutation(count)[:kept])


def overfitting_figures(
  train: np.ndarray, test: np.ndarray, generated: np.ndarray, seed: int
) -> dict[str, float]:
  """{measure: float} of features train [N, F], of held-out images [M, F], and of samples [L, F].

  c_t: below -3 for copies; authenticity: far below that of held-out images for copies; fld_gap: far
  below 0; energy_gap: above 0. See the functions of `metrics`.
  """
  some = np.random.default_rng(seed).permutation(len(train))[: min(len(test), FLD_IMAGES)]
  return dict(
    c_t=metrics.data_copying(train, test, generated, cells=min(5, len(train)), seed=seed),
    authenticity=metrics.authenticity(train, generated),
    fld_gap=metrics.fld_gap(train[some], test[:FLD_IMAGES], generated[:FLD_IMAGES]),
    energy_gap=metrics.energy_gap(train, test, generated),
  )


def null_figures(train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, float]:
  """The same measures of held-out images: every second one as a sample, against the others."""
  return overfitting_figures(train, test[::2], test[1::2], seed)


def complaint(figures: Mapping[str, float]) -> str | None:
  """What the verdict says of the measures of a model, or None."""
  if figures.get('c_t', 0.0) < COPIES:
    return f'copies training images (C_T {figures["c_t"]:.1f})'
  return None
