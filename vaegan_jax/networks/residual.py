"""Residual networks without batch norm, 16x16 to 256x256 pixels, for training on few operations.

A logit depends on its own image alone, so a critic may see its groups of images apart or together.
Blocks are R3GAN's (Huang et al. 2024) in small: leaky ReLU 0.2, and the last convolution of a
branch starts at zero. What differs is chosen for a CPU, on which many pixels of few channels are
slow: maps over 16x16 pixels have one convolution and no block, and blocks are bottlenecks. The
generator divides its maps by their root mean square and scales them by z (compare StyleGAN2,
Karras et al. 2020).
"""

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from vaegan_jax.networks import convolutions, layers, prior

SIZES = (16, 32, 64, 128, 256)
BLOCKS_BELOW = 16  # pixels of the largest map that has blocks
SMALLEST = 4  # pixels of the last map of critics and encoder, of the generator's first
CHANNELS = {4: 512, 8: 512, 16: 256, 32: 128, 64: 64, 128: 32, 256: 16}  # of trunks, by map size

# Normal with the gain of leaky ReLU 0.2: sqrt(2 / (1 + 0.2^2)).
kernel_init = layers.KernelInit(
  jax.random.normal, lambda shape: (2 / (1.04 * layers.fan_in(shape))) ** 0.5
)
Conv = functools.partial(
  nn.Conv, conv_general_dilated=convolutions.conv_for_linen, kernel_init=kernel_init
)
Dense = functools.partial(nn.Dense, kernel_init=layers.lecun_normal)
leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)


def halved(x):
  """[B, H / 2, W / 2, C]: means of x [B, H, W, C] over 2x2 pixels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def neighbours(x, axis):
  """(x one place further, x one place back) along `axis`; the border repeats."""
  n = x.shape[axis]
  take = functools.partial(jax.lax.slice_in_dim, x, axis=axis)
  before = jnp.concatenate([take(0, 1), take(0, n - 1)], axis)
  return before, jnp.concatenate([take(1, n), take(n - 1, n)], axis)


def doubled(x):
  """[B, 2H, 2W, C]: x [B, H, W, C] by linear interpolation between pixel centres."""
  for axis in (1, 2):
    before, after = neighbours(x, axis)
    pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    x = pairs.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
  return x


def folded(x, k):
  """[B, H / k, W / k, k k C]: squares of k x k pixels of x as channels of one pixel."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // k, k, w // k, k, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // k, w // k, k * k * c)


def unfolded(x, k):
  """[B, k H, k W, C / (k k)]: the inverse of folded."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, k, k, c // (k * k)).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * k, w * k, c // (k * k))


def smoothed(x):
  """[B, H, W, C]: x [B, H, W, C] by the filter 1/4, 1/2, 1/4 along both axes.

  What alternates from pixel to pixel, such as the grid that `unfolded` can draw, is gone.
  """
  for axis in (1, 2):
    before, after = neighbours(x, axis)
    x = 0.25 * before + 0.5 * x + 0.25 * after
  return x


def unit_rms(x):
  """x [B, ..., F] over the root of its mean square along the last axis."""
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-8)


class Block(nn.Module):
  """x [B, H, W, C] plus what a bottleneck of 1x1, 3x3 and 1x1 convolutions makes of it."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    channels, middle = x.shape[-1], max(4, x.shape[-1] // 2)
    conv = functools.partial(Conv, dtype=self.dtype)
    h = leaky_relu(conv(middle, (1, 1), name='reduce')(leaky_relu(x)))
    h = leaky_relu(conv(middle, (3, 3), name='middle')(h))
    last = conv(channels, (1, 1), use_bias=False, kernel_init=nn.initializers.zeros, name='last')
    return x + last(h)


class Descent(nn.Module):
  """Maps from images [B, H, W, C] down to 4x4 pixels: {pixels: [B, pixels, pixels, channels]}."""

  width: float
  blocks: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    size = x.shape[1] // 2
    count = lambda pixels: layers.scaled(CHANNELS[pixels], self.width)
    conv = functools.partial(Conv, dtype=self.dtype)
    h = conv(count(size), (3, 3), name=f'conv{size}')(folded(x.astype(self.dtype), 2))
    while size > BLOCKS_BELOW:
      size //= 2
      h = conv(count(size), (3, 3), 2, padding=1, name=f'conv{size}')(leaky_relu(h))
    maps = {}
    while True:
      for i in range(self.blocks):
        h = Block(self.dtype, name=f'block{size}_{i}')(h)
      maps[size] = h
      if size == SMALLEST:
        return maps
      size //= 2
      h = halved(h)
      if count(size) != h.shape[-1]:
        h = conv(count(size), (1, 1), name=f'conv{size}')(h)


class Encoder(nn.Module):
  """mean, logvar [B, Z] float32 of the posterior q(z|x, c); with learned_prior see prior.py."""

  image_size: int
  channels: int
  latent_size: int
  width: float = 1.0
  learned_prior: bool = False
  blocks: int = 1
  dtype: Any = jnp.float32
  axis_name: str | None = None  # unused, here and below: the networks' common signature

  @nn.compact
  def __call__(self, x, c, train):
    layers.check_images(x, self.image_size, self.channels)
    maps = Descent(self.width, self.blocks, self.dtype, name='maps')(x)
    h = leaky_relu(maps[SMALLEST]).reshape(x.shape[0], -1)
    h = layers.with_condition(h, c).astype(jnp.float32)
    mean = Dense(self.latent_size, name='mean')(h)
    logvar = Dense(self.latent_size, name='logvar', kernel_init=nn.initializers.zeros)(h)
    if not self.learned_prior:
      return mean, logvar
    moments = prior.Kept(self.latent_size, of_encoder=True, name='prior')(c)
    return (mean, logvar) if train else prior.standardised(moments, mean, logvar, c)


class Generator(nn.Module):
  """Images [B, H, W, C] float32 in [-1, 1], from z [B, Z] and c, through 4x4 pixels.

  The length of z plays no part: z is divided by its root mean square. truncation is the length
  that it then gets; with learned_prior (see prior.py), z comes so much nearer to the prior's mean.
  Details are drawn in detail_channels (times width) of the image's own size; 0, as in older runs,
  draws them at half the size and smooths them.
  """

  image_size: int
  channels: int
  width: float = 1.0
  blocks: int = 1
  dtype: Any = jnp.float32
  axis_name: str | None = None
  truncation: float = 1.0
  detail_channels: int = 32
  learned_prior: bool = False

  @nn.compact
  def __call__(self, z, c, train):
    count = lambda pixels: layers.scaled(CHANNELS[pixels], self.width)
    conv = functools.partial(Conv, dtype=self.dtype)
    if self.learned_prior:
      moments = prior.Kept(z.shape[-1], of_encoder=False, name='prior')(c)
      z = z if train else prior.drawn(moments, self.truncation * z, c)
      z = unit_rms(z.astype(self.dtype))
    else:
      z = unit_rms(z.astype(self.dtype)) * self.truncation
    if c is not None:  # a quarter as many units as z: one class of ten would be lost beside it
      embed = Dense(
        max(1, z.shape[-1] // 4),
        dtype=self.dtype,
        name='condition',
        kernel_init=nn.initializers.normal(1.0),
      )
      z = jnp.concatenate([z, embed(c.astype(self.dtype))], -1)

    def styled(h, name):
      scale = Dense(h.shape[-1], dtype=self.dtype, name=name, kernel_init=nn.initializers.zeros)(z)
      return unit_rms(h) * (1 + scale[:, None, None])

    size = SMALLEST
    h = Dense(size * size * count(size), dtype=self.dtype, name='full')(z)
    h = h.reshape(h.shape[0], size, size, -1)
    while True:
      for i in range(self.blocks if size <= BLOCKS_BELOW else 0):
        h = Block(self.dtype, name=f'block{size}_{i}')(styled(h, f'style{size}_{i}'))
      if size > BLOCKS_BELOW:
        h = conv(count(size), (3, 3), name=f'conv{size}')(leaky_relu(h))
      if size == self.image_size // 2:
        break
      size *= 2
      if count(size) != h.shape[-1]:
        h = conv(count(size), (1, 1), name=f'channels{size}')(h)
      h = doubled(h)
    h = leaky_relu(h)
    image = doubled(conv(self.channels, (1, 1), name='colours', kernel_init=layers.lecun_normal)(h))
    last = functools.partial(
      conv, kernel_size=(3, 3), name='detail', use_bias=False, kernel_init=nn.initializers.zeros
    )
    if self.detail_channels:
      few = layers.scaled(self.detail_channels, self.width)
      detail = last(self.channels)(leaky_relu(doubled(conv(few, (3, 3), name='few')(h))))
    else:
      detail = smoothed(unfolded(last(4 * self.channels)(h), 2))
    return jnp.tanh((image + detail).astype(jnp.float32))


class Discriminator(nn.Module):
  """logits [B] float32, and Dis_l [B, F]: the map of 8x8 pixels.

  A condition c [B, A] enters as a projection (Miyato & Koyama 2018): its embedding times the
  features below the logit. With patch_logits, the logit adds the mean of those of the places of
  the maps of 8x8 and 16x16 pixels (compare PatchGAN, Isola et al. 2017).
  """

  image_size: int
  channels: int
  width: float = 1.0
  conditional: bool = False  # whether c is seen
  patch_logits: bool = False
  blocks: int = 1
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, c, train):
    layers.check_images(x, self.image_size, self.channels)
    maps = Descent(self.width, self.blocks, self.dtype, name='maps')(x)
    h = leaky_relu(maps[SMALLEST]).reshape(x.shape[0], -1)
    features = maps.get(2 * SMALLEST, maps[SMALLEST]).reshape(x.shape[0], -1)
    logit = Dense(1, name='logit')(h.astype(jnp.float32))[:, 0]
    patch = functools.partial(Conv, 1, (1, 1), dtype=self.dtype, kernel_init=layers.lecun_normal)
    for size in sorted(set(maps) - {SMALLEST}) if self.patch_logits else ():
      places = patch(name=f'patch{size}')(leaky_relu(maps[size]))
      logit += places.astype(jnp.float32).mean((1, 2, 3))
    if self.conditional:
      units = layers.scaled(CHANNELS[SMALLEST], self.width)
      seen = Dense(units, dtype=self.dtype, name='seen')(h).astype(jnp.float32)
      wanted = Dense(units, use_bias=False, name='condition')(
        layers.required(c).astype(jnp.float32)
      )
      logit += (seen * wanted).sum(-1) / units**0.5
    return logit, features


class Classifier(nn.Module):
  """Class logits [B, K] float32, and f_C [B, F]: the last full layer's input."""

  image_size: int
  channels: int
  num_classes: int = 0
  width: float = 1.0
  blocks: int = 1
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train):
    layers.check_images(x, self.image_size, self.channels)
    if self.num_classes < 1:
      raise ValueError(f'num_classes={self.num_classes}: give the classifier at least one class')
    maps = Descent(self.width, self.blocks, self.dtype, name='maps')(x)
    h = leaky_relu(maps[SMALLEST]).reshape(x.shape[0], -1)
    h = leaky_relu(Dense(layers.scaled(1024, self.width), dtype=self.dtype, name='full')(h))
    return Dense(self.num_classes, name='logits')(h.astype(jnp.float32)), h
