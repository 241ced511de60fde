"""What the networks share: sizes, initialisers, batch norm, transposed convolution."""

import collections
import functools
import math
from typing import Any, Callable, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaegan_jax.networks import convolutions

SIZES = (16, 32, 64, 128)  # pixels, of the square images that the networks are made for

CONSTANTS = {nn.initializers.zeros: 0.0, nn.initializers.ones: 1.0}


class KernelInit(NamedTuple):
  """An initialiser for linen: noise around zero, times a scale that the kernel's shape gives."""

  noise: Callable  # (key, shape, dtype) -> array
  scale: Callable  # shape -> float

  def __call__(self, key, shape, dtype=jnp.float32):
    return self.scale(shape) * self.noise(key, shape, dtype)


def fan_in(shape):
  """Inputs of one output of a dense or convolution kernel [..., in, out]."""
  return math.prod(shape[:-1])


def fan_out(shape):
  """k * k * out, of a kernel [k, k, in, out]."""
  return math.prod(shape) // shape[-2]


# Larsen et al.'s code: U(-s, s), s = 1 / sqrt(3 fan), so that the variance is 1 / (9 fan). The fan
# is n_in of a dense layer, in * k * k of a convolution, out * k * k of a transposed one.
symmetric = functools.partial(jax.random.uniform, minval=-1.0, maxval=1.0)
uniform_fan_in = KernelInit(symmetric, lambda shape: (3 * fan_in(shape)) ** -0.5)
uniform_fan_out = KernelInit(symmetric, lambda shape: (3 * fan_out(shape)) ** -0.5)
dcgan_normal = KernelInit(jax.random.normal, lambda shape: 0.02)
lecun_normal = KernelInit(jax.random.normal, lambda shape: fan_in(shape) ** -0.5)
he_normal = KernelInit(jax.random.normal, lambda shape: (2 / fan_in(shape)) ** 0.5)


def init(net, key, *inputs):
  """{'params', 'batch_stats'} of `net`, distributed as by net.init(key, *inputs, train=False).

  All kernels take their part of one draw of noise: dozens of initialisers, each compiled for
  itself, take XLA longer than a training step. Works eagerly (fastest), under jit and under vmap;
  depends on `key` alone, not on the devices. A network with a parameter that starts in another way
  than a KernelInit, zeros or ones does (none of this package) is left to its own init.
  """
  modules = {}

  def remember(call, args, kwargs, context):
    modules[context.module.path] = context.module
    return call(*args, **kwargs)

  def start(path):
    module, name = modules[tuple(path[1:-1])], path[-1]  # path: 'params', 'conv0', 'kernel'
    if isinstance(module, nn.BatchNorm) and name in ('mean', 'var'):
      return float(name == 'var')
    initialiser = getattr(module, f'{name}_init', None)
    return CONSTANTS.get(initialiser, initialiser)

  with nn.intercept_methods(remember):
    shapes = jax.eval_shape(functools.partial(net.init, train=False), key, *inputs)
  leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
  leaves = [(start([entry.key for entry in path]), leaf) for path, leaf in leaves]
  if not all(isinstance(first, (float, KernelInit)) for first, _ in leaves):
    return net.init(key, *inputs, train=False)
  return jax.device_put(tree.unflatten(_filled(leaves, key)))


def _filled(leaves, key):
  """Arrays for [(KernelInit or constant, shape and dtype)]: numpy's, unless `key` is traced."""
  sizes = collections.Counter()
  for first, leaf in leaves:
    if isinstance(first, KernelInit):
      sizes[first.noise] += leaf.size
  noise = {
    draw: draw(jax.random.fold_in(key, i), (size,), jnp.float32)
    for i, (draw, size) in enumerate(sizes.items())
  }
  if not isinstance(key, jax.core.Tracer):
    noise = {draw: np.asarray(a) for draw, a in noise.items()}  # numpy slices compile nothing

  def filled(first, leaf):
    if not isinstance(first, KernelInit):
      return np.full(leaf.shape, first, leaf.dtype)
    part, noise[first.noise] = noise[first.noise][: leaf.size], noise[first.noise][leaf.size :]
    return first.scale(leaf.shape) * part.reshape(leaf.shape)

  return [filled(first, leaf) for first, leaf in leaves]


def scaled(count, width):
  """Channels or units: the published `count` times `width`, rounded to a multiple of 4, at least 4;
  `count` itself at width 1."""
  return count if width == 1 else max(4, 4 * round(count * width / 4))


def by_size(table, image_size):
  """table[image_size], or ValueError that names the sizes there are."""
  if image_size not in table:
    raise ValueError(
      f'image_size={image_size}: the networks are made for {", ".join(map(str, SIZES))}'
    )
  return table[image_size]


def check_images(x, image_size, channels):
  """None, or ValueError unless x is [B, image_size, image_size, channels]."""
  if x.shape[1:] != (image_size, image_size, channels):
    raise ValueError(
      f'images of shape {x.shape[1:]} given to a network made for '
      f'{(image_size, image_size, channels)}: resize them, or make another network'
    )


def with_condition(h, c):
  """[h, c] side by side in h's dtype [B, F + A]; h [B, F] itself where c is None."""
  return h if c is None else jnp.concatenate([h, c.astype(h.dtype)], axis=-1)


def required(c):
  """c, or ValueError where it is None."""
  if c is None:
    raise ValueError(
      'a conditional discriminator needs a condition: give c, or make it with conditional=False'
    )
  return c


def batch_norm(module, train, epsilon=1e-5, name=None):
  """nn.BatchNorm for `module` (its dtype and axis_name): float32 statistics, of the last axis.

  Running statistics keep 0.9 of their old value (Larsen et al.'s code; torch calls this 0.1). They
  are of mean and variance, where that code averages the inverse standard deviation.
  """
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=epsilon,
    dtype=module.dtype,
    axis_name=module.axis_name,
    name=name,
  )


class ConvTranspose(nn.Module):
  """[B, 2H, 2W, features]: for odd k the adjoint of a stride-2 convolution padded by k // 2.

  That is torch's ConvTranspose2d(k, stride=2, padding=k // 2, output_padding=1); flax's 'SAME' pads
  the other way round.
  """

  features: int
  kernel_size: int
  use_bias: bool = False
  kernel_init: Any = uniform_fan_out
  bias_init: Any = nn.initializers.zeros
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    k = self.kernel_size
    kernel = self.param('kernel', self.kernel_init, (k, k, x.shape[-1], self.features))
    y = convolutions.conv_transpose(
      x.astype(self.dtype), kernel.astype(self.dtype), (k // 2, k - k // 2)
    )
    if self.use_bias:
      y += self.param('bias', self.bias_init, (self.features,)).astype(self.dtype)
    return y
