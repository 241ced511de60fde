"""From a configuration to the objects of a run."""

from collections.abc import Callable, Iterable, Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from vaegan_jax import augment, checks, data, losses, optim, settings
from vaegan_jax.balance import Balance
from vaegan_jax.critic_aids import CriticAugment
from vaegan_jax.model import ADVERSARIAL, MAKERS, Model, losses_of, networks_of
from vaegan_jax.networks import NETWORKS, module
from vaegan_jax.parallel import AXIS, free_bytes
from vaegan_jax.step import PRIOR_CONDITIONS, Draws, init_state, train_step
from vaegan_jax.words import size_in_words

RESIDENT = 0.5  # the largest share of a device's free memory that a data set on the devices takes


# --- Checks.


def check(config: ConfigDict) -> None:
  """Raises ValueError that names the first field with a bad value, and what it may be."""
  checks.check(config)
  pipeline(config)
  for table in tables_of(config):
    networks(config, networks_of(losses_of(table)))


def pipeline(config: ConfigDict) -> str:
  """How the host makes the batches: a key of data.PIPELINES. `auto` is resolved.

  Raises:
    ValueError: the batches are to be made on the devices.
  """
  d = config.data
  asked = d.get('pipeline', 'auto')  # older runs lack it
  if not d.on_device:
    return data.default_pipeline(d.name) if asked == 'auto' else asked
  if asked not in ('auto', 'memory'):
    raise ValueError(
      f'--config.data.pipeline={asked} makes batches on the host, --config.data.on_device=True on '
      'the devices: leave one of them out'
    )
  return 'memory'


def check_feed(config: ConfigDict, dataset: data.Dataset) -> None:
  """Raises ValueError if TensorFlow or a class's images are missing, or devices lack the memory."""
  if config.data.condition == 'label':
    data.check_classes(dataset)
  if pipeline(config) == 'tf.data':
    data.need_tensorflow()
  if not config.data.on_device:
    return
  size = sum(a.nbytes for a in data.take(dataset, slice(None), config.data.condition).values())
  free = free_bytes()
  if free is not None and size > RESIDENT * free:
    raise ValueError(
      f'--config.data.on_device=True: {dataset.name} takes {size_in_words(size)} on each device, '
      f'more than {RESIDENT:.0%} of the {size_in_words(free)} that are free there: set it to False'
    )


# --- Data.


def dataset(config: ConfigDict, split: str = '', scratch: str = '') -> data.Dataset:
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
    encoded=pipeline(config) == 'stream',
  )


def held_out(config: ConfigDict, seen: data.Dataset | None = None) -> data.Dataset:
  """The config's held-out split; without one, its training images (`seen`, if loaded already)."""
  return dataset(config, config.data.held_out) if config.data.held_out or seen is None else seen


def own_images(config: ConfigDict, path: str) -> data.Dataset:
  """A folder or zip of images, resized for a config's networks."""
  d = config.data
  size = dict(image_size=d.image_size, channels=d.channels)
  return data.load('folder', **size, path=path, cache_dir=d.cache_dir)


def about(config: ConfigDict, dataset: data.Dataset) -> dict[str, Any]:
  """What a checkpoint says of its data, for JSON: the condition's kind, size and names."""
  condition = config.data.condition
  names = dict(none=[], label=dataset.class_names, attributes=dataset.attribute_names)[condition]
  facts = dict(condition=condition, names=list(names or []), size=len(names or []))
  if condition == 'attributes':  # to complete a request that sets some attributes only
    every = max(1, len(dataset.attributes) // 256)
    facts['examples'] = dataset.attributes[::every][:256].astype(int).tolist()
  return facts


# --- Networks and optimizers. `size` is that of the condition: classes or attributes, 0 without.


def networks(config: ConfigDict, names: Iterable[str]) -> dict[str, Any]:
  """{name: flax module} of the networks `names`; ValueError for what their module lacks."""
  n, d = config.network, config.data
  shared = dict(
    image_size=d.image_size,
    channels=d.channels,
    width=n.width,
    dtype=jnp.dtype(config.dtype),
    axis_name=AXIS if config.parallel == 'pmap' else None,
  )
  conditional = n.conditional_discriminator and d.condition != 'none'
  extra = dict(encoder=dict(latent_size=n.latent_size), discriminator=dict(conditional=conditional))
  if n.name == 'larsen':
    extra['encoder']['units'] = n.encoder_units
  if n.name == 'residual':
    # Older runs lack these fields. Without an encoder there is nothing to learn a prior from.
    learned = n.get('learned_prior', False) and 'encoder' in names
    extra['generator'] = dict(detail_channels=n.get('detail_channels', 0), learned_prior=learned)
    extra['encoder']['learned_prior'] = learned
    extra['discriminator']['patch_logits'] = n.get('patch_logits', False)
  home, made = module(n.name), {}
  for name in names:
    kind, arguments = name.capitalize(), {**shared, **extra.get(name, {})}
    if not hasattr(home, kind):
      what = 'use --config.network.name=bao' if n.name in NETWORKS else f'write a class {kind}'
      raise ValueError(
        f'--config.network.name={n.name} has no {name}, which {config.method_name} needs: {what}'
      )
    try:
      made[name] = getattr(home, kind)(**arguments)
    except TypeError as e:
      raise ValueError(
        f'--config.network.name={n.name}: {kind} must take the fields {", ".join(arguments)}: {e}'
      ) from e
  return made


def model(config: ConfigDict, size: int, table: settings.Table, also: Iterable[str] = ()) -> Model:
  """The Model of a method's table; `also`: losses of another phase, whose networks it has too."""
  names = losses_of(table)
  made = networks(config, networks_of((*names, *also)))
  if 'classifier' in made:
    made['classifier'] = made['classifier'].clone(num_classes=size)
  by_attributes = config.data.condition == 'attributes'
  return Model(
    networks=made,
    losses=names,
    frozen=tuple(n for n in made if n not in table),
    joint_makers=config.normalise.makers == 'joint',
    joint_critics=config.normalise.critics == 'joint',
    adversarial=ADVERSARIAL[config.adversarial],
    class_loss=losses.sigmoid_cross_entropy if by_attributes else losses.softmax_cross_entropy,
    match_d_decay=config.match_d_decay,
    match_c_decay=config.match_c_decay,
    lecam_decay=config.lecam_decay,
    critic_augment=critic_augment_of(config),
    reconstruct_every=config.every.reconstruct,
    penalise_every=config.every.penalise,
    axis_name=AXIS if config.parallel == 'pmap' else None,
  )


def rates(config: ConfigDict) -> dict[str, dict[str, float]]:
  """{'first': {network: learning rate}, 'last': {network: rate that the schedule ends with}}."""
  o = config.optimizer
  factored = lambda rate: {network: rate * factor for network, factor in o.factor.items()}
  return dict(first=factored(o.learning_rate), last=factored(o.end))


def optimizers(
  config: ConfigDict, names: Iterable[str], rates: Mapping[str, Mapping[str, Any]]
) -> dict[str, optax.GradientTransformation]:
  """{network: optax transformation} for the networks `names`, with the rates of `rates`."""
  o = config.optimizer
  made = {}
  for name in names:
    first, last = rates['first'][name], rates['last'][name]
    rate = optim.learning_rate(o.schedule, first, end=last, steps=config.steps)
    more = {k: o[k] for k in ('b1', 'b2', 'decay', 'eps', 'weight_decay', 'clip_norm')}
    made[name] = optim.optimizer(o.name, rate, **more)
  return made


# --- Steps.


def tables_of(config: ConfigDict) -> list[settings.Table]:
  """The tables that train a run, one after the other."""
  return [table for table in (settings.method(config.first), settings.method(config)) if table]


def step_of(
  config: ConfigDict,
  size: int,
  table: settings.Table,
  also: Iterable[str],
  transformations: Any,
  begin: int = 0,
) -> tuple[Model, Callable]:
  """(Model, step) of a table; `also`: see model; what follows: see step.train_step."""
  draws = Draws(
    config.network.latent_size,
    PRIOR_CONDITIONS[config.prior_condition],
    classes=size if config.data.condition == 'label' else 0,
    flip=config.data.flip,
    augment=augment.AUGMENTATIONS[config.data.augment],
    for_critic=config.critic_augment.mode != 'off',
  )
  whole = model(config, size, table, also)
  gate = None
  if config.gate.on:
    gate = functools.partial(
      optim.equilibrium_gate, equilibrium=config.gate.equilibrium, margin=config.gate.margin
    )
  step = train_step(
    for_backend(whole),
    table,
    transformations,
    draws,
    ema_decay=config.ema_decay,
    begin=begin,
    gate=gate,
    accumulate=config.accumulate,
    balanced=balance_of(config),
  )
  return whole, step


def for_backend(model: Model) -> Model:
  """The model as the step runs it: with images in blocks on a TPU, if all its networks can.

  The augmentation of what the discriminator sees needs pixels.
  """
  able = all(hasattr(network, 'packed') for network in model.networks.values())
  if jax.default_backend() != 'tpu' or not able or model.critic_augment:
    return model
  networks = {name: network.clone(packed=True) for name, network in model.networks.items()}
  return model._replace(networks=networks, packed=True)


def balance_of(config: ConfigDict) -> Balance | None:
  """The Balance of a config; None if it is off."""
  b = config.balance
  if b.mode == 'off':
    return None
  return Balance(b.mode == 'on', b.decay, b.reconstruction, b.matching)


def critic_augment_of(config: ConfigDict) -> CriticAugment | None:
  """The CriticAugment of a config; None if it is off."""
  a = config.critic_augment
  if a.mode == 'off':
    return None
  return CriticAugment(a.strength, a.mode == 'adaptive', a.target, a.images)


def examples(config: ConfigDict, size: int) -> tuple[jax.Array, jax.Array | None]:
  """Inputs x [2, H, W, C] and c [2, A] or None, to initialise networks with."""
  d = config.data
  c = jnp.zeros((2, size)) if size else None
  return jnp.zeros((2, d.image_size, d.image_size, d.channels)), c


def makers(config: ConfigDict, size: int) -> tuple[dict[str, Any], Any]:
  """({maker: network}, the shapes of their EMA) of a trained config."""
  names = [n for n in networks_of(losses_of(settings.method(config))) if n in MAKERS]
  made = networks(config, names)
  return made, state_shapes(config, size, made).ema


def critics(config: ConfigDict, size: int) -> dict[str, Any]:
  """{critic: network} of a trained config."""
  made = model(config, size, settings.method(config)).networks
  return {n: network for n, network in made.items() if n not in MAKERS}


def state_shapes(config: ConfigDict, size: int, made: Mapping[str, Any]) -> Any:
  """The shapes of a TrainState of the networks `made`, without optimizers."""
  whole = Model(made, losses=())
  return jax.eval_shape(
    lambda key: init_state(whole, {}, key, *examples(config, size), config.network.latent_size),
    jax.random.key(0),
  )
