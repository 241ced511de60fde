"""FLOPs of one training step of every method, as XLA counts them, against the least by hand.

    python -m benchmarks.arithmetic
    python -m benchmarks.arithmetic --methods=vae_gan,cvae_gan --batch_size=32

Prints a Markdown table. Nothing runs, so a laptop will do; each row takes the minute or so of
compiling a step. Networks as published, Larsen's for the unconditional methods and Bao's with 10
classes for the others, for colour images of 64x64. XLA's count is
compiled.cost_analysis()['flops'] on the CPU backend, of the whole step: with batch norm, losses,
optimizers, moving average and the check for finiteness (the table also shows what follows the
gradients on its own). A multiplication and an addition are 2 FLOPs; taps on padding count nothing.

benchmarks/least.py explains the count by hand, in passes through encoder (e), generator (g),
discriminator (d) and classifier (c).
"""

from collections.abc import Callable
import datetime
from typing import NamedTuple

from absl import flags
import jax
import jax.numpy as jnp

from benchmarks import least, machine
from benchmarks.least import Setting
from benchmarks.stepper import colour_config
from vaegan_jax import build, command, methods, settings
from vaegan_jax.model import judge, make
from vaegan_jax.routing import Inputs, gradients
from vaegan_jax.step import (
  Draws,
  as_condition,
  as_float,
  draw,
  init_state,
  train_step,
  uniform_classes,
)

METHODS = flags.DEFINE_list('methods', list(methods.METHODS), 'Rows of the table.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images of a step.', lower_bound=2)
WIDTH = flags.DEFINE_float('width', 1.0, 'Factor on the published widths.')

CLASSES = 10
APART = ('vae_gan', 'vae_gan_released')  # also with the discriminator normalising its groups apart
COLUMNS = (
  'method',
  'normalised by makers, critics',
  'step, GFLOP per image',
  'forward pass',
  'ratio',
  'least by hand',
  'in passes',
  'with taps on padding',
  'after the gradients',
)


class Counted(NamedTuple):
  """FLOPs per image, as XLA counts them."""

  step: float
  forward: float
  after_gradients: Callable[[], float]  # what the step does after them; costs another lowering


def setting(name: str, critics: str = '', width: float = 1.0, image_size: int = 64) -> Setting:
  """The Setting of a method for colour images; critics: how they normalise, '' for the default."""
  config = colour_config(name, image_size, width)
  config.network.latent_size = 128
  config.normalise.critics = critics or config.normalise.critics
  table, classes = settings.method(config), CLASSES if name in methods.CONDITIONAL else 0
  return Setting(build.model(config, classes, table), table, config.lock(), classes)


def by_xla(setting: Setting, batch_size: int, compiled: bool = True) -> Counted:
  """The Counted of a step.

  compiled: compile the step for its count. Otherwise count the program that JAX hands to XLA, from
  which dead code is already gone; it was within 1 % of the other for every method.
  """
  model, table, config, size = setting
  transformations = build.optimizers(config, table, build.rates(config))
  draws = Draws(config.network.latent_size, uniform_classes, size)
  images = (batch_size, config.data.image_size, config.data.image_size, 3)
  batch = dict(x=jax.ShapeDtypeStruct(images, jnp.uint8))
  batch |= dict(c=jax.ShapeDtypeStruct((batch_size,), jnp.int32)) if size else {}
  key, examples = jax.random.key(0), build.examples(config, size)
  state = jax.eval_shape(
    lambda k: init_state(model, transformations, k, *examples, config.network.latent_size), key
  )

  def inputs(state, batch, key):
    c = as_condition(batch.get('c'), size)
    x, noise = draw(draws, jax.random.fold_in(key, state.step), as_float(batch['x']), c)
    return Inputs(x, c, noise)

  def forward(state, batch, key):
    x, c, noise = inputs(state, batch, key)
    fakes, terms, moved = make(model, state.params, state.stats, x, c, noise)
    judged = judge(model, state.params, state.stats, state.centres, x, c, noise['c_p'], fakes)
    return terms, moved, judged

  def backward(state, batch, key):
    return gradients(model, table, state, inputs(state, batch, key))

  step = train_step(model, table, transformations, draws, ema_decay=config.ema_decay)

  def count(function, compiled=False):
    lowered = jax.jit(function).lower(state, batch, key)
    return (lowered.compile() if compiled else lowered).cost_analysis()['flops'] / batch_size

  return Counted(count(step, compiled), count(forward), lambda: count(step) - count(backward))


def row(name: str, critics: str) -> str:
  """The row of a method."""
  own = setting(name, critics, WIDTH.value)
  normalise, passes = own.config.normalise, least.passes(own)
  counted = by_xla(own, BATCH_SIZE.value)
  flops, padded = (least.by_hand(least.costs(own, padding), passes) for padding in (False, True))
  return machine.row(
    name,
    f'{normalise.makers}, {normalise.critics}',
    f'{counted.step / 1e9:.2f}',
    f'{counted.forward / 1e9:.2f}',
    f'{counted.step / counted.forward:.2f}',
    f'{flops / 1e9:.2f}',
    least.in_words(passes),
    f'{padded / 1e9:.2f}',
    f'{counted.after_gradients() / 1e9:.3f}',
  )


def main() -> int:
  unknown = [name for name in METHODS.value if name not in methods.METHODS]
  if unknown:
    raise ValueError(f'--methods: {unknown[0]!r} is not a method: use {", ".join(methods.METHODS)}')
  jax.config.update('jax_platforms', 'cpu')
  # With two devices networks/convolutions.py takes weight gradients whole: the same FLOPs, and a
  # smaller program.
  jax.config.update('jax_num_cpu_devices', 2)
  # XLA still removes dead and repeated work, which is all that changes the count.
  jax.config.update('jax_disable_most_optimizations', True)
  print(
    f'`python -m benchmarks.arithmetic`, batch of {BATCH_SIZE.value}, {datetime.date.today()}, '
    f'JAX {jax.__version__}\n\n{machine.table(*COLUMNS)}'
  )
  for name in METHODS.value:
    for critics in ('', 'apart') if name in APART else ('',):
      print(row(name, critics), flush=True)
  return 0


if __name__ == '__main__':
  command.run(main)
