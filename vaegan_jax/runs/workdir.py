"""The folder of a run: who may use it, what it holds, and the step to resume from.

    WORKDIR/config.json, metrics.jsonl, tensorboard/    the config and the curves
    WORKDIR/samples/, reconstructions/                  PNG grids, by step
    WORKDIR/report.html, started.json                   the page of the run; see pages.py
    WORKDIR/origin.json                                 of a fork; see fork.py
    WORKDIR/checkpoints/                                see checkpoint.py

A population has a folder WORKDIR/MEMBER like this for each member, and WORKDIR/population.json.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import json
import logging
import os
import pathlib
import socket
from typing import IO, Any, NamedTuple

import jax
from ml_collections import ConfigDict

from vaegan_jax import checkpoint, files, hosts, paths, settings
from vaegan_jax.failures import RunFailed
from vaegan_jax.runs import events

POPULATION = 'population.json'


class Member(NamedTuple):
  """One run of a population; its name is '' for a run alone."""

  name: str
  config: ConfigDict
  workdir: Any  # a pathlib.Path, or that of a bucket: see paths.open_path


class Claim:
  """The workdirs that this run holds: by a lock on the file .lock in each, in buckets by leases."""

  def __init__(self) -> None:
    self.locks: dict[pathlib.Path, IO] = {}
    self.leases: dict[Any, Any] = {}  # {workdir: Lease}

  def lost(self) -> dict[Any, pathlib.Path | None]:
    """{workdir: where it is now, None if deleted or taken} of those that this run has no longer."""
    found: dict[Any, Any] = {w: None for w, lease in self.leases.items() if lease.check()}
    for workdir, lock in self.locks.items():
      try:
        held = os.path.samestat(os.stat(workdir / '.lock'), os.fstat(lock.fileno()))
      except (FileNotFoundError, NotADirectoryError):
        held = False
      if not held:
        found[workdir] = home_of(lock)
    return found

  def check(self) -> None:
    """Raises RunFailed if another folder, or none, now has the path of a workdir."""
    for workdir, home in self.lost().items():
      where = f'it is now {home}' if home else 'it, or its file .lock, was deleted'
      if workdir in self.leases:
        where = self.leases[workdir].lost or 'its lease cannot be renewed'
      raise RunFailed(
        f'--workdir={workdir} is no longer the folder of this run: {where}. The run stops, as it '
        'would write into a folder that is not its own'
      )


def home_of(file: IO) -> pathlib.Path | None:
  """The folder of an open file, also after a move; None if it was deleted or cannot be told."""
  try:
    path = pathlib.Path(os.readlink(f'/proc/self/fd/{file.fileno()}'))
    return path.parent if os.path.samestat(os.stat(path), os.fstat(file.fileno())) else None
  except OSError:
    return None


@contextlib.contextmanager
def claimed(workdirs: Iterable[Any]) -> Iterator[Claim]:
  """Holds the workdirs for this run.

  Raises:
    ValueError: one cannot be written, or another run has it.
  """
  claim = Claim()
  with contextlib.ExitStack() as held:
    mine = list(workdirs) if jax.process_index() == 0 else []
    if remote := [workdir for workdir in mine if paths.is_remote(workdir)]:
      from vaegan_jax import lease

      claim.leases = {one.workdir: one for one in held.enter_context(lease.held(remote))}
    for workdir in mine if not remote else ():
      try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = held.enter_context(open(workdir / '.lock', 'a+'))
      except OSError as e:
        raise ValueError(f'--workdir={workdir} cannot be written: {e.strerror}') from e
      if not files.lock(lock):
        lock.seek(0)
        raise paths.in_use(workdir, lock.read().strip() or 'another run')
      lock.truncate(0)
      lock.write(f'process {os.getpid()} on {socket.gethostname()}')
      lock.flush()
      claim.locks[workdir] = lock
    yield claim


def begin(
  members: Sequence[Member],
  workdir: Any,
  strict: bool,
  say: Any,
  from_step: int | None = None,
  check: Callable[[int], Any] = lambda start: None,
) -> int:
  """The step to resume from, 0 in a new workdir. Writes nothing before all members pass the checks.

  It sets later checkpoints aside. `check` may refuse that step. Other arguments: see train.train.

  Raises:
    ValueError: a workdir holds another config's run or only damaged checkpoints, or members are so
      far apart that some would lose what they have learnt.
  """
  for member in members:
    check_config(member)
  if jax.process_index() == 0:
    for member in members:  # of a heal that was decided and not done before the run was killed
      gone = events.abandoned(member.workdir, events.read(member.workdir))
      checkpoint.set_aside(member.workdir, gone)
  hosts.barrier('heal')
  start = resume_step(members, workdir, strict, from_step)
  for member in members:
    check_resumable(member, start)
  check(start)
  for member in members:
    later = [step for step in checkpoint.steps(member.workdir) if step > start]
    if later:
      name = f'{member.name}: ' if member.name else ''
      say(f'{name}sets aside (renames) checkpoints {later}: the run resumes from step {start}')
    checkpoint.warn_of_strays(member.workdir, start)
    if jax.process_index() == 0:
      checkpoint.remove_unfinished(member.workdir)  # first: the disk may be full of them
      checkpoint.set_aside(member.workdir, later)
      files.write_json(member.workdir / 'config.json', settings.to_dict(member.config))
      known = events.until(events.read(member.workdir), start)
      if known or (member.workdir / events.NAME).exists():
        events.write(member.workdir, known)
      events.forget(member.workdir / 'metrics.jsonl', start, len(events.heals(known)))
    hosts.barrier('begin')
  return start


def resume_step(
  members: Sequence[Member],
  workdir: Any,
  strict: bool = False,
  from_step: int | None = None,
) -> int:
  """The newest step of which every member has a sound and intact checkpoint, 0 if none has any.

  It warns of the checkpoints that it passes over; `strict` refuses damaged ones. `from_step` takes
  that step instead.

  Raises:
    ValueError: all are damaged, there is no checkpoint of from_step, or starting from 0 would lose
      what some members have learnt.
  """
  saved = {member.name: checkpoint.steps(member.workdir) for member in members}
  common = sorted(set.intersection(*map(set, saved.values())))
  if from_step is not None:
    if from_step not in common:
      there = ', '.join(map(str, common)) or 'none'
      raise ValueError(f'--resume={from_step}: {workdir} has no such checkpoint; it has {there}')
    common, strict = [from_step], True
  step, wrong = newest_sound([m.workdir for m in members], common, strict)
  if wrong:
    raise ValueError(
      f'every checkpoint of {workdir} that can be resumed from is damaged, such as {wrong}: '
      'restore the folder from a backup, or start in another --workdir'
    )
  for member in members:
    newest = step  # of a population, members ahead of the others do not fall back
    if member.name and from_step is None:
      newest = max(checkpoint.sound_steps(member.workdir), default=0)
    if newest > member.config.steps:
      raise ValueError(
        f'{member.workdir} is at step {newest} already: set --config.steps to that or more'
      )
  ahead = [name for name, steps in saved.items() if steps]
  # A kill during the first save leaves some members with one checkpoint; in any other state the
  # folders were mixed up.
  accident = known_members(workdir) == list(saved) and all(len(saved[n]) == 1 for n in ahead)
  if not step and ahead and not accident:
    raise ValueError(
      f'{", ".join(ahead)} of {workdir} were trained already, and the members share no checkpoint: '
      'train the others as a population of their own, or in another workdir'
    )
  return step


def newest_sound(
  workdirs: Sequence[Any], steps: Iterable[int], strict: bool, flag: str = ''
) -> tuple[int, str]:
  """(The newest of `steps` that is sound and intact in all workdirs, ''), or (0, what is wrong).

  A step is sound if it is so in one of the workdirs: the other members stand still there. If none
  is sound, it takes the newest that is intact. It warns of what it passes over; for damaged
  checkpoints `strict` raises ValueError instead, with `flag` in front.
  """
  found = [checkpoint.sick(workdir) for workdir in workdirs]
  sick = {step: found[0][step] for step in steps if all(step in own for own in found)}
  wrong = ''
  for step in sorted(steps, key=lambda s: (s not in sick, s), reverse=True):
    damage = {w: found for w in workdirs if (found := checkpoint.damage(w, step))}
    if not damage:
      if newer := [s for s in sorted(sick) if s >= step]:
        told = 'passing over it' if newer[0] > step else 'no checkpoint is sound'
        logging.warning('%s: %s; taking step %d', sick[newer[-1]], told, step)
      return step, ''
    workdir, wrong = next(iter(damage.items()))
    if strict:
      intact = checkpoint.intact_steps(workdir, step)
      raise ValueError(f'{flag}checkpoint {step} is damaged: {wrong}; {intact}')
    logging.warning('checkpoint %d is damaged; taking an older one: %s', step, wrong)
  return 0, wrong


def known_members(workdir: Any) -> list[str]:
  """Names in WORKDIR/population.json, [] without that file."""
  try:
    return list(json.loads((workdir / POPULATION).read_text())['members'])
  except (OSError, ValueError, KeyError, TypeError):
    return []


def check_config(member: Member) -> None:
  """Raises ValueError if the member's workdir holds a run of another config."""
  workdir, path = member.workdir, member.workdir / 'config.json'
  if (workdir / POPULATION).exists():
    raise ValueError(f'{workdir} is the folder of a population: name one of its members')
  if not path.exists():
    return
  try:
    then = json.loads(path.read_text())
  except ValueError as e:
    raise ValueError(f"{path} cannot be read ({e}): is {workdir} a run's workdir?") from e
  if not isinstance(then, dict):
    raise ValueError(f"{path} holds no config: is {workdir} a run's workdir?")
  if checkpoint.steps(workdir):  # otherwise nothing was saved that another config could spoil
    check_same(member.config, then, f'--workdir={workdir} holds a run')


def check_same(config: ConfigDict, then: dict, what: str) -> None:
  """Raises ValueError if the config `then` makes a different run from `config`."""
  if differ := settings.differences(config, then):
    raise ValueError(
      f'{what} of another config. Give another workdir, or set back:\n  ' + '\n  '.join(differ[:10])
    )


def check_resumable(member: Member, start: int) -> None:
  """Raises ValueError if the member cannot train from step `start` on in its workdir."""
  config, workdir = member.config, member.workdir
  folder = workdir / checkpoint.FOLDER
  if start:
    then = checkpoint.manifest(workdir, start)['config']
    check_same(config, then, f'checkpoint {start} of {workdir} is')
  for name in ('samples', 'reconstructions', 'tensorboard', checkpoint.FOLDER):
    if (workdir / name).exists() and not (workdir / name).is_dir():
      raise ValueError(f'{workdir / name} is not a folder: move it away, or give another workdir')
  # One finished save without a manifest is a save that was killed; several have lost theirs.
  if not start and len(strays(folder)) > 1:
    raise ValueError(
      f'{folder} has checkpoints without their manifests (N.json): put those back, '
      'or give another workdir'
    )
  if start % config.steps_per_dispatch:
    raise ValueError(
      f'{workdir} is at step {start}, which is not a multiple of --config.steps_per_dispatch='
      f'{config.steps_per_dispatch}: set that to a divisor of {start}, such as 1'
    )


def check_same_data(member: Member, start: int, about: dict) -> None:
  """Raises ValueError if the data's classes or attributes differ from those of the checkpoint."""
  then = checkpoint.manifest(member.workdir, start)['about']['names']
  if then != about['names']:
    other = ', '.join(map(str, sorted(set(then) ^ set(about['names']))[:10]))
    raise ValueError(
      f'{member.workdir} was trained on {len(then)} classes or attributes, the data now has '
      f'{len(about["names"])} ({other or "in another order"}): '
      'restore the data that it had, or give another workdir'
    )


def strays(folder: Any) -> list[Any]:
  """Finished saves in a folder of checkpoints, without those that were set aside."""
  return [p for p in folder.glob('*/commit_success.txt') if p.parent.name.isdigit()]
