"""Files that appear whole or not at all, on a disk or in a bucket; their locks and sizes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import csv
import fcntl
import io
import itertools
import json
import math
import os
import pathlib
import shutil
from typing import IO, Any
import uuid

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from PIL import Image

from vaegan_jax.interrupts import unfinished
from vaegan_jax.paths import is_remote, open_path
from vaegan_jax.words import size_in_words

PART = '.vaegan_jax-{}.part'  # names of unfinished files in the folders of users


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as by to_json; a reader sees all of it or nothing."""
  write_text(path, to_json(value, indent=1) + '\n')


def to_json(value: Any, **options: Any) -> str:
  """A value as JSON; NaN and infinite numbers, for which JSON has no word, become null."""

  def finite(value):
    if isinstance(value, Mapping):
      return {key: finite(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
      return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

  return json.dumps(finite(value), allow_nan=False, **options)


def write_text(path: str | os.PathLike, content: str) -> None:
  """Writes a text; a reader sees all of it or nothing."""
  with _whole(open_path(path)) as file:
    file.write(content.encode())


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
  """A file to write that becomes `path` if the body ends well; makes the folders above it.

  Raises OSError that names the path if it cannot be written.
  """
  try:
    whole = open_path(path)
    whole.parent.mkdir(parents=True, exist_ok=True)
    with _whole(whole) as file:
      yield file
  except OSError as e:
    if is_remote(path):  # it says so
      raise
    raise OSError(f'{path} cannot be written: {e.strerror or e}') from e


def save_png(path: str | os.PathLike, image: np.ndarray) -> None:
  """Writes uint8 [H, W], [H, W, 1] or [H, W, 3], whole or not at all.

  Raises:
    ValueError: the image has another shape or type.
    OSError: the path cannot be written; the message names it.
  """
  path, image = open_path(path), np.asarray(image)
  if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
    raise ValueError(
      f'{path}: a PNG takes uint8 [H, W], [H, W, 1] or [H, W, 3], not '
      f'{image.dtype} {list(image.shape)}'
    )
  with replacing(path) as file:
    _picture(image).save(file, 'PNG')


def png(image: np.ndarray) -> bytes:
  """The bytes of a PNG of uint8 [H, W], [H, W, 1] or [H, W, 3]."""
  out = io.BytesIO()
  _picture(np.asarray(image)).save(out, 'PNG')
  return out.getvalue()


@contextlib.contextmanager
def _whole(path: Any) -> Iterator[IO[bytes]]:
  """A file to write that becomes `path` at the end. Removes what killed writers left beside it."""
  if is_remote(path):
    yield (content := io.BytesIO())
    path.write_bytes(content.getvalue())
    return
  remove_strays(path.parent)
  part = path.with_name(PART.format(uuid.uuid4().hex))
  with unfinished(part), part.open('xb') as file:
    with contextlib.suppress(OSError):  # a disk without locks keeps its strays
      lock(file)
    yield file
    file.flush()
    os.replace(part, path)


def remove_strays(folder: pathlib.Path) -> None:
  """Removes the unfinished files of killed processes; those of living ones are locked."""
  for stray in folder.glob(PART.format('*')):
    with contextlib.suppress(OSError), stray.open('r+b') as file:
      if lock(file):
        stray.unlink()


def save_pngs(
  folder: str | os.PathLike,
  batches: Iterable[np.ndarray],
  n: int,
  table: Iterable[Sequence[Any]] = (),
  pixels: int = 0,
) -> None:
  """Writes n images to FOLDER/0000.png and so on, all or none.

  Until all are written, the folder is called FOLDER.part. In a bucket, a process that is killed
  leaves those that it has written.

  Args:
    folder: does not exist yet, or is empty.
    batches: uint8 [b, H, W, C], n images in all.
    table: the rows of FOLDER/labels.csv; without rows there is no such file.
    pixels: values of one image, H W C; the PNG of a noisy one takes about a byte for each.

  Raises:
    OSError: before the first batch is drawn: the disk has no room for half of these bytes.
    ValueError: the folder holds files, is the root of a disk, or n is wrong.
  """
  if is_remote(folder):
    pictures = ((name, png(image)) for name, image in _named(folder, batches, n))
    open_path(folder).put_all(itertools.chain(pictures, _table(table)))
    return
  folder = pathlib.Path(folder).resolve()  # a link stays; the folder behind it is replaced
  if folder.is_mount():
    raise ValueError(f'{folder} is the root of a disk: name a folder in it')
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise ValueError(f'{folder} is not an empty folder: name another')
  temporary = folder.with_name(folder.name + '.part')
  if temporary.exists():
    raise ValueError(
      f'{temporary} was left by a killed run, or another run is writing it: remove it'
    )
  disk = os.statvfs(folder.parent)
  each = -(-max(pixels // 2, 1) // disk.f_frsize) * disk.f_frsize  # a file takes whole blocks
  _check_room(folder, n * each, ())
  with unfinished(temporary):
    temporary.mkdir()
    for name, image in _named(folder, batches, n):
      _picture(image).save(temporary / name, 'PNG')
    for name, content in _table(table):
      (temporary / name).write_bytes(content)
    os.replace(temporary, folder)


def _named(folder: Any, batches: Iterable[np.ndarray], n: int) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (file name, image), n times; ValueError at the end if other than n images came."""
  names, count = png_names(n), 0
  for count, image in enumerate(itertools.chain.from_iterable(batches), 1):
    if count <= n:
      yield next(names), image
  if count != n:
    raise ValueError(f'{folder}: {n} images were announced, but {count} came')


def _table(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[str, bytes]]:
  """Yields ('labels.csv', its content), if there are rows."""
  csv.writer(text := io.StringIO(newline='')).writerows(rows)
  if text.tell():  # the name of a class folder may be no UTF-8
    yield 'labels.csv', text.getvalue().encode(errors='backslashreplace')


def png_names(n: int) -> Iterator[str]:
  """Yields n file names of equal length: '0000.png', '0001.png' and so on."""
  return (f'{i:0{max(4, len(str(n - 1)))}d}.png' for i in range(n))


def _picture(image: np.ndarray) -> Image.Image:
  return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)


def save_npy(
  path: str | os.PathLike,
  batches: Iterable[ArrayLike],
  shape: Sequence[int],
  dtype: DTypeLike = np.uint8,
) -> None:
  """Writes batches [b, ...] to one .npy file; see save_npys."""
  save_npys([(path, batches, shape, dtype)])


def save_npys(
  files: Iterable[tuple[str | os.PathLike, Iterable[ArrayLike], Sequence[int], DTypeLike]],
) -> None:
  """Writes .npy files that belong together, all or none.

  Until all are written, each file is called PATH.part. A stop during the renaming leaves at worst
  the first file alone, never an old file with a new one.

  Args:
    files: (path, batches [b, ...], shape of the whole, dtype) of each file, all on one disk.

  Raises:
    OSError: before the first batch is drawn: the disk has no room, a file cannot be written, or
      another process is writing it.
    ValueError: the batches do not fill the shape.
  """
  files = [
    (open_path(path), batches, tuple(map(int, shape)), np.dtype(dtype))
    for path, batches, shape, dtype in files
  ]
  if is_remote(files[0][0]):
    with contextlib.ExitStack() as copied:  # the first one last
      for path, batches, shape, dtype in files:
        file = copied.enter_context(path.replaced())
        _write_npy(file, path, batches, shape, dtype)
      files[0][0].unlink(missing_ok=True)
    return
  temporary = {path: path.with_name(path.name + '.part') for path, *_ in files}
  first, *others = temporary
  needed = sum(math.prod(shape) * dtype.itemsize for *_, shape, dtype in files)
  _check_room(first, needed, temporary.values())
  with contextlib.ExitStack() as claims:
    opened = {path: claims.enter_context(_claimed(path, part)) for path, part in temporary.items()}
    for path, batches, shape, dtype in files:
      file = opened[path]
      _write_npy(file, path, batches, shape, dtype)
      file.flush()
      os.fsync(file.fileno())
    for path in others:
      path.unlink(missing_ok=True)
    for path in temporary:
      os.replace(temporary[path], path)


def _write_npy(file: IO, path: Any, batches: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
  """Writes the header and the batches; ValueError if they do not fill the shape."""
  descr = np.lib.format.dtype_to_descr(dtype)
  header = {'descr': descr, 'fortran_order': False, 'shape': shape}
  np.lib.format.write_array_header_1_0(file, header)
  size = file.tell() + math.prod(shape) * dtype.itemsize
  for batch in batches:
    # Not through a memory map: on a full disk that kills the process by SIGBUS.
    file.write(np.ascontiguousarray(batch, dtype).data)
  if file.tell() != size:
    raise ValueError(f'{path}: {list(shape)} takes {size} bytes, but {file.tell()} came')


@contextlib.contextmanager
def _claimed(path: pathlib.Path, part: pathlib.Path) -> Iterator[IO[bytes]]:
  """The file `part`, open, empty and locked; unless renamed to `path`, it is removed at the end."""
  try:
    if path.is_dir():
      raise OSError('it is a folder')
    file = part.open('ab')
  except OSError as e:
    raise OSError(f'{path} cannot be written: {e.strerror or e}') from e
  with file:
    if not lock(file):
      raise OSError(
        f'{path} is being written by another process: wait for it, or name another file'
      )
    file.truncate(0)  # a killed run may have left bytes
    with unfinished(part):
      yield file


def _check_room(path: pathlib.Path, needed: int, replaced: Iterable[pathlib.Path]) -> None:
  """OSError if the disk of `path` has less than `needed` bytes, counting what `replaced` frees."""
  free = shutil.disk_usage(path.absolute().parent).free
  free += sum(p.stat().st_size for p in replaced if p.exists())
  if needed > free:
    raise OSError(
      f'{path} needs {size_in_words(needed)}, but only {size_in_words(free)} are free: make room, '
      'ask for fewer images, or name a path on another disk'
    )


def lock(file: IO) -> bool:
  """Whether this process now holds the lock of an open file; closing the file releases it."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True
