"""From a configuration to the objects of a run. No other file of the library reads a ConfigDict."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from vaegan_jax import augment, data, losses, optim, settings
from vaegan_jax.model import ADVERSARIAL, MAKERS, Model, losses_of, networks_of
from vaegan_jax.networks import NETWORKS
from vaegan_jax.parallel import AXIS, PARALLEL, Parallel, free_bytes, of_members
from vaegan_jax.routing import of_member
from vaegan_jax.step import (
  PRIOR_CONDITIONS,
  Draws,
  init_state,
  train_step,
)

RESIDENT = 0.5  # of a device's free memory: the most that a data set on the devices may take


def check_memory(config, dataset):
  """None, or ValueError where the data set is too large to be kept on the devices as the config asks."""
  if not config.data.on_device:
    return
  size = sum(a.nbytes for a in data.take(dataset, slice(None), config.data.condition).values())
  free = free_bytes()
  if free is not None and size > RESIDENT * free:
    raise ValueError(
      f'--config.data.on_device=True: {dataset.name} takes {size / 2**30:.2f} GiB on each device, more than '
      f'{RESIDENT:.0%} of the {free / 2**30:.2f} GiB that are free there: set it to False'
    )


def check(config):
  """None, or ValueError for what settings.check refuses, or for a network that the module does not have."""
  settings.check(config)
  for table in tables_of(config):
    networks(config, networks_of(losses_of(table)))


def dataset(config, split='', scratch=''):
  """The data set of a config, decoded (see data.load)."""
  d = config.data
  return data.load(
    d.name,
    image_size=d.image_size,
    channels=d.channels,
    split=split or d.split,
    path=d.path,
    label_table=d.label_table,
    data_dir=d.data_dir,
    cache_dir=d.cache_dir,
    download=d.download,
    attributes=tuple(d.attributes),
    scratch=scratch,
  )


def held_out(config: ConfigDict, seen: data.Dataset | None = None) -> data.Dataset:
  """The config's held-out split; without one, its training images (`seen`, if loaded already)."""
  return dataset(config, config.data.held_out) if config.data.held_out or seen is None else seen


def own_images(config, path):
  """A folder or zip of images, made to fit a config's networks."""
  d = config.data
  return data.load(
    'folder', image_size=d.image_size, channels=d.channels, path=path, cache_dir=d.cache_dir
  )


def feed(config, dataset, start_step, parallel):
  """An endless generator of batches as parallel.step takes them, on the devices, from step `start_step` on.

  They are made ahead (see data.prefetch), from images on the host, or on the devices.
  """
  condition = config.data.condition
  at = data.indices(
    len(dataset.images),
    batch_size=config.batch_size,
    seed=config.seed,
    start_step=start_step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    steps=config.steps_per_dispatch,
  )
  if config.data.on_device:
    put = parallel.resident(data.take(dataset, slice(None), condition))
  else:
    put = lambda at: parallel.put_batch(data.take(dataset, at, condition))
  return data.prefetch(at, put)


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
  shared = dict(
    width=n.width,
    dtype=jnp.dtype(config.dtype),
    axis_name=AXIS if config.parallel == 'pmap' else None,
  )
  image = dict(image_size=d.image_size, channels=d.channels)
  conditional = n.conditional_discriminator and d.condition != 'none'
  made = {}
  for name in names:
    if not hasattr(module, name.capitalize()):
      raise ValueError(
        f'--config.network.name={n.name} has no {name}, which {config.method_name} '
        'needs: use --config.network.name=bao'
      )
    extra = dict(
      encoder=dict(latent_size=n.latent_size), discriminator=dict(conditional=conditional)
    )
    if name == 'encoder' and n.name == 'larsen':
      extra['encoder']['units'] = n.encoder_units
    made[name] = getattr(module, name.capitalize())(**image, **shared, **extra.get(name, {}))
  return made


def model(config, size, table, also=()):
  """The Model of a method's table; size: of the condition; also: losses of another phase's table,
  whose networks the state holds too."""
  names = losses_of(table)
  makes = networks(config, networks_of(names + tuple(also)))
  if 'classifier' in makes:
    makes['classifier'] = makes['classifier'].clone(num_classes=size)
  by_attributes = config.data.condition == 'attributes'
  return Model(
    networks=makes,
    losses=names,
    frozen=tuple(n for n in makes if n not in table),
    joint_makers=config.normalise.makers == 'joint',
    joint_critics=config.normalise.critics == 'joint',
    adversarial=ADVERSARIAL[config.adversarial],
    class_loss=losses.sigmoid_cross_entropy if by_attributes else losses.softmax_cross_entropy,
    match_d_decay=config.match_d_decay,
    match_c_decay=config.match_c_decay,
    axis_name=AXIS if config.parallel == 'pmap' else None,
  )


def rates(config):
  """{network: learning rate} at the start."""
  return {
    network: config.optimizer.learning_rate * factor
    for network, factor in config.optimizer.factor.items()
  }


def optimizers(config, names, rates):
  """{network: optax transformation} for the networks `names`."""
  o = config.optimizer
  options = dict(
    b1=o.b1, b2=o.b2, decay=o.decay, eps=o.eps, weight_decay=o.weight_decay, clip_norm=o.clip_norm
  )
  rate = lambda n: optim.learning_rate(o.schedule, rates[n], end=o.end, steps=config.steps)
  return {n: optim.optimizer(o.name, rate(n), **options) for n in names}


def together(tables):
  """One table {row: {cell: number}} of those of N members: a cell that differs is an array [N], an absent one 0."""
  cells = {
    row: dict.fromkeys(cell for table in tables for cell in table.get(row, {}))
    for row in dict.fromkeys(row for table in tables for row in table)
  }
  of_all = lambda row, cell: [table.get(row, {}).get(cell, 0.0) for table in tables]
  return {
    row: {
      cell: of_all(row, cell)[0]
      if len(set(of_all(row, cell))) == 1
      else np.array(of_all(row, cell))
      for cell in names
    }
    for row, names in cells.items()
  }


def tables_of(config):
  """The tables that a run is trained by, one after the other."""
  return [table for table in (settings.method(config.first), settings.method(config)) if table]


class Phase(NamedTuple):
  """A stretch of a run, trained by one table."""

  until: int  # step
  model: Model
  parallel: Parallel


def phases(config, size):
  """[Phase], in order; more than one where a method freezes what another one trains first.

  size: of the condition (classes or attributes), 0 without.
  """
  tables = tables_of(config)
  transformations = optimizers(config, networks_with_rows(tables), rates(config))
  made = []
  for table, until in zip(tables, (config.first.steps, config.steps)[-len(tables) :]):
    whole, step = step_of(config, size, table, losses_of(*tables), transformations)
    made.append(
      Phase(until, whole, PARALLEL[config.parallel](step, steps=config.steps_per_dispatch))
    )
  return made


def shared_phase(configs, size, keys):
  """The Phase of the members of a population that may go through one step (see population.alike).

  configs, keys: of each member. The step takes and gives lists of members' (see parallel.of_members).
  """
  config, table = configs[0], together([settings.method(c) for c in configs])
  every = together([dict(rate=rates(c)) for c in configs])['rate']
  names = networks_with_rows([table])
  transformations = lambda member: optimizers(config, names, of_member(every, member))
  whole, step = step_of(config, size, table, (), transformations)
  return Phase(config.steps, whole, of_members(step, keys))


def networks_with_rows(tables):
  """The networks that any of the tables trains."""
  return {network for table in tables for network in table}


def step_of(config, size, table, also, transformations):
  """(Model, step) of a table; also: see model."""
  draws = Draws(
    config.network.latent_size,
    PRIOR_CONDITIONS[config.prior_condition],
    classes=size if config.data.condition == 'label' else 0,
    flip=config.data.flip,
    augment=augment.AUGMENTATIONS[config.data.augment],
  )
  whole = model(config, size, table, also)
  gate = (
    functools.partial(
      optim.equilibrium_gate, equilibrium=config.gate.equilibrium, margin=config.gate.margin
    )
    if config.gate.on
    else None
  )
  return whole, train_step(
    whole,
    table,
    transformations,
    draws,
    ema_decay=config.ema_decay,
    gate=gate,
    accumulate=config.accumulate,
  )


def init(config, size, phases):
  """Function key -> TrainState at step 0, at rest on all devices, compiled."""
  tables = tables_of(config)
  transformations = optimizers(config, networks_with_rows(tables), rates(config))
  whole = phases[-1].model._replace(losses=losses_of(*tables))
  function = lambda key: init_state(
    whole, transformations, key, *examples(config, size), config.network.latent_size
  )
  return jax.jit(function, out_shardings=phases[-1].parallel.at_rest)


def examples(config, size):
  """Inputs x [2, H, W, C] and c [2, A] or None, to initialise networks with."""
  d = config.data
  return jnp.zeros((2, d.image_size, d.image_size, d.channels)), jnp.zeros(
    (2, size)
  ) if size else None


def makers(config, size):
  """({maker: network}, the shapes of their EMA on this host's first device), of a trained config."""
  names = [n for n in networks_of(losses_of(settings.method(config))) if n in MAKERS]
  made = networks(config, names)
  whole = Model(made, losses=())
  state = jax.eval_shape(
    lambda key: init_state(whole, {}, key, *examples(config, size), config.network.latent_size),
    jax.random.key(0),
  )
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return made, jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), state.ema
  )
