"""Signals of collapse, from fixed noise and fixed real images, by a small program of its own.

The training step does not know of it, so its numbers stay as they are to the bit.

    diversity_pixels,     variance of samples within a class over that of real images, in pixels and
    diversity_features    in the discriminator's features; mean over classes
    diversity_least,      the least of them by class (in features, if there are), and which class it
    diversity_class       is
    sample_distance       energy distance of samples from real images, in pixels, over the mean
                          distance of two real images: 0 where they are distributed alike
    pair_loss             softplus(D(sample) - D(image)), in nats, over all pairs of a real image
                          and a sample of its class, of a relativistic critic: its loss on images
                          held out. Between classes its outputs may differ by any constant
    posterior_kl          KL of q(z|x) from the prior, in nats, whatever its weight is
    prior_gap             KL of the latents of all images together, as a Gaussian, from the prior,
                          in nats, mean over latents: 0 where samples from the prior are what the
                          generator gets from images, however much the latents tell
    active_units          share of the latents whose mean varies over x by more than ACTIVE (Burda
                          et al. 2016, equation 10)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaegan_jax import data, losses
from vaegan_jax.model import PAIRED, Model
from vaegan_jax.parallel import compiler_options
from vaegan_jax.step import as_condition, as_float

CLASSES, EACH, ALONE = 16, 8, 64  # most classes; least images of each; least images in all
ACTIVE = 0.01


class Probe:
  """Gives the signals of a state. It compiles at the first call.

  Args:
    model: of the run.
    latent_size: Z.
    about: of the data, see build.about; samples under attributes are not compared, as no two real
      images share all of theirs.
    shown: real images; EACH or more of each class are taken.
  """

  def __init__(
    self, model: Model, latent_size: int, about: Mapping[str, Any], shown: data.Dataset
  ) -> None:
    self.model, self.condition, self.size = model, about['condition'], about['size']
    given = dict(none=shown.images, label=shown.labels, attributes=shown.attributes)
    at, self.labels = chosen(shown, self.size if self.condition == 'label' else 0)
    self.batch = {}  # where the images to show have no condition there is nothing to ask for
    if given[self.condition] is not None and len(at):
      self.batch = data.take(shown, at, self.condition)
    self.z = jax.random.normal(jax.random.key(0), (len(at), latent_size))
    self.program = jax.jit(self._arrays, compiler_options=compiler_options())

  def __call__(self, state: Any) -> dict[str, float]:
    """{signal: value} of a TrainState at rest, as far as the model has its networks."""
    if not self.batch:
      return {}
    own = dict(params=state.params, stats=state.stats)
    own = jax.tree.map(lambda a: a.addressable_data(0), own)
    return signals(jax.device_get(self.program(own, self.batch, self.z)), self.labels)

  def _arrays(self, state: Mapping, batch: Mapping, z: jax.Array) -> dict[str, jax.Array]:
    """What `signals` takes: pixels, features, mean and logvar, of real images and of samples."""
    label = self.condition == 'label'
    x, c = as_float(batch['x']), as_condition(batch.get('c'), self.size if label else 0)

    def apply(name, *inputs):
      variables = {'params': state['params'][name], 'batch_stats': state['stats'][name]}
      return self.model.networks[name].apply(variables, *inputs, train=False)

    found = {}
    if 'encoder' in self.model.networks:
      mean, logvar = apply('encoder', x, c)
      found |= dict(kl=losses.gaussian_kl(mean, logvar).mean())
      if len(x) > 1:
        found |= dict(active=mean.var(0) > ACTIVE, gap=prior_gap(mean, logvar))
    if 'generator' in self.model.networks and self.condition != 'attributes':
      fakes = apply('generator', z, c)
      found |= dict(pixels=(x, fakes))
      if len(x) > 1:
        found |= dict(distance=sample_distance(x, fakes))
      if 'discriminator' in self.model.networks:
        logits, features = zip(*(apply('discriminator', a, c) for a in (x, fakes)))
        found |= dict(features=features)
        if self.model.adversarial in PAIRED:
          found |= dict(pairs=pair_loss(logits[0], logits[1], self.labels))
    return jax.tree.map(lambda a: a.astype(np.float32), found)


def chosen(shown: data.Dataset, classes: int) -> tuple[np.ndarray, np.ndarray]:
  """(indices int [N] into `shown`, their classes int [N]; all 0 where there are no classes)."""
  if not classes or shown.labels is None:
    at = np.linspace(0, len(shown.images) - 1, min(len(shown.images), ALONE)).astype(int)
    return at, np.zeros(len(at), int)
  some = np.unique(np.linspace(0, classes - 1, min(classes, CLASSES)).astype(int))
  labels = np.asarray(shown.labels)
  each = max(EACH, ALONE // len(some))
  at = np.concatenate([np.flatnonzero(labels == k)[:each] for k in some])
  return at, labels[at]


def prior_gap(mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """KL of N(m, s^2) from N(0, 1), mean over latents, where m and s^2 are the mean and the variance
  of z over posteriors `mean`, `logvar` [N, Z] together."""
  variance = mean.var(0) + jnp.exp(logvar).mean(0)
  return losses.gaussian_kl_per_dim(mean.mean(0)[None], jnp.log(variance)[None]).mean()


def pair_loss(real: jax.Array, fake: jax.Array, labels: np.ndarray) -> jax.Array:
  """Mean loss of a relativistic critic with logits `real` and `fake` [N], over all pairs of one
  class; real[i] and fake[i] are of class labels[i]."""
  i, j = np.nonzero(labels[:, None] == labels)
  return losses.relativistic_discriminator(real[i], fake[j]).mean()


def sample_distance(real: jax.Array, fakes: jax.Array) -> jax.Array:
  """(2 E|x - y| - E|x - x'| - E|y - y'|) / E|x - x'| of images x and samples y [N, ...].

  Source: the energy distance of Szekely and Rizzo 2013, without bias.
  """
  x, y = (a.reshape(len(a), -1) for a in (real, fakes))

  def total(a, b):
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * jnp.matmul(a, b.T, precision='highest')
    return jnp.sqrt(jnp.maximum(squared, 0)).sum()

  pairs = len(x) * (len(x) - 1)
  within = total(x, x) / pairs
  return (2 * total(x, y) / len(x) ** 2 - total(y, y) / pairs) / within - 1


def signals(arrays: Mapping[str, Any], labels: np.ndarray) -> dict[str, float]:
  """The signals, see above, of what the program gives for N images with `labels` int [N]."""
  found = {}
  if 'kl' in arrays:
    found |= dict(posterior_kl=float(arrays['kl']))
  if 'active' in arrays:
    found |= dict(active_units=float(np.mean(arrays['active'])), prior_gap=float(arrays['gap']))
  if np.isfinite(arrays.get('distance', np.nan)):  # it is not where all real images are the same
    found |= dict(sample_distance=float(arrays['distance']))
  if 'pairs' in arrays:
    found |= dict(pair_loss=float(arrays['pairs']))
  least: Sequence[tuple[float, int]] = ()
  for name in ('pixels', 'features'):
    if name in arrays and (ratios := by_class(*arrays[name], labels)):
      found[f'diversity_{name}'] = float(np.mean(list(ratios.values())))
      least = [(ratio, k) for k, ratio in ratios.items()]
  if least:
    found['diversity_least'], found['diversity_class'] = map(float, min(least))
  return found


def by_class(real: np.ndarray, fakes: np.ndarray, labels: np.ndarray) -> dict[int, float]:
  """{class: variance of the fakes [N, ...] over that of the real ones}, where those vary."""

  def variance(a, k):
    return float(a[labels == k].reshape((labels == k).sum(), -1).var(0, ddof=1).mean())

  several = [int(k) for k in np.unique(labels) if (labels == k).sum() > 1]
  within = {k: (variance(fakes, k), variance(real, k)) for k in several}
  return {k: fake / known for k, (fake, known) in within.items() if known > 0}
