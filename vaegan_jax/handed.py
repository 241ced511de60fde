"""The contents of an exported model, one zip, and what must hold before any of it is used.

    manifest.json          what the model is, and the SHA-256 and size of every other file
    weights.safetensors    EMA weights, named generator/params/conv0/kernel and so on
    generator.stablehlo    the generator with a free batch, as jax.export writes it
    encoder.stablehlo      likewise, if the model has one
    run.py                 samples with JAX and numpy alone
    model_card.md          what it was trained on, how, and how it looks; with pictures *.png

Nothing in the archive is compressed, so that reading takes no more memory than its size on the
disk. Nothing of it is unpickled, evaluated, unpacked to the disk or imported.
"""

from collections.abc import Iterator, Mapping
import contextlib
import hashlib
import json
import os
from typing import Any
import zipfile

from vaegan_jax import files, paths

FORMAT, VERSION = 'vaegan_jax model', 1
MANIFEST, WEIGHTS = 'manifest.json', 'weights.safetensors'
LARGEST_MANIFEST = 2**24  # bytes
LARGEST_HEADER = 2**24  # bytes, of the weights
MOST_FILES = 64
CHUNK = 2**20  # bytes
CONDITIONS = ('none', 'label', 'attributes')


def write(
  path: str | os.PathLike[str], manifest: Mapping[str, Any], parts: Mapping[str, bytes]
) -> None:
  """Writes a model's zip, whole or not at all; `manifest` gets format, version and the files.

  Raises OSError that names the path if it cannot be written.
  """
  listed = {n: dict(sha256=hashlib.sha256(b).hexdigest(), bytes=len(b)) for n, b in parts.items()}
  said = json.dumps({'format': FORMAT, 'version': VERSION, **manifest, 'files': listed}, indent=1)
  with files.replacing(path) as part, zipfile.ZipFile(part, 'w', zipfile.ZIP_STORED) as archive:
    for name, content in {MANIFEST: said.encode(), **parts}.items():
      archive.writestr(zipfile.ZipInfo(name), content)  # a fixed date: equal models, equal bytes


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
  """(manifest, weights as safetensors) of a zip that `write` made, after all of its checks.

  Raises:
    ValueError: it is no such zip, or it is damaged; one line says what is wrong.
    OSError: it cannot be read.
  """
  opened = paths.open_path(path)
  if not opened.is_file():
    raise ValueError(f'{path} is not a file: name a zip that vaegan-export wrote')
  with opened.open('rb') as file, _wrong(path), zipfile.ZipFile(file) as archive:
    entries = _entries(archive, paths.size(opened))
    manifest = _manifest(_bytes(archive, entries, MANIFEST, LARGEST_MANIFEST))
    listed = manifest['files']
    if set(listed) != set(entries) - {MANIFEST}:
      odd = sorted(set(listed) ^ (set(entries) - {MANIFEST}))
      raise ValueError(f'the manifest and the archive differ about {odd[0]!r}')
    for name, facts in listed.items():
      if facts != dict(sha256=_sha256(archive, name), bytes=entries[name].file_size):
        raise ValueError(f'{name} is not what was exported (its SHA-256 or size differs)')
    return manifest, _bytes(archive, entries, WEIGHTS, entries[WEIGHTS].file_size)


@contextlib.contextmanager
def _wrong(path: Any) -> Iterator[None]:
  """Turns what a damaged or foreign zip raises into one ValueError that names it."""
  try:
    yield
  except Exception as e:  # zipfile raises many kinds: BadZipFile, OSError, struct.error, ...
    raise ValueError(
      f'{path} is not an intact model of vaegan-export: {e or type(e).__name__}; fetch it again'
    ) from e


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
  """{name: entry}: few, each once, none compressed or larger than the archive's `size`."""
  entries = archive.infolist()
  if len(entries) > MOST_FILES:
    raise ValueError(f'it holds {len(entries)} files')
  found = {entry.filename: entry for entry in entries}
  if len(found) != len(entries):
    raise ValueError('it holds a file twice')
  for name, entry in found.items():
    stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
    if not stored or not entry.file_size == entry.compress_size <= size:
      raise ValueError(f'{name} is compressed or encrypted, which vaegan-export does not do')
  for name in (MANIFEST, WEIGHTS):
    if name not in found:
      raise ValueError(f'it has no {name}')
  return found


def _bytes(
  archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str, most: int
) -> bytes:
  if entries[name].file_size > most:
    raise ValueError(f'{name} takes {entries[name].file_size} bytes')
  return archive.read(name)


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
  digest = hashlib.sha256()
  with archive.open(name) as file:
    while chunk := file.read(CHUNK):
      digest.update(chunk)
  return digest.hexdigest()


def _manifest(text: bytes) -> dict[str, Any]:
  """The manifest, after checking the types of what loading uses."""
  try:
    manifest = json.loads(text)
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{MANIFEST} is not JSON ({e})') from e
  if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
    raise ValueError(f'{MANIFEST} does not say that this is a {FORMAT}')
  if manifest.get('version') != VERSION:
    raise ValueError(
      f'it has version {manifest.get("version")!r} of the format, and this vaegan_jax reads '
      f'version {VERSION}'
    )
  kinds: dict[str, type] = dict(files=dict, config=dict, about=dict, step=int, latent_size=int)
  for key, kind in kinds.items():
    if not isinstance(manifest.get(key), kind):
      raise ValueError(f'{MANIFEST} has no sound {key!r}')
  about = manifest['about']
  names, size, condition = about.get('names'), about.get('size'), about.get('condition')
  sound = isinstance(names, list) and all(isinstance(n, str) for n in names)
  sound = sound and condition in CONDITIONS and size == len(names) and type(size) is int
  if sound and condition == 'attributes':
    rows = about.get('examples')
    sound = isinstance(rows, list) and rows and all(_bits(row, size) for row in rows)
  if not sound or (size > 0) == (condition == 'none'):
    raise ValueError(f"{MANIFEST} has no sound 'about'")
  return manifest


def _bits(row: Any, size: int) -> bool:
  """Whether a row of attributes is `size` times 0 or 1."""
  return isinstance(row, list) and len(row) == size and all(v in (0, 1) for v in row)
