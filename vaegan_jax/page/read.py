"""What the folder of a run holds, read for its page. Files may be missing or half written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import json
import math
import os
from typing import Any, NamedTuple

from vaegan_jax.paths import open_path

PICTURES = ('samples', 'reconstructions', 'interpolations')
STARTED = 'started.json'  # how the run was started: see runs/pages.py


class Recorded(NamedTuple):
  """A run, as its folder tells it."""

  name: str
  workdir: Any
  config: dict[str, Any]
  started: dict[str, Any]  # {} for runs of older versions
  history: list[dict[str, float]]  # `step` and terms of each log; NaN for what is not finite
  images_per_s: list[float]  # of each log, over all members; NaN where not known
  events: list[tuple[int, str]]  # (step, what happened)
  pictures: dict[str, list[tuple[int, Any]]]  # {kind: [(step, PNG)]}, in order
  evaluation: dict[str, Any]  # {} if the run was not judged


def runs(workdirs: Iterable[str | os.PathLike]) -> list[Recorded]:
  """The runs in some folders; a population counts as its members.

  Raises:
    ValueError: a folder is not that of a run.
  """
  folders = []
  for given in workdirs:
    workdir = open_path(given).absolute()
    members = as_dict(parsed(workdir / 'population.json')).get('members', {})
    folders += [(name, workdir / name) for name in members] or [(workdir.name, workdir)]
  names = [name for name, _ in folders]
  return [
    read(workdir, name if names.count(name) == 1 else str(workdir)) for name, workdir in folders
  ]


def read(workdir: Any, name: str) -> Recorded:
  """The run in a folder. Raises ValueError if there is none."""
  config = parsed(workdir / 'config.json')
  if not isinstance(config, dict) or 'method' not in config:
    raise ValueError(f'--workdir={workdir} is not the folder of a run: it has no config.json')
  history, rates = [], []
  for row in live(list(json_lines(workdir / 'metrics.jsonl'))):
    rates.append(number(row.pop('images_per_s', None)))
    history.append({k: number(v) for k, v in row.items()} | dict(step=int(row['step'])))
  return Recorded(
    name,
    workdir,
    config,
    started=as_dict(parsed(workdir / STARTED)),
    history=history,
    images_per_s=rates,
    events=[(int(e['step']), in_words(e)) for e in json_lines(workdir / 'events.jsonl')],
    pictures={kind: list(pictures(workdir, kind)) for kind in PICTURES},
    evaluation=as_dict(parsed(workdir / 'evaluation.json')),
  )


def live(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Logged rows without those that a heal went back over: a later row has their step or less."""
  kept: list[dict[str, Any]] = []
  for row in reversed(rows):
    if not kept or row['step'] < kept[-1]['step']:
      kept.append(dict(row))
  return kept[::-1]


def parsed(path: Any) -> Any:
  """The value in a JSON file, or None without one."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):  # a page must not fail for a file that another program wrote
    return None


def as_dict(value: Any) -> dict[str, Any]:
  """A dict as it is, {} for anything else."""
  return value if isinstance(value, dict) else {}


def json_lines(path: Any) -> Iterator[dict[str, Any]]:
  """The objects with a step in a file of JSON lines; a line that is half written is left out."""
  try:
    lines = path.read_text().splitlines()
  except (OSError, ValueError):
    return
  for line in lines:
    try:
      row = json.loads(line)
    except ValueError:
      continue
    if isinstance(row, dict) and isinstance(row.get('step'), int):
      yield row


def number(value: Any) -> float:
  """A float; NaN for null, for texts such as 'Infinity', and for what is not finite."""
  try:
    return float(value) if math.isfinite(float(value)) else math.nan
  except (TypeError, ValueError):
    return math.nan


def in_words(event: Mapping[str, Any]) -> str:
  """An event's text `event`; without one, its texts, then its other fields but the step."""
  if isinstance(event.get('event'), str):
    return event['event']
  rest = {k: v for k, v in event.items() if k != 'step' and v is not None}
  texts = [v for v in rest.values() if isinstance(v, str)]
  return ', '.join(texts + [f'{k} {v}' for k, v in rest.items() if not isinstance(v, str)])


def pictures(workdir: Any, kind: str) -> Iterator[tuple[int, Any]]:
  """(step, file) of a run's pictures KIND/step_00000025.png, in order; KIND.png has step -1."""
  if (alone := workdir / f'{kind}.png').is_file():
    yield -1, alone
  for path in sorted((workdir / kind).glob('*.png')):
    digits = ''.join(c for c in path.stem if c.isdigit())
    yield (int(digits) if digits else -1), path
