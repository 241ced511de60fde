"""Directions of the latent space that are worth a slider."""

from typing import Any

import numpy as np

from vaegan_jax import build, conditions, dispatch, edit, settings
from vaegan_jax.sample import Trained

SAMPLES = 512  # whose pixels and latents are compared
COUNT = 8  # principal directions
MOST_VECTORS = 40  # of attributes


def principal(
  model: Trained, count: int = COUNT, n: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Unit directions float32 [count, Z] that change the pixels most, and one that brightens [Z].

  The directions are the first singular vectors of the linear map from latents to pixels that fits
  n samples, z ~ N(0, I), best (least squares, with the condition as further inputs). For normal z
  that map estimates the mean Jacobian of the generator (Stein's lemma), so this is a principal
  component analysis of what a small step in z does to the pixels, on average.

  The last direction leads from the mean latent of the darker half of the samples to that of the
  brighter half, as an attribute vector does; it is not of unit length. n is 512, or 4 Z if that
  is more.
  """
  n = n or max(SAMPLES, 4 * model.latent_size)
  z = dispatch.latents(n, model.latent_size, seed=0)
  c = conditions.rows(model.about, n, seed=0)
  pixels = model.decode(z, **conditions.keyword(model.about, c)).reshape(n, -1) / np.float32(255)
  inputs = [z, np.ones((n, 1), np.float32), *([] if c is None else [c])]
  fit = np.linalg.lstsq(np.concatenate(inputs, 1), pixels, rcond=None)[0]
  of_z, of_rest = np.split(fit, [model.latent_size])
  u = np.linalg.svd(of_z, full_matrices=False)[0].T[:count]
  u = u * np.where(u @ of_z.mean(1) < 0, -1, 1)[:, None]  # to the right, it gets brighter
  brightness = (pixels - np.concatenate(inputs[1:], 1) @ of_rest).mean(1)
  bright = brightness > np.median(brightness)
  return u.astype(np.float32), z[bright].mean(0) - z[~bright].mean(0)


def of_data(model: Trained, n: int) -> dict[str, np.ndarray]:
  """{name: attribute vector float32 [Z]} of up to n images of the run's data set.

  The names are its attributes, or its classes, as far as the model does not take them as a
  condition.

  Raises:
    ValueError, OSError: the model has no encoder, or its images cannot be read here.
  """
  config: Any = settings.from_dict(model.config)
  dataset = build.dataset(config)
  at = np.linspace(0, len(dataset.images) - 1, min(n, len(dataset.images))).astype(int)
  kind, own = model.about['condition'], model.about['names']
  labels, attributes = dataset.labels, dataset.attributes
  classes, names = list(dataset.class_names or []), list(dataset.attribute_names or [])
  given: dict[str, Any] = {}
  if kind == 'label' and labels is not None:
    given = dict(labels=[classes[i] for i in labels[at]])
  elif kind == 'attributes' and attributes is not None:
    given = dict(condition=attributes[at][:, [names.index(name) for name in own]])
  if attributes is not None:
    has = np.asarray(attributes)[at] > 0
  elif labels is not None and kind == 'none':
    names, has = classes, np.asarray(labels)[at, None] == np.arange(len(classes))
  else:
    return {}
  use = [i for i, name in enumerate(names) if name not in own]
  use = [i for i in use if 0 < has[:, i].mean() < 1][:MOST_VECTORS]
  if not use:
    return {}
  vectors = edit.attribute_vectors(model, np.asarray(dataset.images[at]), has[:, use], **given)
  return {names[i]: vector for i, vector in zip(use, vectors)}
