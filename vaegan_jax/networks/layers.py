"""What the networks of both papers share: sizes, initialisers, batch norm, transposed convolution."""
import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

SIZES = (16, 32, 64, 128)  # pixels, of the square images that the networks are made for

# Larsen et al.'s code: U(-s, s), s = 1 / sqrt(3 fan), so that the variance is 1 / (9 fan). The fan
# is n_in of a dense layer, in * k * k of a convolution, out * k * k of a transposed one.
uniform_fan_in = nn.initializers.variance_scaling(1 / 9, 'fan_in', 'uniform')
uniform_fan_out = nn.initializers.variance_scaling(1 / 9, 'fan_out', 'uniform')
normal_002 = nn.initializers.normal(0.02)  # DCGAN's


def scaled(count, width):
  """Channels or units: the published `count` times `width`, rounded to a multiple of 4, at least 4;
  `count` itself at width 1."""
  return count if width == 1 else max(4, 4 * round(count * width / 4))


def by_size(table, image_size):
  """table[image_size], or ValueError that names the sizes there are."""
  if image_size not in table:
    raise ValueError(f'image_size={image_size}: the networks are made for {", ".join(map(str, SIZES))}')
  return table[image_size]


def check_images(x, image_size, channels):
  """None, or ValueError unless x is [B, image_size, image_size, channels]."""
  if x.shape[1:] != (image_size, image_size, channels):
    raise ValueError(f'images of shape {x.shape[1:]} given to a network made for '
                     f'{(image_size, image_size, channels)}: resize them, or make another network')


def with_condition(h, c):
  """[h, c] side by side in h's dtype [B, F + A]; h [B, F] itself where c is None."""
  return h if c is None else jnp.concatenate([h, c.astype(h.dtype)], axis=-1)


def required(c):
  """c, or ValueError where it is None."""
  if c is None:
    raise ValueError('a conditional discriminator needs a condition: give c, or make it with conditional=False')
  return c


def batch_norm(module, train, epsilon=1e-5, name=None):
  """nn.BatchNorm for `module` (its dtype and axis_name): float32 statistics, of the last axis.

  Running statistics keep 0.9 of their old value (Larsen et al.'s code; torch calls this 0.1). They
  are of mean and variance, where that code averages the inverse standard deviation.
  """
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=epsilon,
                      dtype=module.dtype, axis_name=module.axis_name, name=name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose(x, kernel, padding):
  """[B, H', W', out]: x [B, H, W, in] upsampled by 2 with kernel [k, k, in, out], as
  lax.conv_transpose with strides 2 and `padding` (before, after) of both axes.

  H' = 2 H + before + after - k. Gradients are had through the strided convolution whose adjoint this
  is: XLA's own weight gradient of a dilated convolution runs at 1 GFLOP/s on a CPU, this at 20 to 40.
  """
  return lax.conv_transpose(x, kernel, (2, 2), [padding] * 2)


def _flipped(kernel):
  """The kernel [k, k, out, in] of the strided convolution with adjoint conv_transpose(., kernel)."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _forward(x, kernel, padding):
  return conv_transpose(x, kernel, padding), (x, kernel)


def _backward(padding, residuals, g):
  # With A(v) the strided convolution by v: y = A(v)^T x, so <y, g> = <x, A(v) g>, whose gradient by
  # x is A(v) g, and by v what A's own weight gradient makes of the cotangent x.
  x, kernel = residuals
  before = kernel.shape[0] - 1 - padding[0]
  pads = [(before, 2 * (n - 1) + k - m - before) for n, k, m in zip(x.shape[1:], kernel.shape, g.shape[1:3])]
  strided = lambda v: lax.conv_general_dilated(
      g, v, (2, 2), pads, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  dx, pull = jax.vjp(strided, _flipped(kernel))
  return dx, _flipped(pull(x)[0])


conv_transpose.defvjp(_forward, _backward)


class ConvTranspose(nn.Module):
  """[B, 2H, 2W, features]: the adjoint of a stride-2 convolution with k // 2 zeros at each side.

  As torch's ConvTranspose2d(k, stride=2, padding=k // 2, output_padding=1) for odd k; flax's 'SAME'
  would shift the images by one pixel.
  """
  features: int
  kernel_size: int
  use_bias: bool = False
  kernel_init: Any = uniform_fan_out
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    k = self.kernel_size
    kernel = self.param('kernel', self.kernel_init, (k, k, x.shape[-1], self.features))
    y = conv_transpose(x.astype(self.dtype), kernel.astype(self.dtype), (k // 2, k - k // 2))
    if self.use_bias:
      y += self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return y
