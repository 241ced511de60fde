"""A run that starts from the weights of another one, with other loss weights or learning rates."""

from collections.abc import Sequence
import json
import os
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from vaegan_jax import checkpoint, files, paths, programs, settings, trees
from vaegan_jax.runs import events
from vaegan_jax.runs.workdir import Member, newest_sound
from vaegan_jax.sample import saved_steps
from vaegan_jax.step import TrainState

NAME = 'origin.json'  # in the workdir of a fork: where its weights come from
WEIGHTS = ('params', 'stats', 'ema')  # the fields of a TrainState that a fork takes over
SHAPES = ('network.', 'data.image_size', 'data.channels', 'data.condition')  # fields, or prefixes


class Origin(NamedTuple):
  """The checkpoint that a fork starts from."""

  workdir: Any
  step: int
  networks: tuple[str, ...]  # that it holds

  def missing(self, state: TrainState) -> list[str]:
    """The networks of `state` that the checkpoint lacks."""
    return [name for name in state.params if name not in self.networks]


def find(
  init_from: str | os.PathLike | None,
  members: Sequence[Member],
  workdir: Any,
  strict: bool,
) -> Origin | None:
  """The newest sound checkpoint of the run `init_from`; None without it, or if the members resume.

  strict: refuse a damaged checkpoint instead of taking the one before.

  Raises:
    ValueError: the run has no intact checkpoint, has other networks, or is the workdir itself.
  """
  if not init_from:
    return None
  run = paths.open_path(init_from).absolute()
  if run.resolve() in {path.resolve() for path in (workdir, *(m.workdir for m in members))}:
    raise ValueError(f'--init_from={init_from} is the --workdir itself: give another --workdir')
  if set.intersection(*(set(checkpoint.steps(m.workdir)) for m in members)):
    return None
  saved = saved_steps(run, '--init_from')
  step, wrong = newest_sound([run], saved, strict, '--init_from: ')
  if wrong:
    raise ValueError(f'--init_from={run}: every checkpoint is damaged, such as {wrong}')
  check_config(init_from, checkpoint.manifest(run, step)['config'], members[0].config)
  return Origin(run, step, tuple(checkpoint.shapes(run, step)['params']))


def at_start(
  origin: Origin | None,
  init_from: str | os.PathLike | None,
  members: Sequence[Member],
  workdir: Any,
  strict: bool,
) -> Origin | None:
  """The origin of a run that begins at step 0, which it notes in its workdir.

  After a heal it is the noted one, whatever is the newest checkpoint there now.

  Args:
    origin: what `find` gave for the other arguments before.
  """
  path = workdir / NAME
  if events.heals(events.read(workdir)) and path.exists():
    return noted(path, init_from)
  origin, facts = origin or find(init_from, members, workdir, strict), {}
  if origin:
    facts = dict(workdir=str(origin.workdir), step=origin.step, sha256=seal(*origin[:2]))
  if jax.process_index() == 0 and (facts or path.exists()):
    files.write_json(path, facts)
  return origin


def noted(path: Any, init_from: str | os.PathLike | None) -> Origin | None:
  """The origin that is noted in a file; None if the run is no fork.

  init_from: where its folder is now, if it was moved.

  Raises:
    ValueError: the checkpoint is gone, damaged or another one, or the file is damaged.
  """
  try:
    facts = json.loads(path.read_text())
  except ValueError as e:
    raise ValueError(
      f'{path} is damaged ({e}): write {{}} into it if the run is no fork, or start in another '
      '--workdir'
    ) from e
  if not facts:
    return None
  run, step = paths.open_path(init_from or facts['workdir']).absolute(), facts['step']
  wrong = checkpoint.damage(run, step)
  if not wrong and seal(run, step) != facts['sha256']:
    wrong = 'the checkpoint of this step is another one now'
  if wrong:
    raise ValueError(
      f'{path.parent} goes back to the weights that it started from, of step {step} of {run}, but '
      f'{wrong}. Restore them, name their folder by --init_from, or start in another --workdir'
    )
  return Origin(run, step, tuple(checkpoint.shapes(run, step)['params']))


def seal(workdir: Any, step: int) -> str:
  """What tells a checkpoint from any other of its step."""
  return checkpoint.seal(checkpoint.manifest(workdir, step))


def check_config(init_from: str | os.PathLike, then: dict, config: ConfigDict) -> None:
  """Raises ValueError that names the first field which gives the networks other shapes."""
  here = dict(settings.fields(settings.to_dict(config)))
  there = {**settings.ADDED, **dict(settings.fields(then))}
  for path in dict.fromkeys([*here, *there]):
    if path.startswith(SHAPES) and here.get(path) != there.get(path):
      raise ValueError(
        f'--init_from={init_from} has other networks: config.{path} is {there.get(path, "(none)")} '
        f'there and {here.get(path, "(none)")} here; make them equal, or start without --init_from'
      )


def check_data(origin: Origin, config: ConfigDict, about: dict) -> None:
  """Raises ValueError unless the origin's networks take this run's data, and have its shapes."""
  then = checkpoint.manifest(origin.workdir, origin.step)['about']
  for key in ('condition', 'size', 'names'):
    if then[key] != about[key]:
      other = sorted(map(str, set(then['names']) ^ set(about['names'])))[:10]
      raise ValueError(
        f'--init_from={origin.workdir} has another condition: its {key} is {shortly(then[key])} '
        f'there and {shortly(about[key])} here ({", ".join(other) or "in another order"}); '
        'use the same classes or attributes, or start without --init_from'
      )
  (state,) = programs.shapes([config], about['size'])
  saved = checkpoint.shapes(origin.workdir, origin.step)
  if wrong := trees.misfit(shared(origin, state), saved):
    raise ValueError(
      f'--init_from={origin.workdir} has other networks: {wrong}, though the configs agree: '
      'was it trained by another version?'
    )


def with_weights(origin: Origin, state: TrainState, at_rest: Any) -> TrainState:
  """`state`, at step 0, with the origin's weights of all networks that both have.

  at_rest: the sharding of its arrays.
  """
  loaded = checkpoint.load(origin.workdir, origin.step, shared(origin, state), at_rest)
  return state.replace(**{field: {**getattr(state, field), **loaded[field]} for field in WEIGHTS})


def shared(origin: Origin, state: TrainState) -> dict[str, dict[str, Any]]:
  """{field: {network: tree}} of the state's weights that the origin holds as well."""
  return {
    field: {k: tree for k, tree in getattr(state, field).items() if k in origin.networks}
    for field in WEIGHTS
  }


def shortly(value: Any) -> str:
  """A value for a message; a long list as its first entries."""
  if not isinstance(value, list):
    return str(value)
  return ', '.join(map(str, value[:5])) + (', ...' if len(value) > 5 else '')
