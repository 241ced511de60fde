"""The toy example of CVAE-GAN (Bao et al. 2017, recalled): points of a ring, several seeds, one program.

Recalled of the paper: a ring centred at (100, 100), far from where the generator starts; generator and
discriminator with three hidden layers of 32, 64 and 64 units; RMSProp at a fixed rate of 5e-5; a traditional
GAN, a WGAN with clipped weights and mean feature matching, each for two million iterations. The rest of Toy's
defaults is ours, chosen so that mean matching learns the ring by 200,000 iterations. What
mattered, in runs of 1 to 8 seeds:
- units: with both of 1 (plain coordinates) every method was a wide blob after 40,000 to 60,000 iterations, as
  biases need 1 / 5e-5 iterations to move by 1 where the ring is at 100;
- the moving average of the means (Bao et al. name it as optional): radius error 0.10 in place of 0.18 after
  40,000 iterations;
- batch_size: 64 is better than 32 for matching. The GAN collapses with batches of 1 to 4 and a generator that
  starts close together (generator_unit 10), and comes out of it on most seeds by 200,000 iterations; with 32
  it does not collapse, and learns the ring better than matching does.
"""

import functools
from typing import Callable, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import optax

from vaegan_jax import methods, optim, parallel
from vaegan_jax.model import ADVERSARIAL, Model, losses_of
from vaegan_jax.networks import mlp
from vaegan_jax.step import Draws, init_state, train_step

CENTRE = (100.0, 100.0)
BINS = 36  # of the angle, for `measures`


class Toy(NamedTuple):
  """What a run of the toy example takes besides its method and seed; lengths in units of the plane."""

  radius: float = 50.0
  width: float = 0.02  # standard deviation of a point's distance from the centre, over the radius
  generator_unit: float = (
    25.0  # the length that is 1 within the network (see networks/mlp.py); the generator
  )
  discriminator_unit: float = (
    100.0  # starts about this far around the origin, so that the ring is far away
  )
  latent_size: int = 2
  batch_size: int = 64
  learning_rate: float = 5e-5
  decay: float = 0.99  # of RMSProp's mean square; PyTorch's and Torch's default
  bound: float = 0.01  # of the weights of WGAN's critic (Arjovsky et al. 2017)
  match_decay: float = 0.9  # of the moving averages of f_D's means; 0 takes the batch's own


class Recipe(NamedTuple):
  """A method of the toy example: a table, and what it asks of losses and optimizers."""

  table: dict
  adversarial: str = 'bce'
  clip: bool = False  # the discriminator's weights


# fmt: off
MEAN_MATCHING = dict(
    generator     = dict(match_d=1.),                                 # L_GD, Bao Eq. 3
    discriminator = dict(real=1., fake_prior=1.))                     # L_D
RECIPES = dict(
    gan      = Recipe(methods.GAN),                                   # the generator's loss non-saturating
    wgan     = Recipe(methods.GAN, adversarial='wasserstein', clip=True),
    matching = Recipe(MEAN_MATCHING))
# fmt: on


def ring(key, count, toy=Toy()):
  """Points [count, 2] float32 of the ring: angle uniform, distance from the centre N(R, (width R)^2)."""
  angle_key, radius_key = jax.random.split(key)
  angle = jax.random.uniform(angle_key, (count, 1), maxval=2 * jnp.pi)
  radius = toy.radius * (1 + toy.width * jax.random.normal(radius_key, (count, 1)))
  return jnp.array(CENTRE) + radius * jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], 1)


def measures(points, radius=Toy().radius, *, bins=BINS, least=0.1, near=0.15):
  """How well points [N, 2] cover the ring of this radius around CENTRE: a dict of floats.

      coverage           share of the bins of the angle that hold at least `least` / bins of all points
      coverage_on_ring   the same, where only points within `near` radii of the ring count as held
      unevenness         total variation distance of the histogram of angles from the even one, 0 to 1
      radius_error       mean of |r - R| / R over the points, r their distances from the centre
      radius_bias        |mean of r - R| / R
  Real points have a radius_error of width sqrt(2 / pi), 0.016 by default, as the ring is that wide. A sample
  that fills the disc covers all angles; its radius_error, and coverage_on_ring, tell it from a ring.
  """
  offset = np.asarray(points, np.float64) - CENTRE
  if offset.ndim != 2 or not len(offset) or not np.isfinite(offset).all():
    raise ValueError(f'points must be finite, [N, 2] with N >= 1, got shape {np.shape(points)}')
  r = np.hypot(*offset.T)
  turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0
  place = np.minimum((turn * bins).astype(int), bins - 1)
  share = lambda kept: np.bincount(place[kept], minlength=bins) / len(r)
  everyone, on_ring = share(slice(None)), share(np.abs(r - radius) <= near * radius)
  return dict(
    coverage=float((everyone >= least / bins).mean()),
    coverage_on_ring=float((on_ring >= least / bins).mean()),
    unevenness=float(np.abs(everyone - 1 / bins).sum() / 2),
    radius_error=float(np.abs(r - radius).mean() / radius),
    radius_bias=float(abs(r.mean() - radius) / radius),
  )


def parts(name, toy=Toy()):
  """(init: key -> TrainState, step: (state, key) -> (state, terms)) of one member: a method of RECIPES."""
  if name not in RECIPES:
    raise ValueError(f'{name!r} is no method of the toy example: use one of {", ".join(RECIPES)}')
  recipe = RECIPES[name]
  model = Model(
    dict(
      generator=mlp.Generator(unit=toy.generator_unit),
      discriminator=mlp.Discriminator(unit=toy.discriminator_unit),
    ),
    losses_of(recipe.table),
    joint_makers=False,
    joint_critics=False,  # nothing is normalised
    adversarial=ADVERSARIAL[recipe.adversarial],
    match_d_decay=toy.match_decay,
  )
  optimizer = optim.optimizer('rmsprop', toy.learning_rate, decay=toy.decay)
  optimizers = dict(generator=optimizer, discriminator=optimizer)
  if recipe.clip:
    optimizers['discriminator'] = optax.chain(optimizer, optim.clipped_parameters(toy.bound))
  one_step = train_step(model, recipe.table, optimizers, Draws(toy.latent_size))

  def init(key):
    init_key = jax.random.split(key, 3)[0]
    return init_state(model, optimizers, init_key, jnp.zeros((2, 2)), None, toy.latent_size)

  def step(state, key):
    _, data_key, noise_key = jax.random.split(key, 3)
    x = ring(jax.random.fold_in(data_key, state.step), toy.batch_size, toy)
    return one_step(state, dict(x=x), noise_key)

  return init, step


def advance(step, count, state, key):
  """(state, {term: mean over the steps}) after `count` steps (may be traced) of one member, as one loop."""

  def body(_, carried):
    state, sums = carried
    state, terms = step(state, key)
    return state, jax.tree.map(jnp.add, sums, terms)

  zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(step, state, key)[1])
  state, sums = jax.lax.fori_loop(0, count, body, (state, zeros))
  return state, {name: value / count for name, value in sums.items()}


def generated(state, count, toy=Toy()):
  """Points [count, 2] of a member's generator as it is (no moving average), from the same noise for all."""
  z = jax.random.normal(jax.random.key(0), (count, toy.latent_size))
  variables = {'params': state.params['generator']}
  return mlp.Generator(unit=toy.generator_unit).apply(variables, z, None, train=False)


class Population(NamedTuple):
  """Functions of all members together; states are {method: TrainState with a leading axis of members}."""

  init: Callable  # () -> states
  advance: Callable  # (states, steps) -> (states, {method: mean terms [N]}); one program; states are donated
  generated: Callable  # (states, count) -> {method: points [N, count, 2]}


def population(names, seeds, toy=Toy(), devices=None):
  """The Population of N seeds of each method in `names`; a member is its seed trained alone, to rounding.

  Members of a method go through one vmapped step; the methods stand side by side in one compiled program. On
  several `devices` (all, by default) the members are spread over them where N is a multiple of their number.
  """
  made = {name: parts(name, toy) for name in names}
  keys = jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32))
  mesh = parallel.devices_mesh(devices)
  spread = PartitionSpec(parallel.AXIS) if len(seeds) % mesh.size == 0 else PartitionSpec()
  across = NamedSharding(mesh, spread)
  keys = jax.device_put(keys, across)

  @functools.partial(jax.jit, out_shardings=across)
  def init():
    return {name: jax.vmap(init)(keys) for name, (init, _) in made.items()}

  @functools.partial(jax.jit, donate_argnums=0)  # the count is traced: one program for every count
  def all_advance(states, count):
    moved = {
      name: jax.vmap(functools.partial(advance, step, count))(states[name], keys)
      for name, (_, step) in made.items()
    }
    return tuple({name: pair[i] for name, pair in moved.items()} for i in (0, 1))

  @functools.partial(jax.jit, static_argnums=1)
  def all_generated(states, count):
    return {
      name: jax.vmap(lambda s: generated(s, count, toy))(state) for name, state in states.items()
    }

  return Population(init, all_advance, all_generated)
