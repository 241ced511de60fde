"""Checkpoints while a run goes on: saved in the background, on a disk that may be full."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import errno
import shutil
import sys
from typing import Any

import jax

from vaegan_jax import checkpoint, paths, settings
from vaegan_jax.failures import RunFailed
from vaegan_jax.runs.watch import Watch
from vaegan_jax.runs.workdir import Claim, Member
from vaegan_jax.words import size_in_words


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Hides what TensorStore prints, one traceback per array, after a save of Orbax's has failed.

  The save raises its own error. These come late: after an error, it goes on hiding them.
  """
  before = sys.excepthook

  def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if not (kind is RuntimeError and str(error) == 'Event loop is closed'):
      before(kind, error, trace)

  sys.excepthook = hook
  yield
  sys.excepthook = before


class Saver:
  """Saves the members' states in the background, one save at a time."""

  def __init__(self, members: Sequence[Member], about: dict, claim: Claim) -> None:
    self.members, self.about, self.claim, self.saving = members, about, claim, []
    self.bytes, self.step = 0, 0  # of the states of a save; of the save at work
    # A kill between the saves of two members must leave a step that all of them have.
    self.keep = members[0].config.keep_checkpoints
    if members[0].name:
      self.keep = max(2, self.keep)

  @property
  def home(self) -> Any:
    """The folder of the run's first member."""
    return self.members[0].workdir

  def measure(self, states: Sequence) -> str:
    """A warning if the disk has no room for the checkpoints of these states, or ''."""
    self.bytes = sum(a.nbytes for a in jax.tree.leaves(list(states)))
    if paths.is_remote(self.home):  # a bucket is never full
      return ''
    there = min(len(checkpoint.steps(member.workdir)) for member in self.members)
    needed = (self.keep + 1 - min(there, self.keep)) * self.bytes
    free = shutil.disk_usage(self.home).free
    if needed <= free:
      return ''
    return (
      f'warning: {self.home} needs {size_in_words(needed)} more for checkpoints '
      f'({size_in_words(self.bytes)} each), but {size_in_words(free)} are free: make room, lower '
      '--config.keep_checkpoints, or the run will stop at a save'
    )

  def save(self, step: int, states: Sequence, watch: Watch | None = None) -> None:
    """Begins to save, after the save before is done. Raises RunFailed, see finish.

    watch: it says what a heal needs, and which heals were done.
    """
    self.finish()
    self.step = step
    for member, state in zip(self.members, states):
      config = settings.to_dict(member.config)
      with self.told(step, OSError, ValueError):
        self.saving.append(
          checkpoint.save(
            member.workdir,
            step,
            state,
            keep=self.keep,
            config=config,
            about=self.about,
            claimed=self.claim.check,
            heals=watch.done_heals if watch else (),
            protect=watch.kept(step) if watch else (),
          )
        )

  def poll(self) -> None:
    """Raises what went wrong with a save that is done."""
    if all(save.done() for save in self.saving):
      self.finish()

  def finish(self) -> None:
    """Waits for the saves. Raises RunFailed if one failed; older checkpoints are intact."""
    while self.saving:
      with self.told(self.step, OSError, ValueError):
        self.saving.pop(0).result()

  def rescue(self, step: int, states: Callable[[], Sequence]) -> None:
    """Raises RunFailed if a workdir is lost; saves first if all of them were only moved.

    states: gives them at rest.
    """
    if not (lost := self.claim.lost()):
      return
    homes = [lost.get(member.workdir, member.workdir) for member in self.members]
    kept = 'Steps after the last checkpoint are lost'
    if all(homes) and jax.process_count() == 1:
      own = [m._replace(workdir=home) for m, home in zip(self.members, homes)]
      with contextlib.suppress(RunFailed):
        self.finish()  # a save under the old path
      there = Saver(own, self.about, Claim())
      there.save(step, states())
      there.finish()
      kept = f'Step {step} is saved in {homes[0]}; resume there'
    try:
      self.claim.check()
    except RunFailed as e:
      raise RunFailed(f'{e}. {kept}') from None

  @contextlib.contextmanager
  def told(self, step: int, *kinds: type[Exception]) -> Iterator[None]:
    """Raises RunFailed, in one line, for exceptions of these kinds."""
    try:
      yield
    except Exception as e:
      if not (isinstance(e, kinds) or paths.of_client(e)):
        raise
      self.claim.check()  # a folder that is gone explains all else
      reason = ' '.join(str(e).split())
      if 'No space left' in reason or getattr(e, 'errno', None) == errno.ENOSPC:
        free = size_in_words(shutil.disk_usage(self.home).free)
        reason = (
          f'the disk of {self.home} is full: a save needs {size_in_words(self.bytes)}, and {free} '
          'are free'
        )
      raise RunFailed(
        f'step {step}: {reason}. Older checkpoints are intact: mend this, and the same command '
        'resumes from the newest'
      ) from e
