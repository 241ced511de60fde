"""How the members of a population train on the devices: in turn, or side by side.

A member is one run: a seed with its own loss weights and learning rate. A run alone is a population
of one member.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from vaegan_jax.parallel import AXIS, Devices, OverMesh, OverPmap, compiler_options, devices_mesh


class InTurn:
  """Members that run one after another on one program.

  All methods take and give lists, one entry per member.

  A CPU runs convolutions of N members side by side as grouped ones, which XLA does slowly: turns
  are faster there (benchmarks/population.py).
  """

  def __init__(self, one: OverMesh | OverPmap, keys: Sequence[Any]) -> None:
    """keys: what `one.step` takes as the third argument, for each member."""
    self.one, self.keys = one, keys
    self.at_rest = one.at_rest

  def step(self, states: Sequence, batches: Sequence) -> tuple[tuple, tuple]:
    """(states, terms) of all members after one dispatch."""
    states, terms = zip(*map(self.one.step, states, batches, self.keys))
    return states, terms

  def lowered(self, states: Sequence, batches: Sequence) -> Any:
    """The step of one member, traced for these inputs and not compiled yet."""
    return self.one.step.lower(states[0], batches[0], self.keys[0])

  def put_states(self, states: Sequence) -> list:
    """States at rest, as `step` takes them."""
    return [self.one.put_state(state) for state in states]

  def take_states(self, states: Sequence) -> list:
    """States of `step`, at rest."""
    return [self.one.take_state(state) for state in states]

  def put_batches(self, batches: Sequence) -> list:
    """The members' batches, as `step` takes them."""
    return [self.one.put_batch(batch) for batch in batches]

  def take_terms(self, terms: Sequence) -> list[dict[str, float]]:
    """Terms of `step` as numbers."""
    return [self.one.take_terms(t) for t in terms]

  def skipped(self, states: Sequence) -> list[int]:
    """The counters `skipped`."""
    return [self.one.skipped(state) for state in states]


class SideBySide:
  """N members in one vmapped program: states, batches and noise are stacked, [N, ...].

  step: (state, batch, key, member) -> (state, terms). Members are sharded over the devices if N is
  a multiple of their number; otherwise each batch is. The methods are those of InTurn.
  """

  def __init__(
    self,
    step: Callable,
    keys: Sequence[jax.Array],
    devices: Devices | None = None,
  ) -> None:
    mesh, self.count = devices_mesh(devices), len(keys)
    spread = self.count % mesh.size == 0
    self.at_rest = NamedSharding(mesh, PartitionSpec())
    members = NamedSharding(mesh, PartitionSpec(AXIS) if spread else PartitionSpec())
    self.batches = NamedSharding(mesh, PartitionSpec(AXIS) if spread else PartitionSpec(None, AXIS))
    numbers = np.arange(self.count, dtype=np.int32)
    self.keys, self.numbers = jax.device_put((jnp.stack(keys), numbers), members)
    self.program = jax.jit(
      jax.vmap(step),
      in_shardings=(members, self.batches, members, members),
      out_shardings=members,
      donate_argnums=0,
      compiler_options=compiler_options(),
    )
    self.put_states = jax.jit(
      lambda states: jax.tree.map(lambda *a: jnp.stack(a), *states), out_shardings=members
    )
    self.take_states = jax.jit(
      lambda states: [jax.tree.map(lambda a, i=i: a[i], states) for i in range(self.count)],
      out_shardings=self.at_rest,
    )

  def step(self, states: Any, batches: Any) -> tuple[Any, Any]:
    """(states, terms) of all members after one dispatch."""
    return self.program(states, batches, self.keys, self.numbers)

  def lowered(self, states: Any, batches: Any) -> Any:
    """The step of all members, traced for these inputs and not compiled yet."""
    return self.program.lower(states, batches, self.keys, self.numbers)

  def put_batches(self, batches: Sequence) -> dict[str, jax.Array]:
    """The members' batches, as `step` takes them."""
    return {
      k: jax.device_put(np.stack([batch[k] for batch in batches]), self.batches) for k in batches[0]
    }

  def take_terms(self, terms: Mapping[str, jax.Array]) -> list[dict[str, float]]:
    """Terms of `step` as numbers."""
    got = jax.device_get(terms)
    return [{k: float(v[i]) for k, v in got.items()} for i in range(self.count)]

  def skipped(self, states: Any) -> list[int]:
    """The counters `skipped`."""
    return jax.device_get(states.skipped).tolist()
