"""Checks of a config before anything compiles: the bounds of each field, and the method."""

import math
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from vaegan_jax import augment, optim
from vaegan_jax.model import ADVERSARIAL, CRITICS, MAKERS, SEES, can_train, losses_of, networks_of
from vaegan_jax.networks import NETWORKS
from vaegan_jax.parallel import LARGEST_UNROLL, PARALLEL
from vaegan_jax.settings import Table, fields, method
from vaegan_jax.step import PRIOR_CONDITIONS
from vaegan_jax.words import closest


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
  'data.image_size': OneOf((16, 32, 64, 128, 256)),
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
  'balance.mode': OneOf(('off', 'shadow', 'on')),
  'balance.decay': DECAY,
  'balance.reconstruction': POSITIVE,
  'balance.matching': POSITIVE,
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
  pairs = {'fake_recon', 'fake_prior', 'fool_recon', 'fool_prior'} & set(named)
  if config.adversarial == 'relativistic' and pairs and 'real' not in named:
    raise ValueError(
      '--config.adversarial=relativistic compares fakes with real images: weigh `real` in the '
      "discriminator's row, or choose another adversarial loss"
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
