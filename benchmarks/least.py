"""The least FLOPs of a training step, counted by hand from the passes that its method needs.

The count covers convolutions and full layers alone, in passes through encoder (e),
generator (g), discriminator (d) and classifier (c). A pass costs as much as a forward pass for one
group of images (real, reconstructed, prior samples):
- forward: one for each group that a network makes or sees;
- weight gradients: one for each group in the row of a network;
- input gradients: a pullback is linear, so a group needs one for each linearly independent row, of
  those networks at or below the layer whose rows have losses that come this way. Groups normalised
  jointly are pulled back jointly, all of them for each row. The lowest layer needs input gradients
  only where they continue into a network below.
For example VAE/GAN with all groups apart: d forward 3, weights 3, inputs 1 for x, 2 for x_f (the
encoder's row is feature_d alone, the discriminator's fake_recon), 1 for x_p, in all 10. A loss of
features counts the whole critic, up to 2 % of d too much. With `padding` the least is as
torch.utils.flop_counter counts it; compare the 14.7 GFLOP of the PyTorch twin of
benchmarks/step.py, which has 3e + 6g + 10d.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from vaegan_jax import build
from vaegan_jax.model import SEES, Model, seen_by
from vaegan_jax.routing import images_reached


class Setting(NamedTuple):
  """A method as the table counts it."""

  model: Model
  table: Mapping[str, Mapping[str, float]]
  config: Any
  classes: int  # of the condition, 0 without


class Cost(NamedTuple):
  """FLOPs per image of one forward pass of a network."""

  whole: float
  lowest: float  # its lowest layer


class Passes(NamedTuple):
  """Passes through one network in a step."""

  forward: int
  weights: int
  inputs: int  # input gradients
  lowest: int  # input gradients of the lowest layer

  @property
  def total(self) -> int:
    return self.forward + self.weights + self.inputs


def convolution_flops(
  options: Mapping[str, Any],
  x: Sequence[int],
  kernel: Sequence[int],
  y: Sequence[int],
  padding: bool,
) -> float:
  """FLOPs per example of a conv_general_dilated, from its parameters and the shapes of x, k, y."""
  numbers, taps = options['dimension_numbers'], 1
  axes = zip(options['window_strides'], options['padding'], options['lhs_dilation'])
  for i, (stride, (low, _), dilation) in enumerate(axes, 2):
    n, k, m = (shape[spec[i]] for shape, spec in zip((x, kernel, y), numbers))
    at = stride * np.arange(m)[:, None] + np.arange(k) - low
    on_image = (at >= 0) & (at <= dilation * (n - 1)) & (at % dilation == 0)
    taps *= (m if dilation == 1 else n) * k if padding else on_image.sum()
  return 2.0 * taps * kernel[numbers.rhs_spec[0]] * kernel[numbers.rhs_spec[1]]


def layers(function: Callable, *inputs: Any, padding: bool = False) -> list[float]:
  """FLOPs per example of each convolution and full layer of a forward pass, in order.

  padding: also count taps on padding, as torch.utils.flop_counter does.
  """
  found = []

  def walk(jaxpr):
    for eqn in jaxpr.eqns:
      shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
      if eqn.primitive.name == 'conv_general_dilated':
        found.append(convolution_flops(eqn.params, *shapes, padding))
      elif eqn.primitive.name == 'dot_general':
        found.append(2.0 * np.prod(shapes[1]))
      for value in eqn.params.values():
        if hasattr(value, 'jaxpr'):
          walk(value.jaxpr)

  # The plain form of convolutions: on a CPU the kernel has zeros before an image, see
  # networks/convolutions.py.
  with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
    walk(jax.make_jaxpr(function)(*inputs).jaxpr)
  return found


def costs(setting: Setting, padding: bool = False) -> dict[str, Cost]:
  """{network: Cost}, by `layers`."""
  x, c = build.examples(setting.config, setting.classes)
  z = jnp.zeros((len(x), setting.config.network.latent_size))
  inputs = dict(encoder=(x, c), generator=(z, c), discriminator=(x, c), classifier=(x,))
  made = {}
  for name, network in setting.model.networks.items():

    def init(key, network=network, inputs=inputs[name]):
      return network.init(key, *inputs, train=False)

    def apply(variables, network=network, inputs=inputs[name]):
      return network.apply(variables, *inputs, train=False)

    flops = layers(apply, jax.eval_shape(init, jax.random.key(0)), padding=padding)
    made[name] = Cost(sum(flops), flops[0])
  return made


def independent(rows: Sequence[Sequence[float]]) -> int:
  """The number of linearly independent rows."""
  return np.linalg.matrix_rank(np.array(rows)) if rows else 0


def passes_of(
  setting: Setting,
  network: str,
  groups: Iterable[str],
  reached: Callable[[str], set[str]],
  below: Mapping[str, str],
) -> Passes:
  """The Passes of a maker or critic.

  Args:
    groups: letters of images, each string pulled back as one.
    reached: the images that a loss has a gradient for.
    below: {network: images of its making}, for the networks that input gradients continue into.
  """
  table, losses = setting.table, setting.model.losses
  fakes = {k for name in losses for images in SEES[name].values() for k in images} & set('fp')
  forward = weights = inputs = lowest = 0
  for group in groups:
    names = [name for name in losses if reached(name) & set(group)]
    rows = {n: [table.get(n, {}).get(name, 0.0) for name in names] for n in (network, *below)}
    own = [rows[network]] if any(rows[network]) else []
    others = [rows[n] for n, images in below.items() if set(images) & set(group) and any(rows[n])]
    forward += len(group)
    weights += len(group) * len(own)
    inputs += len(group) * independent(own + others)
    lowest += len(set(group) & fakes) * independent(others)
  return Passes(forward, weights, inputs, lowest)


def passes(setting: Setting) -> dict[str, Passes]:
  """{network: Passes} of the least that a step can do."""
  model, table, made = setting.model, setting.table, {}
  seen = {images for name in model.losses for images in SEES[name].values()}
  fakes = ''.join(k for k in 'fp' if any(k in images for images in seen))
  for network in model.networks:
    if network == 'encoder':
      trained = int(network in table)
      made[network] = Passes(1, trained, trained, 0)
    elif network == 'generator':
      groups = [fakes] if model.joint_makers and fakes else list(fakes)
      reached = lambda name: images_reached(model, (name,))
      # The lowest layer pulls the encoder's row alone to z.
      made[network] = passes_of(setting, network, groups, reached, dict(encoder='f'))
    else:
      images = seen_by(network, model.losses)
      joint = model.joint_critics and network not in model.frozen
      made[network] = passes_of(
        setting,
        network,
        [images] if joint and images else list(images),
        lambda name, network=network: moved_by(name, network),
        dict(encoder='f', generator='fp'),
      )
  return made


def moved_by(loss: str, critic: str) -> set[str]:
  """The images that a loss has a gradient for in a critic: features of real images are targets."""
  images = set(SEES[loss].get(critic, ''))
  return images - {'r'} if loss.startswith(('feature', 'match')) else images


def by_hand(costs: Mapping[str, Cost], passes: Mapping[str, Passes]) -> float:
  """FLOPs per image of the least that a step can do."""
  total = 0.0
  for network, (forward, weights, inputs, lowest) in passes.items():
    whole, first = costs[network]
    total += (forward + weights) * whole + inputs * (whole - first) + lowest * first
  return total


def in_words(passes: Mapping[str, Passes]) -> str:
  """The sum of the passes: '3e + 7g + 10d'."""
  return ' + '.join(f'{of_network.total}{network[0]}' for network, of_network in passes.items())
