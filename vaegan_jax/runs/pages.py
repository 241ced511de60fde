"""report.html of a run, renewed in the background while it trains."""

from collections.abc import Sequence
from importlib import metadata
import logging
import pathlib
import sys
import threading
import time
from typing import Any

import jax

from vaegan_jax import files, page, paths
from vaegan_jax.page.read import STARTED

log = logging.getLogger(__name__)

SHARE = 0.01  # of the run's time that pages may take
FIRST = 0.5  # seconds that the first page is taken to need
NAME = 'report.html'
PASSED = (OSError, ValueError, KeyError, TypeError)  # errors that a page may end with


def started(data: str, classes: Sequence[str], parameters: int) -> dict[str, Any]:
  """What started.json says: the command, the data and the machine of a run."""
  command = sys.argv if any(a.startswith('--config') for a in sys.argv) else []
  if command and command[0].endswith('.py'):
    command = ['python', *command]
  return dict(
    command=command,
    folder=str(pathlib.Path.cwd()),
    data=data,
    classes=list(classes)[:100],
    parameters=f'{parameters:,}',
    devices=f'{jax.device_count()} {jax.devices()[0].device_kind}',
    versions={name: metadata.version(name) for name in ('vaegan_jax', 'jax', 'flax')},
  )


class Pages:
  """Renews WORKDIR/report.html, and that of each member at the end."""

  def __init__(self, workdir: Any, members: Sequence[Any]) -> None:
    self.workdir, self.members = workdir, members
    self.began, self.spent, self.last = time.monotonic(), 0.0, FIRST
    self.thread: threading.Thread | None = None

  def write_started(self, facts: dict[str, Any]) -> None:
    """Writes started.json into the folder of every member."""
    for folder in self.members:
      files.write_json(folder / STARTED, facts)

  def renew(self) -> None:
    """Begins to write the page, unless one is being written or SHARE of the time is spent."""
    due = self.spent + self.last <= SHARE * (time.monotonic() - self.began)
    if due and not (self.thread and self.thread.is_alive()):
      self.thread = threading.Thread(target=self._write, args=([self.workdir],), name='page')
      self.thread.start()

  def finish(self) -> None:
    """Writes the last pages."""
    if self.thread:
      self.thread.join()
    self._write(dict.fromkeys([self.workdir, *self.members]))

  def _write(self, folders: Any) -> None:
    """Writes the page of each folder. A page that fails does not end the run: it warns."""
    begin = time.thread_time()
    try:
      for folder in folders:
        page.write([folder], folder / NAME)
    except Exception as error:
      if not (isinstance(error, PASSED) or paths.of_client(error)):
        raise
      log.warning('%s cannot be written: %s', self.workdir / NAME, error)
    self.last = time.thread_time() - begin
    self.spent += self.last
