"""What a folder or a zip archive of images holds, listed without decoding one.

Hidden files, __MACOSX and symlinks are left out. Archives are read in place, and entries that lead
out of them, are encrypted, or expand too far are refused.
"""

from collections.abc import Callable
import functools
import os
import pathlib
import stat
from typing import Any, NamedTuple
import zipfile

from vaegan_jax.paths import is_remote
from vaegan_jax.words import size_in_words

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')
LARGEST_ARCHIVE = 20 * 10**9  # bytes, uncompressed
LARGEST_FILE = 2**28  # bytes of a table, or of an image in an archive: it is read as a whole
LARGEST_RATIO = 200  # of uncompressed to compressed bytes, for files above 1 MB


class Listing(NamedTuple):
  """What a folder or archive holds, by names with forward slashes."""

  root: Any
  files: dict[str, tuple[Any, list]]  # images: (Example.encoded, [size, time, hash or CRC])
  folders: set[str]  # at the root
  refused: list[tuple[str, str]]  # images that must not be read: (name, reason)
  content: Callable[[str], bytes | None]  # of another file; None if there is no such file
  others: list[str]  # files that are no images, and symlinks


def of_folder(root: pathlib.Path) -> Listing:
  """The Listing of a folder; symlinks inside are not followed."""
  if is_remote(root):
    return _of_bucket(root)
  files, folders, others, waiting = {}, set(), [], [(str(root), '')]
  while waiting:
    folder, prefix = waiting.pop()
    with os.scandir(folder) as entries:
      for entry in entries:
        name = prefix + entry.name
        if _is_hidden(entry.name):
          continue
        if entry.is_symlink():
          others.append(f'{name} (a symlink)')
        elif entry.is_dir():
          folders.update([] if prefix else [name])
          waiting.append((entry.path, f'{name}/'))
        elif entry.is_file() and name.lower().endswith(EXTENSIONS):
          status = entry.stat()
          files[name] = entry.path, [status.st_size, status.st_mtime_ns]
        else:
          others.append(name)

  def content(name):
    path = root / name
    if not path.is_file():
      return None
    if path.stat().st_size > LARGEST_FILE:
      raise ValueError(f'{path} is larger than {size_in_words(LARGEST_FILE)}: is it a table?')
    return path.read_bytes()

  return Listing(root, files, folders, [], content, sorted(others))


def _of_bucket(root: Any) -> Listing:
  """What of_folder gives, for names that begin with those of a folder."""
  files, folders, others, found = {}, set(), [], root.found()
  for name, facts in found.items():
    if any(map(_is_hidden, name.split('/'))) or facts['type'] != 'file':
      continue
    folders.update(name.split('/')[:-1][:1])
    if name.lower().endswith(EXTENSIONS):
      changed = next((str(facts[k]) for k in ('md5Hash', 'etag', 'ETag') if k in facts), '')
      files[name] = (root / name).read_bytes, [facts['size'], changed]
    else:
      others.append(name)

  def content(name):
    if name not in found:
      return None
    if found[name]['size'] > LARGEST_FILE:
      raise ValueError(
        f'{root / name} is larger than {size_in_words(LARGEST_FILE)}: is it a table?'
      )
    return (root / name).read_bytes()

  return Listing(root, files, folders, [], content, sorted(others))


def of_picture(root: pathlib.Path) -> Listing:
  """The Listing of a single image, without any table."""
  status = root.stat()
  files = {root.name: (str(root), [status.st_size, status.st_mtime_ns])}
  return Listing(root, files, set(), [], lambda name: None, [])


def of_zip(root: Any) -> Listing:
  """The Listing of an archive, which is never extracted.

  If one folder holds everything, that folder is the root.

  Raises:
    ValueError: it is no readable archive, is too large, or holds a name twice.
  """
  try:
    archive = zipfile.ZipFile(root.open('rb') if is_remote(root) else root)
    infos = archive.infolist()
  except Exception as error:  # BadZipFile, struct.error, UnicodeDecodeError and others
    raise ValueError(
      f'{root} is neither a folder, a picture, nor a readable .zip ({error})'
    ) from error
  total = sum(info.file_size for info in infos)
  if total > LARGEST_ARCHIVE:
    raise ValueError(
      f'{root} takes {size_in_words(total)} uncompressed, over the limit of '
      f'{size_in_words(LARGEST_ARCHIVE)}: unpack it, and set --config.data.path to the folder'
    )
  visible = [i for i in infos if not any(map(_is_hidden, i.filename.split('/')))]
  tops = {i.filename.split('/')[0] if '/' in i.filename else '' for i in visible}
  strip = len(tops.pop()) + 1 if len(tops) == 1 and not tops & {'', '.', '..'} else 0
  files, folders, refused, others, entries = {}, set(), [], [], {}
  for info in visible:
    name = info.filename[strip:]
    if '/' in name:
      folders.add(name.split('/')[0])
    if info.is_dir():
      continue
    if name in entries:
      raise ValueError(f'{root} holds {name} twice: remove one')
    entries[name] = info
    problem = _zip_problem(info)
    if not name.lower().endswith(EXTENSIONS):
      others.append(name)
    elif problem:
      refused.append((name, problem))
    else:
      files[name] = functools.partial(_zip_bytes, archive, info), [info.file_size, info.CRC]

  def content(name):
    if name not in entries:
      return None
    if problem := _zip_problem(entries[name]):
      raise ValueError(f'{root}, {name}: {problem}')
    return _zip_bytes(archive, entries[name])

  return Listing(root, files, folders, refused, content, sorted(others))


def _is_hidden(name):
  return name == '__MACOSX' or (name.startswith('.') and name not in ('.', '..'))


def _zip_problem(info):
  """Why an entry must not be read, or None."""
  if info.filename.startswith('/') or '..' in info.filename.split('/'):
    return 'its name leads out of the archive'
  if stat.S_ISLNK(info.external_attr >> 16):
    return 'it is a symlink'
  if info.flag_bits & 1:
    return 'it is encrypted'
  if info.file_size > max(10**6, LARGEST_RATIO * info.compress_size):
    return f'it expands over {LARGEST_RATIO} times'
  if info.file_size > LARGEST_FILE:
    return f'it is larger than {size_in_words(LARGEST_FILE)}'
  return None


def _zip_bytes(archive, info):
  try:
    return archive.read(info)
  except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError
    raise ValueError(f'damaged in the archive: {error}') from error
