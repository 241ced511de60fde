"""The checkpoints of a run: Orbax saves them, a manifest lists and checks their files.

    WORKDIR/checkpoints/1000/        the state, as Orbax writes it
    WORKDIR/checkpoints/1000.json    its manifest: SHA-256 of each file, config, what sampling needs

A checkpoint exists once its manifest does. Orbax commits a directory atomically, but it does not
checksum the data, and it takes any directory whose name is a number for a step. A directory without
a manifest is an unfinished save; the next save of that step replaces it.
"""

from collections.abc import Mapping
from concurrent import futures
import hashlib
import json
import os
import pathlib
import shutil
import time
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from vaegan_jax import files

FOLDER = 'checkpoints'


def steps(workdir: str | os.PathLike) -> list[int]:
  """The steps of the checkpoints in `workdir`, ascending."""
  folder = pathlib.Path(workdir) / FOLDER
  names = [p.stem for p in folder.glob('*.json')] if folder.is_dir() else []
  return sorted(
    int(n)
    for n in names
    if n.isascii() and n.isdigit() and str(int(n)) == n and (folder / n).is_dir()
  )


def manifest(workdir: str | os.PathLike, step: int) -> dict[str, Any]:
  """The manifest of a checkpoint: step, files, config and about, as save() wrote them.

  Raises:
    ValueError: it is missing, damaged or incomplete.
  """
  path = pathlib.Path(workdir) / FOLDER / f'{step}.json'
  try:
    read = json.loads(path.read_text())
    if not all(isinstance(read[key], dict) and read[key] for key in ('files', 'config', 'about')):
      raise ValueError('it is incomplete')
    return read
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path} cannot be read ({e}): the checkpoint of step {step} is damaged; '
      'restore the file, or choose another step'
    ) from e


def damage(workdir: str | os.PathLike, step: int) -> str:
  """What is wrong with a checkpoint's files, in words; '' if every byte is as saved."""
  folder = pathlib.Path(workdir) / FOLDER / str(step)
  try:
    listed = manifest(workdir, step)['files']
  except ValueError as e:
    return str(e)
  for name, digest in listed.items():
    path = folder / name
    if not path.is_file():
      return f'{path} is missing'
    if digest != sha256(path):
      return f'{path} is not what was saved (its SHA-256 differs)'
  return ''


def intact_steps(workdir: str | os.PathLike, damaged: int) -> str:
  """The intact checkpoints, in words; `damaged` is known not to be one."""
  good = [s for s in steps(workdir) if s != damaged and not damage(workdir, s)]
  return f'intact: steps {", ".join(map(str, good))}' if good else 'no other checkpoint is intact'


def sha256(path: str | os.PathLike) -> str:
  """The SHA-256 of a file, in hexadecimal."""
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def save(
  workdir: str | os.PathLike,
  step: int,
  state: Any,
  *,
  keep: int,
  config: Mapping[str, Any],
  about: Mapping[str, Any],
) -> futures.Future[None]:
  """Starts to save a state in the background; the Future is done when the checkpoint is complete.

  Then the checkpoint has its manifest, and all but the newest `keep` are deleted. Every process of
  a run must make the same call, after the previous save is done.

  Args:
    state: a TrainState at rest, see parallel.py.
    config: rebuilds the networks.
    about: what else sampling needs, as JSON values.

  Raises (the Future's result):
    OSError, ValueError: the disk is full or failed; older checkpoints are intact.
  """
  folder = pathlib.Path(workdir).absolute() / FOLDER / str(step)
  first = jax.process_index() == 0
  if first:
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (folder, *folder.parent.glob(f'{step}.orbax-checkpoint-tmp*')):
      shutil.rmtree(leftover, ignore_errors=True)  # an unfinished save
  barrier(f'save {step}')
  response = ocp.save_async(str(folder), vars(state))

  def commit():
    response.result()  # on the first process: every process has written, Orbax has committed
    if first:
      digests = {
        p.relative_to(folder).as_posix(): sha256(p)
        for p in sorted(folder.rglob('*'))
        if p.is_file()
      }
      written = {'step': step, 'files': digests, 'config': config, 'about': about}
      files.write_json(folder.with_suffix('.json'), written)
      for old in steps(workdir)[:-keep]:
        folder.with_name(f'{old}.json').unlink()
        shutil.rmtree(folder.with_name(str(old)))

  writer = futures.ThreadPoolExecutor(1)
  done = writer.submit(commit)
  writer.shutdown(wait=False)
  return done


def set_aside(workdir: str | os.PathLike, after: int) -> None:
  """Renames the checkpoints later than step `after` to N.corrupt-<time>: none is loaded again."""
  for step in [s for s in steps(workdir) if s > after]:
    for name in (f'{step}.json', str(step)):
      path = pathlib.Path(workdir) / FOLDER / name
      path.rename(path.with_name(f'{name}.corrupt-{int(time.time())}'))


def load(
  workdir: str | os.PathLike, step: int, like: Mapping[str, Any], sharding: jax.sharding.Sharding
) -> dict[str, Any]:
  """The fields of a saved state that `like` names, as arrays of this sharding.

  like: {field: tree of what has a shape and a dtype}.
  """
  like = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), dict(like)
  )
  context = ocp.Context()
  context.pytree_options.loading.partial_load = True
  with context:
    return ocp.load(str(pathlib.Path(workdir).absolute() / FOLDER / str(step)), like)


def shapes(workdir: str | os.PathLike, step: int) -> dict[str, Any]:
  """The fields of a saved state, as trees whose leaves have a `shape` and a `dtype`."""
  return ocp.metadata(str(pathlib.Path(workdir).absolute() / FOLDER / str(step))).metadata


def barrier(name: str) -> None:
  """Waits until all processes of the run are here."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)
