"""Sheets: grids of a trained model's samples, named by class; and films of such grids."""

from collections.abc import Sequence
from fractions import Fraction
import importlib
import os
from typing import Any

import numpy as np
from PIL import Image

from vaegan_jax import conditions, files, images
from vaegan_jax.conditions import Attributes
from vaegan_jax.sample import Trained

MOST_COLUMNS = 16  # with up to this many classes or labels, each gets its own column


def samples(
  model: Trained,
  n: int | None = None,
  *,
  labels: Sequence[int | str] | None = None,
  attributes: Attributes | None = None,
  seed: int = 0,
  columns: int | None = None,
  scale: int | None = None,
) -> np.ndarray:
  """uint8 [H', W'] or [H', W', 3]: samples, one column per class or label, below its name.

  More than MOST_COLUMNS classes, one label, and no condition make a sheet that is about square.

  Args:
    n: pictures; by default one per label if there are several, or else eight rows.
    columns: pictures per row. Names stand over the columns only where each has its own class.
    scale: whole factor of enlargement; by default pictures of 64 pixels or more.
  """
  about = model.about
  names = list(about['names']) if about['condition'] == 'label' else []
  if names and labels is not None:
    names = [names[conditions.class_number(label, names)] for label in labels]
  turns = len(names) if 1 < len(names) <= MOST_COLUMNS else 0
  count = n or (len(names) if labels and len(names) > 1 else 8 * (turns or 8))
  columns = min(count, columns or turns or max(1, round(count**0.5)))
  pictures = model.sample(count, labels=labels, attributes=attributes, seed=seed)
  grid = images.grid(pictures, columns, scale=scale)
  if len(names) == 1 or (turns and columns in (count, turns)):
    return images.captioned(grid, columns=names[:columns])
  return grid


def save_gif(path: str | os.PathLike, frames: Sequence[np.ndarray], milliseconds: int) -> None:
  """Writes frames uint8 [H, W] or [H, W, 3] as a GIF that repeats for ever, whole or not at all.

  Raises OSError that names the path if it cannot be written.
  """
  # No dithering: its noise would flicker from frame to frame.
  shown = [Image.fromarray(f).quantize(dither=Image.Dither.NONE) for f in frames]
  with files.replacing(path) as file:
    rest = dict(append_images=shown[1:], duration=milliseconds, loop=0)
    shown[0].save(file, 'GIF', save_all=True, **rest)


def codec() -> Any:
  """The module av (PyAV, which holds FFmpeg); ValueError if it is not installed."""
  try:
    return importlib.import_module('av')
  except ImportError as e:
    raise ValueError(
      'an .mp4 needs av, which is missing: run pip install "vaegan_jax[video]", or name a .gif'
    ) from e


def save_mp4(path: str | os.PathLike, frames: Sequence[np.ndarray], milliseconds: int) -> None:
  """Writes frames uint8 [H, W] or [H, W, 3] as a film in H.264, whole or not at all.

  Odd sides get one white line more: the usual format of pixels, 4:2:0, takes even ones.

  Raises:
    ValueError: av is not installed.
    OSError: the path cannot be written; the message names it.
  """
  av = codec()
  height, width = (side + side % 2 for side in frames[0].shape[:2])
  with files.replacing(path) as file, av.open(file, 'w', format='mp4') as film:
    stream = film.add_stream('libx264', rate=Fraction(1000, milliseconds), options=dict(crf='16'))
    stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
    for frame in frames:
      even = np.full((height, width, 3), 255, np.uint8)
      even[: frame.shape[0], : frame.shape[1]] = frame if frame.ndim == 3 else frame[..., None]
      film.mux(stream.encode(av.VideoFrame.from_ndarray(even, format='rgb24')))
    film.mux(stream.encode(None))  # what the encoder still holds
