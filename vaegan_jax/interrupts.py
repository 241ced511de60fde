"""SIGTERM and Ctrl-C end a command at once, even in an import, a callback or a compilation.

Python runs a signal's handler in the main thread, between two instructions: a compilation of XLA's
delays it, and an exception that it raises inside a callback is lost. So a thread waits for signals
here. Training alone holds them, to save first: see runs/signals.py.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Files and folders to remove when a signal ends the process; writers add theirs and take them out.
UNFINISHED: set[pathlib.Path] = set()

_pipe: list[int] = []  # its ends, while a thread waits
_spared = 0  # signals that the main thread answers by itself, before the next one ends the process


@contextlib.contextmanager
def unfinished(path: pathlib.Path) -> Iterator[None]:
  """Removes a file or folder that was not renamed, at the end or when a signal ends the process."""
  UNFINISHED.add(path)
  try:
    yield
  finally:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    UNFINISHED.discard(path)


def leave_at_once() -> None:
  """From now on SIGINT ends this process with exit code 130, SIGTERM with 143.

  Call it in the main thread, before the heavy imports, and again after code that sets handlers.
  """
  if not _pipe:
    _pipe.extend(os.pipe())
    os.set_blocking(_pipe[1], False)
    threading.Thread(target=_watch, args=(_pipe[0],), name='interrupts', daemon=True).start()
  signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
  for number in SIGNALS:
    signal.signal(number, _leave_to_the_thread)


def spare(count: int) -> None:
  """The next `count` signals do not end the process: their handlers answer them."""
  global _spared
  _spared = count


def _leave_to_the_thread(_: int, __: FrameType | None) -> None:
  """A handler written in Python, without which Python does not wake the thread."""


def _watch(reader: int) -> None:
  """Ends the process on a signal; never returns."""
  while True:
    number = os.read(reader, 1)[0]
    if number not in SIGNALS:
      continue
    if _spared > 0:
      spare(_spared - 1)
      continue
    os.write(2, b'stopped\n')
    for path in list(UNFINISHED):
      shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    os._exit(128 + number)
