"""The smallest networks that have what matters: batch norm, features, a condition."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from vaegan_jax import build, checkpoint, settings
from vaegan_jax.configs import digits
from vaegan_jax.model import Model, losses_of, networks_of
from vaegan_jax.step import Draws, init_state, uniform_classes

Z, K, SIDE = 3, 4, 4  # latents, classes, pixels


class Net(nn.Module):
  """Dense, batch norm, tanh, then one dense layer per name in `outputs`."""

  outputs: Any
  axis_name: str | None = None
  conditional: bool = True
  norm: bool = True

  @nn.compact
  def __call__(self, x, c=None, *, train):
    h = x.reshape(len(x), -1)
    h = h if c is None or not self.conditional else jnp.concatenate([h, c], 1)
    h = nn.Dense(8, use_bias=False, name='first')(h)
    if self.norm:
      h = nn.BatchNorm(not train, momentum=0.9, axis_name=self.axis_name, name='norm')(h)
    f = nn.tanh(h)
    return f, [nn.Dense(n, name=f'out{i}')(f) for i, n in enumerate(self.outputs)]


class Encoder(Net):
  outputs: Any = (Z, Z)

  def __call__(self, x, c, train):
    return tuple(super().__call__(x, c, train=train)[1])


class Generator(Net):
  outputs: Any = (SIDE * SIDE,)

  def __call__(self, z, c, train):
    return jnp.tanh(super().__call__(z, c, train=train)[1][0]).reshape(-1, SIDE, SIDE, 1)


class Discriminator(Net):
  outputs: Any = (1,)
  conditional: bool = False

  def __call__(self, x, c, train):
    features, (logits,) = super().__call__(x, c, train=train)
    return logits[:, 0], features


class Classifier(Net):
  outputs: Any = (K,)

  def __call__(self, x, train):
    features, (logits,) = super().__call__(x, train=train)
    return logits, features


NETWORKS = dict(
  encoder=Encoder, generator=Generator, discriminator=Discriminator, classifier=Classifier
)


def model(table, **choices):
  """The Model of a method's table."""
  names = losses_of(table)
  made = {n: NETWORKS[n](axis_name=choices.get('axis_name')) for n in networks_of(names)}
  return Model(made, names, frozen=tuple(n for n in made if n not in table), **choices)


def batch(conditional, count=16, seed=1):
  """dict(x=[count, SIDE, SIDE, 1] float32, c=int32 [count] where conditional)."""
  keys = jax.random.split(jax.random.key(seed), 2)
  x = jax.random.uniform(keys[0], (count, SIDE, SIDE, 1), minval=-1)
  return dict(x=x, c=jax.random.randint(keys[1], (count,), 0, K)) if conditional else dict(x=x)


def draws(conditional):
  return Draws(Z, uniform_classes, classes=K if conditional else 0, flip=True)


def state(model, table, conditional, optimizer=optax.sgd(0.1)):
  """A TrainState whose class centres were all seen."""
  x, c = jnp.zeros((2, SIDE, SIDE, 1)), jnp.zeros((2, K)) if conditional else None
  init = jax.jit(lambda key: init_state(model, dict.fromkeys(table, optimizer), key, x, c, Z))
  made = init(jax.random.key(0))
  return made.replace(centres=jax.tree.map(lambda a: a + 1.0, made.centres))


DIGITS = dict(condition='label', names=list('0123456789'), size=10)


def run_of(workdir, method='cvae_gan', about=DIGITS, **changes):
  """The workdir, after saving an untrained model of the digits with Z = 4 as its step 7."""
  sizes = {'network.width': '0.0625', 'network.latent_size': '4'}
  config = settings.with_settings(digits.get_config(method), {**sizes, **changes})
  whole = build.model(config, about['size'], settings.method(config))
  examples = build.examples(config, about['size'])
  made = init_state(whole, {}, jax.random.key(0), *examples, 4)
  saved = settings.to_dict(config)
  checkpoint.save(workdir, 7, made, keep=1, config=saved, about=about).result()
  return workdir
