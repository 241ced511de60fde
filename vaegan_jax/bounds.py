"""The bounds of each field of a config."""

import math
from typing import Any, NamedTuple

from vaegan_jax import augment, networks, optim
from vaegan_jax.model import ADVERSARIAL, CRITICS, MAKERS
from vaegan_jax.parallel import PARALLEL
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
  or_zero: bool = False  # whether 0 is allowed, too

  def complaint(self, value: float) -> str:
    """What to use instead of `value`; '' if the value is allowed."""
    low = self.above < value and self.least <= value
    high = value <= self.most and (value < self.below or math.isinf(self.below))
    if (low and high) or (self.or_zero and not value):
      return ''
    bounds = [
      (f'more than {self.above:g}', self.above),
      (f'at least {self.least:g}', self.least),
      (f'at most {self.most:g}', self.most),
      (f'less than {self.below:g}', self.below),
    ]
    words = [words for words, bound in bounds if math.isfinite(bound)]
    return 'use ' + ('0 or ' if self.or_zero else '') + ', '.join(words)


# Numbers outside of these bounds overflow float32, or change nothing that it can hold.
RATE, WEIGHT = Range(least=1e-12, most=10), Range(least=1e-12, most=1e6, or_zero=True)
# Of a critic's loss in a maker's row.
OPPOSED = Range(least=-1e6, most=-1e-12, or_zero=True)
COUNT = Range(above=0, below=2**31)
POSITIVE, NOT_NEGATIVE, DECAY = Range(above=0), Range(least=0), Range(least=0, below=1)
BOUNDS: dict[str, OneOf | Range | networks.Name] = {
  'seed': Range(least=0, below=2**32),
  'steps': COUNT,
  'batch_size': POSITIVE,
  'accumulate': POSITIVE,
  'every.reconstruct': POSITIVE,
  'every.penalise': POSITIVE,
  'steps_per_dispatch': POSITIVE,
  'parallel': OneOf(tuple(PARALLEL)),
  'dtype': OneOf(('float32', 'bfloat16')),
  'ema_decay': DECAY,
  'first.steps': NOT_NEGATIVE,
  'data.image_size': OneOf((16, 32, 64, 128, 256)),
  'data.channels': OneOf((1, 3)),
  'data.condition': OneOf(('none', 'label', 'attributes')),
  'data.augment': OneOf(tuple(augment.AUGMENTATIONS)),
  'data.pipeline': OneOf(('auto', 'memory', 'tf.data', 'stream')),
  'network.name': networks.Name(),
  'network.latent_size': Range(above=0, most=65536),
  'network.width': Range(least=0.01, most=64),
  'network.encoder_units': Range(above=0, most=1e6),
  'network.detail_channels': Range(least=0, most=1e6),
  'normalise.makers': OneOf(('joint', 'apart')),
  'normalise.critics': OneOf(('joint', 'apart')),
  'adversarial': OneOf(tuple(ADVERSARIAL)),
  'balance.mode': OneOf(('off', 'shadow', 'on')),
  'balance.decay': DECAY,
  'balance.reconstruction': Range(least=1e-6, most=1e6),
  'balance.matching': Range(least=1e-6, most=1e6),
  'prior_condition': OneOf(tuple(PRIOR_CONDITIONS)),
  'match_d_decay': DECAY,
  'match_c_decay': DECAY,
  'lecam_decay': DECAY,
  'critic_augment.mode': OneOf(('off', 'fixed', 'adaptive')),
  'critic_augment.strength': Range(least=0, most=1),
  'critic_augment.target': Range(above=-1, below=1),
  'critic_augment.images': POSITIVE,
  'optimizer.name': OneOf(optim.OPTIMIZERS),
  'optimizer.learning_rate': RATE,
  **{f'optimizer.factor.{network}': NOT_NEGATIVE for network in MAKERS + CRITICS},
  'optimizer.schedule': OneOf(optim.SCHEDULES),
  'optimizer.end': Range(least=0, most=10),
  'optimizer.b1': DECAY,
  'optimizer.b2': DECAY,
  'optimizer.decay': DECAY,
  'optimizer.eps': Range(above=1e-30, most=1),
  'optimizer.weight_decay': Range(least=0, most=1),
  'optimizer.clip_norm': Range(least=1e-6, most=1e9, or_zero=True),
  'gate.equilibrium': Range(least=0.01, most=100),
  'gate.margin': Range(least=0, most=100),
  'health.action': OneOf(('off', 'warn', 'heal')),
  'health.every_steps': POSITIVE,
  'log_every_steps': POSITIVE,
  'sample_every_steps': POSITIVE,
  'sample_every_seconds': NOT_NEGATIVE,
  'save_every_steps': POSITIVE,
  'keep_checkpoints': POSITIVE,
  'hang_seconds': Range(least=1, most=1e9, or_zero=True),
}
