"""From a configuration to the objects of a run. No other file of the library reads a ConfigDict."""
import ast
import difflib
import functools
import itertools
import json
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from vaegan_jax import augment
from vaegan_jax import data as datasets
from vaegan_jax import losses
from vaegan_jax import model as wiring
from vaegan_jax import optim
from vaegan_jax import parallel as devices
from vaegan_jax import step as stepping
from vaegan_jax.networks import bao, larsen

NETWORKS = dict(bao=bao, larsen=larsen)
PRIOR_CONDITIONS = dict(uniform=stepping.uniform_classes, shuffled=stepping.shuffled)

# What may change when a run goes on; any other field makes it another run.
MAY_CHANGE = ('steps', 'parallel', 'optimizer.learning_rate', 'log_every_steps', 'sample_every_steps', 'save_every_steps',
              'keep_checkpoints', 'steps_per_dispatch', 'data.data_dir', 'data.cache_dir', 'data.download', 'data.path',
              'data.held_out', 'data.on_device')
LATER = {'accumulate': 1, 'data.augment': 'none'}  # fields that configs of older runs lack: what these did
RESIDENT = 0.5  # of a device's free memory: the most that a data set on the devices may take

# What may differ, besides the seed, between the members of a population, which are trained by one program.
MAY_VARY = ('method.', 'optimizer.learning_rate', 'optimizer.factor.')
# Of fields, in words.
KINDS = {int: 'a whole number', float: 'a finite number', bool: 'True or False', str: 'a text',
         tuple: "a list, such as ('Smiling', 'Male')"}

positive, not_negative, decay = (0, math.inf), (-1e-300, math.inf), (-1e-300, 1 - 1e-9)
# Allowed values by field: a tuple of names, or an open lower and a closed upper bound.
ALLOWED = {
    'seed': (-1, 2**32 - 1), 'steps': positive, 'batch_size': positive,
    'parallel': tuple(devices.PARALLEL), 'dtype': ('float32', 'bfloat16'), 'ema_decay': decay,
    'first.steps': (-1, math.inf), 'accumulate': positive, 'steps_per_dispatch': positive,
    'data.image_size': (16, 32, 64, 128), 'data.channels': (1, 3),
    'data.condition': ('none', 'label', 'attributes'), 'data.augment': tuple(augment.AUGMENTATIONS),
    'network.name': tuple(NETWORKS), 'network.latent_size': (0, 65536), 'network.width': (0, 64),
    'network.encoder_units': (0, 1e6),
    'normalise.makers': ('joint', 'apart'), 'normalise.critics': ('joint', 'apart'),
    'adversarial': tuple(wiring.ADVERSARIAL), 'prior_condition': tuple(PRIOR_CONDITIONS),
    'match_d_decay': decay, 'match_c_decay': decay,
    'optimizer.name': optim.OPTIMIZERS, 'optimizer.learning_rate': positive,
    **{f'optimizer.factor.{n}': not_negative for n in wiring.MAKERS + wiring.CRITICS},
    'optimizer.schedule': optim.SCHEDULES, 'optimizer.end': not_negative,
    'optimizer.b1': decay, 'optimizer.b2': decay, 'optimizer.decay': decay, 'optimizer.eps': (1e-30, 1.),
    'optimizer.weight_decay': not_negative, 'optimizer.clip_norm': not_negative,
    'gate.equilibrium': positive, 'gate.margin': not_negative,
    'log_every_steps': positive, 'sample_every_steps': positive, 'save_every_steps': positive,
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
        raise ValueError(f'--config.{path}={value}: use one of {", ".join(map(str, allowed))}'
                         + closest(value, allowed))
    elif not allowed[0] < value <= allowed[1]:
      low, high = ('0' if abs(b) < 1e-9 else f'{b:g}' for b in allowed)
      bound = 'at least 0' if allowed[0] == not_negative[0] else f'more than {low}'
      raise ValueError(f'--config.{path}={value}: use {bound}' + (f', at most {high}' if high != 'inf' else ''))
  for prefix, table in (('method', method(config)), ('first.method', method(config.first))):
    check_method(prefix, table, config.data.condition)
    networks(config, wiring.networks_of(wiring.losses_of(table)))
  named = wiring.losses_of(method(config))
  if not named:
    raise ValueError('config.method has no loss left: nothing would be trained')
  if 'generator' not in wiring.networks_of(named):
    raise ValueError('config.method has no loss left that sees images of a generator')
  if bool(method(config.first)) != bool(config.first.steps) or config.first.steps >= config.steps:
    raise ValueError(
        f'--config.first.steps={config.first.steps}: a method with a first phase ({config.method_name}: '
        f'{config.first.method_name or "none"}) needs from 1 to config.steps - 1 = {config.steps - 1}, others 0')
  if config.gate.on and not ('real' in named and {'fake_recon', 'fake_prior'} & set(named)):
    raise ValueError('--config.gate.on needs the losses real and fake_recon or fake_prior, which this method has not')
  if config.prior_condition == 'uniform' and config.data.condition == 'attributes':
    raise ValueError('--config.prior_condition=uniform draws one class; attributes need shuffled')
  check_dispatch(config)


def check_dispatch(config):
  """None, or ValueError where batches or steps cannot be divided as the config asks."""
  parts, count = config.accumulate, jax.device_count()
  if config.batch_size % (parts * count):
    raise ValueError(f'--config.batch_size={config.batch_size} is no multiple of the {count} devices'
                     + (f' times --config.accumulate={parts}' if parts > 1 else ''))
  values = dict(fields(config))
  for path in ('steps', 'first.steps', 'log_every_steps', 'sample_every_steps', 'save_every_steps'):
    if values[path] % config.steps_per_dispatch:
      raise ValueError(f'--config.{path}={values[path]} is no multiple of '
                       f'--config.steps_per_dispatch={config.steps_per_dispatch}')
  if config.steps_per_dispatch > devices.MOST_UNROLLED and jax.default_backend() == 'cpu':
    raise ValueError(f'--config.steps_per_dispatch={config.steps_per_dispatch}: on a CPU each of these steps is compiled for '
                     f'itself, and there is little to gain: use 1, at most {devices.MOST_UNROLLED}')


def check_memory(config, dataset):
  """None, or ValueError where the data set is too large to be kept on the devices as the config asks."""
  if not config.data.on_device:
    return
  size = sum(a.nbytes for a in datasets.take(dataset, slice(None), config.data.condition).values())
  free = devices.free_bytes()
  if free is not None and size > RESIDENT * free:
    raise ValueError(f'--config.data.on_device=True: {dataset.name} takes {size / 2**30:.2f} GiB on each device, more than '
                     f'{RESIDENT:.0%} of the {free / 2**30:.2f} GiB that are free there: set it to False')


def check_method(prefix, table, condition):
  """None, or ValueError that names the row and the loss of `table` that cannot be trained."""
  names = wiring.losses_of(table)
  for network, row in table.items():
    if network not in wiring.MAKERS + wiring.CRITICS:
      raise ValueError(f'config.{prefix} has a row for {network!r}, which is no network: use '
                       f'{", ".join(wiring.MAKERS + wiring.CRITICS)}')
    for loss in row:
      if loss not in wiring.SEES:
        raise ValueError(f'config.{prefix}.{network}.{loss}: there is no such loss; known are '
                         f'{", ".join(wiring.SEES)}{closest(loss, wiring.SEES)}')
      if not wiring.may_move(loss, network):
        raise ValueError(f'config.{prefix}.{network}.{loss}: this loss does not depend on the {network}')
  by_class = [n for n in names if 'classifier' in wiring.SEES[n]]
  if by_class and condition == 'none':
    raise ValueError(f'config.{prefix} has {by_class[0]}, which needs classes or attributes: '
                     'set --config.data.condition=label or attributes')


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
  rows = {network: {loss: weight for loss, weight in row.items() if weight}
          for network, row in config.method.items()}
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
      raise ValueError(f'{told.format(path, value)}: the config has no such field{closest(path, known)}')
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
      raise ValueError(f'--vary={path}: '
                       + ('give each of its values a run of its own; ' if path in known else 'the config has no such field; ')
                       + f'what can vary inside one program is {", ".join(allowed)}{closest(path, allowed)}')
  paths, made, named = ['seed', *values], {}, {}  # named: {values: name}
  shown = lambda path: path.split('.')[-1] if sum(p.split('.')[-1] == path.split('.')[-1] for p in paths) == 1 \
      else '.'.join(path.split('.')[-2:])
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
        raise ValueError(f'{path} is {other.get(path)} for {name} and {first.get(path)} for {next(iter(configs))}: '
                         'it cannot differ inside one program; train them by separate runs')
  if first['first.steps']:
    raise ValueError(f'{first["method_name"]} has a first phase, which no population has: train by separate runs')
  if first['parallel'] == 'pmap':
    raise ValueError('--config.parallel=pmap: a population has no pmap; leave it at mesh')
  for path, alone in (('data.on_device', False), ('steps_per_dispatch', 1)):
    if first[path] != alone:
      raise ValueError(f'--config.{path}={first[path]}: a population has none of this; leave it at {alone}')
  if jax.process_count() > 1:
    raise ValueError('a population is trained by one process, on all of its devices: give other hosts other members')


def from_dict(values):
  """The locked ConfigDict of to_dict's output."""
  return ConfigDict(values).lock()


def differences(config, other):
  """Lines 'path: config's value, other's value' for each field that makes another run."""
  one, two = dict(fields(to_dict(config))), {**LATER, **dict(fields(other))}
  return [f'{path}: {one.get(path, "(none)")} now, {two.get(path, "(none)")} then'
          for path in dict.fromkeys([*one, *two]) if path not in MAY_CHANGE and one.get(path) != two.get(path)]


def dataset(config, split='', scratch=''):
  """The data set of a config, decoded (see data.load)."""
  d = config.data
  return datasets.load(
      d.name, image_size=d.image_size, channels=d.channels, split=split or d.split, path=d.path,
      label_table=d.label_table, data_dir=d.data_dir, cache_dir=d.cache_dir, download=d.download, attributes=tuple(d.attributes), scratch=scratch)


def own_images(config, path):
  """A folder or zip of images, made to fit a config's networks."""
  d = config.data
  return datasets.load('folder', image_size=d.image_size, channels=d.channels, path=path, cache_dir=d.cache_dir)


def feed(config, dataset, start_step, parallel):
  """An endless generator of batches as parallel.step takes them, on the devices, from step `start_step` on.

  They are made ahead (see data.prefetch), from images on the host, or on the devices.
  """
  condition = config.data.condition
  at = datasets.indices(
      len(dataset.images), batch_size=config.batch_size, seed=config.seed, start_step=start_step,
      process_index=jax.process_index(), process_count=jax.process_count(), steps=config.steps_per_dispatch)
  if config.data.on_device:
    put = parallel.resident(datasets.take(dataset, slice(None), condition))
  else:
    put = lambda at: parallel.put_batch(datasets.take(dataset, at, condition))
  return datasets.prefetch(at, put)


def about(config, dataset):
  """What a checkpoint says of its data: dict for JSON of condition, its size, and its names."""
  condition = config.data.condition
  names = dict(none=[], label=dataset.class_names, attributes=dataset.attribute_names)[condition]
  facts = dict(condition=condition, names=list(names or []), size=len(names or []))
  if condition == 'attributes':  # to complete a request that sets some attributes only
    every = max(1, len(dataset.attributes) // 256)
    facts['examples'] = dataset.attributes[::every][:256].astype(int).tolist()
  return facts


def networks(config, names):
  """{name: flax module} of the networks `names`."""
  n, d = config.network, config.data
  module = NETWORKS[n.name]
  shared = dict(width=n.width, dtype=jnp.dtype(config.dtype),
                axis_name=devices.AXIS if config.parallel == 'pmap' else None)
  image = dict(image_size=d.image_size, channels=d.channels)
  conditional = n.conditional_discriminator and d.condition != 'none'
  made = {}
  for name in names:
    if not hasattr(module, name.capitalize()):
      raise ValueError(f'--config.network.name={n.name} has no {name}, which {config.method_name} '
                       'needs: use --config.network.name=bao')
    extra = dict(encoder=dict(latent_size=n.latent_size), discriminator=dict(conditional=conditional))
    if name == 'encoder' and n.name == 'larsen':
      extra['encoder']['units'] = n.encoder_units
    made[name] = getattr(module, name.capitalize())(**image, **shared, **extra.get(name, {}))
  return made


def model(config, size, table, also=()):
  """The Model of a method's table; size: of the condition; also: losses of another phase's table,
  whose networks the state holds too."""
  names = wiring.losses_of(table)
  makes = networks(config, wiring.networks_of(names + tuple(also)))
  if 'classifier' in makes:
    makes['classifier'] = makes['classifier'].clone(num_classes=size)
  by_attributes = config.data.condition == 'attributes'
  return wiring.Model(
      networks=makes, losses=names, frozen=tuple(n for n in makes if n not in table),
      joint_makers=config.normalise.makers == 'joint', joint_critics=config.normalise.critics == 'joint',
      adversarial=wiring.ADVERSARIAL[config.adversarial],
      class_loss=losses.sigmoid_cross_entropy if by_attributes else losses.softmax_cross_entropy,
      match_d_decay=config.match_d_decay, match_c_decay=config.match_c_decay,
      axis_name=devices.AXIS if config.parallel == 'pmap' else None)


def rates(config):
  """{network: learning rate} at the start."""
  return {network: config.optimizer.learning_rate * factor for network, factor in config.optimizer.factor.items()}


def optimizers(config, names, rates):
  """{network: optax transformation} for the networks `names`."""
  o = config.optimizer
  options = dict(b1=o.b1, b2=o.b2, decay=o.decay, eps=o.eps, weight_decay=o.weight_decay, clip_norm=o.clip_norm)
  rate = lambda n: optim.learning_rate(o.schedule, rates[n], end=o.end, steps=config.steps)
  return {n: optim.optimizer(o.name, rate(n), **options) for n in names}


def together(tables):
  """One table {row: {cell: number}} of those of N members: a cell that differs is an array [N], an absent one 0."""
  cells = {row: dict.fromkeys(cell for table in tables for cell in table.get(row, {}))
           for row in dict.fromkeys(row for table in tables for row in table)}
  of_all = lambda row, cell: [table.get(row, {}).get(cell, 0.) for table in tables]
  return {row: {cell: of_all(row, cell)[0] if len(set(of_all(row, cell))) == 1 else np.array(of_all(row, cell))
                for cell in names} for row, names in cells.items()}


def tables_of(config):
  """The tables that a run is trained by, one after the other."""
  return [table for table in (method(config.first), method(config)) if table]


class Phase(NamedTuple):
  """A stretch of a run, trained by one table."""
  until: int  # step
  model: wiring.Model
  parallel: devices.Parallel


def phases(config, size):
  """[Phase], in order; more than one where a method freezes what another one trains first.

  size: of the condition (classes or attributes), 0 without.
  """
  tables = tables_of(config)
  transformations = optimizers(config, networks_with_rows(tables), rates(config))
  made = []
  for table, until in zip(tables, (config.first.steps, config.steps)[-len(tables):]):
    whole, step = step_of(config, size, table, wiring.losses_of(*tables), transformations)
    made.append(Phase(until, whole, devices.PARALLEL[config.parallel](step, steps=config.steps_per_dispatch)))
  return made


def shared_phase(configs, size, keys):
  """The Phase of the members of a population that may go through one step (see population.alike).

  configs, keys: of each member. The step takes and gives lists of members' (see parallel.of_members).
  """
  config, table = configs[0], together([method(c) for c in configs])
  every = together([dict(rate=rates(c)) for c in configs])['rate']
  names = networks_with_rows([table])
  transformations = lambda member: optimizers(config, names, stepping.of_member(every, member))
  whole, step = step_of(config, size, table, (), transformations)
  return Phase(config.steps, whole, devices.of_members(step, keys))


def networks_with_rows(tables):
  """The networks that any of the tables trains."""
  return {network for table in tables for network in table}


def step_of(config, size, table, also, transformations):
  """(Model, step) of a table; also: see model."""
  draws = stepping.Draws(
      config.network.latent_size, PRIOR_CONDITIONS[config.prior_condition],
      classes=size if config.data.condition == 'label' else 0, flip=config.data.flip,
      augment=augment.AUGMENTATIONS[config.data.augment])
  whole = model(config, size, table, also)
  gate = functools.partial(optim.equilibrium_gate, equilibrium=config.gate.equilibrium,
                           margin=config.gate.margin) if config.gate.on else None
  return whole, stepping.train_step(whole, table, transformations, draws, ema_decay=config.ema_decay, gate=gate,
                                    accumulate=config.accumulate)


def init(config, size, phases):
  """Function key -> TrainState at step 0, at rest on all devices, compiled."""
  tables = tables_of(config)
  transformations = optimizers(config, networks_with_rows(tables), rates(config))
  whole = phases[-1].model._replace(losses=wiring.losses_of(*tables))
  function = lambda key: stepping.init_state(
      whole, transformations, key, *examples(config, size), config.network.latent_size)
  return jax.jit(function, out_shardings=phases[-1].parallel.at_rest)


def examples(config, size):
  """Inputs x [2, H, W, C] and c [2, A] or None, to initialise networks with."""
  d = config.data
  return jnp.zeros((2, d.image_size, d.image_size, d.channels)), jnp.zeros((2, size)) if size else None


def makers(config, size):
  """({maker: network}, the shapes of their EMA on this host's first device), of a trained config."""
  names = [n for n in wiring.networks_of(wiring.losses_of(method(config))) if n in wiring.MAKERS]
  made = networks(config, names)
  whole = wiring.Model(made, losses=())
  state = jax.eval_shape(lambda key: stepping.init_state(
      whole, {}, key, *examples(config, size), config.network.latent_size), jax.random.key(0))
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return made, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), state.ema)
