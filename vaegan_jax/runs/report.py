"""What a run leaves behind: lines on the screen, curves, pictures, and checkpoints."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import time
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np

from vaegan_jax import build, data, files, paths, settings
from vaegan_jax.model import SEES, losses_of
from vaegan_jax.page.read import read
from vaegan_jax.programs import Program, by_member
from vaegan_jax.runs.boards import Board
from vaegan_jax.runs.pages import Pages
from vaegan_jax.runs.pictures import draw, trained
from vaegan_jax.runs.saver import Saver, quiet
from vaegan_jax.runs.screen import Screen, terminal
from vaegan_jax.runs.watch import STUCK, Watch
from vaegan_jax.runs.workdir import POPULATION, Claim, Member
from vaegan_jax.words import duration

ESTIMATE_AFTER = 10  # dispatches
UPLOADS = 0.02  # share of the time
LONG = 600  # seconds; a longer run says how long it takes


class Run(NamedTuple):
  """What all steps of a run share."""

  members: Sequence[Member]
  workdir: Any
  about: dict  # of the data: see build.about
  shown: data.Dataset  # the images whose reconstructions are shown
  start: int  # the step that it resumes from
  say: Callable[[str], Any]
  claim: Claim  # on the workdirs

  @property
  def config(self) -> ConfigDict:
    """The fields that all members share."""
    return self.members[0].config

  @property
  def alone(self) -> bool:
    """Whether this is no population."""
    return not self.members[0].name


class Clock:
  """Images/s between two logged steps; the first stretch holds the compilation."""

  def __init__(self, step: int) -> None:
    self.step, self.time, self.warm = step, time.monotonic(), False

  def stretch(self, step: int, batch_size: int) -> tuple[float, float | None]:
    """(seconds since the last call, images/s or None if that includes the compilation)."""
    now = time.monotonic()
    seconds = now - self.time
    rate = (step - self.step) * batch_size / seconds if self.warm else None
    self.step, self.time, self.warm = step, now, True
    return seconds, rate

  def seconds_per_step(self, step: int) -> float:
    """Of the steps since the last stretch, which goes on."""
    return (time.monotonic() - self.time) / (step - self.step)


class Report:
  """Reports each step of a run; use it as a context manager.

  started: how the run began, see pages.started.
  """

  def __init__(self, run: Run, started: dict[str, Any]) -> None:
    self.run, self.started, self.clock = run, started, Clock(run.start)
    self.saver = Saver(run.members, run.about, run.claim)
    self.first = jax.process_index() == 0  # the process that writes
    self.drawn = time.monotonic()  # when the last pictures were
    self.step = run.start  # the last one done
    self.uploaded = 0.0  # when the next upload of the curves is due, in a bucket
    self.stuck: dict[str, None] = {}  # names of members that stand still, in order
    self.files = contextlib.ExitStack()
    self.pages = Pages(run.workdir, [m.workdir for m in run.members])
    histories = [known(m, run.start) for m in run.members]
    self.watch = Watch(run.members, run.about, run.shown, run.start, histories)
    self.screen = Screen(
      {m.name: (settings.to_dict(m.config), own) for m, own in zip(run.members, histories)},
      run.start,
      run.say,
      terminal(run.say) if self.first else None,
    )

  def __enter__(self) -> 'Report':
    members = self.run.members if self.first else ()
    if self.first and not self.run.alone:
      write_population(self.run, self.run.start, [{}] * len(members))
    if self.first:
      self.pages.write_started(self.started)
    self.files.enter_context(quiet())
    self.logs = [self.files.enter_context(grows(m.workdir / 'metrics.jsonl')) for m in members]
    group = '' if self.run.alone else self.run.workdir.name
    boards = (Board(m.workdir, settings.to_dict(m.config), self.run.start, group) for m in members)
    self.boards = [self.files.enter_context(board) for board in boards]
    for where in filter(None, (board.where for board in self.boards)):
      self.run.say(f'W&B: {where}')
    if self.first:
      self.files.enter_context(self.screen)
    return self

  def __exit__(self, *error: Any) -> None:
    try:
      self.saver.finish()
    finally:
      failed = contextlib.suppress(OSError) if error[0] else self.saver.told(self.step, OSError)
      with failed:  # a full disk fails again as the logs close: the first error stands
        self.files.__exit__(*error)
      if self.first and not self.run.claim.lost():
        self.pages.finish()

  def after(
    self, step: int, programs: Sequence[Program], states: Sequence, terms: Sequence, keep: bool
  ) -> None:
    """Logs, saves and draws what is due after `step`.

    Args:
      states, terms: of each program.
      keep: save in any case, as at the end of a stage or when a signal stops the run.

    Raises:
      FloatingPointError: all members stand still, or some did and the run is done.
      RunFailed: the workdir is gone or cannot be written.
    """
    self.step = step
    with self.saver.told(step, OSError):
      self._after(step, programs, states, terms, keep)

  def _after(
    self, step: int, programs: Sequence[Program], states: Sequence, terms: Sequence, keep: bool
  ) -> None:
    config = self.run.config
    last = step == config.steps
    self.screen.done(step)
    first_log = step == self.run.start + config.steps_per_dispatch
    now = range(step - config.steps_per_dispatch + 1, step + 1)  # the steps of this dispatch
    show = (
      step % config.sample_every_steps == 0 or last or any(s in now for s in config.sample_at_steps)
    )
    timed = not show and self.picture_due()
    keep = step % config.save_every_steps == 0 or last or keep
    due = self.watch.due(step)
    log = step % config.log_every_steps == 0 or last or first_log or due

    def at_rest():
      return by_member(programs, [p.runner.take_states(s) for p, s in zip(programs, states)])

    if log or keep or show or timed:
      self.saver.rescue(step, at_rest)
    self.saver.poll()
    resting = at_rest() if show or timed or keep or due else []
    drawn = [{} for _ in self.run.members]
    if show and self.first:
      drawn = self.draw(step, resting)
    elif timed:
      self.draw(step, resting)  # its terms are not logged: a run that is repeated logs the same
    found = self.watch.signals(programs, resting) if due else [{}] * len(self.run.members)
    if log or keep:
      every = by_member(programs, [p.runner.take_terms(t) for p, t in zip(programs, terms)])
      skipped = by_member(programs, [p.runner.skipped(s) for p, s in zip(programs, states)])
      every = [
        own_terms(m, t) | own | signs
        for m, t, own, signs in zip(self.run.members, every, drawn, found)
      ]
      if self.first and log:
        self.log(step, every)
      self.flush(keep or self.watch.judges(step, skipped))  # before a checkpoint or a heal
      if self.watch.heals:
        self.saver.finish()  # so that the checkpoints to go back to are complete
      self.watch.note(step, every, skipped)
      if last or not self.watch.heals or self.watch.regular(step):
        self.check_progress(step, every, skipped, last)
    estimate = self.run.start + (1 + ESTIMATE_AFTER) * config.steps_per_dispatch
    if step == estimate and not log and self.first:
      jax.block_until_ready(terms)
      self.estimate(step)
    if keep:
      self.saver.save(step, resting, self.watch)
      if self.first:
        self.pages.renew()
    if last and self.stuck:
      self.saver.finish()
      raise FloatingPointError(
        f'{", ".join(self.stuck)} stood still, as their gradients were not finite; nothing of that '
        'entered their state, and the other members are done'
      )

  def picture_due(self) -> bool:
    """Whether the last picture is `sample_every_seconds` old. Several processes draw by steps."""
    seconds = self.run.config.sample_every_seconds
    return 0 < seconds <= time.monotonic() - self.drawn and jax.process_count() == 1

  def draw(self, step: int, resting: Sequence) -> list[dict[str, float]]:
    """Draws the members' pictures; the terms that follow from them, of each member."""
    self.drawn = time.monotonic()
    return [
      draw(m.workdir, trained(m.config, self.run.about, state, step), self.run.shown, board)
      for m, state, board in zip(self.run.members, resting, self.boards)
    ]

  def estimate(self, step: int) -> None:
    """Says how long a long run takes, and what makes it shorter."""
    config, each = self.run.config, self.clock.seconds_per_step(step)
    left = (config.steps - step) * each
    if left < LONG:
      return
    every, rate = config.sample_every_steps, config.batch_size * len(self.run.members) / each
    picture = min((every - step % every) * each, config.sample_every_seconds or left)
    self.run.say(
      f'{config.steps - step:,} steps more at {rate:.0f} images/s: '
      f'about {duration(left)}; the next picture in {duration(picture)}. For '
      'less: --config.steps, --config.network.width, --config.data.image_size; pictures: '
      '--config.sample_every_steps'
    )

  def log(self, step: int, every: Sequence[Mapping[str, float]]) -> None:
    """Prints the members' terms and adds them to the curves."""
    _, rate = self.clock.stretch(step, self.run.config.batch_size)
    self.screen.log(step, every)
    for log, board, terms in zip(self.logs, self.boards, every):
      heals = dict(heals=self.watch.done) if self.watch.done else {}
      log.write(files.to_json(dict(step=step, images_per_s=rate, **terms, **heals)) + '\n')
      for name, value in terms.items():
        board.add_scalar(name, value, step)
    if not self.run.alone:
      write_population(self.run, step, every)

  def flush(self, keep: bool) -> None:
    """Writes the curves out; in a bucket, where that writes all of them, UPLOADS of the time."""
    begin = time.monotonic()
    if keep or begin >= self.uploaded:
      for file in (*self.logs, *self.boards):
        file.flush()
      if paths.is_remote(self.run.workdir):
        self.uploaded = time.monotonic() + (time.monotonic() - begin) / UPLOADS

  def check_progress(
    self, step: int, every: Sequence[Mapping[str, float]], skipped: Sequence[int], last: bool
  ) -> None:
    """Notes members that stand still; raises FloatingPointError if all of them do."""
    for member, terms, count in zip(self.run.members, every, skipped):
      if (count >= STUCK or (count and last)) and member.name not in self.stuck:
        self.stuck[member.name] = None
        bad = ', '.join(k for k, v in terms.items() if not np.isfinite(v))
        bad = bad or 'all terms are, but not the new parameters, moments or statistics'
        told = f'gradients or state have not been finite for {count} steps ({bad})'
        if not self.run.alone:
          self.run.say(f'step {step}: {member.name} stands still: its {told}')
        if len(self.stuck) == len(self.run.members):
          raise FloatingPointError(
            f'step {step}: {told}. Nothing of them entered the state. The same command resumes '
            'from the newest sound checkpoint, if there is one: give it a smaller '
            '--config.optimizer.learning_rate, or an older checkpoint with --resume=STEP; or start '
            'in another workdir with --config.optimizer.clip_norm=1'
          )


def grows(path: Any) -> contextlib.AbstractContextManager:
  """A file of lines to go on with; `write` and `flush` as those of any file."""
  if not paths.is_remote(path):
    return open(path, 'a')
  from vaegan_jax import buckets

  return buckets.Growing(path, needed=True)


def own_terms(member: Member, terms: Mapping[str, float]) -> dict[str, float]:
  """The terms of the member's run alone: without losses that only other members weigh."""
  names = {name for table in build.tables_of(member.config) for name in losses_of(table)}
  return {k: v for k, v in terms.items() if k in names or k not in SEES}


def known(member: Member, start: int) -> list[dict[str, float]]:
  """What a run that resumes has logged so far."""
  if not start or jax.process_index() != 0:
    return []
  return [t for t in read(member.workdir, member.name).history if t['step'] <= start]


def write_population(run: Run, step: int, every: Sequence[Mapping[str, float]]) -> None:
  """Writes WORKDIR/population.json: the members, the fields in which they differ, their terms."""
  fields = [dict(settings.fields(m.config)) for m in run.members]
  varied = [k for k in fields[0] if k == 'seed' or any(own[k] != fields[0][k] for own in fields)]
  members = {
    m.name: dict(settings={k: own[k] for k in varied}, terms=terms)
    for m, own, terms in zip(run.members, fields, every)
  }
  content = dict(method_name=run.config.method_name, step=step, members=members)
  files.write_json(run.workdir / POPULATION, content)
