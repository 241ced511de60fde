"""The compiled programs of a run, and the batches that feed them.

A run is a list of stages, one after the other. In each stage every member belongs to one program.
"""

from collections.abc import Callable, Sequence
import contextlib
import functools
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np

from vaegan_jax import balance, build, data, optim, settings
from vaegan_jax.members import InTurn, SideBySide
from vaegan_jax.model import CENTRES, CRITICS, MAKERS, SEES, Model, losses_of, seen_by
from vaegan_jax.parallel import PARALLEL
from vaegan_jax.routing import of_member
from vaegan_jax.step import TrainState, init_state

ENCODER_LOSSES = tuple(loss for loss, seen in SEES.items() if 'encoder' in seen)


class Program(NamedTuple):
  """One compiled step and the members of the run that it trains."""

  places: list[int]  # of its members
  model: Model
  runner: InTurn | SideBySide


class Stage(NamedTuple):
  """A stretch of a run, up to step `until`. A method with a first phase has two."""

  until: int
  programs: list[Program]


def feed(
  configs: Sequence[ConfigDict], dataset: data.Dataset, start_step: int, programs: Sequence[Program]
) -> contextlib.closing:
  """An endless iterator of batches from step `start_step` on, one entry per program.

  A thread makes them ahead (see data.prefetch), on the devices, from images on the host in the way
  that `data.pipeline` names (see data/feeds.py) or, with `data.on_device`, from images on the
  devices. Members of one seed share the order of the data.
  Close it to end the thread: `with feed(...) as batches`.
  """
  config = configs[0]
  condition, seeds = config.data.condition, dict.fromkeys(c.seed for c in configs)
  place = dict(
    batch_size=config.batch_size,
    start_step=start_step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    steps=config.steps_per_dispatch,
  )
  if config.data.on_device:  # then members take turns
    gather = programs[0].runner.one.resident(data.take(dataset, slice(None), condition))
    every = [data.indices(len(dataset.images), seed=seed, **place) for seed in seeds]
  else:
    more = dict(condition=condition, pipeline=build.pipeline(config), **place)
    every = [data.batches(dataset, seed=seed, **more) for seed in seeds]

  def put(items):
    made = dict(zip(seeds, items))  # {seed: indices or batch}
    if config.data.on_device:
      made = {seed: gather(at) for seed, at in made.items()}
      return [[made[configs[i].seed] for i in p.places] for p in programs]
    return [p.runner.put_batches([made[configs[i].seed] for i in p.places]) for p in programs]

  return contextlib.closing(data.prefetch(zip(*every), put))


def stages(configs: Sequence[ConfigDict], size: int) -> list[Stage]:
  """The stages of a run with these members, in order.

  More than one if a method freezes what another one trains first.
  """
  made = []
  for index, span in enumerate(spans(configs[0])):
    groups: dict[Any, list[int]] = {}
    for place, member in enumerate(configs):
      groups.setdefault(program_key(member, index), []).append(place)
    programs = [program(configs, places, size, index) for places in groups.values()]
    made.append(Stage(span.stop, programs))
  return made


def spans(config: ConfigDict) -> list[range]:
  """The steps of each stage."""
  count = len(build.tables_of(config))
  return [range(config.first.steps), range(config.first.steps, config.steps)][-count:]


def program_key(config: ConfigDict, index: int) -> tuple:
  """Members with equal keys share a program in stage `index`.

  In one program all networks see the same images, because batch norm depends on them; each maker
  pulls back the same fakes; the same networks have a learning rate of 0; and all members agree on
  the losses that keep averages, give a network its only input, or are read by the gate.
  """
  tables = build.tables_of(config)
  table = tables[index]
  names = losses_of(table)
  own = descended(config)
  averages = None if own is None else frozenset(balance.kept(losses_of(*tables), own))

  def fakes(names):
    return tuple(k for k in 'fp' if any(k in images for n in names for images in SEES[n].values()))

  return (
    tuple(seen_by(critic, names) for critic in CRITICS),
    fakes(names),
    frozenset({*ENCODER_LOSSES, *CENTRES, 'lecam', *optim.GATED} & set(names)),
    tuple((network, network in MAKERS and fakes(row)) for network, row in sorted(table.items())),
    tuple(network for network, rate in build.rates(config)['first'].items() if rate),
    averages,
  )


def descended(config: ConfigDict) -> tuple[str, ...] | None:
  """The generator's losses, by whose kinds balance.py averages norms; None if it is off."""
  return (
    tuple(build.tables_of(config)[-1].get('generator', {})) if build.balance_of(config) else None
  )


def program(configs: Sequence[ConfigDict], places: list[int], size: int, index: int) -> Program:
  """The Program of the members at `places` in stage `index`.

  The weights and rates of several members are arrays, in one program.
  """
  own = [configs[i] for i in places]
  config, keys = own[0], [jax.random.key(c.seed) for c in own]
  tables = [build.tables_of(c) for c in own]
  table = merge_tables([t[index] for t in tables])
  names = list(dict.fromkeys(network for t in tables[0] for network in t))
  span = spans(config)[index]
  phase = settings.with_settings(config, dict(steps=len(span)))  # over which a schedule goes
  if len(own) == 1:
    transformations = build.optimizers(phase, names, build.rates(config))
  else:
    every = merge_tables([build.rates(c) for c in own])

    def transformations(member):
      return build.optimizers(phase, names, of_member(every, member))

  also = losses_of(*tables[0])
  whole, step = build.step_of(config, size, table, also, transformations, span.start)
  one = functools.partial(PARALLEL[config.parallel], steps=config.steps_per_dispatch)
  if len(own) == 1:
    return Program(places, whole, InTurn(one(step), keys))
  if side_by_side(config):
    return Program(places, whole, SideBySide(step, keys))
  turns = one(lambda state, batch, key_and_number: step(state, batch, *key_and_number))
  numbered = [jax.device_put((key, np.int32(i)), turns.at_rest) for i, key in enumerate(keys)]
  return Program(places, whole, InTurn(turns, numbered))


def side_by_side(config: ConfigDict) -> bool:
  """Whether several members train side by side; otherwise they take turns, as on a CPU."""
  special = config.parallel == 'pmap' or config.steps_per_dispatch > 1 or config.data.on_device
  return jax.default_backend() != 'cpu' and not special


def merge_tables(tables: Sequence[settings.Table]) -> dict[str, dict[str, Any]]:
  """One table of N members: a cell that differs is an array [N], with 0 where it is absent."""
  merged: dict[str, dict[str, Any]] = {}
  for row in dict.fromkeys(row for table in tables for row in table):
    merged[row] = {}
    for cell in dict.fromkeys(cell for table in tables for cell in table.get(row, {})):
      every = [table.get(row, {}).get(cell, 0.0) for table in tables]
      merged[row][cell] = every[0] if len(set(every)) == 1 else np.array(every)
  return merged


def init(config: ConfigDict, size: int, program: Program) -> Callable[[jax.Array], TrainState]:
  """A compiled function of a key to a TrainState at step 0, at rest on all devices.

  program: that of the config in the last stage.
  """
  tables = build.tables_of(config)
  names = {network for table in tables for network in table}
  transformations = build.optimizers(config, names, build.rates(config))
  whole = program.model._replace(losses=losses_of(*tables))

  def start(key):
    latent_size, inputs = config.network.latent_size, build.examples(config, size)
    return init_state(whole, transformations, key, *inputs, latent_size, descended(config))

  return jax.jit(start, out_shardings=program.runner.at_rest)


def inits(configs: Sequence[ConfigDict], size: int, stage: Stage) -> list[Callable[[], TrainState]]:
  """For each member, a function that makes its state at step 0; `stage`: the last one."""
  made = {}
  for program in stage.programs:
    start = init(configs[program.places[0]], size, program)
    for i in program.places:
      made[i] = jax.tree_util.Partial(start, jax.random.key(configs[i].seed))
  return [made[i] for i in range(len(made))]


def shapes(configs: Sequence[ConfigDict], size: int) -> list[TrainState]:
  """The members' states as the last stage has them, as jax.eval_shape gives them."""
  return [jax.eval_shape(start) for start in inits(configs, size, stages(configs, size)[-1])]


def by_member(programs: Sequence[Program], values: Sequence[Sequence]) -> list:
  """Values in the order of the members, of lists in the order of each program's places."""
  found = {i: v for p, own in zip(programs, values) for i, v in zip(p.places, own)}
  return [found[i] for i in range(len(found))]
