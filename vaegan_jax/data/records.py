"""Images that stay encoded: an index of where they lie in TFRecord files, decoded when taken.

One pass over the files of a TFDS set notes where the bytes of each image lie, with its label and
attributes. Then any image is one read away, so that a set of any size has the order of the others,
resumes exactly, and needs no TensorFlow.
"""

from collections.abc import Iterator, Sequence
import functools
import pathlib
import struct
from typing import Any

import numpy as np

from vaegan_jax.data import cache
from vaegan_jax.data.sources import Shard, Source

HEADER = struct.Struct('<QI')  # of a TFRecord: length of its data, checksum of the length
CHECKSUM = 4  # bytes, after the data


class Records:
  """Encoded images as a read-only array, uint8 [N, H, W, C]: indexing decodes.

  The pixels are those of the cache (see cache.pixels).
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    source: Source,
    files: Sequence[str],
    ranges: np.ndarray,
    image_size: int,
    channels: int,
  ) -> None:
    """ranges: int64 [N, 3]: the place of the file in `files`, the first byte, the bytes."""
    self.source, self.files, self.ranges = source, files, ranges
    self.shape = (len(ranges), image_size, image_size, channels)
    self.nbytes = int(np.prod(self.shape))  # once decoded

  def __len__(self) -> int:
    return len(self.ranges)

  def decode(self, index: int) -> np.ndarray:
    """uint8 [H, W, C]: one image; any number of threads may call this.

    Raises:
      ValueError: it cannot be read; the message names the file.
    """
    number, first, length = map(int, self.ranges[index])
    path = self.files[number]
    try:
      with open(path, 'rb') as file:
        file.seek(first)
        return cache.pixels(self.source, file.read(length), *self.shape[2:])
    except (OSError, ValueError) as error:
      raise ValueError(
        f'{self.source.name}: image {index} cannot be read, {length} bytes from byte {first} of '
        f'{path} ({error}): restore that file, or set --config.data.pipeline=memory, which leaves '
        'out a few unreadable images'
      ) from error

  def __getitem__(self, at: Any) -> np.ndarray:
    """uint8 [..., H, W, C] of an index, a slice, or integers or booleans that index [N]."""
    places = np.arange(len(self))[at]
    images = np.empty((places.size, *self.shape[1:]), np.uint8)
    for i, place in enumerate(places.flat):
      images[i] = self.decode(int(place))
    return images.reshape(*places.shape, *self.shape[1:])

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    return self[:].astype(dtype or np.uint8, copy=False)


def indexed(
  source: Source, image_size: int, channels: int, cache_dir: str = '', scratch: str = ''
) -> dict[str, Any]:
  """The fields of a Dataset but its name, with Records as images; see cache.decoded.

  The index is in the cache, or written into it now, or into the folder `scratch` if given.

  Raises:
    ValueError: the source has no TFRecord files here, or the cache cannot be written.
  """
  what = [cache.FORMAT, 'records', source.identity]
  write = functools.partial(_write_index, source)
  content = cache.entry(source, 'records', what, 'ranges', write, cache_dir, scratch)
  files, ranges = content.pop('files'), content.pop('ranges')
  return dict(content, images=Records(source, files, ranges, image_size, channels))


def _write_index(source: Source, folder: pathlib.Path) -> None:
  """Writes ranges.npy and the other files of a cache entry."""
  content = source.read()
  if not content.shards or any('://' in shard.path for shard in content.shards):
    raise ValueError(
      f'--config.data.pipeline=stream reads TFRecord files in a local folder, which {source.name} '
      'has not: copy or mount them there, or set --config.data.pipeline=memory or tf.data'
    )
  files = {path: i for i, path in enumerate(dict.fromkeys(s.path for s in content.shards))}
  records = enumerate(_records(content.shards))
  ranges, kept = [], []
  for example in cache.progress(content.examples, f'indexing {source.name}', content.length):
    path, first, data = next(record for number, record in records if number == example.number)
    start = data.find(example.encoded)
    if start < 0:
      raise ValueError(f'{path} changed while it was read: start again')
    ranges.append((files[path], first + start, len(example.encoded)))
    kept.append(example._replace(encoded=None))
  if not kept:
    raise ValueError(f'{source.name} holds no image')
  np.save(folder / 'ranges.npy', np.array(ranges, np.int64))
  cache.write_rest(folder, kept, [], content, 'ranges', [len(kept), 3], files=list(files))


def _records(shards: Sequence[Shard]) -> Iterator[tuple[str, int, bytes]]:
  """Yields (path, position of the data, data) of each record."""
  for shard in shards:
    with open(shard.path, 'rb') as file:
      for number in range(shard.skip + shard.take):
        header = file.read(HEADER.size)
        if len(header) < HEADER.size:
          raise ValueError(f'{shard.path} ends before record {number}: prepare the set again')
        (length, _), first = HEADER.unpack(header), file.tell()
        if number < shard.skip:
          file.seek(first + length + CHECKSUM)
        else:
          yield shard.path, first, file.read(length)
          file.seek(CHECKSUM, 1)
