"""A population: the same method with several seeds, loss weights or learning rates, trained side by side.

    WORKDIR/population.json    the members, what each has set, and their last terms
    WORKDIR/MEMBER/            a run like any other (see train.py), to sample from, to judge, or to go on with

A member is the run of its config trained alone, to rounding: the order of its data, its noise and its initial
weights are its own, and a loss that it does not weigh is absent. Members whose networks see the same images share one
step, compiled once, in which their weights are arrays (see step.column_groups); others, such as those for whom the
classifier sees no samples as they have no L_GC, have another: batch norm would tell the difference.
"""

import collections
import contextlib
import functools
import json
import logging
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np
import tensorboardX

from vaegan_jax import build, checkpoint, data, files, settings
from vaegan_jax.model import CRITICS, MAKERS, SEES, losses_of, seen_by
from vaegan_jax.runs import train

FILE = train.POPULATION
# Losses that move centres of their own, give a network its only input, or are read by the gate.
NEEDED_ALIKE = {'kl', 'match_d', 'match_c', 'real', 'fake_recon', 'fake_prior'}


class Member(NamedTuple):
  """A run of a population."""

  name: str
  config: object
  home: pathlib.Path
  table: dict  # its method


def train(configs, workdir, *, strict=False, say=print):
  """Trains members {name: config}, each in WORKDIR/NAME, from the newest step on that all of them have.

  Returns and raises as train.train does. A member whose gradients stop being finite stands still, as it is, while
  the others go on; FloatingPointError names it at the end.
  """
  workdir = pathlib.Path(workdir).absolute()
  members = [
    Member(name, config, workdir / name, settings.method(config))
    for name, config in configs.items()
  ]
  settings.check_members(configs)
  for member in members:
    build.check(member.config)
  if (workdir / 'config.json').exists():
    raise ValueError(
      f'{workdir} is the folder of a run of experiments/train.py: name another for a population'
    )
  config = members[0].config
  dataset = build.dataset(config)
  data.check(dataset, batch_size=config.batch_size, condition=config.data.condition)
  shown = build.dataset(config, config.data.held_out) if config.data.held_out else dataset
  with contextlib.ExitStack() as claims:
    for home in (workdir, *(m.home for m in members)):
      claims.enter_context(train.claimed(home))
    start = common_step(members, workdir, strict)
    for m in members:  # all of them before the first one is written to
      train.start_of(m.config, m.home, strict, start)
    for m in members:
      if later := [s for s in checkpoint.steps(m.home) if s > start]:
        say(
          f'{m.name}: not all members have its checkpoints {later}, which are set aside (renamed)'
        )
      train.begin(m.config, m.home, strict, start)
    if start == config.steps:
      say(f'done already: {start} steps of {len(members)} members')
      return 0
    return run(members, workdir, dataset, shown, start, say)


def common_step(members, workdir, strict=False):
  """The newest step of which all members have an intact checkpoint, 0 where none has any.

  Raises ValueError where members are so far apart that some would lose what they have learnt.
  """
  there = {m.name: checkpoint.steps(m.home) for m in members}
  for step in sorted(set.intersection(*map(set, there.values())), reverse=True):
    damage = [wrong for m in members if (wrong := checkpoint.damage(m.home, step))]
    if not damage:
      break
    if strict:
      raise ValueError(f'checkpoint {step} is damaged: {damage[0]}')
    logging.warning('a checkpoint %d is damaged and is passed over: %s', step, damage[0])
  else:
    if set.intersection(*map(set, there.values())):
      raise ValueError(
        f'every checkpoint that all members have is damaged, such as {damage[0]}: restore the folder from a '
        'backup, or begin anew in another workdir'
      )
    step = 0
  for m in members:
    if max(there[m.name], default=0) > m.config.steps:
      raise ValueError(
        f'{m.home} is at step {max(there[m.name])} already: set --config.steps to that or more'
      )
  ahead = [name for name, steps in there.items() if steps]
  # A run killed while the first checkpoints were written leaves some members with one; anything else is no accident.
  if (
    not step
    and ahead
    and (known_members(workdir) != list(there) or any(len(there[name]) > 1 for name in ahead))
  ):
    raise ValueError(
      f'{", ".join(ahead)} of {workdir} were trained already, and the members have no checkpoint of a '
      'step in common: train the others as a population of their own, or in another workdir'
    )
  return step


def known_members(workdir):
  """Names in WORKDIR/population.json, [] where there is none."""
  try:
    return list(json.loads((workdir / FILE).read_text())['members'])
  except (OSError, ValueError, KeyError, TypeError):
    return []


def alike(config):
  """What members must have in common to go through one step, to be compared.

  In one step the networks see the same images for all members, as batch norm depends on them; the same fakes are
  pulled through each maker; and the same networks have a learning rate of 0.
  """
  table = settings.method(config)
  fakes = lambda names: {
    k for k in 'fp' for n in names for images in SEES[n].values() if k in images
  }
  names = losses_of(table)
  return (
    [seen_by(critic, names) for critic in CRITICS],
    fakes(names),
    NEEDED_ALIKE & set(names),
    {network: network in MAKERS and fakes(row) for network, row in table.items()},
    [network for network, rate in build.rates(config).items() if rate],
  )


def parts(members):
  """[[place in members]]: those that go through one step together."""
  kinds = [alike(m.config) for m in members]
  return [
    [place for place, kind in enumerate(kinds) if kind == first]
    for i, first in enumerate(kinds)
    if kinds.index(first) == i
  ]


def batches(members, dataset, start):
  """An endless iterator of lists of each member's batch; members of one seed have one order of the data."""
  config = members[0].config
  streams = {
    m.config.seed: data.batches(
      dataset,
      batch_size=config.batch_size,
      seed=m.config.seed,
      start_step=start,
      condition=config.data.condition,
    )
    for m in members
  }
  while True:
    now = {seed: next(stream) for seed, stream in streams.items()}
    yield [now[m.config.seed] for m in members]


def begun(members, together, about, start):
  """([Phase], [states as its step takes them]) of the `together` ones, at step `start`."""
  phases, states = [], []
  for places in together:
    own = [members[i] for i in places]
    keys = [jax.random.key(m.config.seed) for m in own]
    phase = build.shared_phase([m.config for m in own], about['size'], keys)
    init = build.init(own[0].config, about['size'], [phase])
    at_rest = [
      train.restored(m.home, start, init, key, phase.parallel.at_rest) if start else init(key)
      for m, key in zip(own, keys)
    ]
    phases.append(phase)
    states.append(phase.parallel.put_state(at_rest))
  return phases, states


def run(members, workdir, dataset, shown, start, say):
  """Trains from step `start` to the end or to a signal; see train()."""
  steps, together, about = (
    members[0].config.steps,
    parts(members),
    build.about(members[0].config, dataset),
  )
  if start:
    for m in members:
      train.same_data(m.home, start, about)
  say(
    f'{dataset.name}: {len(dataset.images):,} images; {len(members)} members in {len(together)} program(s); '
    f'{jax.device_count()} {jax.devices()[0].platform} device(s)'
    + (f'; going on from step {start}' if start else '')
    + '. Compiling, which can take minutes the first time'
  )
  phases, states = begun(members, together, about, start)
  put = lambda every: [
    p.parallel.put_batch([every[i] for i in places]) for p, places in zip(phases, together)
  ]

  def in_order(take, parts):
    """A list by member of what take(parallel) makes of each part."""
    found = {
      i: own
      for p, places, part in zip(phases, together, parts)
      for i, own in zip(places, take(p.parallel)(part))
    }
    return [found[i] for i in range(len(members))]

  with (
    stop_and_report(members, workdir, about, shown, start, say) as (signals, report),
    contextlib.closing(data.prefetch(batches(members, dataset, start), put)) as ready,
  ):
    flying = collections.deque()
    for step, batch in zip(range(start + 1, steps + 1), ready):
      states, terms = zip(
        *(p.parallel.step(state, b) for p, state, b in zip(phases, states, batch))
      )
      flying.append(terms)
      if len(flying) > train.AHEAD:
        jax.block_until_ready(flying.popleft())
      stopping = bool(signals)
      report(
        step,
        functools.partial(in_order, lambda p: p.take_state, states),
        functools.partial(in_order, lambda p: p.take_terms, terms),
        stopping,
      )
      if stopping:
        say(f'stopped at step {step} and saved; the same command goes on from here')
        return 128 + signals[0]
  say(
    f'done: {steps} steps of {len(members)} members. Each has its pictures in its folder of {workdir}'
  )
  return 0


@contextlib.contextmanager
def stop_and_report(members, workdir, about, shown, start, say):
  """(signals, see train.stop_signals; report(step, states, terms, stopping): what a step leaves behind).

  states, terms: functions that give the lists of the members' states at rest, and of their terms.
  """
  config, saving, told = members[0].config, [], set()
  finish = lambda: [saving.pop(0).result() for _ in range(len(saving))]

  def save(step, states):
    finish()
    for m, state in zip(members, states):
      # Two at least: a run that is killed between two of these saves leaves a step that all members have.
      saving.append(
        checkpoint.save(
          m.home,
          step,
          state,
          keep=max(2, config.keep_checkpoints),
          config=settings.to_dict(m.config),
          about=about,
        )
      )

  def stands_still(step, states, least):
    for m, state in zip(members, states):
      skipped = int(jax.device_get(state.skipped))
      if skipped >= least and m.name not in told:
        told.add(m.name)
        say(
          f'step {step}: {m.name} stands still, its gradients or parameters have not been finite for {skipped} steps'
        )

  with train.stop_signals() as signals, curves(members, workdir, start, say) as (boards, speak):

    def report(step, states, terms, stopping):
      last = step == config.steps
      if saving and all(s.done() for s in saving):
        finish()  # raises here what went wrong with one
      show, keep = (
        train.due(step, config.sample_every_steps) or last,
        train.due(step, config.save_every_steps) or last or stopping,
      )
      finite = True
      if train.due(step, config.log_every_steps) or last or step == start + 1:
        finite = speak(step, terms())
      resting = states() if show or keep or not finite else None
      if not finite:
        stands_still(step, resting, train.SKIPS)
      if keep:
        save(step, resting)
      if show:
        for m, state, board in zip(members, resting, boards):
          train.pictures(
            m.config, m.home, train.trained(m.config, about, state, step), shown, board
          )
      if last:
        stands_still(step, resting, 1)
        if told:
          finish()
          raise FloatingPointError(
            f'{", ".join(sorted(told))} stood still, not being finite; nothing of that entered '
            'their state, and the other members are done'
          )

    try:
      yield signals, report
    finally:
      finish()


@contextlib.contextmanager
def curves(members, workdir, start, say):
  """(TensorBoard writers of the members, speak(step, [terms]) -> whether all are finite)."""
  config, clock = members[0].config, [time.monotonic(), start, False]

  def write(step, every):
    files.write_json(
      workdir / FILE,
      dict(
        method_name=config.method_name,
        step=step,
        members={
          m.name: dict(settings=own, terms=terms)
          for m, own, terms in zip(members, varied(members), every)
        },
      ),
    )

  def speak(step, every):
    every = [own_terms(m, terms) for m, terms in zip(members, every)]
    seconds, rate = time.monotonic() - clock[0], None
    if clock[2]:  # the first stretch holds the compilation
      rate = (step - clock[1]) * config.batch_size / seconds  # of each member
    clock[:] = time.monotonic(), step, True
    left = (
      f'{rate * len(members):.0f} images/s, {train.duration((config.steps - step) * config.batch_size / rate)} left'
      if rate
      else f'{seconds:.1f} s with compilation'
    )
    say(
      '\n'.join([f'step {step}/{config.steps}  {left}', *table([m.name for m in members], every)])
    )
    for log, board, terms in zip(logs, boards, every):
      train.record(log, board, step, rate, terms)
    write(step, every)
    return bool(np.isfinite([v for terms in every for v in terms.values()]).all())

  write(start, [{}] * len(members))
  with contextlib.ExitStack() as open_files:
    logs = [open_files.enter_context(open(m.home / 'metrics.jsonl', 'a')) for m in members]
    boards = [
      open_files.enter_context(
        tensorboardX.SummaryWriter(str(m.home / 'tensorboard'), purge_step=start + 1)
      )
      for m in members
    ]
    yield boards, speak


def varied(members):
  """[{field: value}] of the members: their seeds, and the fields in which they differ."""
  every = [dict(settings.fields(m.config)) for m in members]
  paths = [
    path for path in every[0] if path == 'seed' or any(own[path] != every[0][path] for own in every)
  ]
  return [{path: own[path] for path in paths} for own in every]


def own_terms(member, terms):
  """The terms that a member's run alone has: without losses that others weigh."""
  names = losses_of(member.table)
  return {k: v for k, v in terms.items() if k in names or k not in SEES}


def table(names, every):
  """Lines: a row a member of its losses, a column a loss."""
  losses = [k for k in SEES if any(k in terms for terms in every)]
  wide = max(map(len, names))
  yield ' ' * wide + ''.join(f'{loss:>15s}' for loss in losses)
  for name, terms in zip(names, every):
    yield f'{name:{wide}s}' + ''.join(
      f'{terms[loss]:15.4g}' if loss in terms else ' ' * 15 for loss in losses
    )
