"""Networks of two dense layers with batch norm: they compile in seconds and train in minutes.

For benchmarks of what does not depend on convolutions: --config.network.name=benchmarks.dense.
"""

import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

UNITS = 128


class Hidden(nn.Module):
  """Features [B, UNITS] of inputs [B, ...] and a condition [B, A] or None."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> jax.Array:
    h = x.reshape(len(x), -1)
    h = h if c is None else jnp.concatenate([h, c], 1)
    h = nn.Dense(UNITS, use_bias=False)(h)
    h = nn.BatchNorm(not train, momentum=0.9, axis_name=self.axis_name)(h)
    return nn.leaky_relu(nn.Dense(UNITS)(nn.leaky_relu(h, 0.2)), 0.2)


class Encoder(nn.Module):
  """mean, logvar [B, Z] of q(z|x, c)."""

  image_size: int
  channels: int
  width: float
  dtype: Any
  axis_name: str | None
  latent_size: int

  @nn.compact
  def __call__(self, x, c, train):
    h = Hidden(self.axis_name)(x, c, train)
    return nn.Dense(self.latent_size)(h), nn.Dense(self.latent_size)(h)


class Generator(nn.Module):
  """Images [B, H, W, C] in [-1, 1] from z [B, Z] and c."""

  image_size: int
  channels: int
  width: float
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, z, c, train):
    shape = (self.image_size, self.image_size, self.channels)
    pixels = nn.Dense(math.prod(shape))(Hidden(self.axis_name)(z, c, train))
    return jnp.tanh(pixels).reshape(-1, *shape)


class Discriminator(nn.Module):
  """logits [B] and features f_D [B, UNITS]."""

  image_size: int
  channels: int
  width: float
  dtype: Any
  axis_name: str | None
  conditional: bool = False

  @nn.compact
  def __call__(self, x, c, train):
    h = Hidden(self.axis_name)(x, c if self.conditional else None, train)
    return nn.Dense(1)(h)[:, 0], h


class Classifier(nn.Module):
  """logits [B, K] and features f_C [B, UNITS]."""

  image_size: int
  channels: int
  width: float
  dtype: Any
  axis_name: str | None
  num_classes: int = 0

  @nn.compact
  def __call__(self, x, train):
    h = Hidden(self.axis_name)(x, None, train)
    return nn.Dense(self.num_classes)(h), h
