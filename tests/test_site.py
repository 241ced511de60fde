"""The docs site builds without a warning and holds the whole API; the notebook runs."""

import html
import inspect
import json
import pathlib
import re
import subprocess
import sys

from PIL import Image
import pytest

import vaegan_jax
from vaegan_jax import losses

ROOT = pathlib.Path(__file__).parents[1]
NO_FORMULA = {'LOGVAR_RANGE', 'init_centres'}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """The folder of the site, as `make docs` builds it."""
  pytest.importorskip('sphinx', reason='pip install -e .[docs]')
  home = tmp_path_factory.mktemp('site')
  command = re.search(r'-m (sphinx .*)', (ROOT / 'Makefile').read_text())[1]
  words = command.replace('build/', f'{home}/').split()
  done = subprocess.run(
    [sys.executable, '-m', *words], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0 and not done.stderr, done.stderr
  return home / 'docs'


def entries(site):
  """{dotted name: its HTML} of everything that the API pages describe."""
  text = ''.join(p.read_text() for p in sorted((site / 'docs' / 'api').glob('*.html')))
  parts = re.split(r'<dt class="sig[^>]* id="([\w.]+)">', text)
  return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.slow
def test_the_api_has_every_public_docstring(site):
  found = entries(site)
  for name in vaegan_jax.__all__:
    module = getattr(vaegan_jax, name)
    if not inspect.ismodule(module):
      assert f'vaegan_jax.{name}' in found
      continue
    for member in getattr(module, '__all__', None) or vars(module):
      value = getattr(module, member)
      home = getattr(value, '__module__', '')
      ours = (inspect.isfunction(value) or inspect.isclass(value)) and home.startswith(
        module.__name__
      )
      if ours and value.__doc__ and not member.startswith('_'):
        assert any(f'{m}.{member}' in found for m in (module.__name__, home, 'vaegan_jax')), (
          name,
          member,
        )


@pytest.mark.slow
def test_formulas_are_drawn_and_nothing_is_loaded(site):
  found = entries(site)
  for name in set(losses.__all__) - NO_FORMULA:
    assert '<math' in found[f'vaegan_jax.losses.{name}'], name
  assert html.unescape(found['vaegan_jax.losses.r1']).count('∇')
  for page in site.rglob('*.html'):
    loads = re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="(https?:)?//', page.read_text())
    assert not loads, page


def test_every_loss_has_a_formula():
  rows = re.findall(r'^\| `(\w+)` \| \$', (ROOT / 'docs' / 'losses.md').read_text(), re.M)
  assert set(rows) == set(losses.__all__) - NO_FORMULA and len(rows) == len(set(rows))


def test_the_methods_page_shows_the_tables_as_they_are():
  page = (ROOT / 'docs' / 'methods.md').read_text()
  blocks = ''.join(re.findall(r'^```python\n(.*?)^```', page, re.M | re.S))
  tables = re.split(r'^(?=\w)', blocks, flags=re.M)[1:]
  assert len(tables) == 10
  for table in tables:
    assert table in (ROOT / 'vaegan_jax' / 'methods.py').read_text(), table


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
  """Its cells in order, with two steps of a narrow network; the last line of some is a picture."""
  monkeypatch.chdir(tmp_path)
  cells = json.loads((ROOT / 'docs' / 'digits.ipynb').read_text())['cells']
  code = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
  code[0], given = re.subn(r'^STEPS, WIDTH = \d+, [\d.]+', 'STEPS, WIDTH = 2, 0.0625', code[0])
  assert given == 1
  names = {}
  for source in code:
    exec(compile(source, 'digits.ipynb', 'exec'), names)
    last = source.strip().splitlines()[-1]
    if last.startswith('show('):
      assert isinstance(eval(last, names), Image.Image), last
  assert (tmp_path / 'model.zip').exists()
