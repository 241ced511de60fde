"""The networks of CVAE-GAN (Bao et al. 2017).

At 128x128 they are those the paper names: GoogLeNet encoder, deconvolutional generator, DCGAN
discriminator, AlexNet classifier, with batch norm after each convolution. Smaller images use fewer
layers of stride 2.

The paper leaves the rest open. Our choices: two full layers in the generator (1024 units, then
2x2x256); five 5x5 convolutions in DCGAN at 128x128; no auxiliary heads; AlexNet in one tower, with
batch norm instead of local response normalisation; no dropout, because f_C comes from the pass that
trains the classifier, where two random masks would separate equal images in L_G.

Arguments of every network: c [B, A] float32, the condition, or None; `train`, whether batch norm
uses the batch's statistics and moves its running ones. Errors: ValueError for an unknown image size
and for images of another shape.
"""

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from vaegan_jax.networks import convolutions, layers
from vaegan_jax.networks.pools import pool

# GoogLeNet's inception modules (recalled from Szegedy et al. 2015, Table 1): channels of the 1x1,
# the 3x3's reduction, the 3x3, the 5x5's reduction, the 5x5, and after the pool.
INCEPTION = {
  '3a': (64, 96, 128, 16, 32, 32),
  '3b': (128, 128, 192, 32, 96, 64),
  '4a': (192, 96, 208, 16, 48, 64),
  '4b': (160, 112, 224, 24, 64, 64),
  '4c': (128, 128, 256, 24, 64, 64),
  '4d': (112, 144, 288, 32, 64, 64),
  '4e': (256, 160, 320, 32, 128, 128),
  '5a': (256, 160, 320, 32, 128, 128),
  '5b': (384, 192, 384, 48, 128, 128),
}
WHOLE = ('3a', '3b', 'pool', '4a', '4b', '4c', '4d', '4e', 'pool', '5a', '5b')
# Stem and modules by image size; the last map has 4x4 pixels. Small images use fewer modules, so
# their programs compile fast.
ENCODER = {
  128: ('pool', 'conv', 'pool', *WHOLE),
  64: ('conv', 'pool', *WHOLE),
  32: ('conv', '3a', 'pool', '4a', 'pool', '5b'),
  16: ('conv', 'pool', '4a'),
}
# AlexNet's convolutions: channels, kernel, stride, and whether a pool follows.
ALEXNET = (
  (96, 11, 4, True),
  (256, 5, 1, True),
  (384, 3, 1, False),
  (384, 3, 1, False),
  (256, 3, 1, True),
)
# Convolutions and units of the full layers by image size; the last map has about 4x4 pixels.
CLASSIFIER = {
  128: (ALEXNET, 4096),
  64: (((96, 7, 2, True), *ALEXNET[1:]), 4096),
  32: (((96, 5, 1, True), *ALEXNET[1:]), 4096),
  16: (((96, 5, 1, True), (256, 3, 1, True), (256, 3, 1, False)), 1024),
}
# Layers of stride 2 by image size: the generator's from 2x2 pixels up, the discriminator's down to
# 4x4.
GENERATOR = {16: 3, 32: 4, 64: 5, 128: 6}
DISCRIMINATOR = {16: 2, 32: 3, 64: 4, 128: 5}

Conv = functools.partial(
  nn.Conv, conv_general_dilated=convolutions.conv_for_linen, kernel_init=layers.dcgan_normal
)
Dense = functools.partial(nn.Dense, kernel_init=layers.dcgan_normal)
leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)


class ConvNorm(nn.Module):
  """[B, H / strides, W / strides, channels]: convolution without bias, batch norm, ReLU."""

  channels: int
  kernel_size: int
  strides: int = 1
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    k = self.kernel_size
    h = Conv(
      self.channels,
      (k, k),
      self.strides,
      padding=k // 2,
      use_bias=False,
      dtype=self.dtype,
      name='conv',
    )(x)
    return nn.relu(layers.batch_norm(self, train, name='norm')(h))


class Inception(nn.Module):
  """[B, H, W, sum of channels]: the four branches of an inception module, concatenated."""

  channels: tuple[int, ...]  # a row of INCEPTION
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    def conv(channels, k, name, x):
      module = ConvNorm(channels, k, dtype=self.dtype, axis_name=self.axis_name, name=name)
      return module(x, train)

    one, reduce_three, three, reduce_five, five, after_pool = self.channels
    # One 1x1 convolution with the channels of three: the same function.
    h = conv(one + reduce_three + reduce_five, 1, 'reduce', x)
    return jnp.concatenate(
      [
        h[..., :one],
        conv(three, 3, 'three', h[..., one : one + reduce_three]),
        conv(five, 5, 'five', h[..., one + reduce_three :]),
        conv(after_pool, 1, 'after_pool', pool(x, 1)),
      ],
      axis=-1,
    )


class Encoder(nn.Module):
  """mean, logvar [B, Z] float32 of q(z|x, c): GoogLeNet, with c at the last full layer."""

  image_size: int
  channels: int
  latent_size: int
  width: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array]:
    stages = layers.by_size(ENCODER, self.image_size)
    layers.check_images(x, self.image_size, self.channels)
    scaled = functools.partial(layers.scaled, width=self.width)
    shared = dict(dtype=self.dtype, axis_name=self.axis_name)
    h = ConvNorm(scaled(64), 7, 2, name='conv1', **shared)(x.astype(self.dtype), train)
    for stage in stages:
      if stage == 'pool':
        h = pool(h)
      elif stage == 'conv':
        h = ConvNorm(scaled(64), 1, name='conv2_reduce', **shared)(h, train)
        h = ConvNorm(scaled(192), 3, name='conv2', **shared)(h, train)
      else:
        channels = tuple(map(scaled, INCEPTION[stage]))
        h = Inception(channels, name=f'inception_{stage}', **shared)(h, train)
    h = layers.with_condition(h.mean((1, 2), dtype=jnp.float32), c)
    return Dense(self.latent_size, name='mean')(h), Dense(self.latent_size, name='logvar')(h)


class Generator(nn.Module):
  """Images [B, H, W, C] float32 in [-1, 1], from z [B, Z] and c, starting at 2x2 pixels."""

  image_size: int
  channels: int
  width: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: jax.Array, c: jax.Array | None, train: bool) -> jax.Array:
    doublings = layers.by_size(GENERATOR, self.image_size)
    scaled = functools.partial(layers.scaled, width=self.width)
    h = layers.with_condition(z.astype(self.dtype), c)
    for i, units in enumerate((scaled(1024), 4 * scaled(256))):
      h = Dense(units, use_bias=False, dtype=self.dtype, name=f'full{i}')(h)
      h = nn.relu(layers.batch_norm(self, train, name=f'norm_full{i}')(h))
    h = h.reshape(h.shape[0], 2, 2, -1)
    up = functools.partial(layers.ConvTranspose, kernel_init=layers.dcgan_normal, dtype=self.dtype)
    rows = ((256, 3), (256, 3), (128, 5), (92, 5), (64, 5))  # channels and kernel
    for i, (channels, k) in enumerate(rows[6 - doublings :]):
      h = up(scaled(channels), k, name=f'conv{i}')(h)
      h = nn.relu(layers.batch_norm(self, train, name=f'norm{i}')(h))
    return jnp.tanh(up(self.channels, 5, use_bias=True, name='image')(h).astype(jnp.float32))


class Discriminator(nn.Module):
  """logits [B] float32, and f_D [B, F]: the input of the last full layer (DCGAN, 5x5 kernels).

  `conditional` (not in the paper) concatenates c with the flattened map and adds a full layer of
  1024 units. Without that layer the logit would be a sum f(x) + g(c).
  """

  image_size: int
  channels: int
  width: float = 1.0
  conditional: bool = False  # whether it sees c
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array]:
    halvings = layers.by_size(DISCRIMINATOR, self.image_size)
    layers.check_images(x, self.image_size, self.channels)
    h = x.astype(self.dtype)
    for i, channels in enumerate((64, 128, 256, 512, 1024)[:halvings]):
      h = Conv(
        layers.scaled(channels, self.width),
        (5, 5),
        2,
        padding=2,
        use_bias=i == 0,
        dtype=self.dtype,
        name=f'conv{i}',
      )(h)
      h = leaky_relu(layers.batch_norm(self, train, name=f'norm{i}')(h) if i else h)
    features = h.reshape(h.shape[0], -1)
    if self.conditional:
      h = layers.with_condition(features, layers.required(c))
      h = Dense(layers.scaled(1024, self.width), use_bias=False, dtype=self.dtype, name='full')(h)
      features = leaky_relu(layers.batch_norm(self, train, name='norm_full')(h))
    return Dense(1, name='logit')(features.astype(jnp.float32))[:, 0], features


class Classifier(nn.Module):
  """Class logits [B, K] float32, and f_C [B, F]: the input of the last full layer (AlexNet's fc7).

  ValueError for num_classes below 1.
  """

  image_size: int
  channels: int
  num_classes: int = 0
  width: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    rows, units = layers.by_size(CLASSIFIER, self.image_size)
    layers.check_images(x, self.image_size, self.channels)
    if self.num_classes < 1:
      raise ValueError(f'num_classes={self.num_classes}: give the classifier at least one class')
    h = x.astype(self.dtype)
    for i, (channels, k, s, pooled) in enumerate(rows):
      h = ConvNorm(
        layers.scaled(channels, self.width), k, s, self.dtype, self.axis_name, name=f'conv{i}'
      )(h, train)
      h = pool(h) if pooled else h
    h = h.reshape(h.shape[0], -1)
    for i in range(2):
      # He's deviation: at 4096 inputs (0.022) nearly DCGAN's 0.02, too small for fewer inputs.
      h = nn.relu(
        nn.Dense(
          layers.scaled(units, self.width),
          kernel_init=layers.he_normal,
          dtype=self.dtype,
          name=f'full{i}',
        )(h)
      )
    return Dense(self.num_classes, name='logits')(h.astype(jnp.float32)), h
