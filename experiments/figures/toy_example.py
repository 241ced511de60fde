"""The toy example of CVAE-GAN (Bao et al. 2017, recalled): three methods learn a ring.

    python experiments/figures/toy_example.py --fast     # 200,000 iterations
    python experiments/figures/toy_example.py            # 2,000,000, as recalled of the paper

The methods are GAN, WGAN and mean matching; all seeds of all methods train as one compiled program.
The picture has one row per method and one column per number of iterations, with real points in blue
and those of the first seeds in red; a JSON file of the same name has the measures of every seed.
Both are rewritten as the run proceeds, and a table is printed at the end. A run that stops starts
over. Settings with which a plain GAN collapses to a part of the ring, for tens of thousands of
iterations on most seeds:

    python experiments/figures/toy_example.py --fast --methods=gan,matching --shown=3 \\
        --set=batch_size=1 --set=generator_unit=10 --set=match_decay=0.996875
"""

from collections.abc import Iterator, Mapping, Sequence
import datetime
import os
import pathlib
import platform
import shlex
import sys
import time
from typing import Any

from absl import flags

from vaegan_jax import command, files, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

import jax
import numpy as np

from vaegan_jax import bounds, toy
from vaegan_jax.experiments.figures import toy_picture
from vaegan_jax.settings import TYPES

FAST = flags.DEFINE_bool('fast', False, '200,000 iterations, not 2,000,000.')
ITERATIONS = flags.DEFINE_integer('iterations', None, 'Number of iterations.', lower_bound=1)
EVERY = flags.DEFINE_integer('every', 10_000, 'Iterations between measurements.', lower_bound=1)
SEEDS = flags.DEFINE_integer('seeds', 8, 'Seeds per method, counted from 0.', lower_bound=1)
SHOWN = flags.DEFINE_integer('shown', 1, 'Seeds in the picture, counted from 0.', lower_bound=1)
METHODS = flags.DEFINE_list('methods', None, 'Any of gan, wgan, matching; by default all.')
SET = flags.DEFINE_multi_string(
  'set', [], 'A field of toy.Toy: --set=radius=10 --set=batch_size=64.'
)
OUT = flags.DEFINE_string(
  'out', 'runs/toy_example.png', 'The picture; the numbers go to a .json of the same name.'
)

COUNT = 4000  # points measured, per seed
COLUMNS = (0, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000)
JUDGED_AT, LARGEST_ERROR = 200_000, 0.05  # iterations; radius error

LENGTH = bounds.Range(least=1e-6, most=1e6)
BOUNDS = dict(
  radius=LENGTH,
  width=bounds.Range(least=0, most=1),
  generator_unit=LENGTH,
  discriminator_unit=LENGTH,
  latent_size=bounds.BOUNDS['network.latent_size'],
  batch_size=bounds.Range(least=1, most=1e6),
  learning_rate=bounds.RATE,
  decay=bounds.DECAY,
  bound=LENGTH,
  match_decay=bounds.DECAY,
)

Result = dict[str, Any]  # the content of the JSON file


def main() -> int:
  command.check_picture(OUT.value)
  if SHOWN.value > SEEDS.value:
    raise ValueError(f'--shown={SHOWN.value}: use at most --seeds={SEEDS.value}')
  if METHODS.value == []:
    raise ValueError(f'--methods= is empty: use one or more of {", ".join(toy.RECIPES)}')
  options, names = toy_of_flags(), tuple(METHODS.value or toy.RECIPES)
  command.keep_compiled_programs()
  total = ITERATIONS.value or (200_000 if FAST.value else 2_000_000)
  seeds = list(range(SEEDS.value))
  population = toy.population(names, seeds, options)
  states, done, start, shown = population.init(), 0, time.time(), {}
  real = np.asarray(toy.ring(jax.random.key(0), COUNT, options))
  result = new_result(names, seeds, options, real)
  while True:
    points = jax.device_get(population.generated(states, COUNT))
    add_measures(result, done, time.time() - start, points)
    for name in names:
      print(f'{done:8d} {result["seconds"][-1]:7.0f} s  {line(name, result)}', flush=True)
    if done in COLUMNS or done == total:
      shown[done] = {
        (name, seed): points[name][seed] for name in names for seed in seeds[: SHOWN.value]
      }
      files.save_png(OUT.value, toy_picture.picture(shown, real, options))
    files.write_json(pathlib.Path(OUT.value).with_suffix('.json'), result)
    if done >= total:
      break
    count = min(EVERY.value, total - done)
    states, _ = population.advance(states, count)
    done += count
  print('\n'.join(table(names, result)))
  return 0


def toy_of_flags() -> toy.Toy:
  """The Toy with the fields of --set."""
  options = toy.Toy()
  for pair in SET.value:
    name, _, value = pair.partition('=')
    if name not in options._fields:
      raise ValueError(f'--set={pair}: use one of {", ".join(options._fields)}')
    kind = type(getattr(options, name))
    try:
      number = kind(value)
    except ValueError:
      raise ValueError(f'--set={pair}: give {TYPES[kind]}') from None
    if complaint := BOUNDS[name].complaint(number):
      raise ValueError(f'--set={pair}: {complaint}')
    options = options._replace(**{name: number})
  return options


def new_result(
  names: Sequence[str], seeds: list[int], options: toy.Toy, real: np.ndarray
) -> Result:
  """A result without measures: settings, machine, versions, and the measures of real points."""
  devices = f'{jax.device_count()} {jax.devices()[0].platform} device(s) of JAX'
  return dict(
    toy=options._asdict(),
    recipes={n: toy.RECIPES[n]._asdict() for n in names},
    seeds=seeds,
    points_measured=COUNT,
    hardware=f'{os.cpu_count()} x {processor()}; {devices}',
    versions=dict(python=platform.python_version(), jax=jax.__version__),
    command=shlex.join(['python', 'experiments/figures/toy_example.py', *sys.argv[1:]]),
    date=datetime.date.today().isoformat(),
    iterations=[],
    seconds=[],
    measures={n: [] for n in names},
    real=toy.measures(real, options.radius),
  )


def processor() -> str:
  """The name of the processor."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    return next(text.split(':', 1)[1].strip() for text in lines if text.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def add_measures(
  result: Result, iterations: int, seconds: float, points: Mapping[str, np.ndarray]
) -> None:
  """Appends the measures of {method: points [seeds, N, 2]} to the result."""
  result['iterations'].append(iterations)
  result['seconds'].append(round(seconds, 1))
  for name, by_seed in points.items():
    found = [toy.measures(p, result['toy']['radius']) for p in by_seed]
    result['measures'][name].append({k: [round(f[k], 4) for f in found] for k in found[0]})


def passes(found: Mapping[str, list[float]]) -> np.ndarray:
  """bool [seeds]: every angle covered, radius error under LARGEST_ERROR."""
  return (np.array(found['coverage']) == 1) & (np.array(found['radius_error']) < LARGEST_ERROR)


def line(name: str, result: Result) -> str:
  """The newest measures of a method: median over the seeds, smallest and largest."""
  found = result['measures'][name][-1]

  def spread(key: str) -> str:
    return f'{np.median(found[key]):.3f} ({min(found[key]):.3f} to {max(found[key]):.3f})'

  return (
    f'{name:9s} coverage {spread("coverage")}  on the ring {spread("coverage_on_ring")}  '
    f'radius error {spread("radius_error")}  unevenness {spread("unevenness")}  '
    f'{passes(found).sum()} pass'
  )


def table(names: Sequence[str], result: Result) -> Iterator[str]:
  """Lines with every seed of each method at JUDGED_AT iterations, or the last before it."""
  at = max(i for i, done in enumerate(result['iterations']) if done <= JUDGED_AT)
  yield f'\nafter {result["iterations"][at]:,} iterations, by seed:'
  for name in names:
    found = result['measures'][name][at]
    for key, values in found.items():
      yield f'{name:9s} {key:17s}' + ''.join(f'{v:8.3f}' for v in values)
    yield (
      f'{name:9s} {passes(found).sum()} of {len(result["seeds"])} seeds cover every angle '
      f'with a radius error under {LARGEST_ERROR:.0%}'
    )


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
