"""Attribute similarity of images generated for given attributes (Larsen et al. 2016, section 4.2)."""

from typing import NamedTuple

import numpy as np

from vaegan_jax.metrics import arrays


class AttributeSimilarity(NamedTuple):
  cosine: float  # of the best sample of each attribute vector, mean over vectors; 1 is best
  squared_error: float  # summed over attributes, mean over vectors and samples
  squared_error_deviation: float  # of its S means over vectors, one a sample; NaN for one sample


def attribute_similarity(wanted, predicted) -> AttributeSimilarity:
  """AttributeSimilarity of attributes wanted [N, A] and predicted [N, S, A] of S samples for each.

  `predicted` comes from a regressor trained on real images, which the result must name; for the
  row of real images give its predictions of the images that the vectors belong to, S = 1. Recalled
  from the paper (its Table 2): the best of 10 for the cosine, as in Yan et al. 2016, the mean for the
  squared error, with statistics over 25 runs. Whether that error is a sum over attributes is a guess
  from its size. Attributes of 0 and 1 are to be given as -1 and 1: zeros have no direction.
  """
  wanted = arrays.numbers('wanted', wanted, 'attributes [N, A]', 2)
  predicted = arrays.numbers('predicted', predicted, 'attributes [N, S, A]', 3)
  if predicted.shape[::2] != wanted.shape:
    raise ValueError(
      f'predicted has shape {list(predicted.shape)} for wanted {list(wanted.shape)}: '
      '[N, S, A] for [N, A] is needed, with equal N and A'
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
