"""Hostile flags through every script: exit code 2 within seconds, and one line that names the flag.

    python -m reliability.configs --count=500 --seed=0

A try gives one script one bad flag: a value of the wrong type, not finite, out of range or unknown,
a flag or a field with a typo, or a file that is not there. train.py and population.py also get
every field of the config. Each script runs in a fork of this process, with an empty folder as its
current one. It holds if the script ends with 2 within 20 s, prints one line `error: ...` that names
the flag, no traceback, and leaves no file.
"""

import json
import os
import pathlib
import random
import re
import runpy
import signal
import sys
import time
from typing import Any, NamedTuple
import warnings

from absl import flags

from reliability import campaign

LONGEST = 20  # seconds
SCRIPTS = sorted(
  path.relative_to(campaign.ROOT).as_posix()
  for path in (campaign.ROOT / 'experiments').rglob('*.py')
  if "__name__ == '__main__'" in path.read_text()
)
TRAIN, POPULATION = TRAINS = 'experiments/train.py', 'experiments/population.py'
WRONG = {
  'float': ('nan', 'inf', '-inf', 'cat', '', '-1e30', '1e39', '[1]'),
  'int': ('cat', '', '1.5', '-5', 'nan', '100000000000000000000'),
  'bool': ('maybe', '2', 'cat'),
}
PARSERS = dict(IntegerParser='int', FloatParser='float', BooleanParser='bool')
UNBOUNDED = '100000000000000000000'  # a count may be as large as a person has time
NOT_TEXTS = ('nonsense', 'é', "'x")
# Fields of the config whose texts are the user's own, or depend on other fields.
OWN_TEXTS = ('data.data_dir', 'data.cache_dir')
FILE = 'no_such_file'
# Flags that only a script of their own can judge.
SPECIAL = {
  TRAIN: (
    ('--config=nowhere:vae',),
    ('--config=digits:nothing',),
    ('--resume=cat',),
    (f'--init_from={FILE}',),
    ('--config.method.encoder.pixle=1',),
  ),
  POPULATION: (
    ('--vary=cat=1,2',),
    ('--vary=batch_size=8,16',),
    ('--vary=method.encoder.kl=nan,1',),
    ('--vary=method.encoder.kl=1,1',),
    ('--seeds=cat',),
    ('--seeds=1,1',),
    ('--seeds=-1',),
  ),
  'experiments/sample.py': (
    ('--labels=cat',),
    ('--labels=99',),
    ('--attributes=Smiling=1',),
    ('--attributes=Smiling',),
    (f'--images={FILE}', '--mode=reconstruct'),
    ('--images=x',),
    ('--mask=x',),
    ('--mode=inpaint',),
    ('--step=7',),
    ('--scale=1000000',),
    ('--out=x.png', '--n=20000'),
    ('--out=x.jpg',),
    (f'--out={FILE}/x.png',),
    ('--out=many/', '--n=1000000000000'),
  ),
  'experiments/evaluate.py': (('--features=',), (f'--features={FILE}',), ('--step=7',)),
  'experiments/export.py': (('--out=x.png',), ('--step=7',)),
  'experiments/report.py': ((f'--workdir={FILE}',),),
  'experiments/tables/larsen_pretraining.py': (('--learning_rate=-1',), ('--learning_rate=1e20',)),
  'experiments/figures/toy_example.py': (
    ('--methods=',),
    ('--methods=cat',),
    ('--set=radius=-1',),
    ('--set=radius=nan',),
    ('--set=cat=1',),
    ('--shown=3', '--seeds=2'),
    ('--out=x.jpg',),
  ),
  'experiments/figures/toy_overfitting.py': (
    ('--methods=',),
    ('--methods=cat',),
    ('--batch_size=0',),
    ('--out=x.jpg',),
  ),
  **{
    f'experiments/{name}.py': (('--data=nowhere',), ('--set=steps=cat',), ('--set=pixle=1',))
    for name in ('tables/bao_table_1', 'tables/bao_losses', 'tables/larsen_table_2')
  },
}


class Flag(NamedTuple):
  """A flag of a script."""

  parser: str
  least: float | None  # its lower bound
  most: float | None  # its upper bound
  allowed: list[str]  # the values of an enum


def attempt(own: campaign.Try) -> str:
  """Gives one script one bad flag."""
  folder = own.folder / 'empty'
  folder.mkdir()
  scripts = [*SCRIPTS, *[TRAIN] * len(SCRIPTS), *[POPULATION] * 3]
  name = own.draw.choice(scripts)
  known = known_flags(name, folder)
  named, bad = hostile(own.draw, name, known)
  arguments = [*context(name, known, bad, own.shared), *bad]
  own.moment = f'{name} {" ".join(arguments)}'
  code, printed, seconds = forked(folder, lambda: run_script(name, arguments))
  own.figures['slowest s'] = seconds
  errors = re.findall(r'^error: .*', printed, re.M)
  if code != 2:
    return f'exit code {code} after {seconds:.1f} s: {errors or printed[-300:]!r}'
  if len(errors) != 1 or 'Traceback' in printed:
    return f'{len(errors)} errors: {printed[-500:]!r}'
  if not any(word in errors[0] for word in named):
    return f'it does not name {named}: {errors[0]}'
  left = [path.name for path in folder.iterdir()]
  return f'it left {left}' if left else ''


def hostile(draw: random.Random, name: str, known: dict[str, Flag]) -> tuple[list[str], list[str]]:
  """(Words of which the error must have one, the bad flags and what they need)."""
  if name in TRAINS and draw.random() < 0.8:
    path, value = bad_field(draw)
    return [path], [f'--config.{path}={value}']
  if name in SPECIAL and draw.random() < 0.5:
    bad = draw.choice(SPECIAL[name])
    # The message may speak of `the labels`, `step 7` or `--config.seed`.
    return [b.split('=')[0].strip('-').removesuffix('s') for b in bad], list(bad)
  flag = draw.choice([*known])
  about = known[flag]
  kind = PARSERS.get(about.parser)
  if about.allowed:
    return [f'--{flag}', f'flag {flag}'], [f'--{flag}={draw.choice(NOT_TEXTS)}']
  if kind and draw.random() < 0.7:
    values = [v for v in WRONG[kind] if v != UNBOUNDED or about.most is not None]
    if about.least is None:  # any number may be right
      values = [v for v in values if v not in ('-5', '-1e30', '1e39')]
    return [flag], [f'--{flag}={draw.choice(values)}']
  return [f'{flag}xx'], [f'--{flag}xx=1']


def bad_field(draw: random.Random) -> tuple[str, str]:
  """(path, value) of a field of configs/digits.py:vae that no run can use."""
  from vaegan_jax import bounds, settings
  from vaegan_jax.configs import digits

  fields = dict(settings.fields(digits.get_config('vae')))
  while True:
    path = draw.choice([*fields])
    kind, bound = type(fields[path]).__name__, bounds.BOUNDS.get(path)
    if draw.random() < 0.1:
      return f'{path}xx', '1'
    if kind in WRONG:
      bounded = isinstance(bound, bounds.Range) and min(bound.most, bound.below) < float('inf')
      return path, draw.choice([v for v in WRONG[kind] if v != UNBOUNDED or bounded])
    if kind == 'str' and (isinstance(bound, bounds.OneOf) or path not in OWN_TEXTS):
      return path, draw.choice(NOT_TEXTS)


def context(name: str, known: dict[str, Flag], bad: list[str], shared: pathlib.Path) -> list[str]:
  """What else a script needs, so that nothing but `bad` is wrong."""
  if name not in TRAINS and not (shared / 'straight').exists():
    campaign.straight(shared)
  given = {argument.split('=')[0] for argument in bad}
  run = str(shared / 'straight')
  if name in TRAINS:
    usual = {'--config': 'digits:vae', '--workdir': 'run'}
  elif name == 'experiments/export.py':
    usual = {'--workdir': run, '--out': 'x.zip'}
  elif 'define_flags' in (campaign.ROOT / name).read_text():
    usual = {'--workdir': 'run'}
  else:
    usual = {'--workdir': run, '--out': 'x.png'}
  return [
    f'{flag}={value}'
    for flag, value in usual.items()
    if flag not in given and (flag[2:] in known or flag == '--config')
  ]


def forked(folder: pathlib.Path, body: Any) -> tuple[int, str, float]:
  """(exit code, output, seconds) of body() in a fork that works in `folder`."""
  out, begun = folder.with_name('output'), time.monotonic()
  child = os.fork()
  if not child:
    signal.alarm(LONGEST)
    os.chdir(folder)
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False)
    for name in ('count', 'seed', 'first'):  # those of the campaign
      delattr(flags.FLAGS, name)
    try:
      code = body()
    except SystemExit as e:
      code = e.code if isinstance(e.code, int) else 1
    except BaseException as e:
      print(f'{type(e).__name__}: {e}')
      code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
  code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  return code, out.read_text(errors='replace'), time.monotonic() - begun


def run_script(name: str, arguments: list[str]) -> None:
  """Runs a script as a person does."""
  sys.argv = [str(campaign.ROOT / name), *arguments]
  runpy.run_path(sys.argv[0], run_name='__main__')


def known_flags(name: str, folder: pathlib.Path) -> dict[str, Flag]:
  """The flags of a script, but --config and those of the libraries."""

  def show():
    sys.argv = [str(campaign.ROOT / name)]
    runpy.run_path(sys.argv[0], run_name='imported')
    found = {}
    for own in flags.FLAGS.get_key_flags_for_module('imported'):
      p = own.parser
      least, most = getattr(p, 'lower_bound', None), getattr(p, 'upper_bound', None)
      found[own.name] = type(p).__name__, least, most, list(getattr(p, 'enum_values', ()))
    print(json.dumps(found))

  code, printed, _ = forked(folder, show)
  if code:
    raise ValueError(f'{name} cannot be imported: {printed}')
  read = json.loads(printed.splitlines()[-1])
  return {key: Flag(*value) for key, value in read.items() if key != 'config'}


def prepare(shared: pathlib.Path) -> None:
  """Imports what all scripts import, before the forks."""
  warnings.filterwarnings('ignore', message='os.fork')
  # Without a computation, which would start the threads that no fork survives.
  from vaegan_jax import command, evaluate  # noqa: F401
  from vaegan_jax.runs import dry_run, train  # noqa: F401


if __name__ == '__main__':
  campaign.define_flags(count=500)
  campaign.run('configs', attempt, prepare)
