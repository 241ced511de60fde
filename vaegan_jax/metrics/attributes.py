"""Attribute similarity of images generated from attributes (Larsen et al. 2016, section 4.2)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.metrics import arrays


class AttributeSimilarity(NamedTuple):
  cosine: float  # of the best sample of each attribute vector, mean over vectors; 1 is best
  squared_error: float  # summed over attributes, mean over vectors and samples
  squared_error_deviation: float  # of its S means over vectors, one per sample; NaN if S = 1


def attribute_similarity(wanted: ArrayLike, predicted: ArrayLike) -> AttributeSimilarity:
  """AttributeSimilarity of wanted attributes [N, A] and predicted ones [N, S, A] of S samples each.

  `predicted` comes from a regressor trained on real images, which the result must name. For the row
  of real images give its predictions on the images the vectors belong to, S = 1. Give attributes of
  0 and 1 as -1 and 1: zeros have no direction.

  Source: Larsen et al., Table 2. Recalled from it: the best of 10 for the cosine, as in Yan et al.
  2016, the mean for the squared error, statistics over 25 runs. That the error is a sum over
  attributes is a guess from its size.
  """
  wanted = arrays.numbers('wanted', wanted, 'attributes [N, A]', 2)
  predicted = arrays.numbers('predicted', predicted, 'attributes [N, S, A]', 3)
  if predicted.shape[::2] != wanted.shape:
    raise ValueError(
      f'predicted has shape {list(predicted.shape)} for wanted {list(wanted.shape)}: '
      'give [N, S, A] for [N, A], with equal N and A'
    )
  lengths = np.linalg.norm(wanted, axis=1)[:, None] * np.linalg.norm(predicted, axis=2)
  if not lengths.all():
    raise ValueError(
      'an attribute vector is all zeros and has no direction: give 0 and 1 as -1 and 1'
    )
  cosines = np.einsum('na,nsa->ns', wanted, predicted) / lengths
  errors = np.square(predicted - wanted[:, None]).sum(2).mean(0)
  return AttributeSimilarity(
    float(cosines.max(1).mean()),
    float(errors.mean()),
    float(errors.std(ddof=1)) if len(errors) > 1 else float('nan'),
  )
