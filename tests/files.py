"""Small image files, folders and archives for the tests of data."""

import collections
import io
import zipfile

import numpy as np
from PIL import Image

from vaegan_jax.data import cache


def encoded(value, form='PNG', size=8):
  """The bytes of a square picture of one grey."""
  out = io.BytesIO()
  Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(out, form)
  return out.getvalue()


def write(root, files):
  """Root, after writing {name: bytes, text, or the grey of a small PNG} below it."""
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = encoded(content) if isinstance(content, int) else content
    path.write_bytes(content.encode() if isinstance(content, str) else content)
  return root


def zipped(path, files, **options):
  """The path, after writing a zip of {name: bytes, text, or the grey of a small PNG}."""
  with zipfile.ZipFile(path, 'w', **options) as archive:
    for name, content in files.items():
      archive.writestr(name, encoded(content) if isinstance(content, int) else content)
  return path


def counted_decodes(monkeypatch):
  """A Counter: 'n' counts the images decoded from now on."""
  count, read = collections.Counter(), cache.read_image
  monkeypatch.setattr(cache, 'read_image', lambda *a, **k: count.update(n=1) or read(*a, **k))
  return count
