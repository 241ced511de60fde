"""Models handed on: the zip, its script without this library, and zips that must be refused."""

import ast
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors import numpy as safetensors

from tests.files import write
from tests.tiny import run_of
import vaegan_jax
from vaegan_jax import build, card, checks, edit, export, files, handed, sheets
from vaegan_jax.configs import digits
from vaegan_jax.settings import with_settings

ROOT = pathlib.Path(__file__).parents[1]
FACES = dict(
  condition='attributes', names=['Male', 'Smiling'], size=2, examples=[[0, 1], [1, 0], [1, 1]]
)
BY_ATTRIBUTES = {'data.condition': 'attributes', 'prior_condition': 'shuffled'}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A folder with the run `digits` and its model.zip."""
  home = tmp_path_factory.mktemp('export')
  changes = {'data.path': '/home/jane/photographs', 'data.cache_dir': '/home/jane/cache'}
  model = vaegan_jax.restore(run_of(home / 'digits', **changes))
  export.save(model, home / 'model.zip', card='# A card\n', pictures={'samples.png': b'PNG'})
  return home


@pytest.fixture(scope='module')
def models(home):
  """The model as restored from its run, and as loaded from its zip."""
  return vaegan_jax.restore(home / 'digits'), vaegan_jax.load(home / 'model.zip')


@pytest.mark.slow
def test_a_loaded_model_is_the_restored_one(models):
  for model in models:
    model.function('generator')
  given = [dict(labels=[3, 5, 7])] * 2
  images = [m.sample(70, seed=4) for m in models]
  latents = [m.encode(images[0][:3], **g) for m, g in zip(models, given)]
  lines = [
    m.interpolate(images[0][:3], images[0][3:6], steps=3, **g) for m, g in zip(models, given)
  ]
  hole = np.eye(16, dtype=bool)
  filled = [edit.inpaint(m, images[0][:3], hole, iterations=1, **g) for m, g in zip(models, given)]
  for restored, loaded in (images, *zip(*latents), lines, filled):
    np.testing.assert_array_equal(restored, loaded)
  assert repr(models[0]) == repr(models[1])
  with pytest.raises(ValueError, match='the critics are in the folder of the run alone'):
    models[1].function('discriminator')


@pytest.mark.slow
def test_paths_of_this_host_stay_behind(home):
  raw = (home / 'model.zip').read_bytes()
  assert b'jane' not in raw and b'cvae_gan' in raw


def test_the_script_needs_jax_and_numpy_alone():
  text = (ROOT / 'vaegan_jax' / 'standalone.py').read_text()
  assert len(ast.unparse(ast.parse(text)).splitlines()) <= 44
  names = {
    name.split('.')[0]
    for node in ast.walk(ast.parse(text))
    if isinstance(node, (ast.Import, ast.ImportFrom))
    for name in (
      [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    )
  }
  assert names == {'json', 'pathlib', 'sys', 'jax', 'numpy', 'PIL'}


# One process: starting JAX takes most of the time.
SCRIPT = """
import contextlib, os, runpy, sys, zipfile
import numpy as np
import vaegan_jax
from experiments import export
for run in sys.argv[1:]:
  sys.argv = ['export.py', f'--workdir={run}', f'--out={run}.zip', '--licence=CC0-1.0']
  with contextlib.suppress(SystemExit):
    export.cli()
  os.mkdir(f'{run}.d')
  os.chdir(f'{run}.d')
  with zipfile.ZipFile(f'{run}.zip') as archive:
    for name in archive.namelist():
      open(name, 'wb').write(archive.read(name))
  sys.argv = ['run.py', '5', '70']
  runpy.run_path('run.py')
  model = vaegan_jax.restore(run)
  np.testing.assert_array_equal(np.load('samples.npy'), model.sample(70, seed=5))
  assert os.path.exists('drawn.png')
sys.argv = ['run.py', '5', '3', '0.5']
runpy.run_path('run.py')
np.testing.assert_array_equal(np.load('samples.npy'), model.truncated(0.5).sample(3, seed=5))
"""


@pytest.mark.slow
def test_the_scripts_samples_are_the_librarys_to_the_bit(tmp_path):
  """On one CPU device, compiled as users compile: with all optimisations."""
  runs = [
    run_of(tmp_path / 'digits'),
    run_of(tmp_path / 'faces', 'cvae', FACES, **BY_ATTRIBUTES),
    run_of(tmp_path / 'plain', 'vae_gan_relativistic', dict(condition='none', names=[], size=0)),
  ]
  files.write_json(runs[0] / 'evaluation.json', dict(settings=dict(step=7, n=3), judges={}))
  (runs[0] / 'metrics.jsonl').write_text(json.dumps(dict(step=7, images_per_s=1.0, kl=2.5)) + '\n')
  done = subprocess.run(
    [sys.executable, '-c', SCRIPT, *map(str, runs)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    env={**os.environ, 'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT), 'XDG_CACHE_HOME': str(tmp_path)},
  )
  assert done.returncode == 0, done.stderr
  assert 'digits.zip: encoder, generator of step 7' in done.stdout
  said = (tmp_path / 'digits.d' / 'model_card.md').read_text()
  for words in ('# cvae_gan on digits', '| kl | 2.5 |', 'step 7; n 3', 'CC0-1.0', '(samples.png)'):
    assert words in said
  assert (tmp_path / 'digits.d' / 'samples.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.slow
def test_sheets_name_their_columns(models):
  """A strip of names stands over the grid where every column has its own class."""
  model, grid = models[0], lambda rows, columns: (rows * 66 + 2, columns * 66 + 2)
  named = lambda *a, **k: sheets.samples(model, *a, **k).shape[:2]
  assert named(20) == (grid(2, 10)[0] + 25, grid(2, 10)[1])
  assert named(9, labels=['3']) == (grid(3, 3)[0] + 25, grid(3, 3)[1])  # one label: a square
  assert named(labels=['3']) == (grid(8, 8)[0] + 25, grid(8, 8)[1])
  assert named(labels=[3, 3, 7]) == (grid(1, 3)[0] + 25, grid(1, 3)[1])
  assert named(20, columns=4) == grid(5, 4)


@pytest.mark.slow
def test_a_card_without_a_licence_says_so(models):
  said = card.text(models[0])
  assert card.UNKNOWN_LICENCE in said and 'license: other' in said and '## Evaluation' not in said


NO_FLATBUFFERS = """
import sys
sys.modules['flatbuffers'] = None  # as if it were not installed
import vaegan_jax
from experiments import export
print(vaegan_jax.load(sys.argv[1]))
sys.argv = ['export.py', f'--workdir={sys.argv[2]}', f'--out={sys.argv[1]}.zip']
export.cli()
"""


@pytest.mark.slow
def test_loading_needs_no_flatbuffers(home):
  done = subprocess.run(
    [sys.executable, '-c', NO_FLATBUFFERS, home / 'model.zip', home / 'digits'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and done.stdout.startswith('<cvae_gan at step 7')
  assert done.stderr == (
    'error: flatbuffers is not installed: run pip install "vaegan_jax[export]"\n'
  )


# --- What must be refused, in one line.


def rezipped(home, path, change=None, names=None, **options):
  """The path of a copy of model.zip; `change`: {file: bytes or function of its bytes}."""
  with zipfile.ZipFile(home / 'model.zip') as old, zipfile.ZipFile(path, 'w', **options) as new:
    for name in names or old.namelist():
      made = (change or {}).get(name, old.read(name))
      new.writestr(name, made(old.read(name)) if callable(made) else made)
  return path


def consistent(home, path, weights=None, **changes):
  """The path of a copy of model.zip with other config fields or weights, and right checksums."""
  with zipfile.ZipFile(home / 'model.zip') as old:
    parts = {name: old.read(name) for name in old.namelist()}
  manifest = json.loads(parts.pop('manifest.json'))
  for field, value in changes.items():
    *groups, last = field.split('.')
    inner = manifest
    for group in groups:
      inner = inner[group]
    inner[last] = value
  if weights:
    parts['weights.safetensors'] = weights(parts['weights.safetensors'])
  handed.write(path, {k: manifest[k] for k in manifest if k not in ('files', 'format')}, parts)
  return path


@pytest.mark.slow
def test_every_flipped_byte_is_found(home, tmp_path):
  """Of the contents; in the zip's own records, a byte may mean nothing (a date)."""
  raw, before = (home / 'model.zip').read_bytes(), handed.read(home / 'model.zip')
  path = tmp_path / 'x.zip'
  for at in np.random.default_rng(0).integers(0, len(raw), 60):
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 16]) + raw[at + 1 :])
    try:
      assert handed.read(path) == before
    except ValueError as e:
      assert str(e).startswith(f'{path} is not an intact model of vaegan-export: ')
      assert '\n' not in str(e)


@pytest.mark.slow
@pytest.mark.parametrize(
  'options,words',
  [
    (dict(compression=zipfile.ZIP_DEFLATED), 'compressed or encrypted'),
    (dict(change={'run.py': b'print(1)'}), 'run.py is not what was exported'),
    (dict(change={'weights.safetensors': lambda b: b[:-1]}), 'is not what was exported'),
    (dict(change={'manifest.json': b'{"format": "other"}'}), 'does not say'),
    (dict(change={'manifest.json': b'[' * 100_000}), 'is not JSON'),
    (dict(names=['manifest.json', 'run.py']), 'it has no weights.safetensors'),
    (dict(names=['manifest.json', 'weights.safetensors']), 'differ about'),
  ],
)
def test_zips_that_were_changed(home, tmp_path, options, words):
  with pytest.raises(ValueError, match=words):
    vaegan_jax.load(rezipped(home, tmp_path / 'x.zip', **options))


@pytest.mark.slow
def test_files_that_are_no_model(home, tmp_path):
  raw = (home / 'model.zip').read_bytes()
  for content in (b'', b'PK', raw[: len(raw) // 2], raw[len(raw) // 2 :]):
    (tmp_path / 'x.zip').write_bytes(content)
    with pytest.raises(ValueError, match='is not an intact model'):
      vaegan_jax.load(tmp_path / 'x.zip')
  with pytest.raises(ValueError, match='is not a file'):
    vaegan_jax.load(tmp_path)
  with zipfile.ZipFile(tmp_path / 'y.zip', 'w') as archive, pytest.warns(UserWarning):
    archive.writestr('run.py', b'')
    archive.writestr('run.py', b'')
  with pytest.raises(ValueError, match='a file twice'):
    vaegan_jax.load(tmp_path / 'y.zip')


def other_shape(raw):
  weights = safetensors.load(raw)
  return safetensors.save({**weights, 'generator/params/image/bias': np.zeros(3, np.float32)})


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes,words',
  [
    ({'version': 2}, 'version 2 of the format'),
    ({'about.names': ['a']}, "no sound 'about'"),
    ({'config.network.width': 1e9}, r'config.network.width=1000000000.0: use .* at most 64'),
    ({'config.network.width': 0.25}, 'where the config makes it'),
    ({'config.network.width': 'wide'}, 'holds no model'),
    ({'config.method.generator': {'unknown': 1.0}}, 'holds no model'),
    ({'config.network.name': 'antigravity'}, "if you trust the module .* network='antigravity'"),
    ({'config': {}}, 'holds no model'),
    (dict(weights=lambda raw: raw[:100]), 'weights.safetensors cannot be read'),
    (dict(weights=other_shape), r'generator/params/image/bias is float32 \[3\]'),
  ],
)
def test_zips_from_strangers(home, tmp_path, changes, words):
  path = consistent(home, tmp_path / 'x.zip', **changes)
  with pytest.raises(ValueError, match=words) as error:
    vaegan_jax.load(path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)
  assert 'antigravity' not in sys.modules


@pytest.mark.slow
def test_networks_of_your_own(tmp_path, monkeypatch):
  """By the name of a module on sys.path; a zip's module is imported only if the caller names it."""
  folder = tmp_path / 'mine'
  modules = {
    'my_vae.py': 'from vaegan_jax.networks.larsen import Encoder, Generator',
    'my_bare.py': 'class Encoder:\n  pass',
    'my_wrong.py': 'import nowhere_at_all',
  }
  write(folder, modules)
  settings = {'network.name': 'my_vae'}
  plain = dict(condition='none', names=[], size=0)
  with pytest.raises(ValueError, match='my_vae: use one of bao, larsen.* PYTHONPATH=FOLDER'):
    checks.check(with_settings(digits.get_config('vae'), settings))
  monkeypatch.syspath_prepend(folder)
  model = vaegan_jax.restore(run_of(tmp_path / 'run', 'vae', plain, **settings))
  export.save(model, tmp_path / 'model.zip')
  sys.modules.pop('my_vae')
  with pytest.raises(ValueError, match="give network='my_vae'"):
    vaegan_jax.load(tmp_path / 'model.zip')
  assert 'my_vae' not in sys.modules
  loaded = vaegan_jax.load(tmp_path / 'model.zip', network='my_vae')
  np.testing.assert_array_equal(loaded.sample(3), model.sample(3))
  for name, method, words in (
    ('my_vae', 'vae_gan', 'my_vae has no discriminator, which vae_gan needs: write a class Discr'),
    ('my_bare', 'vae', 'Encoder must take the fields image_size, channels, width, dtype'),
    ('my_wrong', 'vae', 'importing it failed: ModuleNotFoundError: No module named .nowhere_at'),
  ):
    with pytest.raises(ValueError, match=words):
      build.check(with_settings(digits.get_config(method), {'network.name': name}))


def test_a_zip_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match=r'file.x\.zip cannot be written'):
    handed.write(tmp_path / 'file' / 'x.zip', {}, {})
