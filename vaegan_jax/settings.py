"""Settings: the fields of a config, their bounds, and what may differ."""

import ast
import difflib
import itertools
import json
import math
import re

import jax
from ml_collections import ConfigDict

from vaegan_jax import augment, optim
from vaegan_jax.model import ADVERSARIAL, CRITICS, MAKERS, SEES, losses_of, may_move, networks_of
from vaegan_jax.networks import NETWORKS
from vaegan_jax.parallel import MOST_UNROLLED, PARALLEL
from vaegan_jax.step import PRIOR_CONDITIONS

# What may change when a run goes on; any other field makes it another run.
MAY_CHANGE = (
  'steps',
  'parallel',
  'optimizer.learning_rate',
  'log_every_steps',
  'sample_every_steps',
  'save_every_steps',
  'keep_checkpoints',
  'steps_per_dispatch',
  'data.data_dir',
  'data.cache_dir',
  'data.download',
  'data.path',
  'data.held_out',
  'data.on_device',
)


LATER = {
  'accumulate': 1,
  'data.augment': 'none',
}  # fields that configs of older runs lack: what these did


# What may differ, besides the seed, between the members of a population, which are trained by one program.
MAY_VARY = ('method.', 'optimizer.learning_rate', 'optimizer.factor.')


# Of fields, in words.
KINDS = {
  int: 'a whole number',
  float: 'a finite number',
  bool: 'True or False',
  str: 'a text',
  tuple: "a list, such as ('Smiling', 'Male')",
}


positive, not_negative, decay = (0, math.inf), (-1e-300, math.inf), (-1e-300, 1 - 1e-9)


# Allowed values by field: a tuple of names, or an open lower and a closed upper bound.
ALLOWED = {
  'seed': (-1, 2**32 - 1),
  'steps': positive,
  'batch_size': positive,
  'parallel': tuple(PARALLEL),
  'dtype': ('float32', 'bfloat16'),
  'ema_decay': decay,
  'first.steps': (-1, math.inf),
  'accumulate': positive,
  'steps_per_dispatch': positive,
  'data.image_size': (16, 32, 64, 128),
  'data.channels': (1, 3),
  'data.condition': ('none', 'label', 'attributes'),
  'data.augment': tuple(augment.AUGMENTATIONS),
  'network.name': tuple(NETWORKS),
  'network.latent_size': (0, 65536),
  'network.width': (0, 64),
  'network.encoder_units': (0, 1e6),
  'normalise.makers': ('joint', 'apart'),
  'normalise.critics': ('joint', 'apart'),
  'adversarial': tuple(ADVERSARIAL),
  'prior_condition': tuple(PRIOR_CONDITIONS),
  'match_d_decay': decay,
  'match_c_decay': decay,
  'optimizer.name': optim.OPTIMIZERS,
  'optimizer.learning_rate': positive,
  **{f'optimizer.factor.{n}': not_negative for n in MAKERS + CRITICS},
  'optimizer.schedule': optim.SCHEDULES,
  'optimizer.end': not_negative,
  'optimizer.b1': decay,
  'optimizer.b2': decay,
  'optimizer.decay': decay,
  'optimizer.eps': (1e-30, 1.0),
  'optimizer.weight_decay': not_negative,
  'optimizer.clip_norm': not_negative,
  'gate.equilibrium': positive,
  'gate.margin': not_negative,
  'log_every_steps': positive,
  'sample_every_steps': positive,
  'save_every_steps': positive,
  'keep_checkpoints': positive,
}


def check(config):
  """None, or ValueError that names the first field that cannot be and what it may be."""
  for path, value in fields(config):
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(f'--config.{path}={value} is not a finite number')
    allowed = ALLOWED.get(path)
    if allowed is None:
      continue
    if isinstance(allowed[0], str) or len(allowed) != 2 or path == 'data.channels':
      if value not in allowed:
        raise ValueError(
          f'--config.{path}={value}: use one of {", ".join(map(str, allowed))}'
          + closest(value, allowed)
        )
    elif not allowed[0] < value <= allowed[1]:
      low, high = ('0' if abs(b) < 1e-9 else f'{b:g}' for b in allowed)
      bound = 'at least 0' if allowed[0] == not_negative[0] else f'more than {low}'
      raise ValueError(
        f'--config.{path}={value}: use {bound}' + (f', at most {high}' if high != 'inf' else '')
      )
  for prefix, table in (('method', method(config)), ('first.method', method(config.first))):
    check_method(prefix, table, config.data.condition)
  named = losses_of(method(config))
  if not named:
    raise ValueError('config.method has no loss left: nothing would be trained')
  if 'generator' not in networks_of(named):
    raise ValueError('config.method has no loss left that sees images of a generator')
  if bool(method(config.first)) != bool(config.first.steps) or config.first.steps >= config.steps:
    raise ValueError(
      f'--config.first.steps={config.first.steps}: a method with a first phase ({config.method_name}: '
      f'{config.first.method_name or "none"}) needs from 1 to config.steps - 1 = {config.steps - 1}, others 0'
    )
  if config.gate.on and not ('real' in named and {'fake_recon', 'fake_prior'} & set(named)):
    raise ValueError(
      '--config.gate.on needs the losses real and fake_recon or fake_prior, which this method has not'
    )
  if config.prior_condition == 'uniform' and config.data.condition == 'attributes':
    raise ValueError('--config.prior_condition=uniform draws one class; attributes need shuffled')
  check_dispatch(config)


def check_dispatch(config):
  """None, or ValueError where batches or steps cannot be divided as the config asks."""
  parts, count = config.accumulate, jax.device_count()
  if config.batch_size % (parts * count):
    raise ValueError(
      f'--config.batch_size={config.batch_size} is no multiple of the {count} devices'
      + (f' times --config.accumulate={parts}' if parts > 1 else '')
    )
  values = dict(fields(config))
  for path in ('steps', 'first.steps', 'log_every_steps', 'sample_every_steps', 'save_every_steps'):
    if values[path] % config.steps_per_dispatch:
      raise ValueError(
        f'--config.{path}={values[path]} is no multiple of '
        f'--config.steps_per_dispatch={config.steps_per_dispatch}'
      )
  if config.steps_per_dispatch > MOST_UNROLLED and jax.default_backend() == 'cpu':
    raise ValueError(
      f'--config.steps_per_dispatch={config.steps_per_dispatch}: on a CPU each of these steps is compiled for '
      f'itself, and there is little to gain: use 1, at most {MOST_UNROLLED}'
    )


def check_method(prefix, table, condition):
  """None, or ValueError that names the row and the loss of `table` that cannot be trained."""
  names = losses_of(table)
  for network, row in table.items():
    if network not in MAKERS + CRITICS:
      raise ValueError(
        f'config.{prefix} has a row for {network!r}, which is no network: use '
        f'{", ".join(MAKERS + CRITICS)}'
      )
    for loss in row:
      if loss not in SEES:
        raise ValueError(
          f'config.{prefix}.{network}.{loss}: there is no such loss; known are '
          f'{", ".join(SEES)}{closest(loss, SEES)}'
        )
      if not may_move(loss, network):
        raise ValueError(
          f'config.{prefix}.{network}.{loss}: this loss does not depend on the {network}'
        )
  by_class = [n for n in names if 'classifier' in SEES[n]]
  if by_class and condition == 'none':
    raise ValueError(
      f'config.{prefix} has {by_class[0]}, which needs classes or attributes: '
      'set --config.data.condition=label or attributes'
    )


def fields(config, prefix=''):
  """Pairs (dotted path, value) of a ConfigDict or dict, in its order."""
  for key, value in config.items():
    if isinstance(value, (dict, ConfigDict)):
      yield from fields(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def closest(word, known):
  """'; did you mean X?' or ''."""
  match = difflib.get_close_matches(str(word), [str(k) for k in known], n=1)
  return f'; did you mean {match[0]}?' if match else ''


def method(config):
  """{network: {loss: weight}} of a config (or of config.first), without what is switched off."""
  rows = {
    network: {loss: weight for loss, weight in row.items() if weight}
    for network, row in config.method.items()
  }
  return {network: row for network, row in rows.items() if row}


def to_dict(config):
  """The config as plain dicts and lists, as JSON keeps them."""
  return json.loads(config.to_json_best_effort())


def with_settings(config, settings, told='--set={}={}'):
  """A locked copy of a config with {dotted field: value} set; text is read as Python's numbers and names.

  Raises ValueError for a field that the config has not, or a value of another type; `told`, with field and value in
  it, is what the user wrote.
  """
  changed, known = config.copy_and_resolve_references(), dict(fields(config))
  for path, value in settings.items():
    if path not in known:
      raise ValueError(
        f'{told.format(path, value)}: the config has no such field{closest(path, known)}'
      )
    kind = type(known[path])
    wrong = f'{told.format(path, value)}: give {KINDS.get(kind, kind.__name__)}'
    try:
      value = ast.literal_eval(value) if isinstance(value, str) and kind is not str else value
      value = kind(value) if (kind, type(value)) in ((float, int), (tuple, list)) else value
    except (ValueError, SyntaxError, OverflowError, MemoryError, RecursionError) as e:
      raise ValueError(wrong) from e
    if type(value) is not kind:
      raise ValueError(wrong)
    changed.update_from_flattened_dict({path: value})
  return changed.lock()


def members(config, seeds, values):
  """{name: config}: a config's members, of all seeds and all combinations of values, as in seed_0,match_c_0.01.

  seeds: as texts; values: {dotted field: [text]}. Raises ValueError for a field or a value that cannot be.
  """
  known = dict(fields(config))
  for path, texts in values.items():
    if path not in known or not path.startswith(MAY_VARY):
      allowed = [k for k in known if k.startswith(MAY_VARY)]
      raise ValueError(
        f'--vary={path}: '
        + (
          'give each of its values a run of its own; '
          if path in known
          else 'the config has no such field; '
        )
        + f'what can vary inside one program is {", ".join(allowed)}{closest(path, allowed)}'
      )
  paths, made, named = ['seed', *values], {}, {}  # named: {values: name}
  shown = lambda path: (
    path.split('.')[-1]
    if sum(p.split('.')[-1] == path.split('.')[-1] for p in paths) == 1
    else '.'.join(path.split('.')[-2:])
  )
  for combination in itertools.product(seeds, *values.values()):
    of_seed = with_settings(config, {'seed': combination[0]}, '--seeds={1}')
    member = with_settings(of_seed, dict(zip(values, combination[1:])), '--vary={}={}')
    name = ','.join(f'{shown(path)}_{text.strip()}' for path, text in zip(paths, combination))
    if not re.fullmatch(r'[\w.,+-]+', name):
      raise ValueError(f'{name} cannot be the name of a folder: write its values as plain numbers')
    own = dict(fields(member))
    same = named.setdefault(tuple(own[path] for path in paths), name)
    if name in made or same != name:
      raise ValueError(f'{name} is asked for twice' + (f': it is {same}' if same != name else ''))
    made[name] = member
  return made


def check_members(configs):
  """None, or ValueError where members {name: config} cannot be trained by one program."""
  first, *others = (dict(fields(config)) for config in configs.values())
  for other, name in zip(others, list(configs)[1:]):
    for path in dict.fromkeys([*first, *other]):
      if path != 'seed' and not path.startswith(MAY_VARY) and first.get(path) != other.get(path):
        raise ValueError(
          f'{path} is {other.get(path)} for {name} and {first.get(path)} for {next(iter(configs))}: '
          'it cannot differ inside one program; train them by separate runs'
        )
  if first['first.steps']:
    raise ValueError(
      f'{first["method_name"]} has a first phase, which no population has: train by separate runs'
    )
  if first['parallel'] == 'pmap':
    raise ValueError('--config.parallel=pmap: a population has no pmap; leave it at mesh')
  for path, alone in (('data.on_device', False), ('steps_per_dispatch', 1)):
    if first[path] != alone:
      raise ValueError(
        f'--config.{path}={first[path]}: a population has none of this; leave it at {alone}'
      )
  if jax.process_count() > 1:
    raise ValueError(
      'a population is trained by one process, on all of its devices: give other hosts other members'
    )


def from_dict(values):
  """The locked ConfigDict of to_dict's output."""
  return ConfigDict(values).lock()


def differences(config, other):
  """Lines 'path: config's value, other's value' for each field that makes another run."""
  one, two = dict(fields(to_dict(config))), {**LATER, **dict(fields(other))}
  return [
    f'{path}: {one.get(path, "(none)")} now, {two.get(path, "(none)")} then'
    for path in dict.fromkeys([*one, *two])
    if path not in MAY_CHANGE and one.get(path) != two.get(path)
  ]
