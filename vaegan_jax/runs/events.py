"""What happens to a run, and its heals: WORKDIR/events.jsonl, written as a whole before it counts.

An event is a dict: `step`; `heals`, those before it; `level` and `kind`, see rules.State; `event`,
its words. A heal has also `to`, the step that it goes back to; `rates`, {network or all: factor};
and `kl`, a factor.
What a run does after a heal follows from these records alone, so that a run which is killed goes on
as if it was not.
"""

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

from ml_collections import ConfigDict

from vaegan_jax import checkpoint, files
from vaegan_jax.page.read import json_lines
from vaegan_jax.rules import State, Table, weighed

NAME = 'events.jsonl'
MOST = 3  # heals of a run
SLOWER, WINNER = 0.5, 0.2  # factors of a heal: of all rates, or of a network that won
FAST = 3.0  # factor on a rate
LIGHTER = 0.1  # likewise of the KL's weight
STRIDE = 0x9E3779B1  # between the seeds of a run before and after a heal; odd, so none comes twice

Event = Mapping[str, Any]


def read(workdir: Any) -> list[Event]:
  """The events of a run, in order.

  Heals that only a checkpoint tells of, as the file was deleted, come first.
  """
  found = list(json_lines(workdir / NAME))
  saved = [told(workdir, step) for step in checkpoint.steps(workdir)]
  known = max(saved, key=len, default=[])
  return found if len(heals(found)) >= len(known) else known


def told(workdir: Any, step: int) -> list[Event]:
  """The heals before a checkpoint, as its manifest tells them; [] if it is damaged."""
  try:
    return checkpoint.manifest(workdir, step)['health'].get('heals', [])
  except ValueError:
    return []


def write(workdir: Any, events: Sequence[Event]) -> None:
  """Replaces the file by these events."""
  files.write_text(workdir / NAME, ''.join(files.to_json(e) + '\n' for e in events))


def heals(events: Sequence[Event]) -> list[Event]:
  """The events that are heals."""
  return [e for e in events if 'to' in e]


def abandoned(workdir: Any, events: Sequence[Event]) -> list[int]:
  """The steps of checkpoints that the last heal went back over and that are not set aside."""
  done = heals(events)
  if not done:
    return []
  later = [step for step in checkpoint.steps(workdir) if step > done[-1]['to']]
  return [step for step in later if len(told(workdir, step)) < len(done)]


def until(events: Sequence[Event], start: int) -> list[Event]:
  """The events of a run that resumes from step `start`; [] if it begins anew."""
  done = len(heals(events))
  if not start and not (done and heals(events)[-1]['to'] == 0):
    return []
  return [e for e in events if e.get('heals', 0) < done or e['step'] <= start]


def curable(state: State, table: Table) -> bool:
  """Whether a heal can help: not where the posterior is sick and nothing weighs the KL."""
  return not state.kind.startswith('posterior') or 'kl' in weighed(table, 'encoder')


def remedy(state: State, factors: Mapping[str, float], done: Sequence[Event]) -> dict[str, Any]:
  """The entries `rates` and `kl` of a heal: what becomes gentler, by what was found.

  Args:
    factors: {network: factor on its rate} so far. One that is FAST goes back to 1.
    done: the heals before. Samples that are alike after the KL was made lighter ask for more of it.
  """
  lightened = any(e['kl'] != 1 for e in done) and state.kind in ('alike', 'narrow')
  if state.kind == 'posterior collapsed' or lightened:
    return dict(rates={}, kl=LIGHTER)
  rates = {n: WINNER for n in factors if state.kind == f'{n} won'}
  rates |= {n: 1 / factor for n, factor in factors.items() if factor >= FAST}
  return dict(rates=rates or dict(all=SLOWER), kl=1.0)


def healed(config: ConfigDict, done: Sequence[Event]) -> ConfigDict:
  """The config that a run trains by after these heals: gentler, with other data and noise."""
  if not done:
    return config
  made = config.copy_and_resolve_references()
  with made.unlocked():
    made.seed = (config.seed + len(done) * STRIDE) % 2**32
    rates = made.optimizer
    rates.learning_rate *= math.prod(e['rates'].get('all', 1.0) for e in done)
    for network in rates.factor:
      rates.factor[network] *= math.prod(e['rates'].get(network, 1.0) for e in done)
    for table in (made.method, made.first.method):
      if 'encoder' in table and 'kl' in table.encoder:
        table.encoder.kl *= math.prod(e['kl'] for e in done)
  return made.lock()


def in_words(heal: Event, count: int) -> str:
  """The words of a heal, the `count`-th."""
  gentler = [f'{k} x {v:g}' for k, v in heal['rates'].items()]
  gentler = [f'rates: {", ".join(gentler)}'] if gentler else []
  gentler += [f'weight of the KL x {heal["kl"]:g}'] if heal['kl'] != 1 else []
  where = f'step {heal["to"]}' if heal['to'] else 'the initial state'
  return f'heal {count} of {MOST}: back to {where}, with other data and noise; {"; ".join(gentler)}'


def forget(path: Any, step: int, heals: int = 0) -> None:
  """Drops the lines of a log that are later than `step`, and a last line that was cut off.

  Lines from before the last of `heals` are kept: the run went back over them on purpose.
  """
  if not path.exists():
    return

  def kept(line):
    try:
      if not line.endswith('\n'):
        return False
      row = json.loads(line)
      return row['step'] <= step or row.get('heals', 0) < heals
    except (ValueError, KeyError, TypeError, AttributeError):
      return False

  lines = path.read_text(errors='replace').splitlines(True)
  files.write_text(path, ''.join(filter(kept, lines)))
