"""The toy example of CVAE-GAN (Bao et al. 2017, recalled): a ring learnt by GAN, WGAN and mean matching.

    python experiments/figures/toy_example.py --fast             # 200,000 iterations
    python experiments/figures/toy_example.py                    # 2,000,000, as recalled of the paper

All seeds of all methods train as one compiled program. Writes a picture (a row a method, a column a number
of iterations, real points blue, generated ones red, of the first seed or seeds) and, beside it, a JSON file
with the measures of every seed, both anew as the run goes on; prints a table. A run that is stopped begins
again. Where a plain GAN collapses to a part of the ring, for tens of thousands of iterations on most seeds:

    python experiments/figures/toy_example.py --fast --methods=gan,matching --shown=3 --set=batch_size=1 \\
        --set=generator_unit=10 --set=match_decay=0.996875
"""

import datetime
import os
import pathlib
import platform
import shlex
import sys
import time

from absl import flags
import numpy as np

from vaegan_jax import command, files

FAST = flags.DEFINE_bool('fast', False, '200,000 iterations in place of 2,000,000.')
ITERATIONS = flags.DEFINE_integer('iterations', None, 'Another number of them.', lower_bound=1)
EVERY = flags.DEFINE_integer(
  'every', 10_000, 'Iterations from one measurement to the next.', lower_bound=1
)
SEEDS = flags.DEFINE_integer('seeds', 8, 'Seeds of each method, from 0 on.', lower_bound=1)
SHOWN = flags.DEFINE_integer('shown', 1, 'Seeds that the picture shows, from 0 on.', lower_bound=1)
METHODS = flags.DEFINE_list('methods', None, 'Of gan, wgan, matching; all by default.')
SET = flags.DEFINE_multi_string('set', [], 'Field of toy.Toy: --set=radius=10 --set=batch_size=64.')
OUT = flags.DEFINE_string(
  'out', 'runs/toy_example.png', 'The picture; the numbers go beside it, as .json.'
)

COUNT = 4000  # points measured, per seed
COLUMNS = (0, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000)
COLOURS = dict(real=(70, 120, 200), generated=(215, 60, 45))
TITLES = dict(gan='GAN', wgan='WGAN, clipped weights', matching='mean feature matching')
JUDGED_AT, LARGEST_ERROR = 200_000, 0.05


def main():
  command.check_picture(OUT.value)
  import jax

  from vaegan_jax import toy as toys

  command.keep_compiled_programs()
  toy, names = settings(toys.Toy()), tuple(METHODS.value or toys.RECIPES)
  total = ITERATIONS.value or (200_000 if FAST.value else 2_000_000)
  seeds = list(range(SEEDS.value))
  population = toys.population(names, seeds, toy)
  states, done, begun, shown = population.init(), 0, time.time(), {}
  result = dict(
    toy=toy._asdict(),
    recipes={n: toys.RECIPES[n]._asdict() for n in names},
    seeds=seeds,
    points_measured=COUNT,
    hardware=f'{os.cpu_count()} x {processor()}; {jax.device_count()} '
    f'{jax.devices()[0].platform} device(s) of JAX',
    versions=dict(python=platform.python_version(), jax=jax.__version__),
    command=shlex.join(['python', 'experiments/figures/toy_example.py', *sys.argv[1:]]),
    date=datetime.date.today().isoformat(),
    iterations=[],
    seconds=[],
    measures={n: [] for n in names},
  )
  real = np.asarray(toys.ring(jax.random.key(0), COUNT, toy))
  result['real'] = toys.measures(real, toy.radius)
  while True:
    points = jax.device_get(population.generated(states, COUNT))
    result['iterations'].append(done)
    result['seconds'].append(round(time.time() - begun, 1))
    for name in names:
      found = [toys.measures(p, toy.radius) for p in points[name]]
      result['measures'][name].append({k: [round(f[k], 4) for f in found] for k in found[0]})
      print(f'{done:8d} {result["seconds"][-1]:7.0f} s  {line(name, result)}', flush=True)
    if done in COLUMNS or done == total:
      shown[done] = {
        (name, seed): points[name][seed] for name in names for seed in seeds[: SHOWN.value]
      }
      files.save_png(OUT.value, figure(shown, real, toys, toy))
    files.write_json(pathlib.Path(OUT.value).with_suffix('.json'), result)
    if done >= total:
      break
    count = min(EVERY.value, total - done)
    states, _ = population.advance(states, count)
    done += count
  print('\n'.join(table(names, result)))
  return 0


def settings(toy):
  """The Toy with the fields of --set."""
  for pair in SET.value:
    name, _, value = pair.partition('=')
    if name not in toy._fields:
      raise ValueError(f'--set={pair}: use one of {", ".join(toy._fields)}')
    try:
      toy = toy._replace(**{name: type(getattr(toy, name))(value)})
    except ValueError:
      raise ValueError(
        f'--set={pair}: {value!r} is no {type(getattr(toy, name)).__name__}'
      ) from None
  return toy


def processor():
  """The processor's name, as the system tells it."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    return next(text.split(':', 1)[1].strip() for text in lines if text.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def passes(found):
  """bool [seeds]: every angle covered, radius error under LARGEST_ERROR."""
  return (np.array(found['coverage']) == 1) & (np.array(found['radius_error']) < LARGEST_ERROR)


def line(name, result):
  """One measurement of a method, over its seeds."""
  found = result['measures'][name][-1]
  spread = lambda k: f'{np.median(found[k]):.3f} ({min(found[k]):.3f} to {max(found[k]):.3f})'
  return (
    f'{name:9s} coverage {spread("coverage")}  on the ring {spread("coverage_on_ring")}  '
    f'radius error {spread("radius_error")}  unevenness {spread("unevenness")}  '
    f'{passes(found).sum()} pass'
  )


def table(names, result):
  """Lines of a table: each seed of each method at JUDGED_AT iterations (or the last before it)."""
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


def figure(shown, real, toys, toy, size=250, scale=3):
  """uint8 [H, W, 3]: a row a method and seed, a column a number of iterations, drawn large and reduced.

  Args:
    shown: {iterations: {(method, seed): points [N, 2]}}; a panel tells how many of the angle's bins they
      cover, and their radius error.
    size: pixels of a panel's side.
  """
  from PIL import Image, ImageDraw, ImageFont

  from vaegan_jax import images

  s, gap, left, top, bottom = scale, 12, 92, 74, 34
  rows = list(next(iter(shown.values())))
  width, height = left + len(shown) * (size + gap), top + len(rows) * (size + gap) + bottom
  # Both where the generator starts and the ring.
  low, high = -0.2 * toys.CENTRE[0], toys.CENTRE[0] + 1.7 * toy.radius
  canvas = Image.new('RGB', (width * s, height * s), 'white')
  pen = ImageDraw.Draw(canvas, 'RGBA')
  font = lambda points: ImageFont.load_default(points * s)
  text = lambda x, y, words, points=15, anchor='mm', fill=images.INK: pen.text(
    (x * s, y * s), words, font=font(points), anchor=anchor, fill=fill
  )
  text(left, 18, f'Toy example of CVAE-GAN: a ring, batches of {toy.batch_size}', 17, 'lm')
  text(left, 40, 'real points blue, generated ones red', 13, 'lm')
  ticks = [t for t in range(0, int(high) + 1, 50)]
  for row, (name, seed) in enumerate(rows):
    y0 = top + row * (size + gap)
    title = f'{TITLES[name]}, seed {seed}'
    thick = font(14).getbbox(title)[3] + 8
    canvas.paste(images.upright(title, font(14), size * s, thick), (14 * s, y0 * s))
    for column, (iterations, points) in enumerate(shown.items()):
      x0 = left + column * (size + gap)
      at = lambda p: (
        x0 + (p[0] - low) / (high - low) * size,
        y0 + (high - p[1]) / (high - low) * size,
      )
      pen.rectangle([x0 * s, y0 * s, (x0 + size) * s, (y0 + size) * s], fill=(250, 250, 250))
      for t in ticks:
        (x, _), (_, y) = at((t, low)), at((low, t))
        pen.line([x * s, y0 * s, x * s, (y0 + size) * s], fill=(228, 228, 228), width=s)
        pen.line([x0 * s, y * s, (x0 + size) * s, y * s], fill=(228, 228, 228), width=s)
        if row == len(rows) - 1:
          text(x, y0 + size + 12, str(t), 11)
        if column == 0:
          text(x0 - 6, y, str(t), 11, 'rm')
      outside = 0
      for cloud, colour in ((real, COLOURS['real']), (points[name, seed], COLOURS['generated'])):
        for p in cloud[:1000]:
          if not low < min(p) <= max(p) < high:
            outside += 1
            continue
          x, y = at(p)
          pen.ellipse(
            [(x - 1.3) * s, (y - 1.3) * s, (x + 1.3) * s, (y + 1.3) * s], fill=(*colour, 130)
          )
      found = toys.measures(points[name, seed], toy.radius)
      text(
        x0 + 6,
        y0 + size - 10,
        f'{found["coverage"] * toys.BINS:.0f}/{toys.BINS} angles, radius error '
        f'{found["radius_error"]:.0%}' + f', {outside / 10:.0f} % outside' * (outside > 0),
        10,
        'lm',
      )
      pen.rectangle(
        [x0 * s, y0 * s, (x0 + size) * s, (y0 + size) * s], outline=(120, 120, 120), width=s
      )
      if row == 0:
        text(
          x0 + size / 2, top - 13, 'start' if not iterations else f'{iterations:,} iterations', 14
        )
  return np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS))


if __name__ == '__main__':
  command.run(main)
