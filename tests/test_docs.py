"""The README and the pages under docs/ are true: commands parse, links resolve, snippets run."""

import ast
import configparser
import importlib
import pathlib
import re
import shlex

import pytest

from vaegan_jax import checks, configs, methods, settings
from vaegan_jax.configs import digits
from vaegan_jax.runs import train

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*ROOT.glob('*.md'), *sorted((ROOT / 'docs').rglob('*.md'))]
SNIPPETS = [
  'README.md',
  'docs/sampling.md',
  'docs/evaluation.md',
  'docs/losses.md',
  'docs/training.md',
  'docs/start.md',
]
WRITTEN = {'samples/', 'reconstructions/', 'checkpoints/', 'tensorboard/', 'folder/'}  # not here
NUMBER = re.compile(r'[\d,]*\.?\d+(e-\d+)?')
pages = pytest.mark.parametrize('page', PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


# --- What a page says.


def fences(text, language=''):
  """The contents of the fenced blocks of a language."""
  found = re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)
  return [content for name, content in found if name == language]


def spans(text):
  """The inline code of a page."""
  return re.findall(r'`([^`\n]+)`', re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S))


def commands(text):
  """The command lines of a page, as lists of words: indented, or inline."""
  indented = re.findall(r'^ {4}((?:.*\\\n)*.*)$', text, re.M)
  for line in [*(line.replace('\\\n', ' ') for line in indented), *spans(text)]:
    if re.match(
      r'(python (experiments|-m (benchmarks|reliability))|vaegan-\w+ |make \w|pip install)', line
    ):
      yield shlex.split(line, comments=True)


def anchors(path):
  """The anchors of a page's headings, as GitHub makes them."""
  headings = re.findall(r'^#+ (.*)$', path.read_text(), re.M)
  return {re.sub(r'[^\w -]', '', h.lower()).replace(' ', '-') for h in headings}


# --- What the code has.


def called(node):
  """The dotted name of the function that a call calls, '' for other nodes."""
  return ast.unparse(node.func) if isinstance(node, ast.Call) else ''


def flags_of(path, within=None):
  """{flag: its call of flags.DEFINE_*} of a script, with those that a function defines for it."""
  tree = ast.parse(path.read_text())
  if within:
    tree = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == within)
  found = {}
  for node in ast.walk(tree):
    module, _, function = called(node).rpartition('.')
    if function.startswith('DEFINE_'):
      found[ast.literal_eval(node.args[0])] = node
    elif function.startswith('define_') and 'flag' in function:
      home = next(
        p
        for d in ('vaegan_jax', 'experiments', 'reliability')
        for p in (ROOT / d).glob(f'{module}.py')
      )
      found.update(flags_of(home, function))
  return found


def script_of(words):
  """The file that a command line runs, and its arguments."""
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  if words[0] == 'python':
    module = words[1] == '-m'
    name = words[2].replace('.', '/') + '.py' if module else words[1]
    return ROOT / name, words[2 + module :]
  scripts = dict(
    line.split(' = ')
    for line in setup['options.entry_points']['console_scripts'].strip().splitlines()
  )
  module, function = scripts[words[0]].split(':')
  path = ROOT / (module.removeprefix('vaegan_jax.').replace('.', '/') + '.py')
  assert function in {getattr(node, 'name', '') for node in ast.parse(path.read_text()).body}
  return path, words[1:]


def config_of(name):
  """The config that --config=configs/digits.py:cvae_gan or --config=digits:cvae_gan names."""
  file, _, method = name.partition(':')
  module = pathlib.PurePath(file).stem
  assert module in configs.NAMES and file in (module, f'configs/{module}.py'), name
  return importlib.import_module(f'vaegan_jax.configs.{module}').get_config(method)


def check_arguments(path, arguments):
  """Asserts that a script has these flags, of these types, and its config these fields."""
  known, config, fields = flags_of(path), digits.get_config(), {}
  for argument in arguments:
    name, equals, value = argument.removeprefix('--').partition('=')
    assert argument.startswith('--'), argument
    if name.startswith('config.'):
      assert 'config' in known, argument
      fields[name.removeprefix('config.')] = value
      continue
    assert name in known, f'{path.name} has no flag {argument}; it has {", ".join(sorted(known))}'
    kind = called(known[name]).rpartition('DEFINE_')[2]
    assert equals or kind == 'bool', argument
    if kind in ('integer', 'float'):
      {'integer': int, 'float': float}[kind](value)
    elif kind == 'enum':
      assert value in ast.literal_eval(known[name].args[2]), argument
    elif kind == 'config_file':
      config = config_of(value)
    elif name == 'train':
      check_arguments(ROOT / 'experiments' / 'train.py', shlex.split(value))
    elif name == 'data':
      config = config_of(f'{value}:vae_gan')
    elif name == 'vary':
      field, _, values = value.partition('=')
      settings.members(config, ['0'], {field: values.split(',')})
    elif name == 'set' and path.stem != 'toy_example':
      fields.update([value.split('=', 1)])
  checks.check(settings.with_settings(config, fields))


# --- The tests.


@pages
def test_links_resolve(page):
  for target in re.findall(r'\]\(([^)]+)\)', page.read_text()):
    if target.startswith('https://'):
      continue
    name, _, anchor = target.partition('#')
    path = page.parent / name if name else page
    assert path.exists(), target
    assert not anchor or anchor in anchors(path), target


@pages
def test_commands_parse(page):
  targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
  for words in commands(page.read_text()):
    if words[0] == 'make':
      assert {w for w in words[1:] if w != '-s' and '=' not in w} <= set(targets), words
    elif words[0] == 'pip':
      extras = configparser.ConfigParser()
      extras.read(ROOT / 'setup.cfg')
      asked = re.findall(r'\[(\w+)\]', ' '.join(words))
      assert set(asked) <= set(extras['options.extras_require']), words
    elif not {'--config=...', 'benchmarks.NAME'} & set(words):
      check_arguments(*script_of(words))


@pages
def test_inline_names_exist(page):
  """Files, config files with a method, and fields of a config that stand in inline code."""
  bases = [ROOT, ROOT / 'vaegan_jax', ROOT / 'experiments', page.parent]
  for span in spans(page.read_text()):
    if re.fullmatch(r'[a-z_]+/[\w/]*\.py|[a-z_]+/', span) and span not in WRITTEN:
      assert any((base / span).exists() for base in bases), span
    elif re.fullmatch(r'configs/\w+\.py:[a-z_]+', span):
      config_of(span)
    for flag in re.findall(r'--config\.([\w.]+)=(\S+)', span):
      settings.with_settings(digits.get_config(), dict([flag]))


def test_enough_commands_are_found():
  found = {page.name: len(list(commands(page.read_text()))) for page in PAGES}
  assert found['README.md'] >= 9 and found['results.md'] >= 12 and found['speed.md'] >= 12
  assert (
    found['tpu_vms.md'] >= 6
    and found['training.md'] >= 6
    and found['sampling.md'] >= 6
    and found['CONTRIBUTING.md'] >= 3
  )


def test_the_readme_takes_a_minute():
  assert len((ROOT / 'README.md').read_text().split()) <= 1000


def test_the_readme_shows_the_method_as_it_is():
  shown = fences((ROOT / 'README.md').read_text(), 'python')[0]
  assert shown.startswith('VAE_GAN = ')
  assert shown in (ROOT / 'vaegan_jax' / 'methods.py').read_text()


def test_the_architecture_page_names_every_file():
  text = (ROOT / 'docs' / 'architecture.md').read_text()
  for path in (ROOT / 'vaegan_jax').glob('[a-z]*'):
    if path.suffix == '.py' or (path / '__init__.py').exists():
      assert f'`vaegan_jax/{path.name}{"" if path.suffix else "/"}`' in text, path.name


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
  """(a folder with a tiny run in runs/demo, what the training printed)."""
  home, said = tmp_path_factory.mktemp('docs'), []
  tiny = {'steps': '2', 'log_every_steps': '1', 'sample_every_steps': '2', 'save_every_steps': '2'}
  config = settings.with_settings(digits.get_config(), {**tiny, 'network.width': '0.0625'})
  assert train.train(config, home / 'runs' / 'demo', say=said.append) == 0
  return home, [line.replace(str(home), '...') for line in said]


@pytest.mark.slow
@pytest.mark.parametrize('page', SNIPPETS)
def test_snippets_run(page, demo, monkeypatch):
  """In order, in one namespace; a comment such as `# uint8 [64, 16, 16, 1]` tells the shape."""
  monkeypatch.chdir(demo[0])
  names = dict(GAMMA=methods.GAMMA)
  blocks = fences((ROOT / page).read_text(), 'python')
  assert blocks
  for block in blocks:
    exec(compile(block, page, 'exec'), names)
    for targets, shape in re.findall(r'^([\w, ]+) = .*# .*?\[([\d, ]+)\]', block, re.M):
      for target in targets.split(', '):
        assert list(names[target].shape) == [int(n) for n in shape.split(',')], target


@pytest.mark.slow
def test_the_readmes_output_is_that_of_training(demo):
  """Up to the numbers, and as far as the README shows a line."""
  plain = lambda line: NUMBER.sub('N', line)
  printed = [plain(line) for line in demo[1]]
  shown = next(b for b in fences((ROOT / 'README.md').read_text()) if b.startswith('digits'))
  for line in shown.splitlines():
    assert any(p.startswith(plain(line.removesuffix(' ...'))) for p in printed), line
