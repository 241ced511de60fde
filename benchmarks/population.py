"""Speed of a population trained as one program, against training its members one after another.

    python -m benchmarks.population --members=16
    python -m benchmarks.population --members=3 --config=configs/digits.py:cvae_gan --iterations=5

The first command trains the same seeds of the toy example (vaegan_jax/toy.py) for the same
iterations in four ways that take turns: as one program (vmap over the members, a loop on the
device); the same with the members sharded over the cores; one after another, each as a loop on the
device; and one after another with one dispatch per iteration, as a training loop that sees every
step does. Compilation comes first and is left out of the times.

The second trains seeds of a config (see vaegan_jax/parallel.py): side by side as one program
(vmap), in turn by one program, and as one program that unrolls the loop over the members.

Prints the median of each over the repeats, the ratios with minimum and maximum, and the machine.
Processor time tells more on a busy machine.
"""

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from absl import flags
import jax
from ml_collections import config_flags
import numpy as np

from benchmarks import machine
from vaegan_jax import build, command, data, programs, settings, toy
from vaegan_jax.members import InTurn

CONFIG = config_flags.DEFINE_config_file(
  'config', help_string='Of image models, instead of the toy.'
)
MEMBERS = flags.DEFINE_integer('members', 16, 'Models of the population.', lower_bound=1)
METHOD = flags.DEFINE_string('method', 'matching', 'A name in vaegan_jax.toy.RECIPES.')
BATCH_SIZES = flags.DEFINE_list(
  'batch_sizes', ['1', '4', '32'], 'Points in a batch; one block of lines each.'
)
ITERATIONS = flags.DEFINE_integer(
  'iterations', 200, 'Of every member, in each measurement.', lower_bound=2
)
REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'Measurements of each way, taking turns.', lower_bound=1
)

Ways = dict[str, Callable[[], Any]]  # {way: function that trains all members and waits for them}


def toy_ways(example: toy.Toy, name: str, seeds: Sequence[int], iterations: int) -> Ways:
  """The ways to train seeds of the toy example, compiled and warm."""
  devices = jax.devices()
  whole = {'one program': toy.population((name,), seeds, example, devices[:1])}
  if len(devices) > 1 and len(seeds) % len(devices) == 0:
    sharded = toy.population((name,), seeds, example, devices)
    whole['one program, sharded over the cores'] = sharded
  member = toy.member(name, example)
  init, step_once = jax.jit(member.init), jax.jit(member.step, donate_argnums=0)
  loop = jax.jit(
    lambda state, key, count: toy.advance(member.step, count, state, key), donate_argnums=0
  )

  def one_after_another() -> None:
    for seed in seeds:
      key = jax.random.key(seed)
      jax.block_until_ready(loop(init(key), key, iterations))

  def step_by_step() -> None:
    for seed in seeds:
      key = jax.random.key(seed)
      state = init(key)
      for _ in range(iterations):
        state, _ = step_once(state, key)
      jax.block_until_ready(state)

  made = {
    way: lambda p=p: jax.block_until_ready(p.advance(p.init(), iterations))
    for way, p in whole.items()
  }
  made |= {'one after another': one_after_another, 'one after another, step by step': step_by_step}
  for run in made.values():
    run()
  return made


SIDE_BY_SIDE = 'one program, side by side'
UNROLLED = 'one program, unrolled'
IN_TURN = 'one after another, one program'


def unrolled(config: Any, size: int, turns: InTurn) -> InTurn:
  """`turns` with one program that holds the step of each member."""
  table = settings.method(config)
  transformations = build.optimizers(config, table, build.rates(config))
  _, step = build.step_of(config, size, table, (), transformations)

  def all_steps(states, batches):
    members = zip(states, batches, turns.keys)
    return tuple(zip(*(step(state, batch, key) for state, batch, (key, _) in members)))

  compiled = jax.jit(all_steps, donate_argnums=0)
  turns.step = lambda states, batches: compiled(tuple(states), tuple(batches))
  return turns


class Trainer:
  """Members of an image model, trained on one fixed batch each; a call trains and waits."""

  def __init__(self, configs: Sequence[Any], dataset: data.Dataset, way: str):
    config, size = configs[0], build.about(configs[0], dataset)['size']
    with mock.patch.object(programs, 'side_by_side', lambda _: way == SIDE_BY_SIDE):
      (program,) = programs.stages(configs, size)[-1].programs
    self.runner = program.runner
    if way == UNROLLED:
      self.runner = unrolled(config, size, self.runner)
    init = programs.init(config, size, program)
    self.states = self.runner.put_states([init(jax.random.key(c.seed)) for c in configs])
    self.batch = self.runner.put_batches([first_batch(c, dataset) for c in configs])

  def __call__(self, steps: int) -> None:
    for _ in range(steps):
      self.states, _ = self.runner.step(self.states, self.batch)
    jax.block_until_ready(self.states)


def first_batch(config: Any, dataset: data.Dataset) -> dict[str, np.ndarray]:
  """The first batch of a config's run."""
  return next(
    data.batches(
      dataset, batch_size=config.batch_size, seed=config.seed, condition=config.data.condition
    )
  )


def image_ways(config: Any, count: int, iterations: int) -> Ways:
  """The ways to train `count` seeds of a config, compiled and warm."""
  configs = list(settings.members(config, [str(i) for i in range(count)], {}).values())
  dataset = build.dataset(config)
  made = {}
  for way in (SIDE_BY_SIDE, UNROLLED, IN_TURN):
    trainer = Trainer(configs, dataset, way)
    start = machine.now()
    trainer(steps=1)
    wall, cpu = machine.now() - start
    print(f'{way}: the first step took {wall:.0f} s, {cpu:.0f} s of processor time', flush=True)
    made[way] = lambda t=trainer: t(iterations)
  return made


def report(batch_size: int, seconds: dict[str, np.ndarray]) -> None:
  """Prints the block of one batch size; seconds: {way: [wall, processor] of each repeat}."""
  print(f'batch {batch_size}:')
  for way, values in seconds.items():
    wall, cpu = np.median(values, 0) / ITERATIONS.value / MEMBERS.value * 1e6
    print(f'  {way:36s} {wall:7.1f} us per model and iteration, {cpu:7.1f} us of processor time')
  for one in [way for way in seconds if way.startswith('one program')]:
    for other in [way for way in seconds if way.startswith('one after')]:
      wall, cpu = (seconds[other] / seconds[one]).T
      print(
        f'  {one}, over {other}: {machine.spread(wall)} times as fast, '
        f'{machine.spread(cpu)} times less processor time'
      )


def main() -> int:
  config = CONFIG.value
  if not config:  # on a CPU each core becomes a device, to shard the members of the toy over
    jax.config.update('jax_num_cpu_devices', machine.CORES)
  command.keep_compiled_programs()
  print(
    f'{MEMBERS.value} models, {config.method_name if config else METHOD.value}, '
    f'{ITERATIONS.value} iterations each, {REPEATS.value} repeats; {machine.line()}'
  )
  for batch_size in [config.batch_size] if config else map(int, BATCH_SIZES.value):
    if config:
      made = image_ways(config, MEMBERS.value, ITERATIONS.value)
    else:
      example = toy.Toy(batch_size=batch_size)
      made = toy_ways(example, METHOD.value, range(MEMBERS.value), ITERATIONS.value)
    seconds = {way: [] for way in made}
    for _ in range(REPEATS.value):
      for way, run in made.items():
        start = machine.now()
        run()
        seconds[way].append(machine.now() - start)
    report(batch_size, {way: np.array(values) for way, values in seconds.items()})
  return 0


if __name__ == '__main__':
  command.run(main)
