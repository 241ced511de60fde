"""Checks of a config before anything compiles: its fields, its method, and how they fit."""

import importlib.util
import math
import re

import jax
from ml_collections import ConfigDict

from vaegan_jax import critic_aids, optim
from vaegan_jax.bounds import BOUNDS, OPPOSED, RATE, WEIGHT
from vaegan_jax.methods import METHODS
from vaegan_jax.model import (
  CRITICS,
  MAKERS,
  SEES,
  can_train,
  losses_of,
  networks_of,
  played,
)
from vaegan_jax.networks import prior
from vaegan_jax.parallel import LARGEST_UNROLL
from vaegan_jax.settings import Table, fields, method
from vaegan_jax.words import closest


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
  check_trained(config, table, first)
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
  if config.network.name == 'residual' and config.network.latent_size < 2:
    raise ValueError(
      f'--config.network.latent_size={config.network.latent_size}: residual networks divide z by '
      'its length, which leaves only its sign: use at least 2'
    )
  if config.gate.on and config.adversarial != 'bce':
    raise ValueError(
      '--config.gate.on compares cross-entropies, in nats: set it to False with '
      f'--config.adversarial={config.adversarial}'
    )
  pairs = {'fake_recon', 'fake_prior', 'fool_recon', 'fool_prior'} & set(named)
  if config.adversarial == 'relativistic' and pairs and 'real' not in named:
    raise ValueError(
      '--config.adversarial=relativistic compares fakes with real images: weigh `real` in the '
      "discriminator's row, or choose another adversarial loss"
    )
  if config.data.label_table and config.data.name != 'folder':
    raise ValueError(
      f'--config.data.label_table={config.data.label_table} is for --config.data.name=folder, '
      f'not for {config.data.name}'
    )
  if config.prior_condition == 'uniform' and config.data.condition == 'attributes':
    raise ValueError('--config.prior_condition=uniform draws one class: attributes need shuffled')
  check_name('method', config.method_name, config.method)
  check_name('first.method', config.first.method_name, config.first.method)
  check_used(config)
  check_critic_augment(config)
  check_division(config)
  check_wandb(config.wandb_project)


def check_used(config: ConfigDict) -> None:
  """Raises ValueError for a field that the other fields make the run ignore."""
  network = config.network
  for field, off in (('detail_channels', 0), ('patch_logits', False), ('learned_prior', False)):
    if network.name != 'residual' and network.get(field, off) != off:
      raise ValueError(
        f'--config.network.{field}={network[field]} is for --config.network.name=residual, not for '
        f'{network.name}: set it to {off}'
      )
  if network.get('learned_prior', False) and network.latent_size > prior.LARGEST:
    raise ValueError(
      f'--config.network.learned_prior=True keeps a covariance of all latents: use at most '
      f'{prior.LARGEST} (--config.network.latent_size={network.latent_size}), or set it to False'
    )
  if network.conditional_discriminator and config.data.condition == 'none':
    raise ValueError(
      '--config.network.conditional_discriminator=True: there is no condition to see; set it to '
      'False, or --config.data.condition'
    )


def check_critic_augment(config: ConfigDict) -> None:
  """Raises ValueError if the augmentation of the discriminator's images could not act."""
  mode, strength = config.critic_augment.mode, config.critic_augment.strength
  flag = f'--config.critic_augment.mode={mode}'
  if mode != 'off' and not any(played(losses_of(method(c))) for c in (config, config.first)):
    raise ValueError(
      f"{flag} needs fake_recon or fake_prior in the discriminator's row, which this method lacks: "
      'set it to off'
    )
  if mode == 'off' and strength:
    raise ValueError(
      f'--config.critic_augment.strength={strength} does nothing with mode=off: set '
      '--config.critic_augment.mode to fixed or adaptive'
    )
  if mode == 'fixed' and not strength:
    raise ValueError(
      f'{flag} does nothing at --config.critic_augment.strength=0: use more than 0, at most 1'
    )
  if mode == 'adaptive' and strength > critic_aids.LARGEST:
    raise ValueError(
      f'--config.critic_augment.strength={strength}: with mode=adaptive use at most '
      f'{critic_aids.LARGEST}'
    )


def check_wandb(project: str) -> None:
  """Raises ValueError if W&B cannot take this name, or its client is not installed."""
  flag = f'--config.wandb_project={project}'
  if not re.fullmatch(r'[\w.-]{0,128}', project):
    raise ValueError(f'{flag}: use up to 128 letters, digits, -, _ and .')
  if project and importlib.util.find_spec('wandb') is None:
    raise ValueError(f'{flag}: wandb is not installed: run pip install "vaegan_jax[wandb]"')


def check_division(config: ConfigDict) -> None:
  """Raises ValueError if the batches or steps do not divide as the config asks."""
  parts, count, dispatch = config.accumulate, jax.device_count(), config.steps_per_dispatch
  if config.batch_size % (parts * count):
    raise ValueError(
      f'--config.batch_size={config.batch_size} is not a multiple of the {count} devices'
      + (f' times --config.accumulate={parts}' if parts > 1 else '')
    )
  apart = count if config.parallel == 'pmap' else 1  # a mesh divides what is left by itself
  for name, every in config.every.items():
    if config.batch_size % (every * parts * apart):
      raise ValueError(
        f'--config.every.{name}={every} does not divide the {config.batch_size // parts // apart} '
        'images that are taken at a time: set another batch_size'
        + (', accumulate' if parts > 1 else '')
        + (', parallel=mesh' if apart > 1 else '')
        + f' or every.{name}'
      )
  if config.every.reconstruct > 1 and 'joint' in config.normalise.values():
    raise ValueError(
      f'--config.every.reconstruct={config.every.reconstruct} makes fewer reconstructions than '
      'prior samples, which cannot be normalised as one batch: set --config.normalise.makers '
      'and --config.normalise.critics to apart'
    )
  if not all(type(step) is int and step > 0 for step in config.sample_at_steps):
    raise ValueError(
      f'--config.sample_at_steps={config.sample_at_steps}: give steps, such as (1, 10, 50)'
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


def check_trained(config: ConfigDict, table: Table, first: Table) -> None:
  """Raises ValueError if nothing trains one of the networks that the losses of `table` need."""
  named = losses_of(table)
  if not named:
    raise ValueError('config.method has no loss left: nothing would be trained')
  if 'generator' not in networks_of(named):
    raise ValueError("config.method has no loss left that sees a generator's images")
  for network in networks_of(named):
    if network not in {**table, **first}:
      raise ValueError(
        f'config.method.{network} has no weight left, so its random weights would stay: weigh a '
        f'loss; to keep the {network} of --init_from, set --config.optimizer.factor.{network}=0'
      )
  o = config.optimizer
  for network, factor in o.factor.items():
    if factor and (complaint := RATE.complaint(o.learning_rate * factor)):
      raise ValueError(
        f'--config.optimizer.factor.{network}={factor} gives a learning rate of '
        f'{o.learning_rate * factor:g}: {complaint}'
      )
  if not any(o.factor[network] for network in table):
    factors = ' '.join(f'--config.optimizer.factor.{network}=0' for network in table)
    raise ValueError(f'{factors}: nothing would be trained; use more than 0 for one of them')


def check_name(prefix: str, name: str, table: Table) -> None:
  """Raises ValueError if the name of a method contradicts its table; weights are free, also 0.

  The table of a known method has that method's name. Any other has a name of its own, or that of a
  known method with rows for the same networks.
  """

  def cells(table: Table) -> set[tuple[str, str]]:
    return {(network, loss) for network, row in table.items() for loss in row}

  known = {'': {}, **METHODS}
  same = [other for other, rows in known.items() if cells(rows) == cells(table)]
  if name in same or (not same and set(known.get(name, table)) == set(table)):
    return
  what = f'the rows and losses of {" or ".join(same) or "another method"}' if table else 'no row'
  remedy = 'choose a method by --config=FILE:METHOD' if same else 'give it a name of its own'
  raise ValueError(f'--config.{prefix}_name={name}: config.{prefix} has {what}; {remedy}')


def check_method(prefix: str, table: Table, condition: str) -> None:
  """Raises ValueError that names the row or the loss of `table` that cannot be trained."""
  for network, row in table.items():
    if network not in MAKERS + CRITICS:
      raise ValueError(
        f'config.{prefix} has a row for {network!r}, which is not a network: use '
        f'{", ".join(MAKERS + CRITICS)}'
      )
    for loss, weight in row.items():
      if loss not in SEES:
        raise ValueError(
          f'config.{prefix}.{network}.{loss}: unknown loss; use one of '
          f'{", ".join(SEES)}{closest(loss, SEES)}'
        )
      if loss == 'lecam' and network != 'discriminator':
        raise ValueError(
          f"config.{prefix}.{network}.lecam: move lecam to the discriminator's row: no other "
          'network may descend it'
        )
      if not can_train(loss, network):
        raise ValueError(
          f'config.{prefix}.{network}.{loss}: this loss does not depend on the {network}'
        )
      bounds = OPPOSED if network in MAKERS and loss in optim.GATED else WEIGHT
      if complaint := bounds.complaint(weight):
        raise ValueError(f'--config.{prefix}.{network}.{loss}={weight}: {complaint}')
  if 'lecam' in losses_of(table) and not played(table.get('discriminator', {})):
    raise ValueError(
      f'config.{prefix} has lecam, which compares real images with fakes: weigh fake_recon or '
      "fake_prior in the discriminator's row, or leave lecam out"
    )
  by_class = [loss for loss in losses_of(table) if 'classifier' in SEES[loss]]
  if by_class and condition == 'none':
    raise ValueError(
      f'config.{prefix} has {by_class[0]}, which needs classes or attributes: '
      'set --config.data.condition=label or attributes'
    )
