"""What the networks share: initialisers, sizes, conditions, batch norm, transposed convolution."""

import collections
from collections.abc import Callable, Mapping, Sequence
import functools
import math
from typing import Any, NamedTuple, TypeVar

from flax import linen as nn
import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from vaegan_jax.networks import convolutions

SIZES = (16, 32, 64, 128)  # pixels per side of the images that the networks take

T = TypeVar('T')


# --- Initialisers


class KernelInit(NamedTuple):
  """A linen initialiser: centred noise times a scale that depends on the kernel's shape."""

  noise: Callable[..., jax.Array]  # (key, shape, dtype) -> array
  scale: Callable[[Sequence[int]], float]  # shape -> float

  def __call__(self, key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    return self.scale(shape) * self.noise(key, shape, dtype)


def fan_in(shape: Sequence[int]) -> int:
  """Inputs per output of a dense or convolution kernel [..., in, out]."""
  return math.prod(shape[:-1])


def fan_out(shape: Sequence[int]) -> int:
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

CONSTANTS: dict[Any, float] = {nn.initializers.zeros: 0.0, nn.initializers.ones: 1.0}


def init(net: nn.Module, key: jax.Array, *inputs: jax.Array | None) -> Mapping[str, Any]:
  """{'params', 'batch_stats'} of `net`, distributed as net.init(key, *inputs, train=False).

  All kernels share one draw of noise per distribution: dozens of initialisers, each compiled
  separately, cost XLA more than a training step. Works eagerly (fastest), under jit and under vmap,
  and depends on `key` alone, not on the devices. Falls back to net.init if a parameter starts as
  anything but a KernelInit, zeros or ones (no network of this package does).
  """
  recorder = _Recorder()
  with nn.intercept_methods(recorder):
    shapes = jax.eval_shape(functools.partial(net.init, train=False), key, *inputs)
  paths_and_leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
  leaves = [
    (recorder.start([entry.key for entry in path]), leaf) for path, leaf in paths_and_leaves
  ]
  if not all(isinstance(start, (float, KernelInit)) for start, _ in leaves):
    return net.init(key, *inputs, train=False)
  noise = _Noise(key, leaves)
  return jax.device_put(tree.unflatten([noise.filled(start, leaf) for start, leaf in leaves]))


class _Recorder:
  """A linen interceptor that records the module at each path."""

  def __init__(self):
    self.modules = {}

  def __call__(self, call, args, kwargs, context):
    self.modules[context.module.path] = context.module
    return call(*args, **kwargs)

  def start(self, path):
    """The KernelInit or constant of the variable at `path` ('params', 'conv0', 'kernel')."""
    module, name = self.modules[tuple(path[1:-1])], path[-1]
    if isinstance(module, nn.BatchNorm) and name in ('mean', 'var'):
      return float(name == 'var')
    initialiser = getattr(module, f'{name}_init', None)
    return CONSTANTS.get(initialiser, initialiser)


class _Noise:
  """One draw per distribution, dealt out leaf by leaf; numpy arrays unless `key` is traced."""

  def __init__(self, key, leaves):
    sizes = collections.Counter()
    for start, leaf in leaves:
      if isinstance(start, KernelInit):
        sizes[start.noise] += leaf.size
    self.rest = {
      draw: draw(jax.random.fold_in(key, i), (size,), jnp.float32)
      for i, (draw, size) in enumerate(sizes.items())
    }
    if not isinstance(key, Tracer):
      # Slicing numpy arrays compiles nothing.
      self.rest = {draw: np.asarray(a) for draw, a in self.rest.items()}

  def filled(self, start, leaf):
    """An array like `leaf` that starts as `start`, a KernelInit or a constant."""
    if not isinstance(start, KernelInit):
      return np.full(leaf.shape, start, leaf.dtype)
    noise = self.rest[start.noise]
    part, self.rest[start.noise] = noise[: leaf.size], noise[leaf.size :]
    return start.scale(leaf.shape) * part.reshape(leaf.shape)


# --- Sizes


def scaled(count: int, width: float) -> int:
  """The published `count` of channels or units times `width`: a multiple of 4, at least 4.

  Width 1 returns `count` itself.
  """
  return count if width == 1 else max(4, 4 * round(count * width / 4))


def by_size(table: Mapping[int, T], image_size: int) -> T:
  """table[image_size]; ValueError that names the possible sizes."""
  if image_size not in table:
    raise ValueError(f'image_size={image_size}: the networks take {", ".join(map(str, SIZES))}')
  return table[image_size]


def check_images(x: jax.Array, image_size: int, channels: int) -> None:
  """ValueError unless x is [B, image_size, image_size, channels]."""
  if x.shape[1:] != (image_size, image_size, channels):
    raise ValueError(
      f'images of shape {x.shape[1:]} given to a network for '
      f'{(image_size, image_size, channels)}: resize them, or build another network'
    )


# --- Conditions


def with_condition(h: jax.Array, c: jax.Array | None) -> jax.Array:
  """[h, c] concatenated [B, F + A], in h's dtype; h [B, F] itself if c is None."""
  return h if c is None else jnp.concatenate([h, c.astype(h.dtype)], axis=-1)


def required(c: jax.Array | None) -> jax.Array:
  """c; ValueError if it is None."""
  if c is None:
    raise ValueError(
      'a conditional discriminator needs a condition: give c, or build it with conditional=False'
    )
  return c


# --- Layers


def batch_norm(
  module: Any, train: bool, epsilon: float = 1e-5, name: str | None = None
) -> nn.BatchNorm:
  """nn.BatchNorm for `module`, with its dtype and axis_name: float32 statistics of the last axis.

  Running statistics keep 0.9 of their old value (as in Larsen et al.'s code; torch calls this 0.1).
  They are of mean and variance, whereas that code averages the inverse standard deviation.
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

  Equals torch's ConvTranspose2d(k, stride=2, padding=k // 2, output_padding=1); flax's 'SAME' pads
  the other side.
  """

  features: int
  kernel_size: int
  use_bias: bool = False
  kernel_init: Any = uniform_fan_out
  bias_init: Any = nn.initializers.zeros
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    k = self.kernel_size
    kernel = self.param('kernel', self.kernel_init, (k, k, x.shape[-1], self.features))
    y = convolutions.conv_transpose(
      x.astype(self.dtype), kernel.astype(self.dtype), (k // 2, k - k // 2)
    )
    if self.use_bias:
      y += self.param('bias', self.bias_init, (self.features,)).astype(self.dtype)
    return y
