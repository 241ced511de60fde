"""The state of a run in words: a pure function of its config and of the history of its terms."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from vaegan_jax.game import game
from vaegan_jax.rules import HOLD, State, Table, alike, gradients, narrow, off, spread, worse
from vaegan_jax.trends import Terms, held

RULES = (narrow, alike, spread, worse, gradients, game, off)


def state(history: Sequence[Terms], config: Mapping[str, Any]) -> State:
  """The State after the last of `history`, for the config of the run as plain dicts.

  History: {'step': int, term: float} of each logged step, in order. The worst finding is told.
  """
  if not history:
    return State('early', 'nothing is logged yet')
  table = table_at(config, history[-1]['step'])
  # The first phase of a method has other terms.
  history = [terms for terms in history if table_at(config, terms['step']) is table]
  if bad := [k for k, v in history[-1].items() if v is None or not math.isfinite(v)]:
    steps = held(history, lambda t: not all(v is not None and math.isfinite(v) for v in t.values()))
    shown = ', '.join(bad[:3]) + (' and more' if len(bad) > 3 else '')
    return State(
      'bad',
      f'not finite: {shown}, for {steps} steps; nothing is learnt: resume with a smaller '
      '--config.optimizer.learning_rate',
      'not finite',
    )
  finite = [t for t in history if all(v is not None and math.isfinite(v) for v in t.values())]
  findings = [rule(finite, table, config) for rule in RULES]
  found = [f._replace(kind=f.kind or r.__name__) for f, r in zip(findings, RULES) if f]
  order = ('bad', 'watch', 'good')
  early = history[-1]['step'] - history[0]['step'] + 1 < HOLD  # both ends count
  best = min(found, key=lambda f: order.index(f.level))
  if early and best.level != 'bad':
    return State('early', f'too early to judge: that takes {HOLD} steps')
  return best


def table_at(config: Mapping[str, Any], step: int) -> Table:
  """The method's table at a step: that of the first phase, if the run is still in it."""
  first = config.get('first') or {}
  return first['method'] if step <= first.get('steps', 0) else config['method']
