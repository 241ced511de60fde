"""The memory of a run: a warning if it may not fit, and one message if it does not."""

from collections.abc import Callable, Sequence
import ctypes
from typing import Any

import jax
from ml_collections import ConfigDict

from vaegan_jax import hosts
from vaegan_jax.parallel import free_bytes
from vaegan_jax.words import size_in_words

CLOSE = 0.8  # of what can be had: XLA counts no scratch memory of its own


def peak(compiled: Any) -> int:
  """Bytes on each device for a compiled step, by XLA's count: inputs, outputs, and all between."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )


def exhausted(error: BaseException | None) -> bool:
  """Whether JAX says by this error that memory ran out."""
  told = str(error) if isinstance(error, jax.errors.JaxRuntimeError) else ''
  return 'RESOURCE_EXHAUSTED' in told or 'Out of memory' in told


def demand(config: ConfigDict, needed: int | None, free: int | None) -> str:
  """What a step needs of each device, what is there, and how to need less."""
  words = ['an unknown amount' if b is None else size_in_words(b) for b in (needed, free)]
  return (
    f'--config.batch_size={config.batch_size} has an estimated peak of {words[0]} on each device, '
    f'where {words[1]} can be had. Need less by a larger --config.accumulate (it splits the batch; '
    'a CPU saves nothing by it), a smaller --config.batch_size, or a smaller --config.network.width'
  )


class Watch:
  """Warns of a step that may not fit into the memory, and explains a failure; a context manager.

  Raises:
    MemoryError: the devices or the host ran out of memory within the context.
  """

  def __init__(self, config: ConfigDict, say: Callable[[str], Any]) -> None:
    self.config, self.say = config, say
    self.needed: int | None = None
    self.free: int | None = None
    self.before: int | None = None  # address of the handler of abort() before

  def before_states(self, shapes: Sequence[Any]) -> None:
    """Refuses states that cannot fit on each device; shapes: as jax.eval_shape gives them.

    Raises:
      MemoryError: they take more than there is.
    """
    self.compare(sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(shapes)), free_bytes())

  def before_step(self, programs: Sequence, states: Sequence, batches: Sequence) -> None:
    """Compiles the step of each program, as its first call would, and looks at its memory.

    Raises:
      MemoryError: on a CPU, the step takes more than there is.
    """
    if self.config.parallel == 'pmap':  # it would compile once more for the call
      return
    compiled = [p.runner.lowered(s, b).compile() for p, s, b in zip(programs, states, batches)]
    needed, free = max(map(peak, compiled)), free_bytes()
    there = max(c.memory_analysis().argument_size_in_bytes for c in compiled)  # the inputs
    self.compare(needed, None if free is None else free + there)

  def compare(self, needed: int, free: int | None) -> None:
    """Warns if the free bytes may not do; raises MemoryError where XLA would abort the process."""
    self.needed, self.free = needed, free
    if free is not None and needed > CLOSE * free:
      if jax.default_backend() == 'cpu' and needed > free:
        raise MemoryError('it cannot fit')
      self.say(f'warning: {demand(self.config, needed, free)}')

  def __enter__(self) -> 'Watch':
    if not hosts.several():  # which have a handler of their own
      told = demand(self.config, None, free_bytes())
      self.before = hosts.end_on_abort(f'out of memory, if std::bad_alloc stands above: {told}')
    return self

  def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
    if self.before is not None:
      hosts.on_abort(ctypes.c_void_p(self.before))
    if isinstance(error, MemoryError) or exhausted(error):
      told = demand(self.config, self.needed, self.free)
      raise MemoryError(f'out of memory: {told}. The last checkpoint is sound') from error
