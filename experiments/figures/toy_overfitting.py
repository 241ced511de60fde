"""Does the toy example of CVAE-GAN (Bao et al. 2017) overfit? The ring with few fixed points.

    python experiments/figures/toy_overfitting.py                        # 8 seeds, three methods
    python experiments/figures/toy_overfitting.py --methods=matching --seeds=2 --iterations=50000

Each method trains on 64, 512 and 4,096 points that stay the same, and on new points at each step
(`fresh`, which cannot memorise); all seeds, sizes and methods are one population. The figure shows,
over the iterations, for each set of points and as many held-out ones:

    C_T                     metrics.data_copying; below -3 the generator copies
    energy gap              metrics.energy_gap, times the number of points, over the radius
    D(train) - D(held-out)  the discriminator's mean logit on the two sets

Solid lines are members trained on the points; dashed ones, `fresh` judged with the same points (the
null); a mark on the right, a copycat that returns training points with 0.2 % of noise. Lines are
medians over the seeds, bands their range. The PNG, and a JSON file of the same name with the
measures of every seed, are rewritten at each measurement; a run that stops starts over.
"""

import datetime
import pathlib
import shlex
import sys
import time
from typing import Any

from absl import flags

from vaegan_jax import command, files, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

import jax
import jax.numpy as jnp
import numpy as np

from vaegan_jax import metrics, toy
from vaegan_jax.experiments.figures import toy_curves

ITERATIONS = flags.DEFINE_integer('iterations', 400_000, 'Number of iterations.', lower_bound=1)
EVERY = flags.DEFINE_integer('every', 20_000, 'Iterations between measurements.', lower_bound=1)
SEEDS = flags.DEFINE_integer('seeds', 8, 'Seeds per method and size, from 0.', lower_bound=1)
METHODS = flags.DEFINE_list('methods', None, 'Any of gan, wgan, matching; by default all.')
BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', toy.Toy().batch_size, 'Points per step.', lower_bound=1, upper_bound=10**6
)
OUT = flags.DEFINE_string(
  'out', 'runs/toy_overfitting.png', 'The picture; the numbers go to a .json of the same name.'
)

SIZES = (64, 512, 4096)  # fixed points
COUNT = 2000  # generated points, per member
NOISE = 0.002  # of the copycat, over the radius
MEASURES = ('c_t', 'energy_gap', 'logit_gap')

Points = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]  # {(size, seed): (train, held out)}
Result = dict[str, Any]  # the content of the JSON file


def main() -> int:
  command.check_picture(OUT.value)
  if METHODS.value == []:
    raise ValueError(f'--methods= is empty: use one or more of {", ".join(toy.RECIPES)}')
  names, seeds = tuple(METHODS.value or toy.RECIPES), range(SEEDS.value)
  for name in names:
    toy.member(name)  # or an error that names it
  options = toy.Toy(batch_size=BATCH_SIZE.value)
  command.keep_compiled_programs()
  points = {(size, seed): ring_points(size, seed, options) for size in SIZES for seed in seeds}
  population = toy.population(
    names, [*seeds] * (1 + len(SIZES)), options, fixed=fixed_points(points, len(seeds))
  )
  result = new_result(names, points, options)
  states, done, start = population.init(), 0, time.time()
  while True:
    generated = jax.device_get(population.generated(states, COUNT))
    logits = logits_of(population, states, points, len(seeds))
    result['iterations'].append(done)
    for name in names:
      add_measures(result['measures'][name], generated[name], logits[name], points, options)
    result['seconds'].append(round(time.time() - start, 1))
    print(f'{done:8d} {result["seconds"][-1]:7.0f} s', flush=True)
    files.save_png(OUT.value, toy_curves.picture(result))
    files.write_json(pathlib.Path(OUT.value).with_suffix('.json'), result)
    if done >= ITERATIONS.value:
      break
    count = min(EVERY.value, ITERATIONS.value - done)
    states, _ = population.advance(states, count)
    done += count
  print('\n'.join(table(result)))
  return 0


def ring_points(size: int, seed: int, options: toy.Toy) -> tuple[np.ndarray, np.ndarray]:
  """(training points, held-out points) [size, 2] of a seed."""
  key = jax.random.fold_in(jax.random.key(seed), size)
  both = np.asarray(toy.ring(key, 2 * size, options))
  return both[:size], both[size:]


def fixed_points(points: Points, seeds: int) -> toy.Fixed:
  """Fixed of all members: `fresh` first, then each size; the seeds of each side by side."""
  held = np.zeros((1 + len(SIZES), seeds, max(SIZES), 2), np.float32)
  for (size, seed), (train, _) in points.items():
    held[1 + SIZES.index(size), seed, :size] = train
  counts = np.repeat((0, *SIZES), seeds).astype(np.int32)
  return toy.Fixed(jnp.asarray(held.reshape(-1, max(SIZES), 2)), jnp.asarray(counts))


def logits_of(
  population: toy.Population, states: Any, points: Points, seeds: int
) -> dict[str, dict[int, np.ndarray]]:
  """{method: {size: logits [members, 2 size]}} of the training points, then the held-out ones."""
  found = {}
  for size in SIZES:
    of_seeds = np.stack([np.concatenate(points[size, seed]) for seed in range(seeds)])
    everyone = jnp.asarray(np.tile(of_seeds, (1 + len(SIZES), 1, 1)))
    for name, values in jax.device_get(population.logits(states, everyone)).items():
      found.setdefault(name, {})[size] = values
  return found


def new_result(names: tuple[str, ...], points: Points, options: toy.Toy) -> Result:
  """A result with the copycat's measures and without those of members.

  `measures` is {method: {'64', ..., 'fresh_64', ...: {measure: [values by seed, ...]}}}.
  """
  empty = [f'{kind}{size}' for kind in ('', 'fresh_') for size in SIZES]
  keys = (*MEASURES, 'radius_error', 'coverage')
  copycat = {str(size): {key: [] for key in MEASURES[:2]} for size in SIZES}
  for (size, seed), (train, held_out) in points.items():
    rng = np.random.default_rng(seed)
    noise = NOISE * options.radius * rng.normal(size=(COUNT, 2))
    found = judged(train, held_out, train[rng.integers(0, size, COUNT)] + noise, options)
    for key, value in found.items():
      copycat[str(size)][key].append(value)
  return dict(
    toy=options._asdict(),
    sizes=list(SIZES),
    seeds=SEEDS.value,
    points_measured=COUNT,
    command=shlex.join(['python', 'experiments/figures/toy_overfitting.py', *sys.argv[1:]]),
    date=datetime.date.today().isoformat(),
    iterations=[],
    seconds=[],
    measures={name: {kind: {key: [] for key in keys} for kind in empty} for name in names},
    copycat=copycat,
  )


def judged(
  train: np.ndarray, held_out: np.ndarray, generated: np.ndarray, options: toy.Toy
) -> dict[str, float]:
  """The measures of generated points [N, 2] that need no discriminator."""
  gap = metrics.energy_gap(train, held_out, generated)
  return dict(
    c_t=round(metrics.data_copying(train, held_out, generated), 3),
    energy_gap=round(gap * len(train) / options.radius, 4),
  )


def add_measures(
  result: dict[str, Any],
  generated: np.ndarray,
  logits: dict[int, np.ndarray],
  points: Points,
  options: toy.Toy,
) -> None:
  """Appends the measures of a method's members to its result."""
  for kind, row in result.items():
    size = int(kind.removeprefix('fresh_'))
    first = 0 if kind.startswith('fresh_') else (1 + SIZES.index(size)) * SEEDS.value
    found = []
    for seed in range(SEEDS.value):
      member, values = generated[first + seed], logits[size][first + seed]
      of_ring = toy.measures(member, options.radius)
      found.append(
        dict(
          **judged(*points[size, seed], member, options),
          logit_gap=round(float(values[:size].mean() - values[size:].mean()), 5),
          radius_error=round(of_ring['radius_error'], 4),
          coverage=round(of_ring['coverage_on_ring'], 4),
        )
      )
    for key, values in row.items():
      values.append([f[key] for f in found])


def table(result: Result) -> list[str]:
  """Lines with the medians over the seeds after the last iteration, and the copycat's."""
  lines = [f'\nafter {result["iterations"][-1]:,} iterations, medians over the seeds:']
  rows = {
    f'{name} {kind}': {key: values[-1] for key, values in row.items()}
    for name, of_method in result['measures'].items()
    for kind, row in of_method.items()
  }
  rows.update({f'copycat {size}': row for size, row in result['copycat'].items()})
  for name, row in rows.items():
    lines.append(
      f'{name:22s}' + '  '.join(f'{key} {np.median(values):8.3f}' for key, values in row.items())
    )
  return lines


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
