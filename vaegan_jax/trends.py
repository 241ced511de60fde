"""How the logged terms of a run move: for how long a condition holds, means, arrows."""

from collections.abc import Callable, Mapping, Sequence
import statistics
from typing import Any, NamedTuple

Terms = Mapping[str, float]  # of one logged step, with `step`
Table = Mapping[str, Mapping[str, float]]  # {network: {loss: weight}}

RECENT = 5  # logs in a mean


class State(NamedTuple):
  """How a run does."""

  level: str  # early (nothing can be said yet), good, watch, or bad
  words: str


def table_at(config: Mapping[str, Any], step: int) -> Table:
  """The method's table at a step: that of the first phase, if the run is still in it."""
  first = config.get('first') or {}
  return first['method'] if step <= first.get('steps', 0) else config['method']


def weighed(table: Table, network: str) -> dict[str, float]:
  """{loss: weight} of a network's row, without cells of weight 0."""
  return {loss: w for loss, w in table.get(network, {}).items() if w}


def plays(table: Table) -> bool:
  """Whether the generator descends a loss of the game, and not only matches features."""
  row = weighed(table, 'generator')
  return any(k.startswith('fool_') or (k.startswith('fake_') and w < 0) for k, w in row.items())


def held(history: Sequence[Terms], condition: Callable[[Terms], bool]) -> int:
  """Steps for which a condition has held without a break up to the last log; 0 if it does not."""
  first = None
  for terms in reversed(history):
    if not condition(terms):
      break
    first = terms['step']
  return 0 if first is None else max(1, history[-1]['step'] - first)


def means(history: Sequence[Terms], name: str) -> list[float]:
  """Means of a term over RECENT logs in a row, of all such stretches; [] with too few logs."""
  values = [t[name] for t in history if name in t]
  return [statistics.fmean(values[i : i + RECENT]) for i in range(max(0, len(values) - RECENT + 1))]


def trend(history: Sequence[Terms], name: str) -> str:
  """An arrow: whether a term rises, falls, or neither, from one stretch of logs to the next.

  A stretch has RECENT logs, or half of all; '' for fewer than four logs.
  """
  values = [t[name] for t in history if name in t]
  count = min(RECENT, len(values) // 2)
  if count < 2:
    return ''
  before = statistics.fmean(values[-2 * count : -count])
  change = (statistics.fmean(values[-count:]) - before) / (abs(before) + 1e-12)
  return '↗' if change > 0.05 else '↘' if change < -0.05 else '→'
