"""Leases: who may write a folder in a bucket, where no file can be locked.

    WORKDIR/.lease/7    names its holder, who rewrites it every BEAT seconds

A newcomer watches the newest lease for EXPIRY seconds. If it changes, its holder lives, and the
newcomer is refused. Otherwise the newcomer creates the lease of the next number, which only one
process can, as creating fails where an object is. No clocks of two machines are compared.

A holder writes its lease and then looks for a later one. A newcomer creates its lease, then looks
whether the one before has changed. So of two that act at the same time, one sees the other and
leaves.
"""

from collections.abc import Iterable, Iterator
import contextlib
import json
import logging
import os
import socket
import threading
import time
from typing import NamedTuple
import uuid

from vaegan_jax.buckets import BucketPath
from vaegan_jax.paths import in_use, of_client

FOLDER = '.lease'
BEAT = 5.0  # seconds
EXPIRY = 20.0  # seconds
LOOK = 1.0  # seconds between two looks of a newcomer


class Seen(NamedTuple):
  """The newest lease of a folder, at one moment; number 0 if there is none."""

  number: int = 0
  content: bytes = b''

  @property
  def holder(self) -> str:
    """Who holds it, in words."""
    try:
      return json.loads(self.content)['holder']
    except (ValueError, KeyError, TypeError):
      return 'another run'


def newest(workdir: BucketPath) -> Seen:
  """The newest lease of a folder."""
  names = (workdir / FOLDER).found()
  for number in sorted((int(n) for n in names if n.isascii() and n.isdigit()), reverse=True):
    with contextlib.suppress(FileNotFoundError):  # given back just now
      return Seen(number, (workdir / FOLDER / str(number)).read_bytes())
  return Seen()


class Lease:
  """A lease that this process holds until it loses it."""

  def __init__(self, workdir: BucketPath, before: Seen) -> None:
    self.workdir, self.before = workdir, before
    self.path = workdir / FOLDER / str(before.number + 1)
    self.token, self.beats, self.lost = uuid.uuid4().hex, 0, ''  # lost: why, in words
    self.lock, self.confirmed = threading.Lock(), time.monotonic()

  def content(self) -> bytes:
    holder = f'process {os.getpid()} on {socket.gethostname()}'
    return json.dumps(dict(holder=holder, token=self.token, beat=self.beats)).encode()

  def create(self) -> None:
    """Takes the folder. Raises ValueError if another process has it."""
    if not self.path.create(self.content()):
      raise in_use(self.workdir, newest(self.workdir).holder)
    others = {int(n) for n in (self.workdir / FOLDER).found() if n.isdigit()}
    others -= {int(self.path.name)}
    old = self.workdir / FOLDER / str(self.before.number)
    alive = others - {self.before.number}
    if self.before.number in others and old.read_bytes() != self.before.content:
      alive.add(self.before.number)
    if alive:
      self.path.unlink(missing_ok=True)
      raise in_use(self.workdir, newest(self.workdir).holder)
    if self.before.number:
      old.unlink(missing_ok=True)

  def beat(self) -> None:
    """Renews the lease, or notes that it is lost. Raises what the client of the bucket raises."""
    with self.lock:
      now = time.monotonic()
      try:
        mine = json.loads(self.path.read_bytes())['token'] == self.token
      except FileNotFoundError:
        mine = False
      if mine and not self.lost:
        self.beats += 1
        self.path.write_bytes(self.content())
      later = newest(self.workdir)
      if later.number > int(self.path.name):
        self.lost = f'{later.holder} has taken its lease, which was not renewed in time'
      elif not mine:
        self.lost = f'its lease {self.path} was deleted'
      self.confirmed = now

  def check(self) -> str:
    """Why the folder is lost, in words; '' if this process holds it at this moment."""
    if not self.lost and time.monotonic() - self.confirmed > 2 * BEAT:
      try:
        self.beat()
      except Exception as e:  # of any client
        return f'its lease {self.path} cannot be renewed ({e or type(e).__name__})'
    return self.lost

  def give_back(self) -> None:
    """Lets the next run begin at once."""
    with self.lock, contextlib.suppress(Exception):  # else it expires
      if not self.lost:
        self.lost = 'it was given back'
        self.path.unlink(missing_ok=True)


def expired(workdirs: Iterable[BucketPath]) -> dict[BucketPath, Seen]:
  """{folder: its last lease, whose holder is gone}; waits for EXPIRY seconds if there are leases.

  Raises ValueError if a holder renews its lease meanwhile.
  """
  seen = {workdir: newest(workdir) for workdir in workdirs}
  until = time.monotonic() + EXPIRY
  if held := [workdir for workdir, lease in seen.items() if lease.number]:
    logging.warning(
      '%s has the lease of %s: waiting %.0f s for a sign of life', held[0], seen[held[0]].holder,
      EXPIRY,
    )  # fmt: skip
  while any(lease.number for lease in seen.values()) and time.monotonic() < until:
    time.sleep(LOOK)
    for workdir, lease in seen.items():
      now = newest(workdir) if lease.number else lease
      if now.number and now != lease:
        raise in_use(workdir, now.holder)
      seen[workdir] = now
  return seen


@contextlib.contextmanager
def held(workdirs: Iterable[BucketPath]) -> Iterator[list[Lease]]:
  """Holds folders, and renews their leases in the background.

  Raises ValueError if another process has one, or it cannot be written.
  """
  leases: list[Lease] = []
  done = threading.Event()

  def renew():
    while not done.wait(BEAT):
      for lease in leases:
        with contextlib.suppress(Exception):  # of any client; check() tries again, and tells
          lease.beat()

  workdirs = list(workdirs)
  try:
    try:
      for workdir, before in expired(workdirs).items():
        lease = Lease(workdir, before)
        lease.create()
        leases.append(lease)
    except Exception as e:
      if isinstance(e, OSError) or of_client(e):
        why = 'there is no such bucket' if isinstance(e, FileNotFoundError) else e
        raise ValueError(f'--workdir={workdirs[0]} cannot be written: {why}') from e
      raise
    threading.Thread(target=renew, name='lease', daemon=True).start()
    yield leases
  finally:
    done.set()
    for lease in leases:
      lease.give_back()
