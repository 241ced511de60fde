"""What all campaigns share: their flags and their report, tiny runs, and how to compare two runs.

Every try draws from a random number generator of its own, which depends on --seed and the number of
the try alone. So a try that did not hold is repeated by --seed=S --first=NUMBER --count=1.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import datetime
import json
import logging
import os
import pathlib
import platform
import random
import subprocess
import sys
import tempfile
import time
from typing import Any, NoReturn

from absl import flags
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
STEPS, EVERY = 40, 10  # of a tiny run: its length, and from one checkpoint to the next
TINY = {
  'steps': STEPS,
  'save_every_steps': EVERY,
  'log_every_steps': EVERY,
  'sample_every_steps': 20,
  'batch_size': 8,
  'network.width': 0.0625,
  'network.latent_size': 4,
}
MOMENTS = ('start-up', 'step', 'save')  # when a run is disturbed
LONGEST = 300  # seconds that a tiny run may take, on a busy machine
CLOCKS = {'images_per_s'}  # entries of metrics.jsonl that no two runs share


class Try:
  """One try: its number, its random numbers, and an empty folder of its own."""

  def __init__(self, number: int, seed: int, folder: pathlib.Path, shared: pathlib.Path) -> None:
    self.number, self.draw = number, random.Random(f'{seed}/{number}')
    self.folder, self.shared = folder, shared  # `shared` holds what all tries only read
    self.moment = ''  # of the disturbance, for the report
    self.figures: dict[str, float] = {}  # of this try; the report shows the largest


def define_flags(count: int) -> None:
  """Defines the flags of a campaign; `count` is its usual number of tries."""
  flags.DEFINE_integer('count', count, 'Number of tries.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of all random choices.')
  flags.DEFINE_integer('first', 0, 'Number of the first try.', lower_bound=0)


def run(
  name: str,
  attempt: Callable[[Try], str],
  prepare: Callable[[pathlib.Path], Any] = lambda shared: None,
) -> NoReturn:
  """Makes --count tries, prints 'NAME: held / tried' and what did not hold, and exits: 0 or 1.

  Args:
    attempt: makes a try; '' if the promise held, otherwise what happened, in words.
    prepare: fills the folder that all tries share, once.
  """
  flags.FLAGS(sys.argv)
  count, seed, first = (flags.FLAGS[k].value for k in ('count', 'seed', 'first'))
  held, figures = 0, {}
  with tempfile.TemporaryDirectory(prefix=f'{name}_') as home:
    shared = pathlib.Path(home) / 'shared'
    shared.mkdir()
    os.environ.update(environment(shared))  # for the tries that run in this process
    prepare(shared)
    for number in range(first, first + count):
      with tempfile.TemporaryDirectory(dir=home) as folder:
        own = Try(number, seed, pathlib.Path(folder), shared)
        try:
          wrong = attempt(own)
        except Exception as e:
          wrong = f'{type(e).__name__}: {e}'
      held += not wrong
      for key, value in own.figures.items():
        figures[key] = max(value, figures.get(key, value))
      if wrong:
        repeat = f'python -m reliability.{name} --seed={seed} --first={number} --count=1'
        at = f' ({own.moment})' if own.moment else ''
        print(f'  not held{at}: {wrong}\n    {repeat}', flush=True)
  print(f'{name}: {held} / {count}{"".join(f"; {k} {v:.4g}" for k, v in figures.items())}')
  print(
    f'  (seed {seed}, {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, '
    f'Python {platform.python_version()})'
  )
  sys.exit(held != count)


# --- Tiny runs.


def command(workdir: pathlib.Path, script: str = 'train', **changes: Any) -> list[str]:
  """The command line of a tiny run of the digits, with {field: value} changed."""
  fields = {**TINY, **changes}
  config = [f'--config.{key}={value}' for key, value in fields.items()]
  path = ROOT / 'experiments' / f'{script}.py'
  return [sys.executable, str(path), '--config=digits:vae', f'--workdir={workdir}', *config]


def environment(shared: pathlib.Path) -> dict[str, str]:
  """One CPU device, and one cache of data and compiled programs for all runs of a campaign."""
  own = dict(JAX_PLATFORMS='cpu', XLA_FLAGS='', XDG_CACHE_HOME=str(shared / 'cache'))
  return {**os.environ, **own, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'PYTHONPATH': str(ROOT)}


def start(line: list[str], shared: pathlib.Path, log: pathlib.Path) -> subprocess.Popen[bytes]:
  """A process whose output goes to the end of the file `log`."""
  with log.open('ab') as out:
    return subprocess.Popen(
      line, env=environment(shared), stdout=out, stderr=subprocess.STDOUT, cwd=log.parent
    )


def finish(line: list[str], shared: pathlib.Path, log: pathlib.Path) -> int:
  """The exit code of a process that runs to its end."""
  process = start(line, shared, log)
  try:
    return process.wait(LONGEST)
  finally:
    process.kill()


def straight(shared: pathlib.Path) -> None:
  """Makes SHARED/straight, a tiny run that nothing disturbs, and fills the caches."""
  for name in ('cold', 'straight'):  # the second one starts as all others do, with full caches
    log, begun = shared / f'{name}.log', time.monotonic()
    process = start(command(shared / name), shared, log)
    wait_for(process, lambda log=log: b'\nstep ' in log.read_bytes())
    (shared / 'start-up').write_text(str(time.monotonic() - begun))
    if process.wait(LONGEST):
      sys.exit(f'the undisturbed run failed:\n{log.read_text()}')


def wait_for(process: subprocess.Popen[bytes], happened: Callable[[], Any]) -> None:
  """Returns when something has happened, or the process has ended."""
  while not happened() and process.poll() is None:
    time.sleep(0.005)


def disturb(own: Try, line: list[str], log: pathlib.Path, *numbers: int) -> int:
  """The exit code of a tiny run that gets these signals at one random moment of the try.

  The moment is in the start-up, after a random line of its log, or while a checkpoint is written.
  Sets own.figures['seconds to leave'].
  """
  process = start(line, own.shared, log)
  moment = own.draw.choice(MOMENTS)
  try:
    if moment == 'start-up':
      time.sleep(own.draw.uniform(0, 1) * float((own.shared / 'start-up').read_text()))
    else:
      step = own.draw.randrange(EVERY, STEPS, EVERY)
      told, saved = f'\nstep {step}/'.encode(), own.folder / 'run' / 'checkpoints'
      wait_for(process, lambda: told in log.read_bytes())
      if moment == 'save':
        wait_for(process, lambda: list(saved.glob(f'{step}*')))
      time.sleep(own.draw.uniform(0, 0.1))
    own.moment = moment
    begun = time.monotonic()
    for number in numbers:
      process.send_signal(number)
    code = process.wait(LONGEST)
    own.figures['seconds to leave'] = time.monotonic() - begun
    return code
  finally:
    process.kill()
    process.wait()


def last_line(log: pathlib.Path) -> str:
  """The last line of a log."""
  lines = log.read_text(errors='replace').split('\n') if log.exists() else []
  return next((line for line in reversed(lines) if line.strip()), '')


# --- Comparing.


def difference(workdir: pathlib.Path, other: pathlib.Path) -> str:
  """How the last checkpoint and the log of two runs differ, in words; '' if in no bit."""
  from vaegan_jax import checkpoint

  for own in (workdir, other):
    if not checkpoint.steps(own) or (wrong := checkpoint.damage(own, checkpoint.steps(own)[-1])):
      return f'{own} has no intact last checkpoint' + (f': {wrong}' if wrong else '')
  if (step := checkpoint.steps(workdir)[-1]) != checkpoint.steps(other)[-1]:
    return f'checkpoints {checkpoint.steps(workdir)} and {checkpoint.steps(other)}'
  one, two = arrays(workdir, step), arrays(other, step)
  if one.keys() != two.keys():
    return f'the last checkpoints hold {sorted(one.keys() ^ two.keys())[:5]} or not'
  same = lambda a, b: a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
  if differ := [key for key in one if not same(one[key], two[key])]:
    return f'the last checkpoints differ in {len(differ)} arrays, such as {min(differ)}'
  mine, theirs = logged(workdir), logged(other)
  if mine != theirs:
    steps = [step for step in mine.keys() | theirs.keys() if mine.get(step) != theirs.get(step)]
    return f'the logs differ at steps {sorted(steps)[:10]}'
  return ''


def arrays(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
  """{name: array} of a checkpoint."""
  import jax

  from vaegan_jax import checkpoint

  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  saved = checkpoint.load(workdir, step, checkpoint.shapes(workdir, step), here)
  pairs = jax.tree_util.tree_leaves_with_path(saved)
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in pairs}


def logged(workdir: pathlib.Path) -> dict[int, list[Mapping[str, Any]]]:
  """{step: its lines of metrics.jsonl, without clocks}; without the line that each start adds."""
  found: dict[int, list[Mapping[str, Any]]] = {}
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    read = json.loads(line)
    if read['step'] % EVERY == 0:
      own = {key: value for key, value in read.items() if key not in CLOCKS}
      found.setdefault(read['step'], []).append(own)
  return found


@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
  """The warnings that the body logs."""
  told: list[str] = []

  class Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
      told.append(record.getMessage())

  root = logging.getLogger()
  before, root.handlers = root.handlers, [Listener(logging.WARNING)]
  try:
    yield told
  finally:
    root.handlers = before
