"""Writers of files: whole or not at all."""

import contextlib
import csv
import fcntl
import itertools
import json
import math
import os
import pathlib
import shutil
import uuid

import numpy as np
from PIL import Image


def write_json(path, value):
  """Writes JSON so that a reader sees the whole of it or nothing."""
  path = pathlib.Path(path)
  part = path.with_name(f'.{path.name}.{os.getpid()}')
  part.write_text(json.dumps(value, indent=1) + '\n')
  os.replace(part, path)


def save_png(path, image):
  """Writes uint8 [H, W], [H, W, 1] or [H, W, 3] to the path, whole or not at all; OSError names the path."""
  path, image = pathlib.Path(path), np.asarray(image)
  if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
    raise ValueError(
      f'{path}: a PNG takes uint8 [H, W], [H, W, 1] or [H, W, 3], not '
      f'{image.dtype} {list(image.shape)}'
    )
  temporary = path.with_name(f'.{uuid.uuid4().hex}.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).save(temporary, 'PNG')
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)
  except OSError as e:
    raise OSError(f'{path} cannot be written: {e.strerror or e}') from e


def save_npy(path, parts, shape, dtype=np.uint8):
  """Writes one .npy file of arrays [b, ...]; see save_npys."""
  save_npys([(path, parts, shape, dtype)])


def save_npys(files):
  """Writes .npy files that belong together: [(path, arrays [b, ...], one after the other, shape, dtype)].

  All or none, on one disk: until all are there each is called PATH.part, and a stop while they take their names leaves
  at worst the first one alone, never an old one beside a new one. OSError, before the first array is asked for, where
  the disk has no room, a file cannot be written, or another process writes it.
  """
  files = [
    (pathlib.Path(path), parts, tuple(map(int, shape)), np.dtype(dtype))
    for path, parts, shape, dtype in files
  ]
  temporary = {path: path.with_name(path.name + '.part') for path, *_ in files}
  first, *others = temporary
  check_room(
    first, sum(math.prod(shape) * dtype.itemsize for *_, shape, dtype in files), temporary.values()
  )
  with contextlib.ExitStack() as claims:
    opened = {path: claims.enter_context(claimed(path, part)) for path, part in temporary.items()}
    for path, parts, shape, dtype in files:
      file = opened[path]
      header = dict(descr=np.lib.format.dtype_to_descr(dtype), fortran_order=False, shape=shape)
      np.lib.format.write_array_header_1_0(file, header)
      size = file.tell() + math.prod(shape) * dtype.itemsize
      for part in parts:
        # Not through a memory map, in which a full disk kills the process by SIGBUS.
        file.write(np.ascontiguousarray(part, dtype).data)
      if file.tell() != size:
        raise ValueError(f'{path}: {list(shape)} is {size} bytes, but {file.tell()} came')
      file.flush()
      os.fsync(file.fileno())
    for path in others:
      path.unlink(missing_ok=True)
    for path in temporary:
      os.replace(temporary[path], path)


@contextlib.contextmanager
def claimed(path, part):
  """The file `part`, open and empty, for this process alone; it is to be renamed to `path`, or goes in the end."""
  try:
    if path.is_dir():
      raise OSError('it is a folder')
    file = open(part, 'ab')
  except OSError as e:
    raise OSError(f'{path} cannot be written: {e.strerror or e}') from e
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise OSError(
        f'{path} is being written by another process: wait for it, or name another file'
      ) from e
    file.truncate(0)  # what a killed run left
    try:
      yield file
    finally:
      part.unlink(missing_ok=True)


def check_room(path, needed, replaced=()):
  """None, or OSError where the disk of `path` has less than `needed` bytes; files that are `replaced` free theirs."""
  free = shutil.disk_usage(path.absolute().parent).free + sum(
    p.stat().st_size for p in replaced if p.exists()
  )
  if needed > free:
    raise OSError(
      f'{path}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free: make room, ask for fewer '
      'images, or name a path on another disk'
    )


def save_pngs(folder, parts, n, table=()):
  """Writes uint8 images [b, H, W, C], n in all, as FOLDER/0000.png and so on, and the rows of its labels.csv where
  there are some. All or nothing: until all are there the folder is called FOLDER.part.

  Raises ValueError where the folder holds anything already.
  """
  folder, names, count = (
    pathlib.Path(folder).resolve(),
    png_names(n),
    0,
  )  # what links point to is what is renamed
  if folder.is_mount():
    raise ValueError(f'{folder} is the root of a disk: name a folder in it')
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise ValueError(f'{folder} is not an empty folder: name another')
  temporary = folder.with_name(folder.name + '.part')
  if temporary.exists():
    raise ValueError(
      f'{temporary} was left by a killed run, or is being written by another: remove it'
    )
  temporary.mkdir()
  try:
    for count, image in enumerate(itertools.chain.from_iterable(parts), 1):
      if count <= n:
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(
          temporary / next(names), 'PNG'
        )
    if count != n:
      raise ValueError(f'{folder}: {n} images were announced, but {count} came')
    rows = iter(table)
    if first := next(rows, None):
      with open(temporary / 'labels.csv', 'w', newline='') as file:
        csv.writer(file).writerows(itertools.chain([first], rows))
    os.replace(temporary, folder)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def png_names(n):
  """Yields '0000.png' and so on, n names that are as long as each other."""
  return (f'{i:0{max(4, len(str(n - 1)))}d}.png' for i in range(n))
