"""The run: step, log, show, save. Stopped at any moment, the same call goes on.

WORKDIR/config.json, metrics.jsonl, tensorboard/    what was run, and its curves
WORKDIR/samples/, reconstructions/                  PNG grids, by step
WORKDIR/checkpoints/                                see checkpoint.py
"""

import collections
import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import time

import jax
import numpy as np
import tensorboardX

from vaegan_jax import build, checkpoint, data, files, images, sample, settings
from vaegan_jax.step import TrainState, next_phase

POPULATION = 'population.json'  # of a folder of several runs, see population.py
SKIPS = 10  # steps in a row without finite gradients that end a run
AHEAD = 2  # dispatches to the devices that may be unfinished: more would only put off what a signal asks for
AGREE_EVERY = (
  10  # dispatches between two moments when the hosts of a run ask each other for signals
)
SHOWN = 64  # images in a grid without classes


def train(config, workdir, *, strict=False, say=print):
  """Trains as `config` says, from the newest checkpoint in `workdir` on if there is one.

  Returns 0 when all steps are done, or 128 + the signal's number when SIGTERM or Ctrl-C ended the
  run after a save. `strict` refuses a damaged checkpoint instead of going back to the one before.

  Raises:
    ValueError, OSError: the config, the data or the workdir cannot be used; nothing was compiled
      or overwritten.
    FloatingPointError: the gradients stopped being finite; the last checkpoint is sound.
  """
  workdir = pathlib.Path(workdir).absolute()
  build.check(config)
  dataset = build.dataset(config)
  data.check(
    dataset,
    batch_size=config.batch_size,
    condition=config.data.condition,
    process_count=jax.process_count(),
  )
  build.check_memory(config, dataset)
  shown = build.dataset(config, config.data.held_out) if config.data.held_out else dataset
  with claimed(workdir):
    start = begin(config, workdir, strict)
    return run(config, workdir, dataset, shown, start, say)


@contextlib.contextmanager
def claimed(workdir):
  """Holds the workdir for this run; ValueError where it cannot be written or another run has it."""
  if jax.process_index():
    yield
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = open(workdir / '.lock', 'a+')
  except OSError as e:
    raise ValueError(f'--workdir={workdir} cannot be written: {e.strerror}') from e
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      lock.seek(0)
      raise ValueError(
        f'--workdir={workdir} is in use by {lock.read().strip() or "another run"}: '
        'wait for it, stop it, or give this run another workdir'
      ) from e
    lock.truncate(0)
    lock.write(f'process {os.getpid()} on {socket.gethostname()}')
    lock.flush()
    yield


def check_same(config, then, what):
  """None, or ValueError where the config `then` makes another run than `config`."""
  if differ := settings.differences(config, then):
    raise ValueError(
      f'{what} of another config. Give another workdir, or set back:\n  ' + '\n  '.join(differ[:10])
    )


def begin(config, workdir, strict, start=None):
  """The step to go on from, 0 in a new workdir, which gets its config.json here: the newest, or `start`.

  Raises ValueError as start_of does.
  """
  start = start_of(config, workdir, strict, start)
  if jax.process_index() == 0:
    checkpoint.set_aside(workdir, start)
    files.write_json(workdir / 'config.json', settings.to_dict(config))
    forget(workdir / 'metrics.jsonl', start)
  checkpoint.barrier('begin')
  return start


def start_of(config, workdir, strict, start=None):
  """The step that `begin` gives, without writing anything.

  Raises ValueError if the workdir holds another config's run, or only damaged checkpoints.
  """
  path = workdir / 'config.json'
  if (workdir / POPULATION).exists():
    raise ValueError(
      f'{workdir} is the folder of a population: name that of one of its members, or another'
    )
  if path.exists():
    try:
      then = json.loads(path.read_text())
    except ValueError as e:
      raise ValueError(f"{path} cannot be read ({e}): is {workdir} a run's workdir?") from e
    if not isinstance(then, dict):
      raise ValueError(f"{path} holds no config: is {workdir} a run's workdir?")
    if checkpoint.steps(workdir):  # else nothing was saved that another config could spoil
      check_same(config, then, f'--workdir={workdir} holds a run')
  start = (checkpoint.newest(workdir, strict=strict) or 0) if start is None else start
  if start:
    check_same(
      config, checkpoint.manifest(workdir, start)['config'], f'checkpoint {start} of {workdir} is'
    )
  for name in ('samples', 'reconstructions', 'tensorboard', checkpoint.FOLDER):
    if (workdir / name).exists() and not (workdir / name).is_dir():
      raise ValueError(f'{workdir / name} is no folder: move it away, or give another workdir')
  if not start and any(
    p.is_dir() and p.name.isdigit() for p in (workdir / checkpoint.FOLDER).glob('*')
  ):
    finished = [p.name for p in (workdir / checkpoint.FOLDER).glob('*/commit_success.txt')]
    if len(finished) > 1:  # one may be a save that was killed before its manifest
      raise ValueError(
        f'{workdir / checkpoint.FOLDER} has checkpoints without their manifests (N.json): put those back, '
        'or give another workdir'
      )
  if start % config.steps_per_dispatch:
    raise ValueError(
      f'{workdir} is at step {start}, which is no multiple of --config.steps_per_dispatch='
      f'{config.steps_per_dispatch}: set that to a divisor of {start}, such as 1'
    )
  if start > config.steps:
    raise ValueError(f'{workdir} is at step {start} already: set --config.steps to more than that')
  return start


def forget(path, step):
  """Drops the lines of a log that are later than `step`, and a last line that was cut off."""
  if path.exists():

    def kept(line):
      try:
        return line.endswith('\n') and json.loads(line)['step'] <= step
      except (ValueError, KeyError, TypeError):
        return False

    part = path.with_suffix('.part')
    part.write_text(''.join(filter(kept, path.read_text(errors='replace').splitlines(True))))
    os.replace(part, path)


def run(config, workdir, dataset, shown, start, say):
  """Trains from step `start` to the end or to a signal; see train()."""
  about = build.about(config, dataset)
  if start:
    same_data(workdir, start, about)
  phases, key = build.phases(config, about['size']), jax.random.key(config.seed)
  init = build.init(config, about['size'], phases)
  if start:
    state = restored(workdir, start, init, key, phases[0].parallel.at_rest)
    say(f'going on from step {start} of {workdir}')
  else:
    state = init(key)
  count = sum(a.size for a in jax.tree.leaves(state.params))
  say(
    f'{dataset.name}: {len(dataset.images):,} images; {count:,} parameters; {jax.device_count()} '
    f'{jax.devices()[0].platform} device(s). Compiling the step, which can take a minute the first time'
  )
  with stop_signals() as signals, reporting(config, workdir, about, shown, start, say) as report:
    for before, phase in zip([None, *phases], phases):
      if start >= phase.until:
        continue
      if before and start == before.until:
        kept = ' and '.join(phase.model.frozen)
        say(f'step {start}: {config.method_name} begins, with the {kept} as it is now')
        state = next_phase(init(key), state, phase.model.frozen)
      state = phase.parallel.put_state(state)
      with contextlib.closing(build.feed(config, dataset, start, phase.parallel)) as batches:
        flying, each = collections.deque(), config.steps_per_dispatch
        for step, batch in zip(range(start + each, phase.until + 1, each), batches):
          state, terms = phase.parallel.step(state, batch, key)
          flying.append(terms)
          if len(flying) > AHEAD:
            jax.block_until_ready(flying.popleft())
          stopping = stop_asked(signals, step // each)
          report(step, state, terms, phase, stopping)
          if stopping:
            say(f'stopped at step {step} and saved; the same command goes on from here')
            return 128 + signals[0]
      state, start = phase.parallel.take_state(state), phase.until
  say(f'done: {config.steps} steps. Pictures are in {workdir}/samples')
  return 0


def restored(workdir, step, init, key, at_rest):
  """The state of a checkpoint, at rest, as init(key) begins."""
  like = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=at_rest),
    vars(jax.eval_shape(init, key)),
  )
  return TrainState(**checkpoint.load(workdir, step, like))


def same_data(workdir, step, about):
  """None, or ValueError if the data's classes or attributes are not those of the checkpoint."""
  then = checkpoint.manifest(workdir, step)['about']['names']
  if then != about['names']:
    other = sorted(set(then) ^ set(about['names']))
    raise ValueError(
      f'{workdir} was trained on {len(then)} classes or attributes, the data has {len(about["names"])} '
      f'now ({", ".join(map(str, other[:10])) or "in another order"}): give back the data that it had, or another workdir'
    )


@contextlib.contextmanager
def stop_signals():
  """A list that SIGTERM and Ctrl-C append their number to; the second one ends the process at once."""
  got = []

  def note(number, _):
    if got:
      os._exit(128 + number)
    got.append(number)
    os.write(
      2,
      b'stopping: this step is finished and saved first (a second signal ends at once, unsaved)\n',
    )

  before = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield got
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def stop_asked(signals, dispatch):
  """Whether to stop after this dispatch (its number), alike on all processes of a run."""
  if jax.process_count() == 1:
    return bool(signals)
  if dispatch % AGREE_EVERY:
    return False
  from jax.experimental import multihost_utils

  everyones = multihost_utils.process_allgather(np.asarray(signals[0] if signals else 0))
  if everyones.any() and not signals:
    signals.append(int(everyones.max()))
  return bool(everyones.any())


@contextlib.contextmanager
def reporting(config, workdir, about, shown, start, say):
  """report(step, state, terms, phase, stopping): what a step leaves in the workdir and on the screen."""
  first = jax.process_index() == 0
  log = open(workdir / 'metrics.jsonl', 'a') if first else None
  board = (
    tensorboardX.SummaryWriter(str(workdir / 'tensorboard'), purge_step=start + 1)
    if first
    else None
  )
  saving, clock = [], [time.monotonic(), start, False]

  def finish_save():
    while saving:
      saving.pop().result()

  def save(step, state):
    finish_save()
    saving.append(
      checkpoint.save(
        workdir,
        step,
        state,
        keep=config.keep_checkpoints,
        config=settings.to_dict(config),
        about=about,
      )
    )

  def speak(step, phase, state, terms):
    seconds, rate = time.monotonic() - clock[0], None
    if clock[2]:  # the first stretch holds the compilation
      rate = (step - clock[1]) * config.batch_size / seconds
    clock[:] = time.monotonic(), step, True
    left = (
      f'{rate:.0f} images/s, {duration((config.steps - step) * config.batch_size / rate)} left'
      if rate
      else f'{seconds:.1f} s with compilation'
    )
    say(
      f'step {step}/{config.steps}  {left}  ' + '  '.join(f'{k} {v:.4g}' for k, v in terms.items())
    )
    record(log, board, step, rate, terms)

  def report(step, state, terms, phase, stopping):
    last = step == config.steps
    if saving and saving[0].done():
      finish_save()  # raises here what went wrong with it
    if due(step, config.log_every_steps) or last or step == start + config.steps_per_dispatch:
      terms = phase.parallel.take_terms(terms)
      skipped = int(
        np.max(jax.device_get(jax.tree.map(lambda a: a.addressable_data(0), state.skipped)))
      )
      if first:
        speak(step, phase, state, terms)
      if skipped >= SKIPS or skipped and last:
        bad = [k for k, v in terms.items() if not np.isfinite(v)]
        raise FloatingPointError(
          f'step {step}: gradients or parameters have not been finite for {skipped} steps ({", ".join(bad)}). Nothing of '
          'them entered the state. Go on, from the last checkpoint if there is one, with a smaller '
          '--config.optimizer.learning_rate; or begin in another workdir with --config.optimizer.clip_norm=1'
        )
    show = due(step, config.sample_every_steps) or last
    keep = due(step, config.save_every_steps) or stopping or step == phase.until
    if show or keep:
      resting = phase.parallel.take_state(state)
      if keep:
        save(step, resting)
      if show and first:
        pictures(config, workdir, trained(config, about, resting, step), shown, board)

  try:
    yield report
  finally:
    finish_save()
    if first:
      log.close()
      board.close()


def record(log, board, step, rate, terms):
  """Adds {term: float} to metrics.jsonl and to TensorBoard; rate: images/s or None."""
  log.write(json.dumps(dict(step=step, images_per_s=rate, **terms)) + '\n')
  log.flush()
  for name, value in terms.items():
    board.add_scalar(name, value, step)
  board.flush()


def due(step, every):
  """Whether something done every `every` steps is done after `step`."""
  return step % every == 0


def duration(seconds):
  """Seconds as h:mm:ss."""
  hours, rest = divmod(round(seconds), 3600)
  return f'{hours}:{rest // 60:02d}:{rest % 60:02d}'


def trained(config, about, state, step):
  """The Trained model of a state at rest, on this host's first device."""
  networks, _ = build.makers(config, about['size'])
  weights = jax.tree.map(lambda a: a.addressable_data(0), {k: state.ema[k] for k in networks})
  return sample.Trained(
    networks, weights, config.network.latent_size, about, step, settings.to_dict(config)
  )


def pictures(config, workdir, model, shown, board):
  """Writes the grids of samples (fixed noise; a column a class) and of reconstructions."""
  classes = model.about['size'] if model.about['condition'] == 'label' else 0
  columns = classes if 0 < classes <= 16 else 8
  scale = max(1, 64 // config.data.image_size)
  grids = dict(samples=images.grid(model.sample(8 * columns), columns, scale=scale))
  if 'encoder' in model.networks:
    at = np.linspace(0, len(shown.images) - 1, min(len(shown.images), SHOWN // 2)).astype(int)
    originals = np.asarray(shown.images[at])
    given = dict(
      none={},
      label=dict(labels=None if shown.labels is None else shown.labels[at]),
      attributes=dict(attributes=None if shown.attributes is None else shown.attributes[at]),
    )
    again = model.reconstruct(originals, **given[model.about['condition']])
    grids['reconstructions'] = images.reconstruction_grid(originals, again, scale=scale)
  for name, grid in grids.items():
    (workdir / name).mkdir(exist_ok=True)
    files.save_png(workdir / name / f'step_{model.step:08d}.png', grid)
    board.add_image(
      name, grid, model.step, dataformats='HWC' if grid.ndim == 3 and grid.shape[2] == 3 else 'HW'
    )
