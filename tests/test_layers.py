"""The picture of the house stays true: who imports whom, and what must not be imported."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'vaegan_jax'

# What each file may import of ours, from the lowest layer to the highest. A file imports only files
# that stand above it in this table, so that no circle can be written down.
METRICS = {
  f'metrics.{name}': {'metrics.arrays', 'metrics.distances'}
  for name in (
    'attributes',
    'data_copying',
    'density_coverage',
    'diversity',
    'energy',
    'feature_likelihood',
    'frechet_distance',
    'inception_score',
    'kid',
    'latents',
    'modes',
    'precision_recall',
    'psnr',
    'sharpness',
    'ssim',
    'top1',
  )
}
MAY = {
  # One concept each.
  'methods': set(),
  'losses': set(),
  'interleave': set(),
  'augment': set(),
  'optim': set(),
  'parallel': set(),
  'balance': set(),
  'cotangents': set(),
  'critic_aids': {'losses'},
  'members': {'parallel'},
  'words': set(),
  'interrupts': set(),
  'trends': set(),
  'rules': {'trends'},
  'game': {'rules', 'trends'},
  'health': {'game', 'rules', 'trends'},
  'failures': set(),
  'hosts': set(),
  'images': set(),
  'buckets': set(),
  'paths': {'buckets'},
  'lease': {'buckets', 'paths'},
  'files': {'interrupts', 'paths', 'words'},
  'trees': set(),
  'checkpoint': {'files', 'hosts', 'paths', 'trees'},
  'metrics.arrays': set(),
  'metrics.distances': set(),
  **METRICS,
  'features.batches': set(),
  'features.torch_file': set(),
  'features.labelled': {'features.batches'},
  'features.classifier': {'losses', 'paths', 'features.batches', 'features.labelled'},
  'features.efficientnet': {'features.batches', 'features.torch_file'},
  'features.inception': {'features.batches', 'features.torch_file'},
  'networks.convolutions': set(),
  'networks.layers': {'networks.convolutions'},
  'networks.blocks': {'networks.convolutions', 'networks.layers'},
  'networks.larsen': {'networks.blocks', 'networks.convolutions', 'networks.layers'},
  'networks.pools': set(),
  'networks.bao': {'networks.convolutions', 'networks.layers', 'networks.pools'},
  'networks.mlp': {'networks.layers'},
  'networks.prior': {'losses'},
  'networks.residual': {'networks.convolutions', 'networks.layers', 'networks.prior'},
  'data.tables': set(),
  'data.listings': {'words', 'paths'},
  'data.sources': {'paths'},
  'data.folders': {'data.sources', 'data.listings', 'data.tables', 'paths'},
  'data.cache': {'data.sources', 'words', 'images', 'interrupts', 'paths'},
  'data.records': {'data.cache', 'data.sources'},
  'data.datasets': {
    'data.cache',
    'data.folders',
    'data.records',
    'data.sources',
    'words',
    'images',
  },
  'data.pipeline': {'data.datasets'},
  'data.feeds': {'data.datasets', 'data.pipeline', 'data.records', 'data.sources'},
  # Algorithm 1, and its step.
  'model': {'critic_aids', 'interleave', 'losses', 'networks.prior'},
  'routing': {'balance', 'cotangents', 'model'},
  'step': {
    *('augment', 'balance', 'critic_aids', 'losses', 'model', 'routing'),
    *('networks.blocks', 'networks.layers', 'networks.prior'),
  },
  'toy': {'methods', 'model', 'networks.mlp', 'optim', 'parallel', 'step'},
  # The page of a run.
  'page.read': {'paths'},
  'page.pictures': {'paths'},
  'page.curves': set(),
  'page.sections': {'health', 'page.read'},
  'page.render': {
    *('files', 'page.curves', 'page.pictures', 'page.read', 'page.sections', 'paths', 'rules'),
  },
  # From a config to objects.
  'settings': {'words'},
  'bounds': {'augment', 'model', 'networks', 'optim', 'parallel', 'step', 'words'},
  'checks': {
    *('bounds', 'critic_aids', 'methods', 'model', 'networks', 'networks.prior', 'optim'),
    *('parallel', 'settings', 'words'),
  },
  'build': {
    *('augment', 'balance', 'checks', 'critic_aids', 'data', 'losses', 'model', 'networks'),
    *('optim', 'parallel', 'settings', 'step', 'words'),
  },
  'programs': {
    *('balance', 'build', 'data', 'members', 'model', 'optim', 'parallel', 'routing', 'settings'),
    'step',
  },
  # Trained models.
  'conditions': {'words'},
  'dispatch': {'parallel', 'step'},
  'functions': {'build', 'checkpoint', 'settings', 'step'},
  'sample': {'build', 'checkpoint', 'conditions', 'dispatch', 'functions', 'paths', 'settings'},
  'edit': {'conditions', 'sample'},
  'sheets': {'conditions', 'files', 'images', 'sample'},
  'standalone': set(),
  'handed': {'files', 'paths'},
  'hub': set(),
  'card': {'sample', 'settings'},
  'export': {
    *('bounds', 'build', 'dispatch', 'functions', 'handed', 'hub', 'model', 'networks', 'parallel'),
    *('sample', 'settings'),
  },
  'explore.directions': {'build', 'conditions', 'dispatch', 'edit', 'sample', 'settings'},
  'explore.views': {
    *('conditions', 'dispatch', 'edit', 'functions', 'images', 'sample'),
    'explore.directions',
  },
  'explore.server': {'explore.views'},
  'judges': {'build', 'features.classifier', 'features.efficientnet'},
  'overfitting': {'metrics', 'metrics.data_copying'},
  'verdict': {'overfitting'},
  'evaluate': {'data', 'judges', 'metrics', 'overfitting', 'sample', 'verdict'},
  # Runs.
  'runs.signals': {'interrupts'},
  'runs.hangs': set(),
  'runs.events': {'checkpoint', 'files', 'page.read', 'rules'},
  'runs.workdir': {
    *('checkpoint', 'failures', 'files', 'hosts', 'lease', 'paths', 'settings', 'runs.events'),
  },
  'runs.probe': {'data', 'losses', 'model', 'parallel', 'step'},
  'runs.watch': {
    *('checkpoint', 'data', 'health', 'programs', 'rules', 'settings', 'trends'),
    *('runs.events', 'runs.probe', 'runs.workdir'),
  },
  'runs.saver': {
    *('checkpoint', 'failures', 'paths', 'settings', 'words', 'runs.watch', 'runs.workdir'),
  },
  'runs.boards': {'buckets', 'files', 'paths'},
  'runs.pictures': {'build', 'data', 'files', 'images', 'sample', 'settings', 'runs.boards'},
  'runs.pages': {'files', 'page', 'page.read', 'paths'},
  'runs.screen': {'health', 'rules', 'trends', 'words'},
  'runs.report': {
    *('buckets', 'build', 'data', 'files', 'model', 'paths', 'programs', 'settings', 'words'),
    *('page.read', 'runs.boards', 'runs.pages', 'runs.pictures', 'runs.saver', 'runs.screen'),
    *('runs.watch', 'runs.workdir'),
  },
  'runs.fork': {
    *('checkpoint', 'files', 'paths', 'programs', 'sample', 'settings', 'step', 'trees'),
    *('runs.events', 'runs.workdir'),
  },
  'runs.memory': {'hosts', 'parallel', 'words'},
  'runs.train': {
    *('build', 'checkpoint', 'data', 'hosts', 'paths', 'programs', 'settings', 'step'),
    *('runs.events', 'runs.fork', 'runs.hangs', 'runs.memory', 'runs.pages', 'runs.report'),
    *('runs.signals', 'runs.watch', 'runs.workdir'),
  },
  'runs.dry_run': {'build', 'parallel', 'programs', 'settings', 'words', 'runs.memory'},
  'command': {'configs', 'failures', 'hosts', 'interrupts', 'paths', 'words'},
}
# The files that a ConfigDict reaches; all others take plain values.
READ_CONFIGS = {'settings', 'checks', 'build', 'programs', 'command'}


def imported(path):
  """Names of modules that a file imports, wherever in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def files():
  for path in sorted(PACKAGE.rglob('*.py')):
    yield '.'.join(path.relative_to(PACKAGE).with_suffix('').parts), path


MODULES = {name.removesuffix('.__init__') for name, _ in files()} | {'configs'}


def module_of(name):
  """The module of ours that a dotted import names: `model.MAKERS` is `model`."""
  while name and name not in MODULES:
    name = name.rpartition('.')[0]
  return name


@pytest.mark.parametrize(
  'name,path',
  [(n, p) for n, p in files() if not n.endswith('__init__')],
  ids=lambda v: str(v)[-30:],
)
def test_layers(name, path):
  ours = {
    module_of(m.removeprefix('vaegan_jax.')) for m in imported(path) if m.startswith('vaegan_jax.')
  }
  assert name in MAY, f'{name} is new: say here what it may import'
  assert ours <= MAY[name]


def test_no_file_imports_one_of_a_higher_layer():
  order = list(MAY)
  for name, allowed in MAY.items():
    for other in allowed - {'configs'}:
      below = [m for m in order if m == other or m.startswith(f'{other}.')]
      assert below and all(order.index(m) < order.index(name) for m in below), (name, other)


def test_a_configdict_reaches_few_files():
  readers = {n for n, p in files() if any('ml_collections' in m for m in imported(p))}
  assert {n for n in readers if not n.startswith('runs.')} == READ_CONFIGS


def test_nothing_is_unpickled_or_evaluated():
  for _, path in files():
    for node in ast.walk(ast.parse(path.read_text())):
      called = node.func if isinstance(node, ast.Call) else None
      name = getattr(called, 'id', getattr(called, 'attr', ''))
      assert name not in ('eval', 'exec', 'extractall'), path
      assert not any(k.arg == 'allow_pickle' for k in getattr(node, 'keywords', [])), path
    assert not {'pickle', 'torch', 'yaml'} & set(imported(path)), path


@pytest.mark.slow
@pytest.mark.parametrize(
  'statement,absent',
  [
    ('import vaegan_jax', ('jax', 'flax', 'tensorflow')),
    ('from vaegan_jax import losses', ('flax', 'optax', 'orbax', 'tensorflow', 'ml_collections')),
    ('from vaegan_jax import methods', ('jax',)),
    ('from vaegan_jax import restore', ('tensorflow', 'tensorflow_datasets')),
  ],
)
def test_imports_stay_small(statement, absent):
  code = f'import sys; {statement}; print([m for m in {absent!r} if m in sys.modules])'
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
  )
  assert out.stdout.strip() == '[]'


def test_every_public_name_exists():
  import vaegan_jax

  for name in vaegan_jax.__all__:
    assert getattr(vaegan_jax, name).__doc__


def test_every_package_is_installed():
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  there = {'.'.join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob('*.py')}
  for folder in ('configs', 'experiments'):
    packages = {p.parent for p in (ROOT / folder).rglob('__init__.py')}
    there |= {'.'.join(('vaegan_jax', *p.relative_to(ROOT).parts)) for p in packages}
  assert set(setup['options']['packages'].split()) == there


def test_every_pinned_version_has_its_hashes():
  """`make hashes` renews requirements.hashes after a change of requirements.lock."""

  def pins(name):
    found = re.findall(r'^([\w.-]+==[\w.]+)', (ROOT / name).read_text(), re.M)
    return sorted(pin.lower().replace('_', '-') for pin in found)

  text = (ROOT / 'requirements.hashes').read_text()
  assert pins('requirements.hashes') == pins('requirements.lock')
  assert len(re.findall(r'^\S.*==.*\\\n    --hash=sha256:', text, re.M)) == len(
    pins('requirements.lock')
  )


def test_functions_fit_on_a_screen_and_files_in_a_sitting():
  """Algorithm 1 stays in one piece; losses.py is one page per loss."""
  for name, path in files():
    text = path.read_text()
    assert name == 'losses' or len(text.splitlines()) <= 300, f'{name} is too long: split it'
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.FunctionDef) and (name, node.name) not in LONG:
        length = node.end_lineno - node.lineno + 1
        assert length <= 60, f'{name}.{node.name} has {length} lines: split it'


# Algorithm 1, its step, and its gradients.
LONG = {('model', 'judge'), ('routing', 'gradients'), ('step', 'train_step')}
