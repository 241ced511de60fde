"""The Inception Score's formula on the predictions of any classifier (Salimans et al. 2016)."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


def class_probabilities(logits: ArrayLike) -> np.ndarray:
  """float64 [N, K]: the softmax of logits [N, K]."""
  logits = arrays.logits('logits', logits)
  exponentials = np.exp(logits - logits.max(1, keepdims=True))
  return exponentials / exponentials.sum(1, keepdims=True)


def inception_score(
  probabilities: ArrayLike, *, splits: int = 10, seed: int | None = 0
) -> tuple[float, float]:
  """(mean, standard deviation) over splits of exp(mean KL(p(y|x) || p(y))), each in 1..K.

  Args:
    probabilities: [N, K] of a classifier that the result must name: the Inception Score proper is
      that of the Inception network on 50,000 images.
    splits: number of parts. p(y) is the mean over a part, so parts must mix the classes.
    seed: of the shuffle before the split, by default_rng(seed); None keeps the order.
  """
  probabilities = arrays.probabilities('probabilities', probabilities)
  if not 1 <= splits <= len(probabilities) // 2:
    raise ValueError(
      f'{len(probabilities)} images cannot form {splits} splits of 2 or more: give fewer splits'
    )
  if seed is not None:
    probabilities = np.random.default_rng(seed).permutation(probabilities)
  scores = [_score(part) for part in np.array_split(probabilities, splits)]
  return float(np.mean(scores)), float(np.std(scores))


def _score(part):
  marginal = part.mean(0)
  # A class of probability 0 adds nothing: 0 log 0 = 0.
  ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)
  return np.exp((part * np.log(ratio)).sum(1).mean())
