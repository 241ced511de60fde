"""The pictures of a run: grids of samples and of reconstructions."""

from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from vaegan_jax import build, data, files, images, sample, settings
from vaegan_jax.runs.boards import Board

SHOWN = 32  # reconstructions in a grid
COMPARED = 256  # real images whose variance is taken


def trained(config: ConfigDict, about: dict, state: Any, step: int) -> sample.Trained:
  """The Trained model of a state at rest, on this host's first device."""
  networks, _ = build.makers(config, about['size'])
  ema = {k: state.ema[k] for k in networks}
  weights = jax.tree.map(lambda a: a.addressable_data(0), ema)
  latent_size = config.network.latent_size
  return sample.Trained(networks, weights, latent_size, about, step, settings.to_dict(config))


def draw(
  workdir: Any,
  model: sample.Trained,
  shown: data.Dataset,
  board: Board,
) -> dict[str, float]:
  """Writes grids of samples (fixed noise; one class per column) and of reconstructions.

  Returns {'diversity': see below}, or {} where there is nothing to compare with.
  """
  condition = model.about['condition']
  classes = model.about['size'] if condition == 'label' else 0
  columns = classes if 0 < classes <= 16 else 8
  scale = max(1, 64 // model.config['data']['image_size'])
  samples = model.sample(8 * columns)
  grids = dict(samples=images.grid(samples, columns, scale=scale))
  if 'encoder' in model.networks:
    at = np.linspace(0, len(shown.images) - 1, min(len(shown.images), SHOWN)).astype(int)
    originals = np.asarray(shown.images[at])
    given = {}
    if condition == 'label':
      given = dict(labels=None if shown.labels is None else shown.labels[at])
    if condition == 'attributes':
      given = dict(attributes=None if shown.attributes is None else shown.attributes[at])
    again = model.reconstruct(originals, **given)
    grids['reconstructions'] = images.reconstruction_grid(originals, again, scale=scale)
  for name, grid in grids.items():
    if (workdir / name).is_file():
      raise OSError(f'{workdir / name} is a file, not a folder: move it away')
    files.save_png(workdir / name / f'step_{model.step:08d}.png', grid)
    board.add_image(name, grid, model.step)
  if condition == 'attributes':
    return {}
  labels = np.arange(len(samples)) % (classes or 1)
  if classes > columns:  # too few samples of each class in the grid
    labels = np.arange(len(samples)) % columns
    samples = model.sample(len(samples), labels=list(range(columns)))
  at = np.linspace(0, len(shown.images) - 1, min(len(shown.images), COMPARED)).astype(int)
  known = shown.labels[at] if classes and shown.labels is not None else np.zeros(len(at), int)
  real = variance_within(np.asarray(shown.images[at]), known)
  return dict(diversity=variance_within(samples, labels) / real) if real else {}


def variance_within(pictures: np.ndarray, labels: np.ndarray) -> float:
  """Variance of the pixels [N, H, W, C] within classes [N], their mean; 0 without two of a class.

  Samples over real images, it tells a collapse: the total variance does not.
  """
  flat = pictures.reshape(len(pictures), -1).astype(np.float32) / 255
  several = [k for k in np.unique(labels) if (labels == k).sum() > 1]
  return float(np.mean([flat[labels == k].var(0, ddof=1).mean() for k in several] or [0.0]))
