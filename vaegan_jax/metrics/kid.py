"""Kernel distance of two sets of features: squared maximum mean discrepancy, kernel (x.y / F + 1)^3.

Binkowski et al. 2018, who call it KID on the features of the Inception network. Unbiased, so that it
may be negative, and its mean does not depend on the number of images.
"""

import numpy as np

from vaegan_jax.metrics import arrays, distances


def kid(real, fake) -> float:
  """Unbiased squared MMD of real [N, F] and fake [M, F], over all pairs, in blocks."""
  real, fake = arrays.feature_pair(real, fake)
  return float(
    _within(real) + _within(fake) - 2.0 * _kernel_sum(real, fake) / (len(real) * len(fake))
  )


def kid_of_subsets(real, fake, *, num_subsets=100, subset_size=1000, seed=0) -> tuple[float, float]:
  """(mean, standard deviation) of the squared MMD over random subsets, as it is usually reported.

  The deviation is that of the `num_subsets` values, each of `subset_size` real and fake examples
  drawn without replacement (numpy's default_rng(seed)); it is no error of the mean.
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
  """Sum of the kernel over all pairs of rows and columns."""
  return sum(
    _cubed(rows[block] @ columns.T, rows.shape[1]).sum()
    for block in distances.row_blocks(len(rows), len(columns))
  )


def _cubed(products, num_features):
  kernel = products / num_features + 1.0
  return kernel * kernel * kernel  # `**3` calls pow, ten times slower


def _within(points):
  """Mean of the kernel over pairs of two different points."""
  count = len(points)
  itself = _cubed(np.einsum('nf,nf->n', points, points), points.shape[1]).sum()
  return (_kernel_sum(points, points) - itself) / (count * (count - 1))
