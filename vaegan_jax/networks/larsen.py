"""The networks of VAE/GAN (Larsen et al. 2016, Table 1), at 64x64 layer by layer as published.

Padding, biases, initialisers, and the epsilons of batch norm are those of the authors' code. Other
image sizes have more or fewer layers of stride 2. Conditions enter as recalled for the paper's
section 4.2 (LFW attributes): concatenated with z in the generator, and with the input of the top
full layer in encoder and discriminator.

With `packed`, for TPUs, images come and go in blocks of 2 x 2 pixels, [B, H / 2, W / 2, 4 C], and
so do the maps next to them (see blocks.py).

Arguments of every network: c [B, A] float32, the condition, or None; `train`, whether batch norm
uses the batch's statistics and moves its running ones. Errors: ValueError for an unknown image size
and for images of another shape.
"""

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from vaegan_jax.networks import blocks, convolutions, layers

STRIDED = {16: 2, 32: 3, 64: 3, 128: 4}  # layers of stride 2, by image size
CONV, FULL = 1e-6, 1e-5  # epsilon of batch norm after convolutions and after full layers

Conv = functools.partial(
  nn.Conv,
  kernel_size=(5, 5),
  padding=2,
  kernel_init=layers.uniform_fan_in,
  conv_general_dilated=convolutions.conv_for_linen,
)
Down = functools.partial(Conv, strides=2)
Up = functools.partial(layers.ConvTranspose, kernel_size=5)
Dense = functools.partial(nn.Dense, kernel_init=layers.uniform_fan_in)


class Encoder(nn.Module):
  """mean, logvar [B, Z] float32 of the posterior q(z|x, c)."""

  image_size: int
  channels: int
  latent_size: int
  units: int = 2048  # of the full layer: the paper's 2048; the authors' code has 1024
  width: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None
  packed: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array]:
    strided = layers.by_size(STRIDED, self.image_size)
    blocks.check_images(self, x)
    h = x.astype(self.dtype)
    for i, channels in enumerate((64, 128, 256, 256)[:strided]):
      down = blocks.Down if self.packed and i == 0 else Down
      h = down(
        features=layers.scaled(channels, self.width),
        use_bias=False,
        dtype=self.dtype,
        name=f'conv{i}',
      )(h)
      h = nn.relu(layers.batch_norm(self, train, CONV, name=f'norm{i}')(h))
    h = layers.with_condition(h.reshape(h.shape[0], -1), c)
    h = Dense(layers.scaled(self.units, self.width), use_bias=False, dtype=self.dtype, name='full')(
      h
    )
    h = nn.relu(layers.batch_norm(self, train, FULL, name='norm_full')(h)).astype(jnp.float32)
    return Dense(self.latent_size, name='mean')(h), Dense(self.latent_size, name='logvar')(h)


class Generator(nn.Module):
  """Images [B, H, W, C] float32 in [-1, 1], from z [B, Z] and c: the paper's decoder."""

  image_size: int
  channels: int
  width: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None
  packed: bool = False

  @nn.compact
  def __call__(self, z: jax.Array, c: jax.Array | None, train: bool) -> jax.Array:
    strided = layers.by_size(STRIDED, self.image_size)
    base, channels = self.image_size >> strided, layers.scaled(256, self.width)
    h = layers.with_condition(z.astype(self.dtype), c)
    h = Dense(base * base * channels, use_bias=False, dtype=self.dtype, name='full')(h)
    h = nn.relu(layers.batch_norm(self, train, FULL, name='norm_full')(h))
    h = h.reshape(-1, base, base, channels)
    for i, channels in enumerate((256, 256, 128, 32)[-strided:]):
      block = self.packed and i == strided - 1
      up, norm = (blocks.Up, blocks.batch_norm) if block else (Up, layers.batch_norm)
      h = up(features=layers.scaled(channels, self.width), dtype=self.dtype, name=f'conv{i}')(h)
      h = nn.relu(norm(self, train, CONV, name=f'norm{i}')(h))
    image = blocks.Within if self.packed else Conv
    h = image(features=self.channels, dtype=self.dtype, name='image')(h)
    return jnp.tanh(h.astype(jnp.float32))


class Discriminator(nn.Module):
  """logits [B] float32, and Dis_l [B, F]: the last strided convolution before its batch norm.

  As in the authors' code, Dis_l has no bias, batch norm or ReLU (F = 16384 at 64x64).
  """

  image_size: int
  channels: int
  width: float = 1.0
  conditional: bool = False  # whether it sees c
  dtype: Any = jnp.float32
  axis_name: str | None = None
  packed: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array]:
    strided = layers.by_size(STRIDED, self.image_size)
    blocks.check_images(self, x)
    h = x.astype(self.dtype)
    conv = blocks.Within if self.packed else Conv
    h = nn.relu(conv(features=layers.scaled(32, self.width), dtype=self.dtype, name='conv0')(h))
    for i, channels in enumerate((128, 256, 256, 256)[:strided], 1):
      down = blocks.Down if self.packed and i == 1 else Down
      h = features = down(
        features=layers.scaled(channels, self.width),
        use_bias=False,
        dtype=self.dtype,
        name=f'conv{i}',
      )(h)
      h = nn.relu(layers.batch_norm(self, train, CONV, name=f'norm{i}')(h))
    h = h.reshape(h.shape[0], -1)
    if self.conditional:
      h = layers.with_condition(h, layers.required(c))
    h = Dense(layers.scaled(512, self.width), use_bias=False, dtype=self.dtype, name='full')(h)
    h = nn.relu(layers.batch_norm(self, train, FULL, name='norm_full')(h)).astype(jnp.float32)
    return Dense(1, name='logit')(h)[:, 0], features.reshape(h.shape[0], -1)
