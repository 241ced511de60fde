"""The checkpoints of a run: Orbax saves them, a manifest lists and checks their files.

    WORKDIR/checkpoints/1000/        the state, as Orbax writes it
    WORKDIR/checkpoints/1000.json    its manifest: SHA-256 of each file and of itself, config,
                                     health, what sampling needs

A checkpoint is sound if its numbers are finite and training can go on from it. It is sick if the
steps before or after it were skipped, as their gradients or new state were not finite.

A checkpoint exists once its manifest does. Orbax commits a directory atomically, but it does not
checksum the data, and it takes any directory whose name is a number for a step. A directory without
a manifest is an unfinished save; the next save of that step replaces it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent import futures
import contextlib
import hashlib
import json
import logging
import os
import time
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from vaegan_jax import files, hosts, paths, trees

FOLDER = 'checkpoints'
ENTRIES = {'step', 'files', 'config', 'about'}  # of a manifest; newer ones add health and sha256
SOUND = {'finite': True, 'skipped': 0}  # the health of older checkpoints, which do not tell it

# A thread of Orbax logs its traceback although the save raises the same error.
logging.getLogger('absl').addFilter(lambda record: '_SignalingThread' not in record.getMessage())


def steps(workdir: str | os.PathLike) -> list[int]:
  """The steps of the checkpoints in `workdir`, ascending."""
  return [step for step, listed in _folders(workdir).items() if listed]


def without_manifest(workdir: str | os.PathLike) -> list[int]:
  """The steps of folders without a manifest: unfinished saves, or their manifest was deleted."""
  return [step for step, listed in _folders(workdir).items() if not listed]


def warn_of_strays(workdir: str | os.PathLike, after: int) -> None:
  """Warns of folders without a manifest whose step is later than `after`."""
  for step in without_manifest(workdir):
    if step > after:
      logging.warning(
        '%s has no manifest (%d.json), so it is passed over: its save was cut off, or the manifest '
        'was deleted; the next save of this step replaces it',
        paths.open_path(workdir) / FOLDER / str(step),
        step,
      )


def _folders(workdir: str | os.PathLike) -> dict[int, bool]:
  """{step of a folder or a manifest, ascending: whether there is a manifest}."""
  folder = paths.open_path(workdir) / FOLDER
  names = [p.name for p in folder.glob('*') if p.is_dir()]
  names += [p.stem for p in folder.glob('*.json')]  # its folder may have been deleted
  names = [n for n in names if n.isascii() and n.isdigit() and str(int(n)) == n]
  found = {int(n): (folder / f'{n}.json').exists() for n in names}
  return dict(sorted(found.items()))


def manifest(workdir: str | os.PathLike, step: int) -> dict[str, Any]:
  """The manifest of a checkpoint: step, files, config, about and health, as save() wrote them.

  Raises:
    ValueError: it is missing, damaged or incomplete.
  """
  path = paths.open_path(workdir) / FOLDER / f'{step}.json'
  try:
    read = json.loads(path.read_text())
    if not all(isinstance(read[key], dict) and read[key] for key in ('files', 'config', 'about')):
      raise ValueError('it is incomplete')
    if set(read) != ENTRIES and read.get('sha256') != seal(read):
      raise ValueError('it is not what was saved: its SHA-256 differs')
    if read['step'] != step:
      raise ValueError(f'it is the manifest of step {read["step"]}')
    return {'health': SOUND, **read}
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path} cannot be read ({e}): the checkpoint of step {step} is damaged; '
      'restore the file, or choose another step'
    ) from e


def seal(manifest: Mapping[str, Any]) -> str:
  """The SHA-256 of a manifest without its entry `sha256`, as JSON with sorted keys."""
  rest = json.loads(files.to_json({k: v for k, v in manifest.items() if k != 'sha256'}))
  text = json.dumps(rest, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def sick(workdir: str | os.PathLike) -> dict[int, str]:
  """{step: why, in words} of the checkpoints that are sick; those of older versions count as sound.

  A step that is skipped leaves the state as it was. So if the newest checkpoint is sick, all since
  the last step that was not skipped hold the same state and are sick as well.
  """
  health = {}
  for step in steps(workdir):
    with contextlib.suppress(ValueError):  # damaged: see damage()
      health[step] = manifest(workdir, step)['health']
  newest = max(health, default=0)
  stuck = health[newest]['skipped'] if health else 0
  found = {}
  for step, own in health.items():
    if not own['finite']:
      found[step] = f'not all numbers of step {step} are finite'
    elif count := own['skipped']:
      found[step] = f'the {count} steps up to {step} were skipped (numbers were not finite)'
    elif stuck and step >= newest - stuck:
      found[step] = f'all steps from {step} to {newest} were skipped (numbers were not finite)'
  return found


def sound_steps(workdir: str | os.PathLike) -> list[int]:
  """The steps of the checkpoints in `workdir` that are not sick, ascending."""
  ill = sick(workdir)
  return [step for step in steps(workdir) if step not in ill]


def newest_sound_step(workdir: str | os.PathLike) -> int:
  """The step to sample from, of a workdir with checkpoints; it warns of what it passes over.

  Raises ValueError if none is sound.
  """
  saved, ill = steps(workdir), sick(workdir)
  sound = [step for step in saved if step not in ill]
  if not sound:
    raise ValueError(
      f'no checkpoint of {workdir} is sound: {ill[saved[-1]]}; train it with a smaller '
      f'--config.optimizer.learning_rate, or choose one with --step, such as --step={saved[-1]}'
    )
  if sound[-1] != saved[-1]:
    logging.warning('%s; taking checkpoint %d, the newest sound one', ill[saved[-1]], sound[-1])
  warn_of_strays(workdir, sound[-1])
  return sound[-1]


def damage(workdir: str | os.PathLike, step: int) -> str:
  """What is wrong with a checkpoint's files, in words; '' if every byte is as saved."""
  folder = paths.open_path(workdir) / FOLDER / str(step)
  try:
    listed = manifest(workdir, step)['files']
  except ValueError as e:
    return str(e)
  for name, digest in listed.items():
    path = folder / name
    if not path.is_file():
      return f'{path} is missing'
    if digest != paths.sha256(path):
      return f'{path} is not what was saved (its SHA-256 differs)'
  return ''


def intact_steps(workdir: str | os.PathLike, damaged: int) -> str:
  """The intact checkpoints, in words; `damaged` is known not to be one."""
  good = [s for s in steps(workdir) if s != damaged and not damage(workdir, s)]
  return f'intact: steps {", ".join(map(str, good))}' if good else 'no other checkpoint is intact'


def save(
  workdir: str | os.PathLike,
  step: int,
  state: Any,
  *,
  keep: int,
  config: Mapping[str, Any],
  about: Mapping[str, Any],
  claimed: Callable[[], Any] = lambda: None,
  heals: Sequence[Mapping[str, Any]] = (),
  protect: Collection[int] = (),
) -> futures.Future[None]:
  """Starts to save a state in the background; the Future is done when the checkpoint is complete.

  Then the checkpoint has its manifest, and all are deleted but the newest `keep` and the newest
  `keep` that are sound. Every process of a run must make the same call, after the previous save is
  done.

  Args:
    state: a TrainState at rest, see parallel.py.
    config: rebuilds the networks.
    about: what else sampling needs, as JSON values.
    claimed: raises if `workdir` is no longer this run's; then nothing is listed or deleted there.
    heals: those before this step, for the manifest's entry health.
    protect: steps that are not deleted.

  Raises (the Future's result):
    OSError, ValueError: the disk is full or failed; older checkpoints are intact.
  """
  folder = paths.open_path(workdir).absolute() / FOLDER / str(step)
  first = jax.process_index() == 0
  if first:
    folder.parent.mkdir(parents=True, exist_ok=True)
    paths.remove(folder)  # an unfinished save, as is what Orbax left
    remove_unfinished(workdir, step)
  hosts.barrier(f'save {step}')
  health = _health(state, heals)
  response = ocp.save_async(str(folder), vars(state))

  def commit():
    response.result()  # on the first process: every process has written, Orbax has committed
    if first:
      kept = [p for p in sorted(folder.rglob('*')) if p.is_file()]
      digests = {p.relative_to(folder).as_posix(): paths.sha256(p) for p in kept}
      written = dict(step=step, files=digests, config=config, about=about, health=health)
      claimed()
      files.write_json(folder.with_suffix('.json'), {**written, 'sha256': seal(written)})
      saved = steps(workdir)
      for old in sorted({*saved} - {*saved[-keep:], *sound_steps(workdir)[-keep:], *protect}):
        folder.with_name(f'{old}.json').unlink()
        if (lost := folder.with_name(str(old))).exists():
          paths.remove(lost)

  writer = futures.ThreadPoolExecutor(1)
  done = writer.submit(commit)
  writer.shutdown(wait=False)
  return done


def remove_unfinished(workdir: str | os.PathLike, step: int | str = '*') -> None:
  """Removes what saves of a step, or of all, left when they were cut off."""
  for leftover in (paths.open_path(workdir) / FOLDER).glob(f'{step}.orbax-checkpoint-tmp*'):
    paths.remove(leftover)


def _health(state: Any, heals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The entry `health` of the manifest of a state at rest; `heals` only if there were some."""
  found = {'finite': _finite(state), 'skipped': int(np.max(state.skipped.addressable_data(0)))}
  return found | ({'heals': list(heals)} if heals else {})


def _finite(state: Any) -> bool:
  """Whether all numbers of a state at rest are finite."""
  return all(np.isfinite(a.addressable_data(0)).all() for a in jax.tree.leaves(state))


def set_aside(workdir: str | os.PathLike, which: Iterable[int]) -> None:
  """Renames the checkpoints of these steps to N.aside-<time>: none is loaded again."""
  for step in which:
    folder, stamp = paths.open_path(workdir) / FOLDER / str(step), int(time.time())
    while any(folder.parent.glob(f'{step}*.aside-{stamp}')):
      stamp += 1
    for name in (f'{step}.json', str(step)):
      path = folder.with_name(name)
      if path.exists():
        path.rename(path.with_name(f'{name}.aside-{stamp}'))


def load(
  workdir: str | os.PathLike, step: int, like: dict[str, Any], sharding: jax.sharding.Sharding
) -> dict[str, Any]:
  """The fields of a saved state that `like` names, as arrays of this sharding.

  like: {field: tree of what has a shape and a dtype}.

  Raises ValueError, see check_fits.
  """
  check_fits(workdir, step, like)
  like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like)
  context = ocp.Context()
  context.pytree_options.loading.partial_load = True
  with context:
    return ocp.load(str(paths.open_path(workdir).absolute() / FOLDER / str(step)), like)


def check_fits(workdir: str | os.PathLike, step: int, like: Mapping[str, Any]) -> None:
  """Raises ValueError if a network in `like` has other arrays in the checkpoint; see load."""
  if wrong := trees.misfit(like, shapes(workdir, step)):
    raise ValueError(
      f'{paths.open_path(workdir) / FOLDER / str(step)} does not fit the networks of its config: '
      f'{wrong}; restore the code that saved it (vaegan_jax, or your own networks)'
    )


def shapes(workdir: str | os.PathLike, step: int) -> dict[str, Any]:
  """The fields of a saved state, as trees whose leaves have a `shape` and a `dtype`."""
  return ocp.metadata(str(paths.open_path(workdir).absolute() / FOLDER / str(step))).metadata
