"""Speed of a population trained as one program, against training its members one after another.

    python benchmarks/population.py --members=16
    python benchmarks/population.py --members=3 --config=configs/digits.py:cvae_gan --iterations=5

The first trains the same members of the toy example (vaegan_jax/toy.py), the same seeds for the same iterations: as one
program (vmap over the members, a loop on the device); the same with the members spread over the cores; one
after another, each as a loop on the device; and one after another with a dispatch for each iteration, as a
training loop that sees every step does it. The four take turns. Compiling is done before,
and left out of the time.

The second trains image models, seeds of a config (see vaegan_jax/parallel.py, of_members): side by side as one
program (vmap), in turn by one program, and as one program in which the loop over the members is unrolled.

Prints the median of each over the repeats, the ratios with their spread (least to largest), and the machine.
Where that does other work, too, the processor time tells more than the clock.
"""

import os
import sys
import time

from benchmarks import machine

# Read when JAX starts: on a CPU each core becomes a device, so that members of the toy can be spread over them.
if not any(a.lstrip('-').startswith('config') for a in sys.argv):
  os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '') + f' --xla_force_host_platform_device_count={machine.CORES}'
  )

from absl import flags
from ml_collections import config_flags
import numpy as np

from vaegan_jax import command, settings

CONFIG = config_flags.DEFINE_config_file(
  'config', help_string='Of image models, in place of the toy.'
)
MEMBERS = flags.DEFINE_integer('members', 16, 'Models of the population.', lower_bound=1)
METHOD = flags.DEFINE_string('method', 'matching', 'Of vaegan_jax.toy.RECIPES.')
BATCH_SIZES = flags.DEFINE_list('batch_sizes', ['1', '4', '32'], 'Points in a batch; a row each.')
ITERATIONS = flags.DEFINE_integer(
  'iterations', 200, 'Of every member, in each measurement.', lower_bound=2
)
REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements of each way, in turn.', lower_bound=1)


def ways(toys, toy, name, seeds, iterations):
  """{way: function that trains all members and waits for them}, compiled and warm."""
  import jax

  devices = jax.devices()
  whole = {'one program': toys.population((name,), seeds, toy, devices[:1])}
  if len(devices) > 1 and len(seeds) % len(devices) == 0:
    whole['one program, spread over the cores'] = toys.population((name,), seeds, toy, devices)
  init, step = toys.parts(name, toy)
  init, step_once = jax.jit(init), jax.jit(step, donate_argnums=0)
  loop = jax.jit(lambda state, key, count: toys.advance(step, count, state, key), donate_argnums=0)

  def one_after_another():
    for seed in seeds:
      key = jax.random.key(seed)
      jax.block_until_ready(loop(init(key), key, iterations))

  def step_by_step():
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
  for function in made.values():
    function()
  return made


def unrolled(step, keys, devices=None):
  """As parallel.in_turn, but one program that holds the step of each member."""
  import jax

  from vaegan_jax import parallel

  every = jax.jit(
    lambda states, batches: tuple(
      zip(
        *(
          step(state, batch, key, i)
          for i, (state, batch, key) in enumerate(zip(states, batches, keys))
        )
      )
    ),
    donate_argnums=0,
  )
  return parallel.in_turn(step, keys, devices)._replace(
    step=lambda states, batches: every(tuple(states), tuple(batches))
  )


def image_ways(config, count, iterations):
  """{way: function that trains `count` seeds of a config and waits for them}, compiled and warm."""
  import jax

  from vaegan_jax import build, data, parallel

  configs = list(settings.members(config, [str(i) for i in range(count)], {}).values())
  dataset = build.dataset(config)
  size, keys = build.about(config, dataset)['size'], [jax.random.key(c.seed) for c in configs]
  made = {}
  for way, of_members in {
    'one program, side by side': parallel.vmapped,
    'one program, unrolled': unrolled,
    'one after another, one program': parallel.in_turn,
  }.items():
    parallel.of_members = of_members
    phase = build.shared_phase(configs, size, keys)
    init = build.init(config, size, [phase])
    state = [phase.parallel.put_state([init(key) for key in keys])]
    batch = phase.parallel.put_batch(
      [
        next(
          data.batches(dataset, batch_size=c.batch_size, seed=c.seed, condition=c.data.condition)
        )
        for c in configs
      ]
    )

    def train(phase=phase, state=state, batch=batch, steps=iterations):
      for _ in range(steps):
        state[0], _ = phase.parallel.step(state[0], batch)
      jax.block_until_ready(state[0])

    begun = np.array([time.perf_counter(), time.process_time()])
    train(steps=1)
    print(
      '%s: the first step took %.0f s, %.0f s of processor time'
      % (way, *(np.array([time.perf_counter(), time.process_time()]) - begun)),
      flush=True,
    )
    made[way] = train
  return made


def main():
  from vaegan_jax import toy as toys

  command.keep_compiled_programs()
  print(
    f'{MEMBERS.value} models, {CONFIG.value.method_name if CONFIG.value else METHOD.value}, {ITERATIONS.value} iterations each, '
    f'{REPEATS.value} repeats; {machine.line()}'
  )
  for batch_size in [CONFIG.value.batch_size] if CONFIG.value else map(int, BATCH_SIZES.value):
    made = (
      image_ways(CONFIG.value, MEMBERS.value, ITERATIONS.value)
      if CONFIG.value
      else ways(
        toys, toys.Toy(batch_size=batch_size), METHOD.value, range(MEMBERS.value), ITERATIONS.value
      )
    )
    seconds = {way: [] for way in made}  # [wall, processor] of each repeat
    for _ in range(REPEATS.value):
      for way, function in made.items():
        begun = np.array([time.perf_counter(), time.process_time()])
        function()
        seconds[way].append(np.array([time.perf_counter(), time.process_time()]) - begun)
    print(f'batch {batch_size}:')
    for way, values in seconds.items():
      each = np.median(values, 0) / ITERATIONS.value / MEMBERS.value * 1e6
      print(
        f'  {way:36s} {each[0]:7.1f} us per model and iteration, {each[1]:7.1f} us of processor time'
      )
    for one in [w for w in seconds if w.startswith('one program')]:
      for other in [w for w in seconds if w.startswith('one after')]:
        ratios = np.array(seconds[other]) / seconds[one]
        tell = lambda r: f'{np.median(r):.1f} ({r.min():.1f} to {r.max():.1f})'
        print(
          f'  {one}, over {other}: {tell(ratios[:, 0])} times as fast, '
          f'{tell(ratios[:, 1])} times less processor time'
        )
  return 0


if __name__ == '__main__':
  command.run(main)
