"""Objects in a bucket (gs://BUCKET/NAME) behind the methods of pathlib.Path that this package uses.

A bucket has no folders, no locks, and no way to append: an object appears whole, by one request.
"""

from collections.abc import Iterable, Iterator
import contextlib
import io
import logging
import os
import threading
from typing import IO, Any

from etils.epath.gpath import PosixGPath
import fsspec
import fsspec.config

log = logging.getLogger(__name__)

# Listings that gcsfs keeps would hide what other processes write.
fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)


class BucketPath(PosixGPath):
  """An object, or what the names of several objects begin with. Errors of the network: OSError."""

  @property
  def filesystem(self) -> Any:
    """The client of the bucket, an fsspec filesystem."""
    return fsspec.filesystem(str(self).partition('://')[0])

  def absolute(self) -> 'BucketPath':
    return self

  def resolve(self, strict: bool = False) -> 'BucketPath':
    return self

  def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
    """Does nothing: a name may hold slashes, and no bucket is made by mistake."""

  def is_file(self) -> bool:
    return self.filesystem.isfile(str(self))

  def rglob(self, pattern: str) -> Iterator['BucketPath']:
    """All objects below; `pattern` must be *."""
    yield from (self / name for name in self.found())

  def found(self) -> dict[str, dict[str, Any]]:
    """{name from here on: what the bucket says of it} of all objects below."""
    listed = self.filesystem.find(str(self), detail=True)
    start = len(str(self).partition('://')[2].rstrip('/')) + 1
    return {name[start:]: facts for name, facts in listed.items() if name[start:]}

  def read_text(self, encoding: str | None = None, errors: str = 'strict') -> str:
    return self.read_bytes().decode(encoding or 'utf-8', errors)

  def write_bytes(self, data: bytes) -> int:
    """Writes the object; a reader sees all of it or nothing."""
    try:
      return super().write_bytes(data)
    except Exception as e:  # gcsfs raises those of aiohttp, google.auth, requests and its own
      if isinstance(e, FileNotFoundError):
        e = OSError('there is no such bucket')
      raise OSError(f'{self} cannot be written: {e or type(e).__name__}') from e

  def write_text(self, data: str, *args: Any, **kwargs: Any) -> int:
    return self.write_bytes(data.encode())

  def put_all(self, contents: Iterable[tuple[str, bytes]]) -> None:
    """Writes objects (name from here on, content), all or, unless the process is killed, none.

    Raises ValueError if there are objects already.
    """
    if self.exists():
      raise ValueError(f'{self} holds objects already: name another folder')
    try:
      for name, content in contents:
        (self / name).write_bytes(content)
    except BaseException:
      self.rmtree(missing_ok=True)
      raise

  @contextlib.contextmanager
  def replaced(self) -> Iterator[IO]:
    """A file of any size to write, which becomes this object if the body ends well."""
    part = self.with_name(f'{self.name}.part')
    try:
      with part.open('wb') as file:
        yield file
      self.filesystem.copy(str(part), str(self))
    finally:
      part.unlink(missing_ok=True)

  def create(self, data: bytes) -> bool:
    """Whether this call made the object; False if there was one, which stays as it is."""
    try:
      self.filesystem.pipe_file(str(self), data, mode='create')
    except FileExistsError:
      return False
    return True


class Growing:
  """A file that grows. `flush` writes the whole of it, as nothing can be appended in a bucket.

  needed: raise OSError where it cannot be written; otherwise warn once.
  """

  def __init__(self, path: str | os.PathLike, needed: bool = False) -> None:
    self.path, self.needed = BucketPath(path), needed
    self.content, self.changed, self.warned = io.BytesIO(), False, False
    self.lock = threading.Lock()  # TensorBoard's writer has a thread of its own
    if needed and self.path.exists():
      self.content.write(self.path.read_bytes())

  def write(self, data: bytes | str) -> None:
    with self.lock:
      self.content.write(data.encode() if isinstance(data, str) else data)
      self.changed = True

  def flush(self) -> None:
    with self.lock:
      content, changed, self.changed = self.content.getvalue(), self.changed, False
    try:
      if changed:
        self.path.write_bytes(content)
    except OSError as e:
      if self.needed:
        raise
      self.changed = True
      if not self.warned:
        log.warning('%s; the curves of TensorBoard may end early', e)
      self.warned = True

  def close(self) -> None:
    self.flush()

  def __enter__(self) -> 'Growing':
    return self

  def __exit__(self, *error: object) -> None:
    self.close()


class Events:
  """Lets tensorboardX write into a bucket; see tensorboardX.record_writer."""

  def directory_check(self, path: str) -> None:
    pass

  def open(self, path: str) -> Growing:
    return Growing(path)
