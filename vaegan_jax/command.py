"""The frame of every script: parses flags, reports a mistake in one line, sets the exit code."""

from collections.abc import Callable, Mapping
import io
import logging
import os
import pathlib
import re
import sys
import threading
import traceback
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

from vaegan_jax import configs, hosts, interrupts, paths
from vaegan_jax.failures import RunFailed
from vaegan_jax.words import closest

flags.DEFINE_bool('traceback', False, 'Show the full traceback of an error.')
flags.disclaim_key_flags()  # --help lists --config under the script that defines it

NEEDS_RUN = dict(workdir='--workdir is missing: name the folder of a run')
NEEDS_RUN_AND_PNG = dict(NEEDS_RUN, out='--out is missing: name a PNG to write')
NEEDS_CONFIG = dict(
  config='--config is missing: name a config and a method, e.g. --config=configs/digits.py:cvae_gan'
)
# What ml_collections raises for an override of a field that the config lacks.
LACKS_FIELD = (AttributeError, KeyError)


def run(main: Callable[[], int], needs: Mapping[str, str] | None = None) -> NoReturn:
  """Calls main() with the command line's flags parsed, and exits.

  Exit codes: what main() returns; that of `verdict` with one line on stderr; 130 and 143 for Ctrl-C
  and SIGTERM, which end the process at once unless main() trains.

  Args:
    main: the script's function; --help prints its module's docstring and flags.
    needs: {name of a required flag: error message if it is missing}.
  """
  interrupts.leave_at_once()
  # XLA's complaint about slow compilations; runs/screen.py has a line of its own.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if isinstance(sys.stdout, io.TextIOWrapper):  # a log shows each line at once, and any file name
    sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
  logging.getLogger('vaegan_jax').setLevel(logging.INFO)  # slow operations report their progress
  try:
    if any(a == '-h' or re.match('--?help', a) for a in sys.argv[1:]):
      print(help_of(main.__module__))
      sys.exit(0)
    read_flags(sys.argv)
    for name, message in (needs or {}).items():
      if value_of(name) in (None, ''):
        raise ValueError(message)
      if name == 'workdir':
        paths.check(value_of(name), '--workdir=')
    code = main()
  except Exception as e:
    code, told = verdict(e)
    if code == 1 and not hosts.several():
      raise
    if code == 1 or '--traceback' in sys.argv:
      traceback.print_exc()
    else:  # writers of others fail once more as the process ends, as on a full disk
      threading.excepthook = sys.unraisablehook = lambda *_: None
    print(f'error: {told}', file=sys.stderr)
  hosts.leave(code)
  sys.exit(code)


def verdict(error: Exception) -> tuple[int, str]:
  """(exit code, message) for an error.

  The code is 2 for arguments that cannot be used (ValueError, OSError, bad flags), 3 for a run that
  failed (FloatingPointError, RunFailed, out of memory, or another process of it was lost), and 1
  for a mistake in the program.
  """
  told = str(error)
  if isinstance(error, MemoryError) or (
    isinstance(error, RuntimeError) and ('RESOURCE_EXHAUSTED' in told or 'Out of memory' in told)
  ):
    told = told.partition('\n')[0]
    known = told.startswith('out of memory')
    return 3, told if known else f'out of memory: ask for fewer or smaller images ({told})'
  if hosts.lost(error):
    return 3, f'{hosts.LOST} ({told.partition(chr(10))[0]})'
  if isinstance(error, (FloatingPointError, RunFailed)):
    return 3, told
  return 2 if isinstance(error, (ValueError, OSError)) or paths.of_client(error) else 1, told


def help_of(module: str) -> str:
  """A script's docstring and its flags."""
  owner = sys.argv[0] if module == '__main__' else module
  return f'{sys.modules[module].__doc__}{flags.FLAGS.module_help(owner)}'


def read_flags(argv: list[str]) -> None:
  """Parses argv. Raises ValueError in one line for what absl or ml_collections cannot parse."""
  if 'config' in flags.FLAGS:
    argv[1:] = config_first(argv[1:])  # in place: ml_collections reads sys.argv by itself
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as e:
    lines = [line for line in str(e).splitlines() if line.strip()]
    raise ValueError(lines[-1] if 'Traceback' in str(e) else ' '.join(lines)) from e
  except Exception as e:  # a config file is a program: it may raise anything
    word = re.search(r'\w+', str(e).replace('\\', '')) if type(e) in LACKS_FIELD else None
    named = [a.split('=')[0] for a in argv if word and re.search(rf'\.{word.group()}(=|\.|$)', a)]
    if not named:
      raise ValueError(f'the config file cannot be loaded: {type(e).__name__}: {e}') from e
    hint = re.search(r'Did you mean "(\w+)"', str(e))
    raise ValueError(
      f'{named[0]}: the config has no such field'
      + (f'; did you mean {hint.group(1)}?' if hint else '')
    ) from e
  if len(rest) > 1:
    raise ValueError(f'{rest[1]!r} is not a flag: write flags as --name=value')


def config_first(arguments: list[str]) -> list[str]:
  """Arguments with --config in front of its overrides, and its value as config_path finds it."""
  front, rest, left = [], [], iter(arguments)
  for argument in left:
    name, equals, value = argument.partition('=')
    if name in ('-config', '--config'):
      front.append(f'--config={config_path(value if equals else next(left, ""))}')
    else:
      rest.append(argument)
  return front + rest


def config_path(value: str) -> str:
  """PATH:METHOD for a value of --config, from any folder.

  An existing file wins; otherwise `digits:METHOD` and `configs/digits.py:METHOD` name the config
  that comes with the package.
  """
  given, colon, method = value.partition(':')
  if pathlib.Path(given).is_file():
    return value
  known = re.fullmatch(r'(\./)?(configs/)?(?P<name>\w+?)(\.py)?', given)
  if known and known['name'] in configs.NAMES:
    return f'{configs.FOLDER / known["name"]}.py{colon}{method}'
  hint = closest(pathlib.Path(given).stem, configs.NAMES)
  raise ValueError(
    f'--config={value}: no such config file; the package has {", ".join(configs.NAMES)}{hint}'
  )


def value_of(name: str) -> Any:
  """A flag's value. Raises ValueError in one line for a config file that cannot be loaded."""
  try:
    value = flags.FLAGS[name].value
    getattr(value, 'lock', None)  # a config that failed to load raises on access
    return value
  except Exception as e:  # a config file is a program: it may raise anything
    raise ValueError(
      f'--{name}: ' + ' '.join(str(e).split()).split('Failed ')[-1] or type(e).__name__
    ) from e


def define_config_flag(default: str | None = None) -> flags.FlagHolder:
  """Defines --config, with overrides such as --config.steps=100."""
  return config_flags.DEFINE_config_file(
    'config',
    default and config_path(default),
    'Config and method, e.g. digits:cvae_gan, configs/digits.py:cvae_gan or my_config.py:vae.',
  )


def define_seed_flag(help: str) -> flags.FlagHolder:
  """Defines --seed, of JAX's or NumPy's random numbers."""
  return flags.DEFINE_integer('seed', 0, help, lower_bound=0, upper_bound=2**32 - 1)


def define_resume_flag() -> flags.FlagHolder:
  """Defines --resume; see resume_options."""
  return flags.DEFINE_string(
    'resume',
    'newest',
    'newest: resume from the newest sound checkpoint. strict: so, but stop if it is damaged. A '
    'step: resume from that checkpoint, and rename the later ones.',
  )


def define_hosts_flags() -> None:
  """Defines the flags of join_hosts."""
  flags.DEFINE_bool(
    'distributed', False, 'Join the other hosts, which JAX finds on TPU VMs and under Slurm.'
  )
  flags.DEFINE_string(
    'coordinator_address', None, 'HOST:PORT of process 0, where JAX does not find it by itself.'
  )
  flags.DEFINE_integer('num_processes', None, 'Number of processes of the run.', lower_bound=1)
  flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.', lower_bound=0)
  flags.DEFINE_integer(
    'initialization_timeout', 900, 'Seconds to wait for the other hosts.', lower_bound=1
  )


def join_hosts() -> None:
  """Joins the other hosts of a run if a flag of define_hosts_flags asks for it."""
  names = ('coordinator_address', 'num_processes', 'process_id')
  given = {name: value_of(name) for name in names}
  if value_of('distributed') or any(value is not None for value in given.values()):
    hosts.join(**given, initialization_timeout=value_of('initialization_timeout'))
    interrupts.leave_at_once()  # JAX may have set a handler of SIGTERM


def resume_options(value: str) -> dict[str, Any]:
  """The arguments `strict` and `from_step` of train.train for a value of --resume."""
  if value in ('newest', 'strict'):
    return dict(strict=value == 'strict')
  if not (value.isascii() and value.isdigit() and int(value)):
    raise ValueError(f'--resume={value}: write newest, strict, or the step of a checkpoint')
  return dict(from_step=int(value))


def keep_compiled_programs() -> None:
  """Caches compiled programs on disk, so that the next start of the same run takes seconds.

  The folder is $XDG_CACHE_HOME/vaegan_jax/xla (or ~/.cache/...), or $JAX_COMPILATION_CACHE_DIR.
  """
  import jax

  if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    jax.config.update('jax_compilation_cache_dir', str(paths.cache_home() / 'xla'))


def check_picture(out: str | os.PathLike) -> None:
  """Raises ValueError unless --out names a .png file in a folder that exists or can be made."""
  path = paths.open_path(out, '--out=').absolute()
  if path.suffix.lower() != '.png' or path.is_dir():
    raise ValueError(f'--out={out}: name a .png file')
  if paths.is_remote(path):
    return
  parent = next(folder for folder in path.parents if folder.exists())
  if not parent.is_dir() or not os.access(parent, os.W_OK):
    raise ValueError(f'--out={out}: cannot write to {parent}: name another folder')
