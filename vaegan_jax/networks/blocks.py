"""Convolutions at the image's end of a network, with 2 x 2 pixels as the channels of one.

A TPU multiplies 128 channels at once; 3 or 32 channels leave most of that idle. Here images and
maps are in blocks: [B, H, W, C] as [B, H / 2, W / 2, 4 C], in the order (row, column, channel)
within a block. Kernels of 5 x 5 become kernels of 3 x 3 blocks, with zeros where a tap falls
outside. Functions and parameters stay the same; sums differ by rounding.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from vaegan_jax.networks import convolutions, layers


def packed(x: jax.Array) -> jax.Array:
  """Blocks [B, H / 2, W / 2, 4 C] of images [B, H, W, C]; ValueError if H or W is odd."""
  b, h, w, c = x.shape
  if h % 2 or w % 2:
    raise ValueError(f'images of {h} x {w} pixels have no blocks of 2 x 2: use even sizes')
  x = x.reshape(b, h // 2, 2, w // 2, 2, c)
  return x.swapaxes(2, 3).reshape(b, h // 2, w // 2, 4 * c)


def check_images(net: Any, x: jax.Array) -> None:
  """ValueError unless x is [B, H, W, C] as `net` expects, or its blocks if it is packed."""
  n = 2 if net.packed else 1
  layers.check_images(x, net.image_size // n, n * n * net.channels)


# --- Kernels of blocks


def within(kernel: jax.Array) -> jax.Array:
  """[3, 3, 4 in, 4 out]: a kernel [5, 5, in, out], from blocks to blocks."""
  pads = ((1, 0), (0, 1))  # for an input in the first and the second row or column of its block
  shifted = [jnp.pad(kernel, (row, column, (0, 0), (0, 0))) for row in pads for column in pads]
  taps = jnp.concatenate(shifted, 2)
  outputs = [jnp.stack([taps[1 - p :: 2, 1 - q :: 2] for q in (0, 1)], -2) for p in (0, 1)]
  return jnp.stack(outputs, -3).reshape(3, 3, taps.shape[2], -1)


def down(kernel: jax.Array) -> jax.Array:
  """[3, 3, 4 in, out]: a kernel [5, 5, in, out] with strides 2, from blocks to pixels."""
  taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(3, 2, 3, 2, *kernel.shape[2:])
  return taps.swapaxes(1, 2).reshape(3, 3, -1, kernel.shape[3])


def up(kernel: jax.Array) -> jax.Array:
  """[3, 3, in, 4 out]: a kernel [5, 5, in, out] of layers.ConvTranspose, from pixels to blocks."""
  taps = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).reshape(3, 2, 3, 2, *kernel.shape[2:])
  taps = taps[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
  return taps.reshape(3, 3, kernel.shape[2], -1)


# --- Layers


class Conv(nn.Module):
  """The convolution that `form` makes of a kernel of 5 x 5, with the parameters of nn.Conv."""

  form: Callable[[jax.Array], jax.Array]  # one of those above
  features: int
  use_bias: bool = True
  kernel_init: Any = layers.uniform_fan_in
  bias_init: Any = nn.initializers.zeros
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1] if self.form is up else x.shape[-1] // 4
    kernel = self.param('kernel', self.kernel_init, (5, 5, channels, self.features))
    taps = self.form(kernel.astype(self.dtype))
    y = convolutions.conv(x.astype(self.dtype), taps, (1, 1), ((1, 1), (1, 1)))
    if self.use_bias:
      bias = self.param('bias', self.bias_init, (self.features,)).astype(self.dtype)
      y += jnp.tile(bias, y.shape[-1] // self.features)
    return y


Within = functools.partial(Conv, within)
Down = functools.partial(Conv, down)
Up = functools.partial(Conv, up, use_bias=False, kernel_init=layers.uniform_fan_out)


class BatchNorm(nn.Module):
  """nn.BatchNorm of blocks [B, H, W, 4 C], with the same parameters and statistics [C]."""

  use_running_average: bool
  epsilon: float
  momentum: float = 0.9
  dtype: Any = jnp.float32
  axis_name: str | None = None
  scale_init: Any = nn.initializers.ones
  bias_init: Any = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1] // 4,)
    scale = self.param('scale', self.scale_init, shape)
    bias = self.param('bias', self.bias_init, shape)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    running_var = self.variable('batch_stats', 'var', jnp.ones, shape)
    mean, var = running_mean.value, running_var.value
    if not self.use_running_average:
      wide = x.astype(jnp.float32)
      moments = jnp.stack([wide.mean((0, 1, 2)), jnp.square(wide).mean((0, 1, 2))])
      moments = moments.reshape(2, 4, -1).mean(1)
      if self.axis_name is not None and not self.is_initializing():
        moments = jax.lax.pmean(moments, self.axis_name)
      mean, var = moments[0], jnp.maximum(0.0, moments[1] - jnp.square(moments[0]))
      if not self.is_initializing():
        keep = self.momentum
        running_mean.value = keep * running_mean.value + (1 - keep) * mean
        running_var.value = keep * running_var.value + (1 - keep) * var
    factor = jax.lax.rsqrt(var + self.epsilon) * scale
    mean, factor, bias = (jnp.tile(a, 4) for a in (mean, factor, bias))
    return ((x - mean) * factor + bias).astype(self.dtype)


def batch_norm(module: Any, train: bool, epsilon: float, name: str) -> BatchNorm:
  """As layers.batch_norm, for blocks."""
  return BatchNorm(not train, epsilon, dtype=module.dtype, axis_name=module.axis_name, name=name)
