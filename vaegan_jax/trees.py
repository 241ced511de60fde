"""Trees of arrays, compared by the paths of their arrays."""

from collections.abc import Mapping
from typing import Any

import jax


def misfit(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
  """The first array with another shape there than here, in words; '' if there is none.

  here: {field: {network: tree of what has a shape}}. Of `there`, such as a saved state, only these
  networks are compared, whole.
  """
  own, other = by_path(here), by_path(there)
  has = lambda tree, path: f'has the shape {tree[path]}' if path in tree else 'is missing'
  networks = {path[:2] for path in own}
  for path in dict.fromkeys([*own, *other]):
    if path[:2] in networks and own.get(path) != other.get(path):
      return f'{"/".join(path)} {has(other, path)} there and {has(own, path)} here'
  return ''


def by_path(tree: Any) -> dict[tuple[str, ...], tuple[int, ...]]:
  """{path: shape} of the arrays of a tree. A path is the same in dicts, as in named tuples."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  name = lambda key: jax.tree_util.keystr((key,), simple=True)
  return {tuple(map(name, path)): tuple(leaf.shape) for path, leaf in leaves}
