"""Signals that end a run: SIGTERM and Ctrl-C. Once it has trained, it saves first."""

import os
import signal
from types import FrameType

import jax
import numpy as np

from vaegan_jax import interrupts

AGREE_EVERY = 10  # dispatches between two moments when the hosts of a run ask each other


class StopSignals:
  """Notes the first signal, so that the run can save; a second one ends the process at once.

  Until `hold`, signals do what they did before: a command ends at once (see interrupts.py).
  """

  def __init__(self) -> None:
    self.number = 0  # of the signal; 0 until one comes
    self.before = {}  # {signal: its handler before `hold`}

  def __enter__(self) -> 'StopSignals':
    return self

  def hold(self) -> None:
    """From now on there is something to save."""
    if not self.before:
      self.before = {n: signal.signal(n, self._note) for n in interrupts.SIGNALS}
      interrupts.spare(1)

  def __exit__(self, *error: object) -> None:
    if self.before:
      interrupts.spare(0)
    for number, handler in self.before.items():
      signal.signal(number, handler)

  def stopping(self, dispatch: int) -> bool:
    """Whether to stop after this dispatch (its number), the same on all processes of a run."""
    if jax.process_count() == 1:
      return bool(self.number)
    if dispatch % AGREE_EVERY:
      return False
    from jax.experimental import multihost_utils

    everyones = multihost_utils.process_allgather(np.asarray(self.number))
    self.number = self.number or int(everyones.max())
    return bool(everyones.any())

  def _note(self, number: int, _: FrameType | None) -> None:
    if self.number:
      os._exit(128 + number)
    self.number = number
    os.write(2, b'stopping: saving this step first (a second signal ends at once, unsaved)\n')
