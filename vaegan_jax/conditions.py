"""Conditions: what a caller asks of a conditional model, as the rows c [N, A] that it takes."""

from collections.abc import Iterable, Iterator, Mapping
import itertools
import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.words import closest

About = Mapping[str, Any]  # condition, names, size and examples: see build.about
Labels = ArrayLike  # a class number or name, several that take turns, or weights [N, K]
Attributes = Mapping[str, float] | ArrayLike  # {name: 0 or 1}, or rows [N, A]


def rows(
  about: About,
  n: int,
  labels: Labels | None = None,
  attributes: Attributes | None = None,
  seed: int = 0,
) -> np.ndarray | None:
  """c float32 [n, A] of a request, or None for an unconditional model.

  Raises ValueError for labels or attributes that the model does not know; it lists the known ones.
  """
  return next(batches(about, n, n, labels, attributes, seed))


def batches(
  about: About,
  n: int,
  batch: int,
  labels: Labels | None = None,
  attributes: Attributes | None = None,
  seed: int = 0,
) -> Iterator[np.ndarray | None]:
  """An iterator of `rows` in batches of `batch`; its memory does not depend on n."""
  kind, size = about['condition'], about['size']
  for what, given in (('label', labels), ('attributes', attributes)):
    if given is not None and kind != what:
      asked = 'labels' if what == 'label' else what
      raise ValueError(f'{asked} were given, but this model was trained with condition {kind}')
  spans = ((start, min(start + batch, n)) for start in range(0, max(n, 1), max(batch, 1)))
  if kind == 'none':
    return (None for _ in spans)
  if kind == 'attributes' and (attributes is None or isinstance(attributes, Mapping)):
    return drawn_attributes(about, (stop - start for start, stop in spans), attributes or {}, seed)
  if kind == 'label' and (labels is None or np.ndim(labels) != 2):
    chosen, one_hot = class_numbers(labels, about['names']), np.eye(size, dtype=np.float32)
    return (one_hot[chosen[np.arange(*span) % len(chosen)]] for span in spans)
  given = np.asarray(labels if kind == 'label' else attributes, np.float32)
  if given.shape != (n, size) or not np.isfinite(given).all():
    raise ValueError(f'conditions must be finite numbers [{n}, {size}], not {list(given.shape)}')
  return (given[start:stop] for start, stop in spans)


def drawn_attributes(
  about: About, counts: Iterable[int], wanted: Mapping[str, float], seed: int
) -> Iterator[np.ndarray]:
  """Rows [count, A] for each count: attributes of training images, with the `wanted` ones set."""
  names, rng = about['names'], np.random.default_rng(seed)
  for name, value in wanted.items():
    if name not in names:
      raise ValueError(
        f'there is no attribute {name!r}{closest(name, names)}; known: {", ".join(names)}'
      )
    if not isinstance(value, (int, float, np.number, np.bool_)):
      raise ValueError(f'attribute {name}: {value!r} is not a number')
    if not np.isfinite(value):
      raise ValueError(f'attribute {name}: {value} is not finite')
  examples = np.asarray(about['examples'], np.float32)
  values = {names.index(name): float(value) for name, value in wanted.items()}

  def draw(count: int) -> np.ndarray:
    c = examples[rng.integers(len(examples), size=count)]
    for column, value in values.items():
      c[:, column] = value
    return c

  return map(draw, counts)


def class_numbers(labels: Labels | None, names: list[str]) -> np.ndarray:
  """int [L]: the classes that take turns; all of them, in order, for None."""
  if labels is None:
    return np.arange(len(names))
  each = np.atleast_1d(np.asarray(labels, object))  # object keeps 1 and '1' apart
  if not len(each):
    raise ValueError('labels is empty: give at least one')
  return np.array([class_number(label, names) for label in each])


def class_number(label: int | str, names: list[str]) -> int:
  """The number of a class given by number or name; a text that is a name is that name, even '1'."""
  if isinstance(label, str) and label in names:
    return names.index(label)
  number = int(label) if re.fullmatch('-?[0-9]+', str(label)) else -1
  if not 0 <= number < len(names):
    hint = '' if isinstance(label, int) or number >= 0 else closest(label, names)
    known = ', '.join(
      name if name == str(i) else f'{i}={name}' for i, name in enumerate(names[:50])
    )
    raise ValueError(f'there is no class {label!r}{hint}; classes are {known}')
  return number


def keyword(about: About, c: np.ndarray | None) -> dict[str, np.ndarray]:
  """The argument that gives conditions c [N, A] to a Trained model: {} for None."""
  return {} if c is None else {'labels' if about['condition'] == 'label' else 'attributes': c}


def table_rows(
  about: About, files: Iterator[str], conditions: Iterable[np.ndarray]
) -> Iterator[list]:
  """Yields the rows of a labels.csv (see data/folders.py), header first.

  files: names of the images made with conditions [b, A].
  """
  by_class, names = about['condition'] == 'label', about['names']
  if not all(name[:1].isalpha() for name in names):  # a table has words or numbers, not both
    names = range(len(names)) if by_class else names
  for i, c in enumerate(itertools.chain.from_iterable(conditions)):
    if not i:
      yield ['file', 'label'] if by_class else ['file', *names]
    yield [next(files), *([names[c.argmax()]] if by_class else c.astype(int))]
