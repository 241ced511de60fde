"""The curves of a page: which terms stand together, and few enough points to draw."""

from collections.abc import Iterable, Mapping, Sequence
import itertools
import math
from typing import Any

NUMBERS = 200_000  # of all curves of a page
FEWEST, MOST = 20, 1500  # points of a curve
NETWORKS = ('encoder', 'generator', 'discriminator', 'classifier')  # the order of their groups
PREFIXES = dict(
  gradient_='Norms of the gradients',
  logit_='Mean logits of the discriminator',
  weight_='Weights that set themselves',
  norm_='Norms of the gradients at the images',
)


def groups(tables: Iterable[Mapping], terms: Iterable[str]) -> list[dict[str, Any]]:
  """[dict(title, terms=[(name, its weights in words)])]: losses by the networks that descend them.

  Args:
    tables: {network: {loss: weight}} of the methods; the first that weighs a loss counts.
    terms: names of all logged terms.
  """
  weights: dict[str, dict[str, float]] = {}
  for table in tables:
    for network in sorted(table, key=(*NETWORKS, *table).index):
      for loss, weight in table[network].items():
        if weight:
          weights.setdefault(loss, {}).setdefault(network, weight)
  found: dict[str, list[tuple[str, str]]] = {}
  for loss, own in weights.items():
    note = ', '.join(f'{network} {weight:g}' for network, weight in own.items())
    found.setdefault(' and '.join(own).capitalize(), []).append((loss, f'weights: {note}'))
  terms = list(dict.fromkeys(terms))
  shown = [
    dict(title=title, terms=[pair for pair in pairs if pair[0] in terms])
    for title, pairs in found.items()
  ]
  rest = [name for name in terms if name not in weights]
  for prefix, title in PREFIXES.items():
    shown.append(dict(title=title, terms=[(n, '') for n in rest if n.startswith(prefix)]))
  others = [(n, '') for n in rest if not n.startswith(tuple(PREFIXES))]
  return [g for g in [*shown, dict(title='More', terms=others)] if g['terms']]


def thinned(history: Sequence[Mapping[str, float]], terms: Sequence[str], most: int) -> dict:
  """dict(steps=[...], terms={name: [...]}) with at most `most` points.

  Of each stretch of logs a curve keeps its least and its greatest value, in their order: a spike
  stays. null stands for a term that was not logged, false for a value that is not finite; it takes
  the place of the last point of a stretch that holds one.
  """
  if len(history) <= most:
    return dict(
      steps=[int(row['step']) for row in history],
      terms={name: [short(row.get(name)) for row in history] for name in terms},
    )
  stretches = max(1, most // 2)
  edges = [len(history) * i // stretches for i in range(stretches + 1)]
  parts = [history[a:b] for a, b in itertools.pairwise(edges)]
  return dict(
    steps=[int(part[i]['step']) for part in parts for i in (0, -1)],
    terms={
      name: [v for part in parts for v in extremes([row.get(name) for row in part])]
      for name in terms
    },
  )


def extremes(values: Sequence[float | None]) -> tuple:
  """The least and the greatest of some values, in their order; else as in `thinned`."""
  given = [v for v in values if v is not None]
  finite = [v for v in given if math.isfinite(v)]
  if not finite:
    return (None, False) if given else (None, None)
  low, high = min(finite), max(finite)
  first, last = (low, high) if finite.index(low) <= finite.index(high) else (high, low)
  return short(first), short(last) if len(finite) == len(given) else False


def short(value: float | None) -> float | bool | None:
  """A number with five digits, for JSON; None for none, False for one that is not finite."""
  if value is None:
    return None
  return float(f'{value:.5g}') if math.isfinite(value) else False


def points(runs: int, terms: int) -> int:
  """How many points each curve may have."""
  return min(MOST, max(FEWEST, NUMBERS // max(1, runs * terms)))
