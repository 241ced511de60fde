"""The watch over a run: it judges the health of each member, notes it, and decides on heals.

It judges by logged terms alone, of steps that do not depend on where the run was stopped: a run
that is killed decides the same when it comes there again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from vaegan_jax import checkpoint, data, health, settings
from vaegan_jax.programs import Program
from vaegan_jax.rules import OUT_OF_BOUNDS, RAISED, State, lately
from vaegan_jax.runs import events
from vaegan_jax.runs.probe import Probe
from vaegan_jax.runs.workdir import Member
from vaegan_jax.trends import RECENT, Terms

HEALED = 'healed'  # kind of the event that tells it
STUCK = 10  # steps in a row without finite gradients, after which a member stands still


class Back(Exception):
  """The run must go back to the last healthy step; events.jsonl says so already."""


class Watch:
  """Watches the members of a run.

  Args:
    about, shown: see Probe.
    start: the step that the run resumes from.
    histories: of each member, what it has logged up to there.
  """

  def __init__(
    self,
    members: Sequence[Member],
    about: Mapping[str, Any],
    shown: data.Dataset,
    start: int,
    histories: Sequence[Sequence[Terms]],
  ) -> None:
    self.members, self.about, self.shown = members, about, shown
    self.config = members[0].config
    self.configs = [settings.to_dict(m.config) for m in members]
    self.rows = [lately([t for t in own if self.regular(t['step'])]) for own in histories]
    self.events = [events.until(events.read(m.workdir), start) for m in members]
    self.probes: dict[tuple[str, ...], Probe] = {}

  @property
  def on(self) -> bool:
    """Whether the config asks for a watch."""
    return self.config.health.action != 'off'

  @property
  def done(self) -> int:
    """The number of heals so far."""
    return len(self.done_heals)

  @property
  def done_heals(self) -> list[events.Event]:
    """The heals of a run alone."""
    return events.heals(self.events[0])

  @property
  def heals(self) -> bool:
    """Whether a sick run goes back, as some heals are left."""
    return self.config.health.action == 'heal' and self.done < events.MOST

  def due(self, step: int) -> bool:
    """Whether the members are judged after this step."""
    return self.on and step % self.config.health.every_steps < self.config.steps_per_dispatch

  def regular(self, step: int) -> bool:
    """Whether this step is logged wherever the run began."""
    return step % self.config.log_every_steps == 0 or self.due(step)

  def judges(self, step: int, skipped: Sequence[int]) -> bool:
    """Whether a member is judged after this step; `skipped`: see note."""
    return self.due(step) or (self.heals and max(skipped) >= STUCK)

  def signals(self, programs: Sequence[Program], resting: Sequence) -> list[dict[str, float]]:
    """The signals of each member, whose states at rest are `resting`; see probe.py."""
    places = {i: program.model for program in programs for i in program.places}
    found = []
    for i, state in enumerate(resting):
      key = tuple(places[i].networks)
      if key not in self.probes:
        latent_size = self.config.network.latent_size
        self.probes[key] = Probe(places[i], latent_size, self.about, self.shown)
      found.append(self.probes[key](state))
    return found

  def note(self, step: int, every: Sequence[Mapping[str, float]], skipped: Sequence[int]) -> None:
    """Takes each member's terms and its steps in a row that were skipped; judges if that is due.

    Raises:
      Back: the run is sick, and a heal is decided and written.
    """
    if not self.on or not self.regular(step):
      return
    for i, terms in enumerate(every):
      self.rows[i] = lately([*self.rows[i], dict(terms, step=step)])
      if self.judges(step, [skipped[i]]):
        self._judge(i, step, skipped[i])

  def _judge(self, i: int, step: int, skipped: int) -> None:
    """Notes the State of member i, if it is new, and heals."""
    state, own = health.state(self.rows[i], self.configs[i]), self.events[i]
    if skipped >= STUCK:
      words = f'not finite: {skipped} steps in a row changed nothing'
      state = State('bad', words, 'not finite')
    heal = self.heals and state.level == 'bad'
    heal = heal and events.curable(state, health.table_at(self.configs[i], step))
    before = ('good', '') if not own or 'to' in own[-1] else (own[-1]['level'], own[-1]['kind'])
    good, new = state.level == 'good', []
    if good and self._recovers(step):
      words = f'healed: step {step} is healthy, after heal {self.done}'
      new.append(event(step, self.done, 'good', HEALED, words))
    elif state.level != 'early' and before != (state.level, before[1] if good else state.kind):
      new.append(event(step, self.done, state.level, state.kind, state.words))
    if heal:
      new.append(self._heal(step, state))
    if new:
      self.events[i] = [*own, *new]
      if jax.process_index() == 0:
        events.write(self.members[i].workdir, self.events[i])
    if heal:
      raise Back(new[-1]['event'])

  def _heal(self, step: int, state: State) -> dict[str, Any]:
    """The event of a heal after `step`; if the one before did not help, it goes back further."""
    now = events.healed(self.config, self.done_heals)
    first = 0
    if state.kind == 'alike':  # samples that have never varied were collapsed before, too
      seen = [t['step'] for t in self.rows[0] if t.get('diversity_features', 0) > RAISED]
      first = min(seen, default=step)
    span = range(first, self._end(step, state.kind))
    states = {s: self._state(s) for s in self._saved() if s in span}
    healthy = healthy_steps(states, state.kind)
    heal = events.remedy(state, now.optimizer.factor, self.done_heals)
    heal = dict(to=max(healthy, default=0), **heal)
    words = events.in_words(heal, self.done + 1)
    return event(step, self.done, 'heal', state.kind, words) | heal

  def _recovers(self, step: int) -> bool:
    """Whether a good state after `step` proves the last heal, which is not yet told.

    That is so where the run was sick before, and when a whole interval of the watch has passed.
    """
    if not self.done or self._told() or not self.due(step):
      return False
    last = self.done_heals[-1]
    return step >= max(last['step'], last['to'] + self.config.health.every_steps)

  def _told(self) -> bool:
    """Whether the last heal, if there was one, has helped."""
    since = [e for e in self.events[0] if e.get('heals', 0) == self.done]
    return not self.done or any(e['kind'] == HEALED for e in since)

  def _end(self, step: int, sickness: str = '') -> int:
    """Before which step a heal after `step` goes back: further, if the one before did not help."""
    since = self._since(step, sickness)
    return since if self._told() else min(since, self.done_heals[-1]['to'])

  def _saved(self) -> list[int]:
    """The checkpoints that every run of this config has, unlike those of a stop or of a stage."""
    home, every = self.members[0].workdir, self.config.save_every_steps
    return [s for s in checkpoint.sound_steps(home) if s % every == 0]

  def _since(self, step: int, sickness: str = '') -> int:
    """Where the last interval of the watch before `step` begins.

    A run that is found sick was so for that interval, so later checkpoints are not healthy. Losses
    out of bounds were so within RECENT logs, or RECENT values of pair_loss.
    """
    since = step - self.config.health.every_steps
    if sickness != OUT_OF_BOUNDS:
      return since
    rows = self.rows[0]
    pairs = [t for t in rows if 'pair_loss' in t]
    return min([since, *(t['step'] for t in (*rows[-RECENT:], *pairs[-RECENT:]))])

  def _state(self, step: int) -> State:
    """How a run alone did after `step`."""
    rows = [t for t in self.rows[0] if t['step'] <= step]
    return health.state(rows, self.configs[0])

  def kept(self, step: int) -> list[int]:
    """The checkpoints that must be kept when `step` is saved, as a heal may need them.

    Two that are healthy: one to go back to, and one in case that this does not help. And one from
    before the latest logs, in case that their average is out of bounds.
    """
    if self.config.health.action != 'heal':
      return []
    since, saved = self._since(step), self._saved()
    states = {s: self._state(s) for s in saved if s < since}
    healthy = set(healthy_steps(states)[-2:])
    for end in (self._end(step), self._end(step, OUT_OF_BOUNDS)):  # neither is later than `since`
      healthy |= set(healthy_steps({s: state for s, state in states.items() if s < end})[-1:])
    return sorted(healthy | {s for s in saved if s >= since})


def healthy_steps(states: Mapping[int, State], sickness: str = '') -> list[int]:
  """Of the {step: state} of checkpoints those that a heal may go back to.

  Those after which the run was judged good; if there are none, those judged `watch` for another
  reason than `sickness`, the kind of what was found, as that had not begun there.
  """
  good = [s for s, state in states.items() if state.level == 'good']
  watched = [s for s, state in states.items() if state.level == 'watch']
  return good or [s for s in watched if states[s].kind != sickness]


def event(step: int, heals: int, level: str, kind: str, words: str) -> dict[str, Any]:
  """An event; see events.py."""
  return dict(step=step, heals=heals, level=level, kind=kind, event=words)
