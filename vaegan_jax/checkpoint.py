"""Checkpoints of a run: saved by Orbax, listed and checked by a manifest of our own.

    WORKDIR/checkpoints/1000/            the state, as Orbax writes it
    WORKDIR/checkpoints/1000.json        its manifest: files with SHA-256, config, and what sampling needs

A checkpoint exists once its manifest does: Orbax commits a directory atomically but does not
checksum its data, and takes any directory with a number for a step. What has no manifest is an
unfinished save, and is written anew.
"""

from concurrent import futures
import hashlib
import json
import logging
import pathlib
import shutil
import time

import jax
from orbax.checkpoint import v1 as ocp

from vaegan_jax import files

FOLDER = 'checkpoints'


def steps(workdir):
  """The steps of the checkpoints in `workdir`, ascending; [] where there is none."""
  folder = pathlib.Path(workdir) / FOLDER
  names = [p.stem for p in folder.glob('*.json')] if folder.is_dir() else []
  return sorted(
    int(n)
    for n in names
    if n.isascii() and n.isdigit() and str(int(n)) == n and (folder / n).is_dir()
  )


def manifest(workdir, step):
  """The manifest of a checkpoint: dict(step, files, config, about)."""
  path = pathlib.Path(workdir) / FOLDER / f'{step}.json'
  try:
    read = json.loads(path.read_text())
    if not all(isinstance(read[key], dict) and read[key] for key in ('files', 'config', 'about')):
      raise ValueError('it is incomplete')
    return read
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path} cannot be read ({e}): the checkpoint of step {step} is damaged; '
      'restore the file, or take another step'
    ) from e


def damage(workdir, step):
  """What is wrong with a checkpoint's files, in words; '' where every byte is as it was saved."""
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


def intact_steps(workdir, *but):
  """A phrase that lists the checkpoints whose bytes are all as they were saved."""
  good = [s for s in steps(workdir) if s not in but and not damage(workdir, s)]
  return f'intact: steps {", ".join(map(str, good))}' if good else 'no other checkpoint is intact'


def sha256(path):
  """The hexadecimal SHA-256 of a file."""
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def save(workdir, step, state, *, keep, config, about):
  """Begins to save `state` (at rest, see parallel.py) in the background; returns a Future.

  When it is done the checkpoint has its manifest, and all but the newest `keep` are deleted. Every
  process of a run calls this alike, and waits for the save before.

  Args:
    config: dict that rebuilds the networks.
    about: dict of what else sampling needs, for JSON.
  Raises (the Future's result):
    OSError, ValueError: the disk is full or failed; older checkpoints are intact.
  """
  folder = pathlib.Path(workdir).absolute() / FOLDER / str(step)
  first = jax.process_index() == 0
  if first:
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (folder, *folder.parent.glob(f'{step}.orbax-checkpoint-tmp*')):
      shutil.rmtree(leftover, ignore_errors=True)  # of a save that never got its manifest
  barrier(f'save {step}')
  response = ocp.save_async(folder, vars(state))

  def commit():
    response.result()  # on the first process: all of them have written, and Orbax has committed
    if first:
      digests = {
        p.relative_to(folder).as_posix(): sha256(p)
        for p in sorted(folder.rglob('*'))
        if p.is_file()
      }
      files.write_json(
        folder.with_suffix('.json'), dict(step=step, files=digests, config=config, about=about)
      )
      for old in steps(workdir)[:-keep]:
        folder.with_name(f'{old}.json').unlink()
        shutil.rmtree(folder.with_name(str(old)))

  writer = futures.ThreadPoolExecutor(1)
  done = writer.submit(commit)
  writer.shutdown(wait=False)
  return done


def newest(workdir, *, strict=False):
  """The newest step whose bytes are as saved, or None where no checkpoint was ever finished.

  A damaged one is named in a warning, renamed to N.corrupt-<time> and passed over; strict raises
  ValueError instead, as does a workdir in which all are damaged: a run never starts anew over them.
  """
  found = steps(workdir)
  for step in reversed(found):
    wrong = damage(workdir, step)
    if not wrong:
      return step
    if strict:
      raise ValueError(f'checkpoint {step} is damaged: {wrong}; {intact_steps(workdir, step)}')
    logging.warning('checkpoint %d is damaged and is passed over: %s', step, wrong)
  if found:
    raise ValueError(
      f'every checkpoint in {workdir} is damaged; restore the folder from a backup, '
      'or start in another --workdir'
    )
  return None


def set_aside(workdir, after):
  """Renames the checkpoints later than step `after`, so that they are never taken again."""
  for step in [s for s in steps(workdir) if s > after]:
    for name in (f'{step}.json', str(step)):
      path = pathlib.Path(workdir) / FOLDER / name
      path.rename(path.with_name(f'{name}.corrupt-{int(time.time())}'))


def load(workdir, step, like):
  """The fields of a saved state that `like` has: a dict of trees of ShapeDtypeStruct with shardings."""
  context = ocp.Context()
  context.pytree_options.loading.partial_load = True
  with context:
    return ocp.load(pathlib.Path(workdir).absolute() / FOLDER / str(step), like)


def barrier(name):
  """Waits for all processes of a run of several."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)
