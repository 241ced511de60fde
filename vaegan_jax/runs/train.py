"""The run: train, report, save. Safe to stop at any time; the same call resumes.

A run alone is a population of one member. What a run leaves in its folder: see workdir.py.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import functools
import os
from typing import Any

import jax
from ml_collections import ConfigDict

from vaegan_jax import build, checkpoint, data, hosts, paths, programs, settings
from vaegan_jax.runs import events, fork, memory, pages
from vaegan_jax.runs.hangs import Watchdog
from vaegan_jax.runs.report import Report, Run
from vaegan_jax.runs.signals import StopSignals
from vaegan_jax.runs.watch import Back
from vaegan_jax.runs.workdir import Member, begin, check_same_data, claimed
from vaegan_jax.step import TrainState, next_phase

AHEAD = 2  # dispatches in flight; more would only delay the answer to a signal


def train(
  config: ConfigDict,
  workdir: str | os.PathLike,
  *,
  strict: bool = False,
  from_step: int | None = None,
  init_from: str | os.PathLike | None = None,
  say: Callable[[str], Any] = print,
) -> int:
  """Trains as `config` says; resumes from the newest sound checkpoint in `workdir`, if any.

  Returns:
    0 when all steps are done, or 128 + the signal's number if SIGTERM or Ctrl-C ended the run after
    a save.

  Args:
    strict: refuse a damaged checkpoint instead of resuming from the one before.
    from_step: resume from the checkpoint of this step; later ones are renamed, not deleted.
    init_from: the folder of another run. A new run starts from the weights of its newest intact
      checkpoint; a run that resumes ignores it, and a heal takes the same weights again.

  Raises:
    ValueError, OSError: the config, the data or the workdir cannot be used; nothing was compiled or
      overwritten.
    RunFailed: the disk is full, or the workdir was moved or deleted.
    FloatingPointError: the gradients or the state stopped being finite; nothing of that entered a
      checkpoint, and the sound ones are kept.
    MemoryError: the devices or the host ran out of memory.
  """
  return train_members(
    {'': config}, workdir, strict=strict, from_step=from_step, init_from=init_from, say=say
  )


def train_members(
  configs: Mapping[str, ConfigDict],
  workdir: str | os.PathLike,
  *,
  strict: bool = False,
  from_step: int | None = None,
  init_from: str | os.PathLike | None = None,
  say: Callable[[str], Any] = print,
) -> int:
  """Trains the members {name: config} of a population, each in WORKDIR/NAME; see `train`.

  All resume from the newest step that every member has. A member is the run of its config alone, to
  rounding: the order of its data, its noise and its initial weights are its own. A member whose
  gradients stop being finite stands still while the others train; FloatingPointError names it at
  the end.
  """
  for flag, path in (('--workdir=', workdir), ('--init_from=', init_from or '')):
    paths.check(path, flag)
  workdir = paths.open_path(workdir).absolute()
  members = [Member(name, config, workdir / name) for name, config in configs.items()]
  check_same_run(members, {'--init_from': str(init_from or ''), '--resume': [strict, from_step]})
  settings.check_members(configs)
  check_heals(members)
  for config in configs.values():
    build.check(config)
  if members[0].name and (workdir / 'config.json').exists():
    raise ValueError(
      f'{workdir} is the folder of a run of experiments/train.py: name another for a population'
    )
  config = members[0].config
  origin = fork.find(init_from, members, workdir, strict)
  dataset = build.dataset(config)
  data.check(
    dataset,
    batch_size=config.batch_size,
    condition=config.data.condition,
    process_count=jax.process_count(),
  )
  build.check_feed(config, dataset)
  about = build.about(config, dataset)
  if origin:
    fork.check_data(origin, config, about)
  shown = build.held_out(config, dataset)
  with claimed(dict.fromkeys([workdir, *(m.workdir for m in members)])) as claim:
    while True:
      check = functools.partial(check_saved, members, about)
      start = begin(members, workdir, strict, say, from_step, check)
      run = Run(members, workdir, about, shown, start, say, claim)
      check_same_folders(run, dataset)
      if start and init_from:
        say(f'--init_from is ignored: {workdir} has checkpoints of its own')
      origin = None if start else fork.at_start(origin, init_from, members, workdir, strict)
      try:
        return attempt(run, dataset, origin)
      except Back as back:  # the run goes on as one that was killed here
        say(str(back))
        from_step = None


def check_heals(members: Sequence[Member]) -> None:
  """Raises ValueError if the config asks for heals where there are none."""
  if members[0].config.health.action == 'heal' and (members[0].name or jax.process_count() > 1):
    raise ValueError(
      '--config.health.action=heal is for one run on one process: for a population or for several '
      'processes set it to warn, and train the members that it warns of by runs of their own'
    )


def attempt(run: Run, dataset: data.Dataset, origin: fork.Origin | None) -> int:
  """Trains from step `run.start`, if it is not done already; Back: a heal was decided."""
  if run.start == run.config.steps:
    run.say(f'done already: {run.start} steps')
    return 0
  with memory.Watch(run.config, run.say) as watch:
    return loop(run, dataset, watch, origin)


def loop(
  run: Run, dataset: data.Dataset, watch: memory.Watch, origin: fork.Origin | None = None
) -> int:
  """Trains from step `run.start` to the end, or to a signal; see `train`."""
  config, size = run.config, run.about['size']
  configs = [events.healed(m.config, events.heals(events.read(m.workdir))) for m in run.members]
  stages, each, start = programs.stages(configs, size), config.steps_per_dispatch, run.start
  own = [m.config for m in run.members]  # a heal changes no initial state
  fresh = programs.inits(own, size, stages[-1])  # compiled once, also for a second stage
  watch.before_states([jax.eval_shape(init) for init in fresh])
  states = first_states(run, stages[-1], fresh, origin)
  if origin:
    lacks = ', '.join(origin.missing(states[0]))
    what = f'starting from the weights of step {origin.step} of {origin.workdir}'
    run.say(what + (f', which lacks and leaves fresh: {lacks}' if lacks else ''))
  say_what_trains(run, dataset, stages, states)
  facts = pages.started(
    f'{dataset.name}, {len(dataset.images):,} images', run.about['names'], count(states[0])
  )
  with StopSignals() as signals, Report(run, facts) as report:
    if full := report.saver.measure(states):
      run.say(full)
    for before, stage in zip([None, *stages], stages):
      if start >= stage.until:
        continue
      if before and start == before.until:
        states = enter(run, stage, fresh, states, start)
      running = [p.runner.put_states([states[i] for i in p.places]) for p in stage.programs]
      in_flight = collections.deque()
      feed = programs.feed(configs, dataset, start, stage.programs)
      with feed as batches, Watchdog(config.hang_seconds) as watchdog:
        steps = range(start + each, stage.until + 1, each)
        for step, batch in zip(steps, watchdog.watched(batches)):
          if step == start + each:
            watch.before_step(stage.programs, running, batch)
          stepped = [p.runner.step(s, b) for p, s, b in zip(stage.programs, running, batch)]
          signals.hold()  # the step is compiled, and there is something to save
          running, terms = zip(*stepped)
          in_flight.append(terms)
          if len(in_flight) > AHEAD:
            jax.block_until_ready(in_flight.popleft())
          stopping = signals.stopping(step // each)
          try:
            report.after(step, stage.programs, running, terms, stopping or step == stage.until)
          except Back:
            if stopping:
              run.say(f'stopped at step {step}, where it must go back; the same command does so')
              return 128 + signals.number
            raise
          if stopping:
            run.say(f'stopped at step {step} and saved; the same command resumes from here')
            return 128 + signals.number
      states = programs.by_member(
        stage.programs, [p.runner.take_states(s) for p, s in zip(stage.programs, running)]
      )
      start = stage.until
  where = f'{run.workdir}/samples' if run.alone else f'the samples/ of each member in {run.workdir}'
  run.say(f'done: {config.steps} steps. Pictures are in {where}')
  return 0


def check_same_run(members: Sequence[Member], asked: Mapping[str, Any]) -> None:
  """Raises ValueError if the processes of a run differ in their code, their configs or `asked`."""
  facts = {'the code (vaegan_jax or jax)': hosts.code_digest(), **asked}
  for member in members:
    facts['--workdir'] = str(member.workdir)
    for path, value in settings.fields(settings.to_dict(member.config)):
      if path not in settings.OF_A_HOST:
        facts[f'--config.{path}'] = value
  hosts.check_same(facts, 'start the same command, with the same versions, on every host')


def check_same_folders(run: Run, dataset: data.Dataset) -> None:
  """Raises ValueError if the processes of a run see other checkpoints, another workdir or data."""
  facts = {'the step to resume from': run.start, 'the number of images': len(dataset.images)}
  for member in run.members:
    facts[f'whether {member.workdir} exists'] = hosts.appears(member.workdir)
  hosts.check_same(
    {**facts, **run.about},
    '--workdir must be on storage that all hosts share, and the data must be the same',
  )


def check_saved(members: Sequence[Member], about: dict, start: int) -> None:
  """Raises ValueError if the checkpoints of step `start` are of other data or other networks."""
  if start:
    states = programs.shapes([m.config for m in members], about['size'])
    for member, state in zip(members, states):
      check_same_data(member, start, about)
      checkpoint.check_fits(member.workdir, start, vars(state))


def first_states(
  run: Run, stage: programs.Stage, fresh: Sequence[Callable], origin: fork.Origin | None
) -> list[TrainState]:
  """The members' states at rest, at step `run.start`; stage: the last; fresh: its inits."""
  places = {i: program for program in stage.programs for i in program.places}
  made = []
  for i, init in enumerate(fresh):
    at_rest = places[i].runner.at_rest
    if not run.start:
      made.append(fork.with_weights(origin, init(), at_rest) if origin else init())
      continue
    shapes = vars(jax.eval_shape(init))
    made.append(TrainState(**checkpoint.load(run.members[i].workdir, run.start, shapes, at_rest)))
  return made


def enter(
  run: Run,
  stage: programs.Stage,
  fresh: Sequence[Callable],
  states: Sequence[TrainState],
  start: int,
) -> list[TrainState]:
  """The states with which a later stage begins: its frozen networks stay as they are."""
  frozen = stage.programs[0].model.frozen
  run.say(
    f'step {start}: {run.config.method_name} begins, with the {" and ".join(frozen)} as it is'
  )
  return [next_phase(init(), state, frozen) for init, state in zip(fresh, states)]


def count(state: TrainState) -> int:
  """The number of parameters of all networks."""
  return sum(a.size for a in jax.tree.leaves(state.params))


def say_what_trains(
  run: Run, dataset: data.Dataset, stages: Sequence[programs.Stage], states: Sequence[TrainState]
) -> None:
  """Says where the run resumes, on what it trains, and that compiling takes time."""
  if run.start:
    run.say(f'resuming from step {run.start} of {run.workdir}')
  what = f'{count(states[0]):,} parameters'
  if not run.alone:
    what = f'{len(states)} members in {len(stages[-1].programs)} program(s)'
  held_out = f', {len(run.shown.images):,} held out' if run.config.data.held_out else ''
  run.say(
    f'{dataset.name}: {len(dataset.images):,} images{held_out}; {what}; {jax.device_count()} '
    f'{jax.devices()[0].platform} device(s). Compiling the step, which can take a minute '
    'the first time'
  )
