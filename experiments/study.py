"""Studies: several methods trained with several seeds, for the tables and figures of the papers.

Each run has its own workdir and resumes there, so a study resumes, too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import importlib
import json
import pathlib
from typing import Any

from absl import flags
from ml_collections import ConfigDict
import numpy as np

from vaegan_jax import build, checkpoint, configs, evaluate, files, images, paths, sample
from vaegan_jax.configs import base
from vaegan_jax.judges import judges_for
from vaegan_jax.methods import METHODS
from vaegan_jax.runs.train import train
from vaegan_jax.runs.workdir import check_same
from vaegan_jax.settings import with_settings
from vaegan_jax.words import closest

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # --help lists the flags of a study under its script

Settings = Mapping[str, Any]  # {dotted field of a config: value}
Methods = Mapping[
  str, tuple[str, Settings]
]  # {name of a row: (method of methods.METHODS, settings)}
Columns = Sequence[tuple[str, str, str, str]]  # (title, group, figure, format) of a table
Results = Mapping[str, list[Mapping[str, Any]]]  # {name of a row: [result of evaluate, per seed]}
PathLike = str | pathlib.Path


def define_flags(name: str, data: str) -> None:
  """Defines the flags of a study: --data --seeds --fast --set --n --judge_steps --workdir."""
  flags.DEFINE_string('data', data, f'Data set: {", ".join(configs.NAMES)}.')
  flags.DEFINE_integer('seeds', 3, 'Seeds per method, counted from 0.', lower_bound=1)
  flags.DEFINE_bool('fast', False, 'Small settings: minutes on two CPU cores.')
  flags.DEFINE_multi_string(
    'set', [], 'A field of every config: --set=steps=500 --set=network.width=0.25.'
  )
  flags.DEFINE_integer(
    'n', 2000, 'Images to generate and compare with the metrics.', lower_bound=10
  )
  flags.DEFINE_integer('judge_steps', 2000, 'Training steps per judge.', lower_bound=1)
  flags.DEFINE_string('workdir', f'runs/{name}', 'Folder of the runs, the table and the pictures.')


def rows_of_flags(
  methods: Methods,
  fast: Settings | None = None,
  fast_by_method: Mapping[str, Settings] | None = None,
) -> Methods:
  """`methods` with --fast and --set: --set overrides a row's own settings, these override --fast.

  fast, fast_by_method: the settings of --fast, of all rows and {method: settings} of each.
  """
  given, fast, each = settings_of_flags(), fast or {}, fast_by_method or {}
  return {
    row: (method, {**({**fast, **each.get(method, {})} if FLAGS.fast else {}), **own, **given})
    for row, (method, own) in methods.items()
  }


CRITIC = METHODS['cvae_gan_relativistic']['discriminator']
WITHOUT_CRITIC = {'balance.mode': 'off', 'every.reconstruct': 1}  # nothing to weigh against
WITHOUT_ENCODER = {
  'balance.mode': 'off',
  'method': dict(generator=dict(fool_prior=1.0), discriminator=CRITIC),
}


def recommended(rows: Methods, condition: str = 'label') -> Methods:
  """`rows` with what the relativistic methods train with, small, under a condition."""
  if FLAGS.fast:
    raise ValueError('--recommended is small already: leave out --fast')
  parts = {**base.recommended(conditional=True), 'data.condition': condition}
  return {row: (method, {**parts, **own}) for row, (method, own) in rows.items()}


def settings_of_flags() -> dict[str, Any]:
  """The settings of --set."""
  settings = {}
  for pair in FLAGS.set:
    path, equals, value = pair.partition('=')
    if not equals:
      raise ValueError(f'--set={pair}: write --set=field=value')
    if path in ('seed', 'method'):
      other = '--seeds' if path == 'seed' else 'one weight, such as method.generator.match_d=1'
      raise ValueError(f'--set={pair}: the rows set the {path}; use {other}')
    settings[path] = value
  return settings


def figures_of_flags(methods: Methods) -> Results:
  """`figures` for the data, seeds, workdir and judges that the flags name."""
  return figures(
    FLAGS.data,
    methods,
    range(FLAGS.seeds),
    FLAGS.workdir,
    n=FLAGS.n,
    judge_steps=FLAGS.judge_steps,
  )


def config_of(data: str, method: str, seed: int, settings: Settings) -> ConfigDict:
  """The config DATA:METHOD with a seed and settings; one named `method` is a table of its own.

  If the settings have `steps` but not `first.steps`, a first phase gets half of the steps.
  """
  if data not in configs.NAMES:
    raise ValueError(
      f'--data={data}: no such config; the package has {", ".join(configs.NAMES)}'
      + closest(data, configs.NAMES)
    )
  config = importlib.import_module(f'vaegan_jax.configs.{data}').get_config(method)
  settings = dict(settings, seed=seed)
  if 'method' in settings:
    with config.unlocked():
      config.method = ConfigDict(settings.pop('method'))
  config = with_settings(config, settings)
  if 'steps' in settings and 'first.steps' not in settings:
    config = base.halved_first_phase(config)
  return config


def trained(
  config: ConfigDict, workdir: PathLike, say: Callable[[str], None] = print
) -> sample.Trained:
  """The trained model of a config, after training what is left of its run in `workdir`."""
  done = checkpoint.sound_steps(workdir)
  if done and done[-1] > config.steps and config.steps not in done:
    raise ValueError(
      f'{workdir} is a run at step {done[-1]}, without a checkpoint of step {config.steps}: use '
      f'--set=steps={done[-1]}, or another --workdir'
    )
  if not done or done[-1] < config.steps:
    code = train(config, str(workdir), say=say)
    if code:
      raise SystemExit(code)  # stopped by a signal, after saving
  check_same(config, checkpoint.manifest(workdir, config.steps)['config'], f'{workdir} is a run')
  return sample.restore(workdir, config.steps)


def figures(
  data: str,
  methods: Methods,
  seeds: Iterable[int],
  workdir: PathLike,
  *,
  n: int = 1000,
  judge_steps: int = 2000,
  say: Callable[[str], None] = print,
) -> Results:
  """{name of a row: [result of evaluate.evaluate for each seed]}.

  Args:
    data: name of a config file.
    methods: rows of the study.
    seeds: seeds of every row.
    workdir: gets each run in NAME/seed_S, with its figures.json.
    n: images to generate and compare.
    judge_steps: training steps per judge.
    say: prints progress.

  Raises:
    ValueError: a row's config cannot be trained, which is said before the first row is.
  """
  for name, (method, own) in methods.items():
    try:
      build.check(config_of(data, method, 0, own))
    except ValueError as e:
      raise ValueError(f'{e} (row {name})') from e
  results, judges = {name: [] for name in methods}, None
  for seed in seeds:
    for name, (method, own) in methods.items():
      config = config_of(data, method, seed, own)
      home = paths.open_path(workdir) / name / f'seed_{seed}'
      say(f'{name}, seed {seed}: {home}')
      model = trained(config, home, say)
      path = home / 'figures.json'
      asked = dict(step=model.step, n=n, judge_steps=judge_steps)
      if (known := judged(path)).get('asked') == asked:
        results[name].append(known)
        continue
      judges = judges or judges_for(config, steps=judge_steps)
      seen = build.dataset(config)
      real = build.held_out(config, seen)
      results[name].append(dict(evaluate.evaluate(model, judges, real, seen, n=n), asked=asked))
      files.write_json(path, results[name][-1])
  return results


def judged(path: Any) -> dict[str, Any]:
  """What a figures.json holds; {} if there is none yet."""
  try:
    return dict(json.loads(path.read_text())) if path.exists() else {}
  except (ValueError, TypeError) as e:
    raise ValueError(f'{path} is damaged: delete it, and the run is judged again') from e


def mean_and_spread(
  results: Iterable[Mapping[str, Any]], group: str, figure: str
) -> tuple[float, float]:
  """Mean and standard deviation of one figure over seeds; the deviation of one seed is NaN."""
  values = [r[group][figure] for r in results if figure in r.get(group, {})]
  values = np.array(values, float)  # figures.json has null for NaN
  return (np.mean(values) if len(values) else np.nan), (
    np.std(values, ddof=1) if len(values) > 1 else np.nan
  )


def table(results: Results, columns: Columns) -> Iterator[str]:
  """Lines of a Markdown table: one row per method, mean and deviation over seeds.

  columns: (title, group, figure, format), e.g. ('top-1', 'samples', 'top1', '.1%').
  """
  yield '| | ' + ' | '.join(title for title, *_ in columns) + ' |'
  yield '|---' * (len(columns) + 1) + '|'
  for name, rows in results.items():
    cells = []
    for _, group, figure, form in columns:
      mean, spread = mean_and_spread(rows, group, figure)
      value = '' if np.isnan(mean) else f'{mean:{form}}'
      cells.append(value if np.isnan(spread) else f'{value} ± {spread:{form}}')
    yield f'| {name} | ' + ' | '.join(cells) + ' |'


def write(
  workdir: PathLike, results: Results, columns: Columns, say: Callable[[str], None] = print
) -> None:
  """Prints the table; writes WORKDIR/table.md, and all figures of all runs to table.json."""
  lines = list(table(results, columns))
  say('\n'.join(lines))
  (paths.open_path(workdir) / 'table.md').write_text('\n'.join(lines) + '\n')
  files.write_json(paths.open_path(workdir) / 'table.json', results)
  say(f'saved in {workdir}: table.md and table.json')


def picture(
  workdir: PathLike, methods: Iterable[str], *, mode: str = 'samples', rows: int = 2, seed: int = 0
) -> None:
  """Writes WORKDIR/MODE.png: a block of rows per method, with its name, from the run of `seed`.

  mode: `samples` has `rows` rows per method, the same noise for all, one column per class;
  `reconstructions` has one row of originals, then one row per method.
  """
  blocks, names = [], []
  for name in methods:
    model = sample.restore(paths.open_path(workdir) / name / f'seed_{seed}')
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
    paths.open_path(workdir) / f'{mode}.png',
    images.captioned(grid, [name.replace('_', ' ') for name in names]),
  )
