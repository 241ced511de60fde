"""A run that stands still: it shows where, and ends."""

from collections.abc import Iterable, Iterator
import faulthandler
import os
import sys
import threading
from typing import Any

FACTOR = 10  # times the longest step so far that a step may take, however short the limit
TICKS = 20  # looks within the limit
DATA, STEP = 'the next batch of images', 'the devices, a save or a picture'


class Watchdog:
  """Ends a process whose steps stop coming; a context manager.

  After `seconds` without a step (or FACTOR times the longest step so far, if that is more), it
  prints what the run waits for and the stack of every thread. After twice that time, it ends the
  process with exit code 3, so that whoever started the run can start it again. The first step
  compiles, and may take any time. Time in which the whole process was stopped does not count.
  """

  def __init__(self, seconds: float) -> None:
    self.seconds = seconds
    self.still, self.longest = 0.0, 0.0  # seconds since the last mark, and the most of these so far
    self.stepped, self.told, self.doing = False, False, DATA
    self.over = threading.Event()
    self.thread = threading.Thread(target=self._look, name='watchdog', daemon=True)

  def __enter__(self) -> 'Watchdog':
    if self.seconds:
      self.thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self.over.set()

  def watched(self, batches: Iterable[Any]) -> Iterator[Any]:
    """The batches; their consumer takes a step between two of them."""
    for batch in batches:
      self._mark(STEP)
      yield batch
      self._mark(DATA)
      self.stepped = True

  def _mark(self, doing: str) -> None:
    if self.stepped:
      self.longest = max(self.longest, self.still)
    self.still, self.told, self.doing = 0.0, False, doing

  def _look(self) -> None:
    tick = self.seconds / TICKS
    while not self.over.wait(tick):
      self.still += tick  # and not by a clock, which runs on while the process is stopped
      limit = max(self.seconds, FACTOR * self.longest)
      if self.stepped and self.still >= limit and not self.told:
        self.told = True
        told = f'warning: no step for {self.still:.0f} s: the run waits for {self.doing}'
        more = f'It ends in {limit:.0f} s if none comes (--config.hang_seconds)'
        print(f'{told}. {more}. The stack of every thread:', file=sys.stderr, flush=True)
        faulthandler.dump_traceback()
      if self.stepped and self.still >= 2 * limit:
        told = f'error: no step for {self.still:.0f} s while the run waited for {self.doing}'
        more = 'The same command resumes from the newest sound checkpoint, if there is one'
        print(f'{told}. {more}', file=sys.stderr, flush=True)
        os._exit(3)
