"""How the logged terms of a run move: for how long a condition holds, means, arrows."""

from collections.abc import Callable, Mapping, Sequence
import statistics

Terms = Mapping[str, float]  # of one logged step, with `step`

RECENT = 5  # logs in a mean


def values(history: Sequence[Terms], name: str) -> list[float]:
  """The values of a term, which need not be in every log."""
  return [t[name] for t in history if name in t]


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
  known = values(history, name)
  return [statistics.fmean(known[i : i + RECENT]) for i in range(max(0, len(known) - RECENT + 1))]


def trend(history: Sequence[Terms], name: str) -> str:
  """An arrow: whether a term rises, falls, or neither, from one stretch of logs to the next.

  A stretch has RECENT logs, or half of all; '' for fewer than four logs.
  """
  known = values(history, name)
  count = min(RECENT, len(known) // 2)
  if count < 2:
    return ''
  before = statistics.fmean(known[-2 * count : -count])
  change = (statistics.fmean(known[-count:]) - before) / (abs(before) + 1e-12)
  return '↗' if change > 0.05 else '↘' if change < -0.05 else '→'
