"""The networks of the toy example (Bao et al. 2017, recalled): points in the plane, not images.

Generator and discriminator have three hidden layers of 32, 64 and 64 units. Our choices: ReLU, a
linear output, an encoder of the same build, no normalisation. `unit` is the length in the plane
that counts as 1 inside a network: inputs are divided by it, outputs multiplied.
"""

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from vaegan_jax.networks import layers

HIDDEN = (32, 64, 64)
Dense = functools.partial(nn.Dense, kernel_init=layers.lecun_normal)


class Hidden(nn.Module):
  """[B, 64]: the last hidden layer, from x [B, F] and c [B, A] or None."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None) -> jax.Array:
    h = layers.with_condition(x.astype(self.dtype), c)
    for i, units in enumerate(HIDDEN):
      h = nn.relu(Dense(units, dtype=self.dtype, name=f'full{i}')(h))
    return h


class Encoder(nn.Module):
  """mean, logvar [B, Z] float32 of q(z|x, c), from points x [B, 2]."""

  latent_size: int
  unit: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None  # unused in this file; all networks have it

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array]:
    h = Hidden(self.dtype, name='hidden')(x / self.unit, c).astype(jnp.float32)
    return Dense(self.latent_size, name='mean')(h), Dense(self.latent_size, name='logvar')(h)


class Generator(nn.Module):
  """Points [B, 2] float32, anywhere in the plane, from z [B, Z] and c."""

  unit: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, z: jax.Array, c: jax.Array | None, train: bool) -> jax.Array:
    return self.unit * Dense(2, name='point')(
      Hidden(self.dtype, name='hidden')(z, c).astype(jnp.float32)
    )


class Discriminator(nn.Module):
  """logits [B] float32, and f_D [B, 64], the input of the last full layer, from x [B, 2]."""

  conditional: bool = False  # whether it sees c
  unit: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, c: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array]:
    c = layers.required(c) if self.conditional else None
    features = Hidden(self.dtype, name='hidden')(x / self.unit, c)
    return Dense(1, name='logit')(features.astype(jnp.float32))[:, 0], features
