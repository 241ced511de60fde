"""The picture of the house stays true: who imports whom, and what must not be imported."""

import ast
import configparser
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'vaegan_jax'

# What each file may import of ours. Layers from below to above, and no circle.
MAY = {
  **{
    f'metrics.{name}': {'metrics.arrays', 'metrics.distances'}
    for name in (
      'attributes',
      'density_coverage',
      'distances',
      'diversity',
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
  },
  'metrics.arrays': set(),
  'features.batches': set(),
  'features.torch_file': set(),
  'features.classifier': {'losses', 'features.batches'},
  'features.efficientnet': {'features.batches', 'features.torch_file'},
  'features.inception': {'features.batches', 'features.torch_file'},
  'losses': set(),
  'augment': set(),
  'methods': set(),
  'images': set(),
  'parallel': set(),
  'optim': set(),
  'checkpoint': set(),
  'command': set(),
  'networks.layers': set(),
  'networks.larsen': {'networks.layers'},
  'networks.bao': {'networks.layers'},
  'networks.mlp': {'networks.layers'},
  'sources': {'images'},
  'folders': {'images', 'sources'},
  'cache': {'images'},
  'data': {'images', 'cache', 'folders', 'sources'},
  'model': {'losses'},
  'step': {'augment', 'losses', 'model', 'networks.layers'},
  'build': {
    'augment',
    'data',
    'losses',
    'model',
    'optim',
    'parallel',
    'step',
    'networks.bao',
    'networks.larsen',
  },
  'toy': {'methods', 'model', 'networks.mlp', 'optim', 'parallel', 'step'},
  'sample': {'build', 'checkpoint', 'parallel', 'step'},
  'edit': set(),
  'evaluate': {'build', 'metrics', 'features.classifier'},
  'study': {'build', 'checkpoint', 'evaluate', 'images', 'sample', 'train'},
  'dry_run': {'build'},
  'population': {'build', 'checkpoint', 'data', 'model', 'train'},
  'train': {'build', 'checkpoint', 'data', 'images', 'sample', 'step'},
}


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


@pytest.mark.parametrize('name,path', [(n, p) for n, p in files() if not n.endswith('__init__')])
def test_layers(name, path):
  ours = {m.removeprefix('vaegan_jax.') for m in imported(path) if m.startswith('vaegan_jax.')}
  assert name in MAY, f'{name} is new: say here what it may import'
  assert ours <= MAY[name]


def test_only_build_reads_a_configdict():
  assert [n for n, p in files() if any('ml_collections' in m for m in imported(p))] == ['build']


def test_nothing_is_unpickled_or_evaluated():
  for _, path in files():
    for node in ast.walk(ast.parse(path.read_text())):
      called = node.func if isinstance(node, ast.Call) else None
      name = getattr(called, 'id', getattr(called, 'attr', ''))
      assert name not in ('eval', 'exec', 'extractall'), path
      assert not any(k.arg == 'allow_pickle' for k in getattr(node, 'keywords', [])), path
    assert not {'pickle', 'torch', 'yaml'} & set(imported(path)), path


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
  assert set(setup['options']['packages'].split(', ')) == there
