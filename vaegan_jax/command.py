"""A script's frame: flags read, mistakes told in one line with the remedy, exit codes."""

import logging
import os
import pathlib
import re
import sys
import traceback

from absl import app, flags

_TRACEBACK = flags.DEFINE_bool('traceback', False, 'Show the whole traceback of an error.')


def run(main, *, needs=None):
  """Runs main() on the command line's flags and exits.

  The exit code is main()'s value; 2 with one line on stderr for what cannot be used (ValueError,
  OSError, bad flags), 3 likewise for a run that failed (FloatingPointError).

  Args:
    needs: {flag: message if it is not given}.
  """
  logging.getLogger('vaegan_jax').setLevel(logging.INFO)  # what takes long says how far it is
  try:
    app.define_help_flags()
    read_flags(sys.argv)
    for name, message in (needs or {}).items():
      if value_of(name) in (None, ''):
        raise ValueError(message)
    code = main()
  except (ValueError, OSError, FloatingPointError) as e:
    code = 3 if isinstance(e, FloatingPointError) else 2
    if '--traceback' in sys.argv:
      traceback.print_exc()
    print(f'error: {e}', file=sys.stderr)
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    code = 130
  sys.exit(code)


def read_flags(argv):
  """None, after parsing. ValueError in one line for what absl or ml_collections cannot read."""
  try:
    wants_help = any(a.lstrip('-').startswith('help') for a in argv[1:])
    rest = app.parse_flags_with_usage(argv) if wants_help else flags.FLAGS(argv)
  except flags.Error as e:
    lines = [line for line in str(e).splitlines() if line.strip()]
    raise ValueError(lines[-1] if 'Traceback' in str(e) else ' '.join(lines)) from e
  except AttributeError as e:
    word = re.search(r'\w+', str(e).replace('\\', '')).group()
    hint = re.search(r'Did you mean "(\w+)"', str(e))
    field = next((a.split('=')[0] for a in argv if re.search(rf'\.{word}(=|\.|$)', a)), word)
    raise ValueError(
      f'{field}: the config has no such field'
      + (f'; did you mean {hint.group(1)}?' if hint else '')
    ) from e
  except Exception as e:  # a config file is a program: it may raise anything
    raise ValueError(f'the config file cannot be loaded: {type(e).__name__}: {e}') from e
  if len(rest) > 1:
    raise ValueError(f'{rest[1]!r} is no flag: flags are written --name=value')


def value_of(name):
  """A flag's value. ValueError in one line for a config file that could not be loaded."""
  try:
    value = flags.FLAGS[name].value
    getattr(value, 'lock', None)  # a config that could not be loaded raises when it is looked at
    return value
  except Exception as e:  # a config file is a program: it may raise anything
    if 'Errno 2' in str(e):
      given = next(
        (a.split('=', 1)[1].split(':')[0] for a in sys.argv if a.startswith(f'--{name}=')), ''
      )
      here = ', '.join(
        sorted(str(p) for p in pathlib.Path('configs').glob('*.py') if p.stem != 'base')
      )
      raise ValueError(
        f'--{name}={given}: there is no such file; '
        + (
          f'here are {here}'
          if here
          else 'paths are relative to the folder you are in, and here is no configs/'
        )
      ) from e
    raise ValueError(
      f'--{name}: ' + ' '.join(str(e).split()).split('Failed ')[-1] or type(e).__name__
    ) from e


def keep_compiled_programs():
  """Compiled programs are kept in $XDG_CACHE_HOME/vaegan_jax/xla (or ~/.cache/...) from here on, so that
  the next start of the same run takes seconds; $JAX_COMPILATION_CACHE_DIR names another folder."""
  import jax

  if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    home = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
    jax.config.update('jax_compilation_cache_dir', str(home / 'vaegan_jax' / 'xla'))


def check_picture(out):
  """None, or ValueError unless --out names a .png file, in a folder that is there or can be made."""
  path = pathlib.Path(out).absolute()
  if path.suffix.lower() != '.png' or path.is_dir():
    raise ValueError(f'--out={out}: name a .png file')
  there = next(folder for folder in path.parents if folder.exists())
  if not there.is_dir() or not os.access(there, os.W_OK):
    raise ValueError(f'--out={out}: {there} is no folder that can be written to, name another')


def define_study_flags(name, data):
  """Flags of a script that trains several runs: --data --seeds --fast --set --n --workdir."""
  flags.DEFINE_string('data', data, 'Data set: the name of a file in configs/.')
  flags.DEFINE_integer('seeds', 3, 'Seeds of each method, from 0 on.', lower_bound=1)
  flags.DEFINE_bool('fast', False, 'Minutes on two CPU cores, in place of the full settings.')
  flags.DEFINE_multi_string(
    'set', [], 'Field of every config: --set=steps=500 --set=network.width=0.25.'
  )
  flags.DEFINE_integer('n', 2000, 'Images generated and compared by the metrics.', lower_bound=10)
  flags.DEFINE_integer('judge_steps', 2000, 'Steps that each judge is trained.', lower_bound=1)
  flags.DEFINE_string('workdir', f'runs/{name}', 'Gets each run, the table and the pictures.')


def study_methods(methods, fast):
  """{row: (method, its settings)}, with those that `fast` {method: settings} has for it if --fast is given."""
  return {
    row: (name, {**(fast.get(name, {}) if flags.FLAGS.fast else {}), **own})
    for row, (name, own) in methods.items()
  }


def study_settings(fast):
  """{dotted field: value} of a study's runs: `fast` ones if --fast is given, then those of --set."""
  settings = dict(fast) if flags.FLAGS.fast else {}
  for pair in flags.FLAGS.set:
    path, equals, value = pair.partition('=')
    if not equals:
      raise ValueError(f'--set={pair}: write --set=field=value')
    settings[path] = value
  return settings
