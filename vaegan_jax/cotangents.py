"""Cotangents of losses, symbolic zeros, and weighted sums of gradient trees."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np


def means(terms: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """{loss: mean over the batch}."""
  return {k: v.mean() for k, v in terms.items()}


def cotangents(terms: Mapping[str, jax.Array], weights: Mapping[str, Any]) -> dict[str, Any]:
  """{loss: its weight, or a symbolic zero}, for each of `terms`."""
  return {k: jnp.float32(weights[k]) if k in weights else nothing(v) for k, v in terms.items()}


def nothing(like: jax.Array) -> ad.Zero:
  """The symbolic zero cotangent of an array.

  JAX skips what it would be pulled through, so an infinite derivative behind it stays harmless.
  """
  return ad.Zero(jax.typeof(like).to_tangent_aval())


def is_nothing(a: Any) -> bool:
  """Whether a cotangent is a symbolic zero."""
  return isinstance(a, ad.Zero)


def weighted_sum(weights: Sequence, trees: Sequence) -> Any:
  """Sum of weights[i] * trees[i], trees of arrays or symbolic zeros.

  A traced weight of 0 drops its tree, even if that is not finite: the member lacks that loss.
  """

  def times(w, a):
    return w * a if isinstance(w, float) else jnp.where(w == 0, 0.0, w * a)

  def total(*leaves):
    real = [times(w, a) for w, a in zip(weights, leaves) if not is_nothing(a)]
    return sum(real[1:], real[0]) if real else leaves[0]

  return jax.tree.map(total, *trees, is_leaf=is_nothing)


def of_member(cells: Any, member: jax.Array | None) -> Any:
  """A tree of cells, floats or arrays [N], with member `member` taken from each array."""
  if member is None:
    return cells

  def own(cell):
    return jnp.asarray(cell, jnp.float32)[member] if np.ndim(cell) else cell

  return jax.tree.map(own, cells)
