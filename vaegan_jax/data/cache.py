"""Decoded images on disk: each source is decoded once, in bounded memory, and mapped from then on.

    CACHE_DIR/NAME-64x64x3-KEY/    images.npy, labels.npy, attributes.npy, meta.json

The key is a hash of all that determines the content, so that nothing is ever out of date. A folder
gets its name only when it is complete, so that any number of processes may write and be killed.
"""

import collections
from concurrent import futures
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import time
import uuid

import numpy as np

from vaegan_jax.images import fit_image, read_image

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when decoding or the files change
MOST_SKIPPED = 0.01  # of all images
NAMED = 20  # warnings, before only the number is given
PROGRESS_SECONDS = 5.0
STALE_SECONDS = 24 * 3600.0


def decoded(source, image_size, channels, cache_dir='', scratch=''):
  """{images, labels, class_names, attributes, attribute_names, skipped} of a Source; see Dataset.

  What is not in the cache yet is decoded into it, or into the folder `scratch` where one is given.

  Raises:
    ValueError: over MOST_SKIPPED of the images cannot be read, the disk is full, or the cache
      cannot be written.
  """
  home = pathlib.Path(
    cache_dir
    or pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'vaegan_jax' / 'data'
  ).expanduser()
  what = [FORMAT, image_size, channels, source.crop, source.border, source.identity]
  key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]
  label = re.sub(r'[^A-Za-z0-9]+', '_', source.name.rpartition('/')[2]).strip('_')[:40]
  final = home / f'{label or "data"}-{image_size}x{image_size}x{channels}-{key}'
  content = _opened(final)
  if content is None:
    if scratch:
      home, final = pathlib.Path(scratch), pathlib.Path(scratch) / final.name
    temporary = home / f'.{uuid.uuid4().hex}.tmp'
    try:
      home.mkdir(parents=True, exist_ok=True)
      _remove_stale(home)
      temporary.mkdir()
      _decode(source, image_size, channels, temporary)
      _publish(temporary, final)
    except OSError as error:
      raise ValueError(
        f'the decoded images of {source.name} cannot be written to {home} ({error}): make room '
        'there, or set --config.data.cache_dir to another folder'
      ) from error
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
    content = _opened(final)
    if content is None:
      raise ValueError(f'{final} was changed by another program while it was written: try again')
  elif content['skipped']:
    log.warning('%s: %d unreadable images are left out', source.name, len(content['skipped']))
  return content


def _opened(folder):
  """The content of a complete cache folder, or None."""
  try:
    meta = json.loads((folder / 'meta.json').read_text())
    arrays = dict(images=np.asarray(np.load(folder / 'images.npy', mmap_mode='r')))
    for name in ('labels', 'attributes'):
      arrays[name] = np.load(folder / f'{name}.npy') if name in meta['shapes'] else None
    if {k: list(v.shape) for k, v in arrays.items() if v is not None} != meta['shapes']:
      raise ValueError('shapes differ')
    return dict(
      arrays,
      class_names=meta['class_names'],
      attribute_names=meta['attribute_names'],
      skipped=tuple(map(tuple, meta['skipped'])),
    )
  except FileNotFoundError:
    return None
  except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
    log.warning('the cached images in %s are damaged (%s): decoding them again', folder, error)
    return None


def _publish(temporary, final):
  """Gives the finished folder its name, unless another process was faster."""
  if final.exists() and _opened(final) is None:
    os.rename(final, temporary / 'damaged')  # goes away with temporary, or below
    shutil.rmtree(temporary / 'damaged')
  try:
    os.rename(temporary, final)
  except OSError:
    if _opened(final) is None:
      raise


def _remove_stale(home):
  """Removes what killed processes left behind."""
  for folder in home.glob('.*.tmp'):
    try:
      if time.time() - folder.stat().st_mtime > STALE_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:  # another process removes it, too
      pass


def _decode(source, image_size, channels, folder):
  """Writes the files of the cache to a folder."""
  content = source.read()
  size = content.count * image_size**2 * channels
  free = shutil.disk_usage(folder).free
  if size > free:
    raise OSError(f'{size / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free')
  log.info('decoding %s, %d images, for all later runs', source.name, content.count)
  kept, skipped = [], list(content.refused)
  total = content.count + len(skipped)
  _refuse_many(source.name, skipped, total)
  last = start = time.monotonic()
  with open(folder / 'images.npy', 'w+b') as file:
    header = _write_header(file, (content.count, image_size, image_size, channels))
    for done, (example, image) in enumerate(_images(source, content, image_size, channels), 1):
      if isinstance(image, str):
        skipped.append((example.name, image))
        if len(skipped) <= NAMED:
          log.warning('%s: left out %s: %s', source.name, example.name, image)
        _refuse_many(source.name, skipped, total)
      else:
        # Not through a memory map, in which a full disk kills the process by SIGBUS.
        file.write(image.tobytes())
        kept.append(example)
      if time.monotonic() - last > PROGRESS_SECONDS:
        last = time.monotonic()
        log.info(
          'decoding %s: %d of %d images, %.0f images/s',
          source.name,
          done,
          content.count,
          done / (last - start),
        )
    if not kept:
      raise ValueError(f'{source.name} holds no image')
    if skipped:
      log.warning(
        '%s: %d of %d images could not be read and are left out', source.name, len(skipped), total
      )
    file.seek(0)
    if _write_header(file, (len(kept), image_size, image_size, channels)) != header:
      raise AssertionError('the header of images.npy changed its length')
    file.flush()
    os.fsync(file.fileno())
  _write_rest(folder, kept, skipped, content, (len(kept), image_size, image_size, channels))


def _write_header(file, shape):
  """Bytes written; the same for any length of the first axis, which NumPy leaves room to grow."""
  np.lib.format.write_array_header_1_0(file, dict(descr='|u1', fortran_order=False, shape=shape))
  return file.tell()


def _write_rest(folder, kept, skipped, content, shape):
  """Writes labels.npy, attributes.npy, and, last, meta.json."""
  shapes, classes = dict(images=shape), content.class_names
  labels = [e.label for e in kept]
  if labels[0] is not None:
    if classes is None:  # names or numbers of persons: numbered in their order
      distinct = sorted(set(labels))
      index, classes = {v: i for i, v in enumerate(distinct)}, [str(v) for v in distinct]
      labels = [index[v] for v in labels]
    if set(labels) == {-1}:  # TFDS's mark of a split without labels
      classes = None
    else:
      np.save(folder / 'labels.npy', np.array(labels, np.int32))
      shapes['labels'] = [len(kept)]
  if content.attribute_names:
    np.save(folder / 'attributes.npy', np.stack([e.attributes for e in kept]).astype(np.uint8))
    shapes['attributes'] = [len(kept), len(content.attribute_names)]
  meta = dict(
    shapes=shapes, class_names=classes, attribute_names=content.attribute_names, skipped=skipped
  )
  (folder / 'meta.json').write_text(json.dumps(meta))


def _images(source, content, image_size, channels):
  """Yields (example, uint8 [image_size, image_size, channels] or the reason why not), in order."""

  def image(example):
    try:
      encoded = example.encoded() if callable(example.encoded) else example.encoded
      # A crop counts in the pixels of the whole image.
      picture = read_image(encoded, channels, at_least=0 if source.crop else 2 * image_size)
      if source.border and max(picture.shape[:2]) not in (image_size, source.border):
        picture = fit_image(picture, source.border, pad=True)
      return fit_image(picture, image_size, source.crop)
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


def _refuse_many(name, skipped, total):
  if len(skipped) > MOST_SKIPPED * total:
    first = '; '.join(f'{n}: {reason}' for n, reason in skipped[:3])
    raise ValueError(
      f'{name}: {len(skipped)} of {total} images cannot be read so far, over '
      f'{MOST_SKIPPED:.0%}: repair or remove them. {first}'
    )
