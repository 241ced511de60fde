"""Likelihood of real features under Gaussians around generated ones: train against test."""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances

FLOOR = 1e-4  # least variance, over the mean squared distance of a coordinate: log stays finite
ROUNDS, ENOUGH = 100, 1e-4  # of the fit: at most so many, until NLL / F falls by less


def fld_gap(train: ArrayLike, test: ArrayLike, generated: ArrayLike) -> float:
  """100 (NLL_train - NLL_test) / F of features [N, F], [M, F], [L, F]; nats; << 0 is memorised.

      p(x) = 1 / L sum over j of N(x; generated_j, variance_j I)

  Source: Jiralerspong et al. 2023, "Feature likelihood divergence", the generalisation gap. The
  features are standardised by mean and deviation of `train`. The variances maximise the likelihood
  of `train`; we fit them by expectation maximisation, with a floor, where the authors' code takes
  gradient steps. A generated point next to a training point gets a small variance, which raises the
  likelihood of that training point and of no test point. The fit itself prefers `train` a little,
  most in few dimensions: compare with the value of held-out images as `generated`.
  """
  sets = arrays.feature_sets(train, test, generated)
  deviation = sets[0].std(0)
  deviation[deviation < 1e-12] = 1.0
  of_train, of_test = (_squared(x / deviation, sets[2] / deviation) for x in sets[:2])
  size = len(deviation)
  variance = np.full(len(sets[2]), of_train.mean() / size)
  floor, before = max(FLOOR * variance[0], 1e-300), np.inf
  for _ in range(ROUNDS):
    joint = _log_joint(of_train, variance, size)
    whole = _log_sum(joint)
    nll = -whole.mean() / size
    if before - nll < ENOUGH:
      break
    before = nll
    share = np.exp(joint - whole)
    weight = np.maximum(share.sum(0), 1e-12)
    variance = np.maximum((share * of_train).sum(0) / (size * weight), floor)
  nll_train = _nll(of_train, variance, size)
  return float(100.0 * (nll_train - _nll(of_test, variance, size)) / size)


def _squared(rows, columns):
  """[N, L] of squared distances."""
  return np.concatenate([np.square(d) for _, d in distances.blocks(rows, columns)])


def _log_joint(squared, variance, size):
  """[N, L]: the logarithm of 1 / L N(x; generated_j, variance_j I)."""
  scale = np.log(len(variance)) + 0.5 * size * np.log(2 * np.pi * variance)
  return -0.5 * squared / variance - scale


def _nll(squared, variance, size):
  return -_log_sum(_log_joint(squared, variance, size)).mean()


def _log_sum(values):
  """[N, 1]: log of the sum over columns of exp(values [N, L])."""
  most = values.max(1, keepdims=True)
  return most + np.log(np.exp(values - most).sum(1, keepdims=True))
