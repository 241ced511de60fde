"""The toy example of CVAE-GAN (Bao et al. 2017, recalled): many seeds learn a ring in one program.

Recalled of the paper: a ring centred at (100, 100), far from where the generator starts; generator
and discriminator with three hidden layers of 32, 64 and 64 units; RMSProp at a fixed rate of 5e-5;
a traditional GAN, a WGAN with clipped weights, and mean feature matching, two million iterations
each. The other defaults of Toy are ours, chosen so that mean matching learns the ring within
200,000 iterations; docs/results.md says what mattered.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import optax

from vaegan_jax import methods, optim, parallel
from vaegan_jax.model import ADVERSARIAL, Model, losses_of
from vaegan_jax.networks import mlp
from vaegan_jax.step import Draws, TrainState, init_state, train_step

CENTRE = (100.0, 100.0)
BINS = 36  # of the angle, in `measures`


class Toy(NamedTuple):
  """The settings of a run besides its method and seed; lengths in units of the plane."""

  radius: float = 50.0
  width: float = 0.02  # standard deviation of a point's distance from the centre, over the radius
  # A unit is the length that counts as 1 inside a network (see networks/mlp.py). The generator
  # starts about one unit around the origin, so the ring is far away.
  generator_unit: float = 25.0
  discriminator_unit: float = 100.0
  latent_size: int = 2
  batch_size: int = 64
  learning_rate: float = 5e-5
  decay: float = 0.99  # of RMSProp's mean square; PyTorch's and Torch's default
  bound: float = 0.01  # of the weights of WGAN's critic (Arjovsky et al. 2017)
  match_decay: float = 0.9  # of the moving averages of f_D's means; 0 uses the batch's own


class Fixed(NamedTuple):
  """Training points that stay the same: a batch draws from them, each time with replacement."""

  points: Any  # float32 [P, 2]
  count: Any  # int: only the first `count` are used; 0 draws new points of the ring instead


class Recipe(NamedTuple):
  """A method of the toy example: its table, its losses and its optimizer."""

  table: dict
  adversarial: str = 'bce'
  clip: bool = False  # whether to clip the discriminator's weights


# fmt: off
MEAN_MATCHING = dict(
    generator     = dict(match_d=1.),                  # L_GD, Bao Eq. 3
    discriminator = dict(real=1., fake_prior=1.))      # L_D
RECIPES = dict(
    gan      = Recipe(methods.GAN),                    # with the generator's non-saturating loss
    wgan     = Recipe(methods.GAN, adversarial='wasserstein', clip=True),
    matching = Recipe(MEAN_MATCHING))
# fmt: on


def ring(key: jax.Array, count: int, toy: Toy = Toy()) -> jax.Array:
  """Points float32 [count, 2]: angle uniform, distance from the centre ~ N(R, (width R)^2)."""
  angle_key, radius_key = jax.random.split(key)
  angle = jax.random.uniform(angle_key, (count, 1), maxval=2 * jnp.pi)
  radius = toy.radius * (1 + toy.width * jax.random.normal(radius_key, (count, 1)))
  return jnp.array(CENTRE) + radius * jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], 1)


def batch(key: jax.Array, toy: Toy = Toy(), fixed: Fixed | None = None) -> jax.Array:
  """Training points float32 [B, 2]: new ones of the ring, or drawn from the fixed ones."""
  new = ring(key, toy.batch_size, toy)
  if fixed is None:
    return new
  at = jax.random.randint(key, (toy.batch_size,), 0, jnp.maximum(fixed.count, 1))
  return jnp.where(fixed.count > 0, fixed.points[at], new)


def measures(
  points: Any,
  radius: float = Toy().radius,
  *,
  bins: int = BINS,
  least: float = 0.1,
  near: float = 0.15,
) -> dict[str, float]:
  """How well points [N, 2] cover the ring of this radius around CENTRE.

      coverage           share of the angle's bins that hold at least `least` / bins of all points
      coverage_on_ring   the same, counting only points within `near` radii of the ring
      unevenness         total variation distance of the histogram of angles from the even one
      radius_error       mean of |r - R| / R over the points, r their distances from the centre
      radius_bias        |mean of r - R| / R

  Real points have a radius_error of width sqrt(2 / pi), 0.016 by default: the ring is that wide. A
  sample that fills the disc covers all angles; radius_error and coverage_on_ring give it away.
  """
  offset = np.asarray(points, np.float64) - CENTRE
  if offset.ndim != 2 or not len(offset) or not np.isfinite(offset).all():
    raise ValueError(f'points must be finite, [N, 2] with N >= 1, got shape {np.shape(points)}')
  r = np.hypot(*offset.T)
  turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0
  place = np.minimum((turn * bins).astype(int), bins - 1)
  near_ring = np.abs(r - radius) <= near * radius
  everyone, on_ring = (
    np.bincount(kept, minlength=bins) / len(r) for kept in (place, place[near_ring])
  )
  return dict(
    coverage=float((everyone >= least / bins).mean()),
    coverage_on_ring=float((on_ring >= least / bins).mean()),
    unevenness=float(np.abs(everyone - 1 / bins).sum() / 2),
    radius_error=float(np.abs(r - radius).mean() / radius),
    radius_bias=float(abs(r.mean() - radius) / radius),
  )


class Member(NamedTuple):
  """The functions of one member of a population."""

  init: Callable  # key -> TrainState
  step: Callable  # (state, key, Fixed or None) -> (state, terms)


def member(name: str, toy: Toy = Toy()) -> Member:
  """The Member that a method of RECIPES trains."""
  if name not in RECIPES:
    raise ValueError(f'the toy example has no method {name!r}: use one of {", ".join(RECIPES)}')
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

  def step(state, key, fixed=None):
    _, data_key, noise_key = jax.random.split(key, 3)
    x = batch(jax.random.fold_in(data_key, state.step), toy, fixed)
    return one_step(state, dict(x=x), noise_key)

  return Member(init, step)


def advance(
  step: Callable,
  count: int | jax.Array,
  state: TrainState,
  key: jax.Array,
  fixed: Fixed | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """(state, {term: mean over the steps}) after `count` steps of one member, in one loop.

  `count` may be traced.
  """

  def body(_, carried):
    state, sums = carried
    state, terms = step(state, key, fixed)
    return state, jax.tree.map(jnp.add, sums, terms)

  zeros = jax.tree.map(
    lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(step, state, key, fixed)[1]
  )
  state, sums = jax.lax.fori_loop(0, count, body, (state, zeros))
  return state, {name: value / count for name, value in sums.items()}


def generated(state: TrainState, count: int, toy: Toy = Toy()) -> jax.Array:
  """Points [count, 2] of a member's generator (not its moving average), the same noise for all."""
  z = jax.random.normal(jax.random.key(0), (count, toy.latent_size))
  variables = {'params': state.params['generator']}
  return mlp.Generator(unit=toy.generator_unit).apply(variables, z, None, train=False)


def logits(state: TrainState, points: jax.Array, toy: Toy = Toy()) -> jax.Array:
  """What a member's discriminator says of points [P, 2]: [P]."""
  variables: Any = {'params': state.params['discriminator']}
  network = mlp.Discriminator(unit=toy.discriminator_unit)
  return network.apply(variables, points, None, train=False)[0]


class Population(NamedTuple):
  """Functions of all members; states are {method: TrainState with a leading axis of members}."""

  init: Callable  # () -> states
  advance: Callable  # (donated states, steps) -> (states, {method: mean terms [N]}), one program
  generated: Callable  # (states, count) -> {method: points [N, count, 2]}
  logits: Callable  # (states, points [N, P, 2]) -> {method: logits [N, P]}


def population(
  names: Sequence[str],
  seeds: Sequence[int],
  toy: Toy = Toy(),
  devices: Sequence[jax.Device] | None = None,
  fixed: Fixed | None = None,
) -> Population:
  """The Population of N seeds of each method in `names`; `fixed` has a leading axis of members.

  A member computes what its seed computes when trained alone, to rounding. The members of a method
  share one vmapped step; all methods share one compiled program. The members are sharded over the
  `devices` (by default all) if N is a multiple of their number.
  """
  members = {name: member(name, toy) for name in names}
  keys = jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32))
  mesh = parallel.devices_mesh(devices)
  spread = PartitionSpec(parallel.AXIS) if len(seeds) % mesh.size == 0 else PartitionSpec()
  across = NamedSharding(mesh, spread)
  keys, fixed = jax.device_put((keys, fixed), across)

  @functools.partial(jax.jit, out_shardings=across)
  def init():
    return {name: jax.vmap(own.init)(keys) for name, own in members.items()}

  @functools.partial(jax.jit, donate_argnums=0)  # the count is traced: one program for every count
  def all_advance(states, count):
    moved = {
      name: jax.vmap(functools.partial(advance, own.step, count))(states[name], keys, fixed)
      for name, own in members.items()
    }
    return tuple({name: pair[i] for name, pair in moved.items()} for i in (0, 1))

  @functools.partial(jax.jit, static_argnums=1)
  def all_generated(states, count):
    return {
      name: jax.vmap(lambda s: generated(s, count, toy))(state) for name, state in states.items()
    }

  @jax.jit
  def all_logits(states, points):
    own = functools.partial(logits, toy=toy)
    return {name: jax.vmap(own)(state, points) for name, state in states.items()}

  return Population(init, all_advance, all_generated, all_logits)
