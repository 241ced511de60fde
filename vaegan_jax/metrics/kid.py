"""Kernel distance of two sets of features: squared MMD with the kernel (x.y / F + 1)^3.

Source: Binkowski et al. 2018, who call it KID on the features of the Inception network. The
estimate is unbiased: it may be negative, and its mean does not depend on the number of images.
"""

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays, distances


def kid(real: ArrayLike, fake: ArrayLike) -> float:
  """Unbiased squared MMD of features real [N, F] and fake [M, F], over all pairs."""
  real, fake = arrays.feature_pair(real, fake)
  return float(
    _within(real) + _within(fake) - 2.0 * _kernel_sum(real, fake) / (len(real) * len(fake))
  )


def kid_of_subsets(
  real: ArrayLike,
  fake: ArrayLike,
  *,
  num_subsets: int = 100,
  subset_size: int = 1000,
  seed: int = 0,
) -> tuple[float, float]:
  """(mean, standard deviation) of the squared MMD over random subsets, as usually reported.

  Each of the `num_subsets` values is of `subset_size` real and fake examples, drawn without
  replacement by numpy's default_rng(seed). The deviation is that of the values, not of their mean.
  """
  real, fake = arrays.feature_pair(real, fake)
  if not 2 <= subset_size <= min(len(real), len(fake)) or num_subsets < 1:
    raise ValueError(
      f'{num_subsets} subsets of {subset_size} cannot be drawn from {len(real)} real and '
      f'{len(fake)} fake examples: give a smaller subset_size, at least 2'
    )
  rng = np.random.default_rng(seed)
  draw = lambda values: values[rng.choice(len(values), subset_size, replace=False)]
  values = [kid(draw(real), draw(fake)) for _ in range(num_subsets)]
  return float(np.mean(values)), float(np.std(values))


def _kernel_sum(rows, columns):
  """The kernel summed over all pairs of a row [N, F] and a column [M, F]."""
  return sum(
    _cubed(rows[block] @ columns.T, rows.shape[1]).sum()
    for block in distances.row_blocks(len(rows), len(columns))
  )


def _cubed(products, num_features):
  kernel = products / num_features + 1.0
  return kernel * kernel * kernel  # `**3` calls pow, ten times slower


def _within(points):
  """The kernel's mean over all pairs of different points [N, F]."""
  count = len(points)
  itself = _cubed(np.einsum('nf,nf->n', points, points), points.shape[1]).sum()
  return (_kernel_sum(points, points) - itself) / (count * (count - 1))
