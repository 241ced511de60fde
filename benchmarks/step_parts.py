"""Where the time of a VAE/GAN step goes: --profile and --ceilings of benchmarks/step.py."""

import collections
from collections.abc import Callable, Mapping
import functools
import os
import pathlib
import re
import statistics
import tempfile
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from benchmarks import machine
from vaegan_jax import parallel
from vaegan_jax.networks import layers

# Kinds of XLA's operations, by what is in their names; the first that fits.
KINDS = {
  'convolutions': 'conv',
  'full layers and reductions': 'ynn_fusion|dot|reduce',
  'concatenated phases of transposed convolutions': 'concatenate',
  'layouts for weight gradients': 'transpose|copy',
  'all else: batch norm, activations, optimizer': '',
}


def profile(make_step: Callable[[], Callable], title: str, warmup: int, count: int) -> None:
  """Prints the time of a step on one core, where nothing overlaps, by kind of operation."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  step = make_step()  # now that XLA's threads will share the core
  walls = machine.timed(step, warmup, count).wall
  spent = time_by_kind(step)
  total = sum(spent.values())
  print(
    f'{title}, one core of {machine.line()}: {statistics.median(walls):.2f} s per step, '
    f'{total:.2f} s in operations\n\n{machine.table("operations", "seconds", "share")}'
  )
  for kind, seconds in spent.most_common():
    print(machine.row(kind, f'{seconds:.2f}', f'{seconds / total:.0%}'))


def time_by_kind(step: Callable) -> collections.Counter:
  """Seconds of one call of `step`, by the kind of operation."""
  spent = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(step())
    (file,) = pathlib.Path(folder).rglob('*.xplane.pb')
    planes = jax.profiler.ProfileData.from_file(str(file)).planes
    for event in (event for plane in planes for line in plane.lines for event in line.events):
      if name := dict(event.stats).get('hlo_op'):
        kind = next(kind for kind, words in KINDS.items() if re.search(words, name))
        spent[kind] += event.duration_ns / 1e9
  return spent


def ceilings(
  networks: Mapping[str, Any], batch_size: int, title: str, warmup: int, count: int
) -> None:
  """Prints the rate that each convolution reaches alone, in the form that our networks use."""
  columns = ('convolution', 'input', 'GFLOP', 'forward', 'input gradient', 'weight gradient')
  print(
    f'{title}, {jax.devices()[0].device_kind}, JAX {jax.__version__}; GFLOP/s by the clock '
    f'(by processor seconds)\n\n{machine.table(*columns)}'
  )
  for name, (module, shape) in convolutions_of(networks, batch_size).items():
    gflop, rates = rates_of(module, shape, warmup, count)
    cells = (f'{wall:.1f} ({cpu:.1f})' for wall, cpu in rates)
    print(machine.row(name, ' x '.join(map(str, shape[1:])), f'{gflop:.2f}', *cells), flush=True)


def convolutions_of(networks: Mapping[str, Any], batch_size: int) -> dict[str, tuple]:
  """{name: (module, shape of its input)} of each convolution of networks at 64x64."""
  inputs = dict(encoder=(64, 64, 3), generator=(128,), discriminator=(64, 64, 3))
  kinds, found = (nn.Conv, layers.ConvTranspose), {}
  for network, shape in inputs.items():

    def note(call, arguments, options, context, network=network):
      if isinstance(context.module, kinds) and context.method_name == '__call__':
        module = context.module.clone(parent=None, name=None)
        found[f'{network} {context.module.name}'] = module, arguments[0].shape
      return call(*arguments, **options)

    init = functools.partial(networks[network].init, train=True)
    with nn.intercept_methods(note):
      jax.eval_shape(init, jax.random.key(0), jnp.zeros((batch_size, *shape)), None)
  return found


def rates_of(module: Any, shape: tuple[int, ...], warmup: int, count: int) -> tuple[float, list]:
  """(GFLOP of a pass, [(GFLOP/s by the clock, by processor time)] of the passes) of a convolution.

  The passes are forward, input gradient and weight gradient.
  """
  x = jax.random.normal(jax.random.key(0), shape).astype(module.dtype)
  variables = jax.jit(module.init)(jax.random.key(1), x)

  def forward(variables, x, _):
    return module.apply(variables, x)

  def input_gradient(variables, x, g):
    return jax.vjp(lambda x: module.apply(variables, x), x)[1](g)

  def weight_gradient(variables, x, g):
    return jax.vjp(lambda v: module.apply(v, x), variables)[1](g)

  forward, *gradients = (
    jax.jit(function, compiler_options=parallel.compiler_options())
    for function in (forward, input_gradient, weight_gradient)
  )
  y = forward(variables, x, None)
  gflop, rates = forward.lower(variables, x, None).cost_analysis()['flops'] / 1e9, []
  for call in (forward, *gradients):
    taken = machine.timed(functools.partial(call, variables, x, y), warmup, count)
    cpu = max(statistics.median(taken.cpu), 1e-9)
    rates.append((gflop / statistics.median(taken.wall), gflop / cpu))
  return gflop, rates
