"""What a person sees of a run: a live display in a terminal, a line per log elsewhere."""

import collections
from collections.abc import Callable, Mapping, Sequence
import sys
import threading
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vaegan_jax import health
from vaegan_jax.rules import State, lately, shown_terms
from vaegan_jax.trends import Terms, trend
from vaegan_jax.words import duration

WINDOW, SHARE = 60, 0.1  # a mean speed is over so many seconds, or this share of the run so far
STILL_EVERY = 60  # seconds between lines that say that the step still compiles
COLOURS = dict(early='dim', good='green', watch='yellow', bad='bold red')


class Pace:
  """Seconds per step as a moving mean; the first step, which compiles, does not count."""

  def __init__(self) -> None:
    self.marks: collections.deque[tuple[float, int]] = collections.deque()
    self.began = 0.0

  def mark(self, step: int) -> None:
    """Notes that `step` is done now."""
    now = time.monotonic()
    self.began = self.began or now
    self.marks.append((now, step))
    window = max(WINDOW, SHARE * (now - self.began))
    while len(self.marks) > 2 and now - self.marks[1][0] > window:
      self.marks.popleft()

  def seconds_per_step(self) -> float | None:
    """None as long as there is one mark only."""
    if len(self.marks) < 2:
      return None
    (begin, first), (end, last) = self.marks[0], self.marks[-1]
    return (end - begin) / (last - first)


class Screen:
  """Shows the progress of a run's members; use it as a context manager.

  Args:
    members: {name: (config as plain dicts, history of logged terms so far)}; '' for a run alone.
    start: the step that the run resumes from.
    say: takes lines.
    console: of the live display; None shows no such display.
  """

  def __init__(
    self,
    members: Mapping[str, tuple[dict[str, Any], Sequence[Terms]]],
    start: int,
    say: Callable[[str], Any],
    console: Console | None = None,
  ) -> None:
    self.configs = {name: config for name, (config, _) in members.items()}
    self.histories = {name: list(history) for name, (_, history) in members.items()}
    self.say, self.step, self.pace = say, start, Pace()
    self.config = next(iter(self.configs.values()))
    self.states = {name: self.judged(name) for name in members}
    self.live = console and Live(
      get_renderable=self.render, console=console, refresh_per_second=4, transient=True
    )
    self.compiled = threading.Event()

  def __enter__(self) -> 'Screen':
    threading.Thread(target=self._say_still_compiling, name='compiling', daemon=True).start()
    if self.live:
      self.live.start()
    return self

  def __exit__(self, *error: object) -> None:
    self.compiled.set()
    if self.live:
      self.live.stop()

  def _say_still_compiling(self) -> None:
    begin = time.monotonic()
    while not self.compiled.wait(STILL_EVERY):
      self.say(
        f'still compiling after {duration(time.monotonic() - begin)}: large networks and busy '
        'machines take minutes. Once compiled, the program is in the cache for the next start'
      )

  def done(self, step: int) -> None:
    """Notes that a step is done."""
    self.compiled.set()
    self.step = step
    self.pace.mark(step)

  def log(self, step: int, every: Sequence[Mapping[str, float]]) -> None:
    """Takes the terms of each member after a step; without a display, says them in a line."""
    for (name, history), terms in zip(self.histories.items(), every):
      history[:] = lately([*history, dict(terms, step=step)])
      self.states[name] = self.judged(name)
    if not self.live:
      self.say(f'step {step}/{self.config["steps"]}  {self.speed()}  {self.told(arrows=False)}')

  def judged(self, name: str) -> State:
    """The State of a member."""
    return health.state(self.histories[name], self.configs[name])

  def speed(self) -> str:
    """Images/s of all members and the time that is left."""
    each = self.pace.seconds_per_step()
    if not each:
      return 'compiled'
    rate = self.config['batch_size'] * len(self.configs) / each
    return f'{rate:.0f} images/s, {duration((self.config["steps"] - self.step) * each)} left'

  def told(self, arrows: bool) -> str:
    """The telling terms and the state of a run alone; the states of members in short."""
    if len(self.configs) == 1:
      (name,) = self.configs
      return f'{self.terms(name, arrows)}  {self.states[name].words}'
    levels = collections.Counter(state.level for state in self.states.values())
    told = ', '.join(f'{count} {level}' for level, count in sorted(levels.items()))
    worst = [f'{name}: {s.words}' for name, s in self.states.items() if s.level in ('watch', 'bad')]
    return f'{len(self.configs)} members: {told}' + ''.join(f'; {line}' for line in worst[:3])

  def terms(self, name: str, arrows: bool) -> str:
    """The telling terms of a member at its last log, with an arrow for the trend of each."""
    history, config = self.histories[name], self.configs[name]
    if not history:
      return ''
    table = health.table_at(config, history[-1]['step'])
    names = [k for k in shown_terms(table, config['adversarial']) if k in history[-1]]
    return '  '.join(
      f'{k} {history[-1][k]:.4g}{trend(history, k) if arrows else ""}' for k in names
    )

  def render(self) -> Group:
    """The live display."""
    steps = self.config['steps']
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
      ProgressBar(total=steps, completed=self.step, width=30),
      f'step {self.step:,}/{steps:,}',
      self.speed(),
    )
    rows: list[Any] = [bar]
    for name, state in self.states.items():
      title = f'{name}: ' if name else ''
      rows.append(Text(f'{title}{self.terms(name, arrows=True)}', overflow='ellipsis'))
      rows.append(Text(state.words, style=COLOURS[state.level]))
    return Group(*rows[:20])


def terminal(say: Callable[[str], Any]) -> Console | None:
  """The Console of a live display, if `say` prints to a terminal."""
  return Console() if say is print and sys.stdout.isatty() else None
