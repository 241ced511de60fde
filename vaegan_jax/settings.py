"""Settings: the fields of a config, their bounds, and the fields in which runs may differ.

Below runs/, only this file, build.py and programs.py read a config (tests/test_layers.py).
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
import itertools
import json
import math
import re
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from vaegan_jax import augment, optim
from vaegan_jax.model import (
  ADVERSARIAL,
  CRITICS,
  MAKERS,
  SEES,
  can_train,
  losses_of,
  networks_of,
)
from vaegan_jax.networks import NETWORKS
from vaegan_jax.parallel import LARGEST_UNROLL, PARALLEL
from vaegan_jax.step import PRIOR_CONDITIONS
from vaegan_jax.words import closest

Table = Mapping[str, Mapping[str, float]]  # {network: {loss: weight}}

# A resumed run may change these fields; any other change makes it a different run.
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
# Fields that older configs lack, and the value that reproduces what those runs did.
ADDED = {'accumulate': 1, 'data.augment': 'none'}
# Besides the seed, the members of a population may differ in these fields.
MAY_VARY = ('method.', 'optimizer.learning_rate', 'optimizer.factor.')
TYPES = {
  int: 'a whole number',
  float: 'a finite number',
  bool: 'True or False',
  str: 'a text',
  tuple: "a list, such as ('Smiling', 'Male')",
}


class OneOf(NamedTuple):
  """The field takes one of these values."""

  values: tuple

  def complaint(self, value: Any) -> str:
    """What to use instead of `value`; '' if the value is allowed."""
    if value in self.values:
      return ''
    return f'use one of {", ".join(map(str, self.values))}{closest(value, self.values)}'


class Range(NamedTuple):
  """The field takes a number between these bounds."""

  above: float = -math.inf  # excluded
  least: float = -math.inf  # included
  most: float = math.inf  # included
  below: float = math.inf  # excluded, unless infinite

  def complaint(self, value: float) -> str:
    """What to use instead of `value`; '' if the value is allowed."""
    low = self.above < value and self.least <= value
    high = value <= self.most and (value < self.below or math.isinf(self.below))
    if low and high:
      return ''
    bounds = [
      (f'more than {self.above:g}', self.above),
      (f'at least {self.least:g}', self.least),
      (f'at most {self.most:g}', self.most),
      (f'less than {self.below:g}', self.below),
    ]
    return 'use ' + ', '.join(words for words, bound in bounds if math.isfinite(bound))


POSITIVE, NOT_NEGATIVE, DECAY = Range(above=0), Range(least=0), Range(least=0, below=1)
BOUNDS: dict[str, OneOf | Range] = {
  'seed': Range(least=0, below=2**32),
  'steps': POSITIVE,
  'batch_size': POSITIVE,
  'accumulate': POSITIVE,
  'steps_per_dispatch': POSITIVE,
  'parallel': OneOf(tuple(PARALLEL)),
  'dtype': OneOf(('float32', 'bfloat16')),
  'ema_decay': DECAY,
  'first.steps': NOT_NEGATIVE,
  'data.image_size': OneOf((16, 32, 64, 128)),
  'data.channels': OneOf((1, 3)),
  'data.condition': OneOf(('none', 'label', 'attributes')),
  'data.augment': OneOf(tuple(augment.AUGMENTATIONS)),
  'network.name': OneOf(tuple(NETWORKS)),
  'network.latent_size': Range(above=0, most=65536),
  'network.width': Range(above=0, most=64),
  'network.encoder_units': Range(above=0, most=1e6),
  'normalise.makers': OneOf(('joint', 'apart')),
  'normalise.critics': OneOf(('joint', 'apart')),
  'adversarial': OneOf(tuple(ADVERSARIAL)),
  'prior_condition': OneOf(tuple(PRIOR_CONDITIONS)),
  'match_d_decay': DECAY,
  'match_c_decay': DECAY,
  'optimizer.name': OneOf(optim.OPTIMIZERS),
  'optimizer.learning_rate': POSITIVE,
  **{f'optimizer.factor.{network}': NOT_NEGATIVE for network in MAKERS + CRITICS},
  'optimizer.schedule': OneOf(optim.SCHEDULES),
  'optimizer.end': NOT_NEGATIVE,
  'optimizer.b1': DECAY,
  'optimizer.b2': DECAY,
  'optimizer.decay': DECAY,
  'optimizer.eps': Range(above=1e-30, most=1),
  'optimizer.weight_decay': NOT_NEGATIVE,
  'optimizer.clip_norm': NOT_NEGATIVE,
  'gate.equilibrium': POSITIVE,
  'gate.margin': NOT_NEGATIVE,
  'log_every_steps': POSITIVE,
  'sample_every_steps': POSITIVE,
  'save_every_steps': POSITIVE,
  'keep_checkpoints': POSITIVE,
}


# --- Reading and changing a config.


def fields(config: Mapping | ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Pairs (dotted path, value) of a ConfigDict or dict, in its order."""
  for key, value in config.items():
    if isinstance(value, (dict, ConfigDict)):
      yield from fields(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def method(config: ConfigDict) -> dict[str, dict[str, float]]:
  """{network: {loss: weight}} of a config (or of config.first), without cells of weight 0."""
  rows = {
    network: {loss: weight for loss, weight in row.items() if weight}
    for network, row in config.method.items()
  }
  return {network: row for network, row in rows.items() if row}


def to_dict(config: ConfigDict) -> dict:
  """The config as plain dicts and lists, as JSON keeps them."""
  return json.loads(config.to_json_best_effort())


def from_dict(values: Mapping) -> ConfigDict:
  """The locked ConfigDict of to_dict's output."""
  return ConfigDict(values).lock()


def with_settings(
  config: ConfigDict, settings: Mapping[str, Any], flag: str = '--set={}={}'
) -> ConfigDict:
  """A locked copy of a config with {dotted field: value} set.

  Args:
    settings: a text is read as a Python number, name or list, unless the field is a text.
    flag: what the user wrote, for messages; takes field and value.

  Raises:
    ValueError: the config lacks the field, or the value has another type.
  """
  changed, known = config.copy_and_resolve_references(), dict(fields(config))
  for path, value in settings.items():
    if path not in known:
      raise ValueError(
        f'{flag.format(path, value)}: the config has no such field{closest(path, known)}'
      )
    kind = type(known[path])
    wrong = f'{flag.format(path, value)}: give {TYPES.get(kind, kind.__name__)}'
    try:
      value = ast.literal_eval(value) if isinstance(value, str) and kind is not str else value
      value = kind(value) if (kind, type(value)) in ((float, int), (tuple, list)) else value
    except (ValueError, SyntaxError, OverflowError, MemoryError, RecursionError) as e:
      raise ValueError(wrong) from e
    if type(value) is not kind:
      raise ValueError(wrong)
    changed.update_from_flattened_dict({path: value})
  return changed.lock()


def differences(config: ConfigDict, other: Mapping) -> list[str]:
  """Lines 'path: value now, value then' for each field that makes `other` a different run."""
  now, then = dict(fields(to_dict(config))), {**ADDED, **dict(fields(other))}
  return [
    f'{path}: {now.get(path, "(none)")} now, {then.get(path, "(none)")} then'
    for path in dict.fromkeys([*now, *then])
    if path not in MAY_CHANGE and now.get(path) != then.get(path)
  ]


# --- Checks, before anything is compiled or written.


def check(config: ConfigDict) -> None:
  """Raises ValueError that names the first field with a bad value, and the values it may have."""
  for path, value in fields(config):
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(f'--config.{path}={value} is not a finite number')
    if path in BOUNDS and (complaint := BOUNDS[path].complaint(value)):
      raise ValueError(f'--config.{path}={value}: {complaint}')
  table, first = method(config), method(config.first)
  check_method('method', table, config.data.condition)
  check_method('first.method', first, config.data.condition)
  named = losses_of(table)
  if not named:
    raise ValueError('config.method has no loss left: nothing would be trained')
  if 'generator' not in networks_of(named):
    raise ValueError("config.method has no loss left that sees a generator's images")
  if bool(first) != bool(config.first.steps) or config.first.steps >= config.steps:
    raise ValueError(
      f'--config.first.steps={config.first.steps}: a method with a first phase '
      f'({config.method_name}: {config.first.method_name or "none"}) needs from 1 to '
      f'config.steps - 1 = {config.steps - 1}, others 0'
    )
  if config.gate.on and not ('real' in named and {'fake_recon', 'fake_prior'} & set(named)):
    raise ValueError(
      '--config.gate.on needs the losses real and fake_recon or fake_prior, '
      'which this method lacks: set it to False'
    )
  if config.prior_condition == 'uniform' and config.data.condition == 'attributes':
    raise ValueError('--config.prior_condition=uniform draws one class: attributes need shuffled')
  check_division(config)


def check_division(config: ConfigDict) -> None:
  """Raises ValueError if the batches or steps do not divide as the config asks."""
  parts, count, dispatch = config.accumulate, jax.device_count(), config.steps_per_dispatch
  if config.batch_size % (parts * count):
    raise ValueError(
      f'--config.batch_size={config.batch_size} is not a multiple of the {count} devices'
      + (f' times --config.accumulate={parts}' if parts > 1 else '')
    )
  values = dict(fields(config))
  for path in ('steps', 'first.steps', 'log_every_steps', 'sample_every_steps', 'save_every_steps'):
    if values[path] % dispatch:
      raise ValueError(
        f'--config.{path}={values[path]} is not a multiple of '
        f'--config.steps_per_dispatch={dispatch}'
      )
  if dispatch > LARGEST_UNROLL and jax.default_backend() == 'cpu':
    raise ValueError(
      f'--config.steps_per_dispatch={dispatch}: a CPU compiles each of these steps separately '
      f'and gains little: use 1, at most {LARGEST_UNROLL}'
    )


def check_method(prefix: str, table: Table, condition: str) -> None:
  """Raises ValueError that names the row or the loss of `table` that cannot be trained."""
  for network, row in table.items():
    if network not in MAKERS + CRITICS:
      raise ValueError(
        f'config.{prefix} has a row for {network!r}, which is not a network: use '
        f'{", ".join(MAKERS + CRITICS)}'
      )
    for loss in row:
      if loss not in SEES:
        raise ValueError(
          f'config.{prefix}.{network}.{loss}: unknown loss; use one of '
          f'{", ".join(SEES)}{closest(loss, SEES)}'
        )
      if not can_train(loss, network):
        raise ValueError(
          f'config.{prefix}.{network}.{loss}: this loss does not depend on the {network}'
        )
  by_class = [loss for loss in losses_of(table) if 'classifier' in SEES[loss]]
  if by_class and condition == 'none':
    raise ValueError(
      f'config.{prefix} has {by_class[0]}, which needs classes or attributes: '
      'set --config.data.condition=label or attributes'
    )


# --- Populations.


def members(
  config: ConfigDict, seeds: Sequence[str], values: Mapping[str, Sequence[str]]
) -> dict[str, ConfigDict]:
  """{name: config} for all seeds and all combinations of values; a name reads seed_0,match_c_0.01.

  Args:
    seeds: as texts.
    values: {dotted field: values as texts}.

  Raises:
    ValueError: a field may not vary, a value does not fit, or a member is asked for twice.
  """
  for path in values:
    check_may_vary(config, path)
  paths, made, names = ['seed', *values], {}, {}  # names: {values: name}
  for seed, *combination in itertools.product(seeds, *values.values()):
    member = with_settings(config, {'seed': seed}, '--seeds={1}')
    member = with_settings(member, dict(zip(values, combination)), '--vary={}={}')
    name = member_name(paths, (seed, *combination))
    known = dict(fields(member))
    first = names.setdefault(tuple(known[path] for path in paths), name)
    if name in made or first != name:
      raise ValueError(f'{name} is asked for twice' + (f': it is {first}' if first != name else ''))
    made[name] = member
  return made


def check_may_vary(config: ConfigDict, path: str) -> None:
  """Raises ValueError unless the members of a population may differ in this field."""
  known = dict(fields(config))
  if path in known and path.startswith(MAY_VARY):
    return
  allowed = [k for k in known if k.startswith(MAY_VARY)]
  why = (
    'give each of its values a run of its own' if path in known else 'the config has no such field'
  )
  raise ValueError(
    f'--vary={path}: {why}; the members of a population may differ in {", ".join(allowed)}'
    + closest(path, allowed)
  )


def member_name(paths: Sequence[str], values: Sequence[str]) -> str:
  """A folder's name such as seed_0,match_c_0.01; fields of one name get their row's name, too."""
  last = [path.split('.')[-1] for path in paths]
  short = [
    word if last.count(word) == 1 else '.'.join(path.split('.')[-2:])
    for word, path in zip(last, paths)
  ]
  name = ','.join(f'{word}_{value.strip()}' for word, value in zip(short, values))
  if not re.fullmatch(r'[\w.,+-]+', name):
    raise ValueError(f'{name} cannot be the name of a folder: write its values as plain numbers')
  return name


def check_members(configs: Mapping[str, ConfigDict]) -> None:
  """Raises ValueError if the members {name: config} cannot train together."""
  (first_name, first), *others = ((name, dict(fields(c))) for name, c in configs.items())
  for name, other in others:
    for path in dict.fromkeys([*first, *other]):
      if path != 'seed' and not path.startswith(MAY_VARY) and first.get(path) != other.get(path):
        raise ValueError(
          f'{path} is {other.get(path)} for {name} and {first.get(path)} for {first_name}: '
          'it cannot differ inside a population; train them by separate runs'
        )
  if others and jax.process_count() > 1:
    raise ValueError(
      'one process trains a population, on all of its devices: give each host its own members'
    )
