"""FLOPs of one training step of every method, by XLA's count, beside the least possible, counted by hand.

    python benchmarks/arithmetic.py
    python benchmarks/arithmetic.py --methods=vae_gan,cvae_gan --batch_size=32

Prints a Markdown table; nothing is run, so that a laptop will do (each row takes the minute or so of compiling a
step). Networks as published, Larsen's for the unconditional methods and Bao's with 10 classes for the others, for
colour images of 64x64. By XLA's count is compiled.cost_analysis()['flops'] on the CPU backend: of the whole step,
so with batch norm, losses, optimizers, moving average and the check for finiteness (those after the gradients are
told apart); a multiplication and an addition are 2 FLOPs, and taps that fall on padding count nothing.

By hand, of convolutions and full layers alone, in passes through encoder (e), generator (g), discriminator (d) and
classifier (c), each as dear as a forward pass for one group of images (real, reconstructed, prior samples):
- forward: one for each group that a network makes or sees;
- weight gradients: one for each group that is in the row of a network;
- input gradients: a pullback is linear, so that a group needs one for each linearly independent row, of those
  networks at or below the layer whose rows have losses that come this way. Groups normalised jointly are pulled
  together: all of them for each row. The lowest layer's are needed only where they go on into a network below.
E.g. VAE/GAN with all apart: d forward 3, weights 3, inputs 1 for x, 2 for x_f (the encoder's row is feature_d
alone, the discriminator's fake_recon), 1 for x_p, together 10. A loss of features is counted through the whole
critic, which is up to 2 % of d too much. 'With taps on padding' is the same least as torch.utils.flop_counter counts
it, to compare with the 14.7 GFLOP of the PyTorch twin of benchmarks/step.py, which has 3e + 6g + 10d.
"""

import datetime
import os
from unittest import mock

from absl import flags
import numpy as np

from vaegan_jax import command, methods, settings
from vaegan_jax.model import SEES, judge, make, seen_by
from vaegan_jax.routing import reaches
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


def setting(name, critics='', width=1.0, image_size=64):
  """(model, table, config) of a method for colour images; critics: how they normalise, if not by default."""
  from vaegan_jax import build
  from vaegan_jax.configs import base

  config = base.get_config(name)
  config.data.image_size, config.data.channels = image_size, 3
  config.network.latent_size, config.network.width = 128, width
  config.normalise.critics = critics or config.normalise.critics
  table = settings.method(config)
  return build.model(config, classes(name), table), table, config.lock()


def classes(name):
  """Number of classes of a method's condition, 0 without."""
  return CLASSES if name in methods.CONDITIONAL else 0


def by_xla(name, model, table, config, batch_size, compiled=True):
  """FLOPs per image: of the step, of one forward pass, and (as a function) of what the step does after its gradients.

  compiled: compile the step for its count; else that of the program as JAX hands it to XLA, which has it without
  what is dead, and was within 1 % of the other for every method.
  """
  import jax
  import jax.numpy as jnp

  from vaegan_jax import build

  size, transformations = classes(name), build.optimizers(config, table, build.rates(config))
  draws = Draws(config.network.latent_size, uniform_classes, size)
  like = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype)
  batch = dict(
    x=like((batch_size, *[config.data.image_size] * 2, 3), jnp.uint8),
    **(dict(c=like((batch_size,), jnp.int32)) if size else {}),
  )
  key = jax.random.key(0)
  state = jax.eval_shape(
    lambda k: init_state(
      model, transformations, k, *build.examples(config, size), config.network.latent_size
    ),
    key,
  )

  def inputs(state, batch, key):
    c = as_condition(batch.get('c'), size)
    return c, *draw(draws, jax.random.fold_in(key, state.step), as_float(batch['x']), c)

  def forward(state, batch, key):
    c, x, noise = inputs(state, batch, key)
    fakes, terms, moved = make(model, state.params, state.stats, x, c, noise)
    return (
      terms,
      moved,
      judge(model, state.params, state.stats, state.centres, x, c, noise['c_p'], fakes),
    )

  def gradients(state, batch, key):
    c, x, noise = inputs(state, batch, key)
    return gradients(model, table, state.params, state.stats, state.centres, x, c, noise)

  step = train_step(model, table, transformations, draws, ema_decay=config.ema_decay)

  def count(function, compiled=False):
    lowered = jax.jit(function).lower(state, batch, key)
    return (lowered.compile() if compiled else lowered).cost_analysis()['flops'] / batch_size

  return count(step, compiled), count(forward), lambda: count(step) - count(gradients)


def layers(function, *inputs, padding=False):
  """FLOPs per example of each convolution and full layer of a forward pass, in order.

  padding: count taps on padding, too, as torch.utils.flop_counter does.
  """
  import jax

  found = []

  def convolution(p, x, kernel, y):
    numbers, taps = p['dimension_numbers'], 1
    for i, (stride, (low, _), dilation) in enumerate(
      zip(p['window_strides'], p['padding'], p['lhs_dilation']), 2
    ):
      n, k, m = (a[spec[i]] for a, spec in zip((x, kernel, y), numbers))
      at = stride * np.arange(m)[:, None] + np.arange(k) - low
      on_image = (at >= 0) & (at <= dilation * (n - 1)) & (at % dilation == 0)
      taps *= (m if dilation == 1 else n) * k if padding else on_image.sum()
    return 2.0 * taps * kernel[numbers.rhs_spec[0]] * kernel[numbers.rhs_spec[1]]

  def walk(jaxpr):
    for eqn in jaxpr.eqns:
      shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
      if eqn.primitive.name == 'conv_general_dilated':
        found.append(convolution(eqn.params, *shapes))
      elif eqn.primitive.name == 'dot_general':
        found.append(2.0 * np.prod(shapes[1]))
      for value in eqn.params.values():
        if hasattr(value, 'jaxpr'):
          walk(value.jaxpr)

  # Convolutions in their plain form: that of a CPU has zeros in the kernel before an image, see networks/layers.py.
  with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
    walk(jax.make_jaxpr(function)(*inputs).jaxpr)
  return found


def costs(model, config, size, **options):
  """{network: (FLOPs per image of a forward pass, those of its lowest layer)}, by `layers`."""
  import jax
  import jax.numpy as jnp

  from vaegan_jax import build

  x, c = build.examples(config, size)
  z = jnp.zeros((len(x), config.network.latent_size))
  made = {}
  for name, network in model.networks.items():
    arguments = dict(encoder=(x, c), generator=(z, c), discriminator=(x, c), classifier=(x,))[name]
    variables = jax.eval_shape(
      lambda k, n=network, a=arguments: n.init(k, *a, train=False), jax.random.key(0)
    )
    apply = lambda v, n=network, a=arguments: n.apply(v, *a, train=False)
    flops = layers(apply, variables, **options)
    made[name] = sum(flops), flops[0]
  return made


def passes(model, table):
  """{network: (passes forward, of weight gradients, of input gradients, of the lowest layer's input gradients)}."""
  fakes = ''.join(
    k for k in 'fp' if any(k in images for name in model.losses for images in SEES[name].values())
  )

  def count(network, groups, comes_by, takers):
    """groups: of images, each pulled as one; comes_by(loss, group); takers(group): makers below."""
    weights = inputs = lowest = 0
    for group in groups:
      names = [name for name in model.losses if comes_by(name, group)]
      row = lambda n: [table.get(n, {}).get(name, 0.0) for name in names]
      below = [row(n) for n in takers(group) if any(row(n))]
      own = [row(network)] if any(row(network)) else []
      rank = lambda rows: np.linalg.matrix_rank(np.array(rows)) if rows else 0
      weights += len(group) * len(own)
      inputs += len(group) * rank(own + below)
      lowest += len(set(group) & set(fakes)) * rank(below)
    return sum(map(len, groups)), weights, inputs, lowest

  together = lambda images, joint: [images] if joint and images else list(images)
  made = {}
  for network in model.networks:
    if network == 'encoder':
      made[network] = 1, *([int(network in table)] * 2), 0
    elif network == 'generator':
      # To z, the lowest layer's, only the encoder's row is pulled.
      made[network] = count(
        network,
        together(fakes, model.joint_makers),
        lambda name, group: set(group) & reaches(model, (name,)),
        lambda group: ['encoder'] if 'f' in group else [],
      )
    else:
      # Real images are targets of the losses that compare features.
      moves = lambda name: (
        SEES[name]
        .get(network, '')
        .replace('r', '' if name.startswith(('feature', 'match')) else 'r')
      )
      made[network] = count(
        network,
        together(
          seen_by(network, model.losses), model.joint_critics and network not in model.frozen
        ),
        lambda name, group: set(group) & set(moves(name)),
        lambda group: [
          n for n, k in (('encoder', 'f'), ('generator', 'fp')) if set(k) & set(group)
        ],
      )
  return made


def by_hand(costs, passes):
  """(FLOPs per image, the sum in words: '3e + 7g + 10d') of the least that a step can do."""
  total, words = 0.0, []
  for network, (forward, weights, inputs, lowest) in passes.items():
    whole, first = costs[network]
    total += (forward + weights) * whole + inputs * (whole - first) + lowest * first
    words.append(f'{forward + weights + inputs}{network[0]}')
  return total, ' + '.join(words)


def main():
  os.environ['JAX_PLATFORMS'] = 'cpu'
  # With two devices layers.py takes weight gradients whole: the same FLOPs, and a smaller program.
  os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=2'
  )
  import jax

  # Dead and double work is still removed, which is all that matters to the count.
  jax.config.update('jax_disable_most_optimizations', True)
  print(
    f'`python benchmarks/arithmetic.py`, batch of {BATCH_SIZE.value}, {datetime.date.today()}, JAX {jax.__version__}\n'
  )
  print(
    '| method | normalised by makers, critics | step, GFLOP per image | forward pass | ratio | least by hand | '
    'in passes | with taps on padding | after the gradients |\n|---|---|---|---|---|---|---|---|---|'
  )
  for name in METHODS.value:
    if name not in methods.METHODS:
      raise ValueError(f'--methods: {name!r} is no method: use {", ".join(methods.METHODS)}')
    for critics in ('', 'apart') if name in APART else ('',):
      model, table, config = setting(name, critics, WIDTH.value)
      step, forward, after = by_xla(name, model, table, config, BATCH_SIZE.value)
      counts = passes(model, table)
      (least, words), (padded, _) = (
        by_hand(costs(model, config, classes(name), padding=p), counts) for p in (False, True)
      )
      print(
        f'| {name} | {config.normalise.makers}, {config.normalise.critics} | {step / 1e9:.2f} | {forward / 1e9:.2f} | '
        f'{step / forward:.2f} | {least / 1e9:.2f} | {words} | {padded / 1e9:.2f} | {after() / 1e9:.3f} |',
        flush=True,
      )
  return 0


if __name__ == '__main__':
  command.run(main)
