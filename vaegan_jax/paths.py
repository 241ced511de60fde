"""Paths of users: local ones, and URLs of buckets such as gs://BUCKET/NAME."""

import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
from typing import Any

# epath, which Orbax reads and writes by, takes TensorFlow's client where TensorFlow is installed,
# but TensorFlow itself has none for buckets any more.
os.environ.setdefault('EPATH_USE_TF', 'false')

# {scheme: (what opens it, where that comes from)}: those of etils.epath.
CLIENTS = dict(
  gs=('gcsfs', 'vaegan_jax[gcs]'),
  s3=('s3fs', 's3fs'),
  az=('adlfs', 'adlfs'),
  hf=('huggingface_hub', 'vaegan_jax[hub]'),
)
URL = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*):(/+)')
# The packages whose exceptions tell what went wrong with a bucket.
TELL = ('gcsfs', 'google', 'aiohttp', 'requests', 's3fs', 'botocore', 'adlfs', 'azure')


def open_path(path: str | os.PathLike, what: str = '') -> Any:
  """A pathlib.Path, or for a URL a buckets.BucketPath, which has the methods that we use.

  Raises ValueError, which begins with `what`, for an unknown scheme or if its client is missing.
  """
  text = os.fspath(path)
  scheme, slashes = found.groups() if (found := URL.match(text)) else ('', '')
  if len(slashes) < 2 and scheme not in CLIENTS:
    return pathlib.Path(path)
  if scheme not in CLIENTS:
    raise ValueError(
      f'{what}{text}: {scheme}:// is no scheme of a path; write a local path, or one that begins '
      f'with {", ".join(f"{known}://" for known in CLIENTS)}'
    )
  if slashes != '//' or not text[len(scheme) + 3 :].strip('/'):
    raise ValueError(f'{what}{text}: write {scheme}://BUCKET/NAME')
  package, source = CLIENTS[scheme]
  if importlib.util.find_spec(package) is None:
    raise ValueError(f'{what}{text}: {package} is not installed: run pip install {source}')
  from vaegan_jax.buckets import BucketPath

  return BucketPath(text.rstrip('/'))


def is_remote(path: str | os.PathLike) -> bool:
  """Whether a path is the URL of a bucket."""
  found = URL.match(os.fspath(path))
  return bool(found) and len(found.group(2)) > 1


def check(path: str | os.PathLike, what: str) -> None:
  """Raises ValueError that begins with `what` if no run can have this path.

  Checkpoints cannot be written or read where the absolute path is not UTF-8.
  """
  try:
    if is_remote(open_path(path, what)):
      return
    os.path.abspath(path).encode()
  except UnicodeEncodeError as e:
    raise ValueError(
      f'{what}{os.fspath(path)!a}: the absolute path of a run must be UTF-8: rename the folder'
    ) from e


def in_use(workdir: Any, holder: str) -> ValueError:
  """The error for a workdir that another process has."""
  return ValueError(
    f'--workdir={workdir} is in use by {holder}: '
    'wait for it, stop it, or give this run another workdir'
  )


def check_local(path: str, what: str) -> None:
  """Raises ValueError that begins with `what` if a path is that of a bucket."""
  if is_remote(path):
    raise ValueError(f'{what}{path}: name a local folder; what is there is memory-mapped')


def remove(folder: Any) -> None:
  """Removes a folder with all that it holds, if there is one."""
  if is_remote(folder):
    folder.rmtree(missing_ok=True)
  else:
    shutil.rmtree(folder, ignore_errors=True)


def takes_files(folder: Any) -> bool:
  """Whether files can be put into a folder: it exists, or is in a bucket, which has no folders."""
  return is_remote(folder) or folder.absolute().is_dir()


def size(path: Any) -> int:
  """The bytes of a file."""
  return stamp(path)[1]


def stamp(path: Any) -> tuple[int, int]:
  """(time of its last change, bytes) of a file; other values after a change."""
  found = path.stat()
  if is_remote(path):
    return found.mtime, found.length
  return found.st_mtime_ns, found.st_size


def of_client(error: Exception) -> bool:
  """Whether the client of a bucket raised this: the network, the rights, or the bucket is wrong."""
  return type(error).__module__.partition('.')[0] in TELL


def cache_home() -> pathlib.Path:
  """The folder of all caches: $XDG_CACHE_HOME/vaegan_jax, or ~/.cache/vaegan_jax."""
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(home).expanduser() / 'vaegan_jax'


def sha256(path: str | os.PathLike) -> str:
  """The SHA-256 of a file, in hexadecimal."""
  with open_path(path).open('rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()
