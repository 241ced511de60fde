"""The memory of a training step: a warning if it may not fit, and one message if it does not."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from vaegan_jax.parallel import free_bytes
from vaegan_jax.words import size_in_words


def peak(compiled: Any) -> int:
  """Bytes on each device for a compiled step, by XLA's count: inputs, outputs, and all between."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )


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

  def before_step(self, programs: Sequence, states: Sequence, batches: Sequence) -> None:
    """Compiles the step of each program, as its first call would, and looks at its memory."""
    if self.config.parallel == 'pmap':  # it would compile once more for the call
      return
    compiled = [p.runner.lowered(s, b).compile() for p, s, b in zip(programs, states, batches)]
    self.needed, free = max(map(peak, compiled)), free_bytes()
    if free is not None:  # the inputs are there already
      self.free = free + max(c.memory_analysis().argument_size_in_bytes for c in compiled)
      if self.needed > self.free:
        self.say(f'warning: {demand(self.config, self.needed, self.free)}')

  def __enter__(self) -> 'Watch':
    return self

  def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
    on_device = isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)
    if on_device or isinstance(error, MemoryError):
      told = demand(self.config, self.needed, self.free)
      raise MemoryError(f'out of memory: {told}. The last checkpoint is sound') from error
