"""Settings: the fields of a config, and those in which runs and members may differ."""

import ast
from collections.abc import Iterator, Mapping, Sequence
import itertools
import json
import re
from typing import Any

from ml_collections import ConfigDict

from vaegan_jax.words import closest

Table = Mapping[str, Mapping[str, float]]  # {network: {loss: weight}}

# A resumed run may change these fields; any other change makes it a different run.
MAY_CHANGE = (
  'steps',
  'parallel',
  'optimizer.learning_rate',
  'health.action',
  'health.every_steps',
  'log_every_steps',
  'sample_every_steps',
  'sample_at_steps',
  'sample_every_seconds',
  'save_every_steps',
  'keep_checkpoints',
  'hang_seconds',
  'wandb_project',
  'steps_per_dispatch',
  'data.data_dir',
  'data.cache_dir',
  'data.download',
  'data.path',
  'data.held_out',
  'data.on_device',
  'data.pipeline',
)
# The processes of a run on several hosts may differ in these fields.
OF_A_HOST = ('data.data_dir', 'data.cache_dir', 'data.download', 'data.path')
# Fields that older configs lack, and the value that reproduces what those runs did.
ADDED = {
  'accumulate': 1,
  'sample_at_steps': (),
  'sample_every_seconds': 0.0,
  'wandb_project': '',
  'hang_seconds': 600.0,
  'every.reconstruct': 1,
  'every.penalise': 1,
  'network.detail_channels': 0,
  'network.patch_logits': False,
  'network.learned_prior': False,
  'data.augment': 'none',
  'data.pipeline': 'auto',
  'balance.mode': 'off',
  'balance.decay': 0.99,
  'balance.reconstruction': 1.0,
  'balance.matching': 1.0,
  'lecam_decay': 0.99,
  'critic_augment.mode': 'off',
  'critic_augment.strength': 0.0,
  'critic_augment.target': 0.6,
  'critic_augment.images': 50_000,
  'health.action': 'off',
  'health.every_steps': 100,
}
# Besides the seed, the members of a population may differ in these fields.
MAY_VARY = ('method.', 'optimizer.learning_rate', 'optimizer.factor.')
TYPES = {
  int: 'a whole number',
  float: 'a finite number',
  bool: 'True or False',
  str: 'a text',
  tuple: "a list, such as ('Smiling', 'Male')",
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

  def differ(path):
    absent = 0.0 if path.startswith(('method.', 'first.method.')) else None  # as a loss of weight 0
    return now.get(path, absent) != then.get(path, absent)

  return [
    f'{path}: {now.get(path, "(none)")} now, {then.get(path, "(none)")} then'
    for path in dict.fromkeys([*now, *then])
    if path not in MAY_CHANGE and differ(path)
  ]


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
  import jax  # not above: scripts import this file before they can answer signals

  if others and jax.process_count() > 1:
    raise ValueError(
      'one process trains a population, on all of its devices: give each host its own members'
    )
