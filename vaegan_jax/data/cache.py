"""Decoded images on disk: each source is decoded once, in bounded memory, then memory-mapped.

    CACHE_DIR/NAME-64x64x3-KEY/    images.npy, labels.npy, attributes.npy, meta.json

The key is a hash of everything that determines the content, so that no entry is ever out of date.
A folder gets its name only when it is complete, so that any number of processes may write the same
set, and any of them may be killed.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import shutil
import time
from typing import IO, Any
import uuid

import numpy as np

from vaegan_jax.data.sources import Content, Example, Source
from vaegan_jax.images import fit_image, read_image
from vaegan_jax.interrupts import unfinished
from vaegan_jax.paths import cache_home, check_local
from vaegan_jax.words import size_in_words

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when decoding or the files change
MOST_SKIPPED = 0.01  # of all images
NAMED = 20  # unreadable images get a warning each; the rest are only counted
PROGRESS_SECONDS = 5.0
STALE_SECONDS = 24 * 3600.0


def decoded(
  source: Source, image_size: int, channels: int, cache_dir: str = '', scratch: str = ''
) -> dict[str, Any]:
  """The fields of a Dataset but its name: images, labels, class_names, ..., skipped.

  A source that is not in the cache is decoded into it, or into the folder `scratch` if given.

  Raises:
    ValueError: over MOST_SKIPPED of the images cannot be read, the disk is full, or the cache
      cannot be written.
  """
  return entry(
    source,
    f'{image_size}x{image_size}x{channels}',
    [FORMAT, image_size, channels, source.crop, source.border, source.identity],
    'images',
    functools.partial(_decode, source, image_size, channels),
    cache_dir,
    scratch,
  )


def entry(
  source: Source,
  kind: str,
  what: list,
  array: str,
  write: Callable[[pathlib.Path], None],
  cache_dir: str = '',
  scratch: str = '',
) -> dict[str, Any]:
  """What `write` leaves in a folder of the cache: a memory map named `array`, labels, names, ...

  Args:
    source: its name is part of the folder's.
    kind: another part, for the eyes.
    what: JSON values: everything that the content depends on.
    array: `write` makes ARRAY.npy, and write_rest the other files.
    write: writes the files, unless a complete folder is there.
    cache_dir: where folders lie; empty: paths.cache_home() / 'data'.
    scratch: folder for an entry that is not in the cache yet; empty: the cache itself.

  Raises:
    ValueError: the disk is full, or the cache cannot be written.
  """
  check_local(cache_dir, '--config.data.cache_dir=')
  home = pathlib.Path(cache_dir).expanduser() if cache_dir else cache_home() / 'data'
  key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]
  label = re.sub(r'[^A-Za-z0-9]+', '_', source.name.rpartition('/')[2]).strip('_')[:40]
  final = home / f'{label or "data"}-{kind}-{key}'
  content = _opened(final, array)
  if content is None:
    if scratch:
      home, final = pathlib.Path(scratch), pathlib.Path(scratch) / final.name
    temporary = home / f'.{uuid.uuid4().hex}.tmp'
    try:
      home.mkdir(parents=True, exist_ok=True)
      _remove_stale(home)
      with unfinished(temporary):
        temporary.mkdir()
        write(temporary)
        _publish(temporary, final, array)
    except OSError as error:
      raise ValueError(
        f'the {array} of {source.name} cannot be written to {home} ({error}): make room '
        'there, or set --config.data.cache_dir to another folder'
      ) from error
    content = _opened(final, array)
    if content is None:
      raise ValueError(f'{final} was changed by another program while it was written: try again')
  elif content['skipped']:
    log.warning('%s: %d unreadable images are left out', source.name, len(content['skipped']))
  return content


def _opened(folder: pathlib.Path, array: str) -> dict[str, Any] | None:
  """The content of a complete cache folder, or None."""
  try:
    meta = json.loads((folder / 'meta.json').read_text())
    arrays: dict[str, np.ndarray | None] = {
      array: np.asarray(np.load(folder / f'{array}.npy', mmap_mode='r'))
    }
    for name in ('labels', 'attributes'):
      arrays[name] = np.load(folder / f'{name}.npy') if name in meta['shapes'] else None
    if {k: list(v.shape) for k, v in arrays.items() if v is not None} != meta['shapes']:
      raise ValueError('shapes differ')
    del meta['shapes']
    return {**meta, **arrays, 'skipped': tuple(map(tuple, meta['skipped']))}
  except FileNotFoundError:
    return None
  except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
    log.warning('the cached %s in %s are damaged (%s): reading them again', array, folder, error)
    return None


def _publish(temporary: pathlib.Path, final: pathlib.Path, array: str) -> None:
  """Gives the finished folder its name, unless another process was faster."""
  if final.exists() and _opened(final, array) is None:
    os.rename(final, temporary / 'damaged')  # if killed here, `temporary` goes with it
    shutil.rmtree(temporary / 'damaged')
  try:
    os.rename(temporary, final)
  except OSError:
    if _opened(final, array) is None:
      raise


def _remove_stale(home: pathlib.Path) -> None:
  """Removes the temporary folders of killed processes."""
  for folder in home.glob('.*.tmp'):
    try:
      if time.time() - folder.stat().st_mtime > STALE_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:  # another process was faster
      pass


def _decode(source: Source, image_size: int, channels: int, folder: pathlib.Path) -> None:
  """Writes the files of the cache to a folder."""
  content, shape = source.read(), (image_size, image_size, channels)
  needed, free = content.length * math.prod(shape), shutil.disk_usage(folder).free
  if needed > free:
    raise OSError(f'{size_in_words(needed)} are needed, {size_in_words(free)} are free')
  log.info('decoding the %d images of %s, once per size and split', content.length, source.name)
  kept, skipped = [], list(content.refused)
  total = content.length + len(skipped)
  _refuse_many(source.name, skipped, total)
  with open(folder / 'images.npy', 'w+b') as file:
    header = _write_header(file, (content.length, *shape))
    made = _images(source, content, image_size, channels)
    for example, image in progress(made, f'decoding {source.name}', content.length):
      if isinstance(image, str):
        skipped.append((example.name, image))
        if len(skipped) <= NAMED:
          log.warning('%s: left out %s: %s', source.name, example.name, image)
        _refuse_many(source.name, skipped, total)
      else:
        # Not through a memory map: on a full disk that kills the process by SIGBUS.
        file.write(image.tobytes())
        kept.append(example._replace(encoded=None))  # not to hold the whole set in memory
    if not kept:
      raise ValueError(f'{source.name} holds no image')
    if skipped:
      log.warning(
        '%s: %d of %d images could not be read and are left out', source.name, len(skipped), total
      )
    file.seek(0)
    if _write_header(file, (len(kept), *shape)) != header:
      raise AssertionError('the header of images.npy changed its length')
    file.flush()
    os.fsync(file.fileno())
  write_rest(folder, kept, skipped, content, 'images', [len(kept), *shape])


def progress(items: Iterable[Any], doing: str, length: int) -> Iterator[Any]:
  """Yields the items, and logs their rate every PROGRESS_SECONDS; `length`: of all."""
  last = start = time.monotonic()
  for done, item in enumerate(items, 1):
    yield item
    if time.monotonic() - last > PROGRESS_SECONDS:
      last = time.monotonic()
      log.info('%s: %d of %d images, %.0f images/s', doing, done, length, done / (last - start))


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> int:
  """Its length in bytes: NumPy pads it, so that it does not depend on the first axis."""
  np.lib.format.write_array_header_1_0(
    file, {'descr': '|u1', 'fortran_order': False, 'shape': shape}
  )
  return file.tell()


def write_rest(
  folder: pathlib.Path,
  kept: list[Example],
  skipped: list[tuple[str, str]],
  content: Content,
  array: str,
  shape: list[int],
  **more: Any,
) -> None:
  """Writes labels.npy, attributes.npy and, last, meta.json, with `more` in it."""
  shapes, classes = {array: shape}, content.class_names
  labels = [e.label for e in kept]
  if labels[0] is not None:
    if classes is None:  # names or numbers of persons become classes, in sorted order
      distinct = sorted(set(labels))
      index, classes = {v: i for i, v in enumerate(distinct)}, [str(v) for v in distinct]
      labels = [index[v] for v in labels]
    if set(labels) == {-1}:  # TFDS marks a split without labels so
      classes = None
    else:
      np.save(folder / 'labels.npy', np.array(labels, np.int32))
      shapes['labels'] = [len(kept)]
  if content.attribute_names:
    np.save(folder / 'attributes.npy', np.stack([e.attributes for e in kept]).astype(np.uint8))
    shapes['attributes'] = [len(kept), len(content.attribute_names)]
  meta = dict(
    shapes=shapes,
    class_names=classes,
    attribute_names=content.attribute_names,
    skipped=skipped,
    **more,
  )
  (folder / 'meta.json').write_text(json.dumps(meta))


def pixels(source: Source, encoded: Any, image_size: int, channels: int) -> np.ndarray:
  """uint8 [image_size, image_size, channels] of an encoded image (bytes, a path, an open file).

  Raises:
    ValueError: the image cannot be read, or is smaller than the source's crop.
  """
  if not source.crop and not source.border:
    return read_image(encoded, channels, at_least=2 * image_size, square=image_size)
  # A crop is in pixels of the full image, so that this must not be decoded smaller.
  picture = read_image(encoded, channels, at_least=0 if source.crop else 2 * image_size)
  if source.border and max(picture.shape[:2]) not in (image_size, source.border):
    picture = fit_image(picture, source.border, pad=True)
  return fit_image(picture, image_size, source.crop)


def _images(
  source: Source, content: Content, image_size: int, channels: int
) -> Iterator[tuple[Example, np.ndarray | str]]:
  """Yields (example, uint8 [image_size, image_size, channels] or why it is unreadable)."""

  def image(example):
    try:
      encoded: Any = example.encoded() if callable(example.encoded) else example.encoded
      return pixels(source, encoded, image_size, channels)
    except ValueError as error:
      return str(error)

  workers = os.cpu_count() or 1
  pending = collections.deque()
  with futures.ThreadPoolExecutor(workers, 'decode') as pool:
    try:
      for example in content.examples:
        pending.append((example, pool.submit(image, example)))
        if len(pending) >= 32 * workers:
          example, future = pending.popleft()
          yield example, future.result()
      while pending:
        example, future = pending.popleft()
        yield example, future.result()
    finally:
      pool.shutdown(cancel_futures=True)


def _refuse_many(name: str, skipped: list[tuple[str, str]], total: int) -> None:
  """ValueError if over MOST_SKIPPED of the images are unreadable."""
  if len(skipped) > MOST_SKIPPED * total:
    first = '; '.join(f'{n}: {reason}' for n, reason in skipped[:3])
    raise ValueError(
      f'{name}: {len(skipped)} of {total} images cannot be read so far, over '
      f'{MOST_SKIPPED:.0%}: repair or remove them. {first}'
    )
