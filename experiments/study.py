"""Studies: several methods and seeds, trained one after another; what tables and figures are made of.

Each run has a workdir of its own and goes on where it stopped, so a study does, too.
"""

import importlib
import json
import pathlib

import numpy as np

from vaegan_jax import build, checkpoint, configs, evaluate, files, images, sample
from vaegan_jax.configs import base
from vaegan_jax.runs import train
from vaegan_jax.settings import with_settings


def config_of(data, method, seed, settings):
  """The config configs/DATA.py:METHOD with a seed and {dotted field: value} set in it.

  Where `steps` is set and `first.steps` is not, a first phase gets half of them.
  """
  if data not in configs.NAMES:
    raise ValueError(f'--data={data}: there is no such config; known: {", ".join(configs.NAMES)}')
  config = importlib.import_module(f'vaegan_jax.configs.{data}').get_config(method)
  config = with_settings(config, dict(settings, seed=seed))
  if 'steps' in settings and 'first.steps' not in settings:
    config = base.halved_first_phase(config)
  return config


def trained(config, workdir, say=print):
  """The Trained model of a config's run in `workdir`, trained as far as it is not yet."""
  done = checkpoint.steps(workdir)
  if not done or done[-1] < config.steps:
    code = train.train(config, str(workdir), say=say)
    if code:
      raise SystemExit(code)  # stopped by a signal, after saving
  train.check_same(
    config, checkpoint.manifest(workdir, config.steps)['config'], f'{workdir} is a run'
  )
  return sample.restore(workdir, config.steps)


def figures(data, methods, seeds, settings, workdir, *, n=1000, judge_steps=2000, say=print):
  """{method: [result of evaluate.evaluate, one a seed]}.

  Args:
    methods: {name of a row: (method of methods.METHODS, its settings)}.
    settings: {dotted field: value} of all.
    workdir: gets NAME/seed_S of each run, with its figures.json.
  """
  results, judges = {name: [] for name in methods}, None
  for seed in seeds:
    for name, (method, own) in methods.items():
      config = config_of(data, method, seed, {**settings, **own})
      home = pathlib.Path(workdir) / name / f'seed_{seed}'
      say(f'{name}, seed {seed}: {home}')
      model = trained(config, home, say)
      path = home / 'figures.json'
      asked = dict(step=model.step, n=n, judge_steps=judge_steps)
      if path.exists() and (known := json.loads(path.read_text())).get('asked') == asked:
        results[name].append(known)
        continue
      judges = judges or evaluate.judges_for(config, steps=judge_steps)
      seen = build.dataset(config)
      real = build.dataset(config, config.data.held_out) if config.data.held_out else seen
      results[name].append(dict(evaluate.evaluate(model, judges, real, seen, n=n), asked=asked))
      files.write_json(path, results[name][-1])
  return results


def mean_and_spread(results, group, figure):
  """(mean, standard deviation) over seeds of one figure; the deviation of one seed is NaN."""
  values = [r[group][figure] for r in results if figure in r.get(group, {})]
  return (np.mean(values) if values else np.nan), (
    np.std(values, ddof=1) if len(values) > 1 else np.nan
  )


def table(results, columns):
  """The lines of a Markdown table: a row a method, mean and deviation over seeds.

  columns: [(title, group, figure, format)], e.g. ('top-1', 'samples', 'top1', '.1%').
  """
  yield '| | ' + ' | '.join(title for title, *_ in columns) + ' |'
  yield '|---' * (len(columns) + 1) + '|'
  for name, rows in results.items():
    cells = []
    for _, group, figure, form in columns:
      mean, spread = mean_and_spread(rows, group, figure)
      cells.append(
        ''
        if np.isnan(mean)
        else f'{mean:{form}}' + ('' if np.isnan(spread) else f' ± {spread:{form}}')
      )
    yield f'| {name} | ' + ' | '.join(cells) + ' |'


def write(workdir, results, columns, say=print):
  """Prints the table; writes WORKDIR/table.md, and all figures of all runs to table.json."""
  lines = list(table(results, columns))
  say('\n'.join(lines))
  pathlib.Path(workdir, 'table.md').write_text('\n'.join(lines) + '\n')
  files.write_json(pathlib.Path(workdir) / 'table.json', results)
  say(f'saved in {workdir}: table.md and table.json')


def picture(workdir, methods, *, mode='samples', rows=2, seed=0):
  """Writes WORKDIR/samples.png: blocks of `rows` rows, one of each method in order, with the run of `seed`.

  mode: samples on the same noise, a column a class; or reconstructions, one row of originals above
  one row of reconstructions of each method. The methods' names stand beside their rows.
  """
  blocks, names = [], []
  for name in methods:
    model = sample.restore(pathlib.Path(workdir) / name / f'seed_{seed}')
    classes = model.about['size'] if model.about['condition'] == 'label' else 0
    columns = classes if 0 < classes <= 16 else 10
    if mode == 'samples':
      blocks.append(model.sample(rows * columns))
      names.append(name)
    elif 'encoder' in model.networks:
      originals, given = sample.pictures_of(model, '', columns)
      blocks += ([] if blocks else [originals]) + [model.reconstruct(originals, **given)]
      names += ([] if names else ['originals']) + [name]
  scale = max(1, 64 // model.config['data']['image_size'])
  grid = images.grid(np.concatenate(blocks), columns, scale=scale)
  files.save_png(
    pathlib.Path(workdir) / f'{mode}.png',
    images.captioned(grid, [name.replace('_', ' ') for name in names]),
  )
