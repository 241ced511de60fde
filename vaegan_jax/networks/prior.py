"""A learned prior: the Gaussian of the latents of all images together.

The KL holds the posterior of each image near N(0, I), and not those of all images together: on
photographs their means share an offset, and few directions have most of their variance. A generator
can tell by this which latents are of images, and N(0, I) is not where it draws well. So z_p is
drawn where the encoder puts the images: from a Gaussian with the mean and the covariance of z, of
which encoder and generator keep moving averages. With a condition the mean follows it, so the prior
is p(z|c): z tells much of the class, whatever the KL.

The networks take and give z as it is while they train, and standardised at test time. So the prior
of a trained model is N(0, I) for whoever uses it, and a reconstruction is that of training.

Compare ex-post density estimation (Ghosh et al. 2020), which fits such a Gaussian after training.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from vaegan_jax.losses import LOGVAR_RANGE

# Per step, of the moving averages: the mean of all latents wanders while the encoder trains.
DECAY = dict(mean=0.95, excess=0.998, by_condition=0.98)
SLOWEST = 0.998  # of those of the averaged encoder, which does not wander
LARGEST = 2048  # most latents: the covariance has the square of them
JITTER = 1e-4  # least variance along any direction; the posteriors' own is far larger

# {'mean': [Z], 'scale': [Z, Z], the Cholesky factor of the covariance less I}; of the encoder also
# 'excess': [Z, Z], the covariance less I; and with a condition c [B, A] also 'by_condition' [A, Z]:
# c @ by_condition is what it adds to the mean. With zeros the prior is N(0, I).
Moments = Mapping[str, jax.Array]
product = functools.partial(jnp.matmul, precision='highest')  # a TPU rounds to bfloat16 otherwise


class Kept(nn.Module):
  """The Moments that a network keeps, as batch statistics."""

  latent_size: int
  of_encoder: bool
  mean_init: Callable = nn.initializers.zeros
  scale_init: Callable = nn.initializers.zeros
  excess_init: Callable = nn.initializers.zeros
  by_condition_init: Callable = nn.initializers.zeros

  @nn.compact
  def __call__(self, c: jax.Array | None) -> Moments:
    z = self.latent_size
    shapes: dict[str, tuple[int, ...]] = dict(mean=(z,), scale=(z, z))
    shapes |= dict(excess=(z, z)) if self.of_encoder else {}
    shapes |= {} if c is None else dict(by_condition=(c.shape[1], z))
    return {k: self.variable('batch_stats', k, jnp.zeros, v).value for k, v in shapes.items()}


def of_generator(moments: Moments) -> dict[str, jax.Array]:
  """The Moments that the generator keeps, of the encoder's."""
  return {k: v for k, v in moments.items() if k != 'excess'}


def moved(
  moments: Moments,
  mean: jax.Array,
  logvar: jax.Array,
  c: jax.Array | None = None,
  axis_name: str | None = None,
  decay: Mapping[str, Any] = DECAY,
) -> dict[str, jax.Array]:
  """The encoder's Moments one step later, of posteriors with mean, logvar [B, Z], held constant.

  The covariance is that within the batch, or it would count the wandering of the mean as spread.
  """
  mean, logvar = lax.stop_gradient((mean, jnp.clip(logvar, *LOGVAR_RANGE)))
  everywhere = lambda a: a if axis_name is None else lax.pmean(a, axis_name)
  devices = 1 if axis_name is None else lax.axis_size(axis_name)
  count = len(mean) * devices
  off = mean - added(moments, c)
  centre = everywhere(off.mean(0))
  off = off - (centre if count > 1 else moments['mean'])
  spread = product(off.T, off) / len(off) * (count / max(1, count - 1))
  excess = everywhere(spread + jnp.diag(jnp.exp(logvar).mean(0) - 1.0))
  seen = dict(mean=centre, excess=excess)
  if c is not None:  # an image tells each of its attributes its part of what is not explained yet
    shared = c / jnp.maximum(1.0, c.sum(1, keepdims=True))
    total, times = everywhere((product(shared.T, off), c.sum(0)[:, None]))
    unexplained = total / jnp.maximum(1.0 / devices, times)
    seen |= dict(by_condition=moments['by_condition'] + unexplained)
  new = {k: decay[k] * moments[k] + (1.0 - decay[k]) * seen[k] for k in seen}
  one = jnp.eye(mean.shape[1])
  return {**new, 'scale': jnp.linalg.cholesky(new['excess'] + (1.0 + JITTER) * one) - one}


def averaged(
  networks: Mapping[str, Any],
  ema: Mapping[str, Any],
  before: Mapping[str, Any],
  inputs: tuple[jax.Array, jax.Array | None],
  decay: jax.Array,
  axis_name: str | None = None,
) -> Mapping[str, Any]:
  """The moving averages `ema` {maker: {'params', 'stats'}}, with Moments of their own encoder.

  An averaged encoder does not wander, so its latents have less spread than those that a training
  encoder gives. Without Moments, `ema` itself.

  Args:
    before: the moving averages one step earlier.
    inputs: images x and their condition c.
    decay: of the averages, per step; the Moments take SLOWEST if it is higher.
  """
  if 'prior' not in ema.get('encoder', {}).get('stats', {}):
    return ema
  own = {'params': ema['encoder']['params'], 'batch_stats': ema['encoder']['stats']}
  posteriors = networks['encoder'].apply(own, *inputs, train=True)
  decays = dict.fromkeys(DECAY, jnp.minimum(decay, SLOWEST))
  known = before['encoder']['stats']['prior']
  new = moved(known, *posteriors, inputs[1], axis_name, decays)
  priors = dict(encoder=new, generator=of_generator(new))
  return {k: {**v, 'stats': {**v['stats'], 'prior': priors[k]}} for k, v in ema.items()}


def added(moments: Moments, c: jax.Array | None) -> jax.Array | float:
  """What conditions c [B, A] add to the mean of z."""
  return 0.0 if c is None else product(c.astype(jnp.float32), moments['by_condition'])


def drawn(moments: Moments, normal: jax.Array, c: jax.Array | None = None) -> jax.Array:
  """z [B, Z] of the prior, from standard normal numbers [B, Z]; the moments are held constant."""
  moments = lax.stop_gradient(moments)
  return moments['mean'] + added(moments, c) + normal + product(normal, moments['scale'].T)


def standardised(
  moments: Moments, mean: jax.Array, logvar: jax.Array, c: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """(mean, logvar [B, Z]) of posteriors as seen from the prior: `drawn` of the mean is the mean.

  The covariance of a posterior is no longer diagonal: logvar is that of its diagonal.
  """
  moments, one = lax.stop_gradient(moments), jnp.eye(mean.shape[1])
  root = jax.scipy.linalg.solve_triangular(one + moments['scale'], one, lower=True)
  variance = product(jnp.exp(logvar), jnp.square(root).T)
  return product(mean - moments['mean'] - added(moments, c), root.T), jnp.log(variance)
