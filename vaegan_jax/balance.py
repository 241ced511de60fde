"""Weights of losses that follow from the losses and their gradients; nobody sets them by hand.

Two rules, both from moving averages of the steps before, so that a step's weights are constants:

- Calibrated reconstructions (sigma-VAE, Rybkin et al. 2021, with one variance per loss): the loss
  L = 1/2 sum of D squared errors has its likeliest variance at 2 L / D, so its weight is
  D / (2 mean(L)). The weight 1 of the KL then means the same for every size and data set.
- Balanced kinds: at the images, the waist of the graph, the generator's gradients of each kind of
  loss (KINDS) get norms in fixed proportions (compare EnCodec's balancer, Defossez et al. 2022, and
  VQGAN's adaptive weight, Esser et al. 2021). The generator's optimizer sees these; the encoder's
  reconstructions stay calibrated against its KL.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

KINDS = dict(
  reconstruction=('pixel', 'feature_d', 'feature_c'),
  adversarial=('real', 'fake_recon', 'fake_prior', 'fool_recon', 'fool_prior'),
  class_adversarial=('classify', 'classify_recon', 'classify_prior'),
  matching=('match_d', 'match_c'),
)
LEAST_VARIANCE = 6e-6  # e^-12, of a reconstruction: an exact one would have an infinite weight
WIDEST = 1e3  # a kind's weight is between 1 / WIDEST and WIDEST


class Balance(NamedTuple):
  """What to hold, and whether to act."""

  act: bool = True  # False is the shadow mode: weights are logged, and all of them are 1
  decay: float = 0.99  # per step, of the moving averages
  reconstruction: float = 1.0  # norm of the reconstructions' gradients over the reference's
  matching: float = 1.0  # the same of the matching losses'


class Weights(NamedTuple):
  """Factors on the weights of a method's table, for one step."""

  losses: Mapping[str, jax.Array]  # {loss: factor}, for all networks
  kinds: Mapping[str, jax.Array]  # {kind: factor}, for the generator alone


def kind_of(loss: str) -> str:
  """The kind of a loss; a loss of no kind (kl, r1, r2) is its own kind."""
  return next((kind for kind, names in KINDS.items() if loss in names), loss)


def kinds_of(names: Iterable[str]) -> list[list[str]]:
  """The names, one list per kind."""
  kinds: dict[str, list[str]] = {}
  for name in names:
    kinds.setdefault(kind_of(name), []).append(name)
  return list(kinds.values())


def kept(names: Iterable[str], descended: Iterable[str]) -> list[str]:
  """Names of the averages: loss_NAME of each reconstruction, norm_KIND of what is descended.

  Args:
    names: of all losses of a model; descended: of those in the generator's row.
  """
  kinds = {kind_of(n) for n in descended}
  averaged = [f'loss_{n}' for n in names if n in KINDS['reconstruction']]
  return averaged + [f'norm_{kind}' for kind in KINDS if kind in kinds]


def init(names: Iterable[str], descended: Iterable[str]) -> dict[str, jax.Array]:
  """Averages of nothing yet: 0 for each of `kept` and for 'steps', float32 [] each."""
  return {name: jnp.zeros(()) for name in [*kept(names, descended), 'steps']}


def moved(
  averages: Mapping[str, jax.Array], terms: Mapping[str, jax.Array], decay: float
) -> dict[str, jax.Array]:
  """The averages after a step with these terms (losses by name, and norm_KIND).

  A first phase lacks some of the terms; their averages stay.
  """
  after = dict(averages, steps=averages['steps'] + 1)
  for name, old in averages.items():
    value = terms.get(name.removeprefix('loss_'))
    if value is not None:
      after[name] = decay * old + (1 - decay) * value
  return after


def mean(averages: Mapping[str, jax.Array], name: str, decay: float) -> jax.Array:
  """The moving average, corrected for its start at 0; NaN before the first step."""
  return averages[name] / (1 - decay ** averages['steps'])


def calibrated(
  averages: Mapping[str, jax.Array], sizes: Mapping[str, int], decay: float
) -> dict[str, jax.Array]:
  """{loss: D / (2 mean(L))} of the reconstructions; 0 before the first step, which knows no scale.

  Args:
    sizes: {loss: D}, the numbers of elements of an image or of features.
  """
  weights = {}
  for loss, size in sizes.items():
    variance = 2 * mean(averages, f'loss_{loss}', decay) / size
    weight = 1 / jnp.maximum(variance, LEAST_VARIANCE)
    weights[loss] = jnp.where(averages['steps'] > 0, weight, 0.0)
  return weights


def balanced(
  averages: Mapping[str, jax.Array], shares: Mapping[str, float], decay: float
) -> dict[str, jax.Array]:
  """{kind: weight} such that share_k = weight_k norm_k / norm_reference.

  All are 1 before the first step. The reference, of weight 1, is the first of adversarial, matching
  and reconstruction that there is.
  """
  norms = {
    name.removeprefix('norm_'): mean(averages, name, decay)
    for name in averages
    if name.startswith('norm_')
  }
  order = ('adversarial', 'matching', 'reconstruction')
  reference = next((kind for kind in order if kind in norms), None)
  weights = {}
  for kind, norm in norms.items():
    share = shares.get(kind, 1.0) / shares.get(reference, 1.0)
    weight = jnp.clip(share * norms.get(reference, norm) / (norm + 1e-20), 1 / WIDEST, WIDEST)
    weights[kind] = jnp.where(averages['steps'] > 0, weight, 1.0)
  return weights


def norm_at_images(gradients: Iterable[jax.Array]) -> jax.Array:
  """Sum over groups of images and over the batch of the norms of each image's gradient.

  Losses are means over the batch, so this is the mean over images of the norm of dL_b/dx_b.

  Args:
    gradients: of groups of images, [B, ...] each.
  """
  total = jnp.zeros(())
  for gradient in gradients:
    squares = jnp.square(gradient.astype(jnp.float32)).sum(tuple(range(1, gradient.ndim)))
    total += jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0).sum()
  return total


def weights(
  balance: Balance, averages: Mapping[str, jax.Array], sizes: Mapping[str, int]
) -> Weights:
  """The Weights of the step after `averages`; sizes: see calibrated."""
  shares = dict(reconstruction=balance.reconstruction, matching=balance.matching)
  return Weights(
    calibrated(averages, sizes, balance.decay), balanced(averages, shares, balance.decay)
  )
