"""Pictures for a page: fewer, smaller, and encoded as WebP in data URIs."""

import base64
from collections.abc import Sequence
import functools
import io
from typing import Any

from PIL import Image

from vaegan_jax import paths

BUDGET = 3_000_000  # characters of all pictures of a page
TRIES = ((24, 900), (16, 720), (10, 640), (6, 480), (3, 400), (2, 320), (1, 240), (1, 120))


def embedded(
  files: Sequence[Sequence[tuple[int, Any]]],
) -> list[list[tuple[int, str]]]:
  """(step, data URI) of pictures from each list of (step, file), within BUDGET in all.

  Where all do not fit, each list is thinned evenly, its first and last pictures kept, and the
  pictures are made smaller. A picture that cannot be read is left out.
  """
  made: list[list[tuple[int, str]]] = []
  for count, width in TRIES:
    made = [
      [(step, uri) for step, path in thinned(own, count) if (uri := data_uri(path, width))]
      for own in files
    ]
    if sum(len(uri) for own in made for _, uri in own) <= BUDGET:
      return made
  return [[] for _ in files]


def thinned(items: Sequence, count: int) -> list:
  """At most `count` items, evenly spread; the last one is always there, the first if count > 1."""
  if len(items) <= count:
    return list(items)
  last = len(items) - 1
  return [items[round(last * (i + 1) / count) if count == 1 else round(last * i / (count - 1))]
          for i in range(count)]  # fmt: skip


def data_uri(path: Any, width: int) -> str:
  """A picture of at most `width` pixels across as a data URI; '' if it cannot be read."""
  try:
    return _encoded(path, width, *paths.stamp(path))
  except (OSError, ValueError, Image.DecompressionBombError):
    return ''


@functools.lru_cache(maxsize=256)  # a page is renewed often, and most of its pictures stay
def _encoded(path: Any, width: int, changed: int, size: int) -> str:
  with path.open('rb') as file, Image.open(file, formats=('PNG',)) as opened:
    image = opened.convert('RGB')
  if image.width > width:
    image = image.resize((width, max(1, round(image.height * width / image.width))))
  stream = io.BytesIO()
  image.save(stream, 'WEBP', quality=75, method=2)
  return 'data:image/webp;base64,' + base64.b64encode(stream.getvalue()).decode()
