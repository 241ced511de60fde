"""One training step: it updates all networks of a method from one forward pass (see routing.py)."""

from collections.abc import Callable, Iterable, Mapping
import math
from typing import Any, NamedTuple

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import optax

from vaegan_jax import balance, critic_aids, losses
from vaegan_jax.augment import DRAWS
from vaegan_jax.model import CENTRES, MAKERS, Model, played
from vaegan_jax.networks import blocks, layers, prior
from vaegan_jax.routing import Inputs, accumulated

Terms = dict[str, jax.Array]  # {name: mean over the batch}


@struct.dataclass
class TrainState:
  """Everything needed to resume; each field but step, skipped and centres is a dict by network."""

  step: jax.Array  # int32 []: steps done
  skipped: jax.Array  # int32 []: steps in a row that changed nothing, as they were not finite
  params: dict[str, Any]
  stats: dict[str, Any]  # running batch statistics
  opt_state: dict[str, Any]
  ema: dict[str, Any]  # {maker: {'params', 'stats'}}: moving averages, which sampling uses
  centres: dict[str, Any]  # moving-average feature centres of the matching losses
  # Of balance.py and critic_aids.py, as far as they are on.
  averages: dict[str, jax.Array] = struct.field(default_factory=dict)


class Draws(NamedTuple):
  """What a step draws at random, besides the order of the data."""

  latent_size: int
  prior_condition: Callable | None = None  # (key, c [N, A]) -> c_p [N, A]
  classes: int = 0  # number of classes; 0 if c is absent or holds attributes
  flip: bool = False  # mirror half of the images, left to right
  augment: Callable | None = None  # (x, normal noise [B, augment.DRAWS]) -> x
  for_critic: bool = False  # draw what critic_aids.augmented takes, too


def uniform_classes(key: jax.Array, c: jax.Array) -> jax.Array:
  """One-hot c_p [N, K], all classes equally likely: the random classes of Algorithm 1 (Bao)."""
  return jax.nn.one_hot(jax.random.randint(key, len(c), 0, c.shape[1]), c.shape[1])


def shuffled(key: jax.Array, c: jax.Array) -> jax.Array:
  """c_p [N, A]: the batch's own conditions, permuted; attributes correlate as in the data."""
  return jax.random.permutation(key, c)


def same(key: jax.Array, c: jax.Array) -> jax.Array:
  """c_p [N, A]: the batch's own conditions, so that a relativistic pair shares its condition."""
  return c


PRIOR_CONDITIONS = dict(uniform=uniform_classes, shuffled=shuffled, same=same)


def draw(
  draws: Draws, key: jax.Array, x: jax.Array, c: jax.Array | None, axis_name: str | None = None
) -> tuple[jax.Array, dict[str, Any]]:
  """(x, flipped and augmented; the noise for model.make), the same for any number of devices.

  Under pmap (axis_name) each device draws the numbers of the global batch and takes its own part.
  """
  count, devices, index = len(x), 1, 0
  if axis_name is not None:
    devices, index = lax.axis_size(axis_name), lax.axis_index(axis_name)
    c = None if c is None else lax.all_gather(c, axis_name, tiled=True)

  def own(a):
    return lax.dynamic_slice_in_dim(a, index * count, count) if devices > 1 else a

  keys = jax.random.split(key, 4)
  shape = (count * devices, draws.latent_size)
  noise = dict(
    posterior=own(jax.random.normal(keys[0], shape)),
    prior=own(jax.random.normal(keys[1], shape)),
    c_p=None if c is None else own(draws.prior_condition(keys[2], c)),
  )
  if draws.flip:
    mirrored = own(jax.random.bernoulli(keys[3], shape=(count * devices, 1, 1, 1)))
    x = jnp.where(mirrored, x[:, :, ::-1], x)
  if draws.augment:
    normal = jax.random.normal(jax.random.fold_in(keys[3], 1), (count * devices, DRAWS))
    x = draws.augment(x, own(normal))
  if draws.for_critic:
    shape = (count * devices, critic_aids.DRAWS)
    noise['critic'] = own(jax.random.uniform(jax.random.fold_in(keys[3], 2), shape))
  return x, noise


def init_state(
  model: Model,
  optimizers: Mapping[str, optax.GradientTransformation],
  key: jax.Array,
  x: jax.Array,
  c: jax.Array | None,
  latent_size: int,
  balanced: Iterable[str] | None = None,
) -> TrainState:
  """A TrainState at step 0, for example inputs x [B, H, W, C] float32 and c [B, A] or None.

  balanced: the losses in the generator's row, if balance.py is on.
  """
  z = jnp.zeros((len(x), latent_size))
  inputs = dict(encoder=(x, c), generator=(z, c), discriminator=(x, c), classifier=(x,))
  params, stats = {}, {}
  for i, (name, arguments) in enumerate(inputs.items()):
    if name in model.networks:
      variables = layers.init(model.networks[name], jax.random.fold_in(key, i), *arguments)
      params[name], stats[name] = variables['params'], variables.get('batch_stats', {})
  centres = {}
  for loss, critic in CENTRES.items():
    if loss in model.losses:
      classes = c.shape[1] if critic == 'classifier' else 1
      features = num_features(model, params, stats, critic, inputs[critic])
      centres[loss] = losses.init_centres(classes, features)
  opt_state = {name: optimizer.init(params[name]) for name, optimizer in optimizers.items()}
  ema = jax.tree.map(jnp.copy, averaged(params, stats))
  zero = jnp.zeros((), jnp.int32)
  averages = {} if balanced is None else balance.init(model.losses, balanced)
  averages |= critic_aids.init(model.losses, model.critic_augment)
  return TrainState(zero, jnp.copy(zero), params, stats, opt_state, ema, centres, averages)


def num_features(model: Model, params: Mapping, stats: Mapping, critic: str, inputs: tuple) -> int:
  """The number of features that a critic gives per example."""
  variables = {'params': params[critic], 'batch_stats': stats[critic]}
  _, features = jax.eval_shape(
    lambda v: model.networks[critic].apply(v, *inputs, train=False), variables
  )
  return features.shape[1]


def reconstruction_sizes(
  model: Model, state: TrainState, x: jax.Array, c: jax.Array | None
) -> dict[str, int]:
  """{loss: number of elements that it sums over}, for the reconstruction losses of a model."""
  sizes = dict(pixel=math.prod(x.shape[1:])) if 'pixel' in model.losses else {}
  for loss, critic, inputs in (
    ('feature_d', 'discriminator', (x, c)),
    ('feature_c', 'classifier', (x,)),
  ):
    if loss in model.losses:
      sizes[loss] = num_features(model, state.params, state.stats, critic, inputs)
  return sizes


def next_phase(fresh: TrainState, state: TrainState, keep: tuple[str, ...]) -> TrainState:
  """`fresh` at the step of `state`, with the parameters and statistics of its networks `keep`."""

  def kept(new, old):
    return {**new, **{k: v for k, v in old.items() if k in keep}}

  return fresh.replace(
    step=state.step,
    params=kept(fresh.params, state.params),
    stats=kept(fresh.stats, state.stats),
    ema=kept(fresh.ema, state.ema),
  )


def train_step(
  model: Model,
  method: Mapping,
  optimizers: Mapping[str, optax.GradientTransformation] | Callable,
  draws: Draws,
  *,
  ema_decay: float = 0.999,
  begin: int = 0,
  gate: Callable[[Terms], dict[str, jax.Array]] | None = None,
  accumulate: int = 1,
  balanced: balance.Balance | None = None,
) -> Callable[..., tuple[TrainState, Terms]]:
  """step(state, batch, key, member=None) -> (state, terms): updates every network once.

  All gradients are taken at the same parameters. The batch is dict(x=[B, H, W, C] uint8 or float in
  [-1, 1], c=[B] classes, [B, A] attributes, or absent); `key` is the run's, and the step folds its
  number in. A step whose gradients, statistics or averages are not all finite changes nothing but
  the counters `step` and `skipped`. Under pmap the model has an axis_name; gradients are averaged
  here and nowhere else.

  Args:
    method: {network: {loss: weight}}, see methods.py. A weight may be an array [N], one for each
      member of a population; `member`, int32 [], says whose step this is.
    optimizers: {network: optax transformation}, for each network with a row; or a function of
      `member` that gives it. From finite states and a gradient of finite norm they must make finite
      ones, as those of optim.py do: nobody reads parameters and moments again to check.
    ema_decay: of the makers' moving average, warmed up as min(decay, (1 + t) / (10 + t)), where t
      counts from `begin`, the first step of the phase.
    gate: a function of the terms to {network: bool[]}. A network that it holds back keeps its
      parameters and its optimizer's state to the bit.
    accumulate: parts that the batch is taken in to save memory; see routing.accumulated.
    balanced: how losses are weighed by their own history, on top of the method's weights.
  """
  axis_name = model.axis_name

  def step(state, batch, key, member=None):
    own = optimizers(member) if callable(optimizers) else optimizers
    x, c = as_float(batch['x']), as_condition(batch.get('c'), draws.classes)
    x, noise = draw(draws, jax.random.fold_in(key, state.step), x, c, axis_name)
    x = blocks.packed(x) if model.packed else x
    weights = acting = None
    if balanced:
      weights = balance.weights(balanced, state.averages, reconstruction_sizes(model, state, x, c))
      acting = weights if balanced.act else balance.Weights({}, {})
    grads, terms, stats, centres = accumulated(
      accumulate, model, method, state, Inputs(x, c, noise), member, acting
    )
    if axis_name is not None:
      grads, terms = lax.pmean((grads, terms), axis_name)
    norms = {f'gradient_{n}': global_norm(grad) for n, grad in grads.items()}
    params, opt_state = dict(state.params), dict(state.opt_state)
    held = gate(terms) if gate else {}
    for network, grad in grads.items():
      updates, opt_state[network] = own[network].update(
        grad, state.opt_state[network], state.params[network]
      )
      params[network] = optax.apply_updates(state.params[network], updates)
      if network in held:
        go = held[network]
        params[network] = choose(go, params[network], state.params[network])
        opt_state[network] = choose(go, opt_state[network], state.opt_state[network])
        terms[f'update_{network}'] = go.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + state.step - begin) / (10.0 + state.step - begin))
    ema = optax.incremental_update(averaged(params, stats), state.ema, 1.0 - decay)
    seen = jax.tree.map(model.reconstructed, (x, c))
    ema = prior.averaged(model.networks, ema, state.ema, seen, decay, axis_name)
    moved = state.replace(params=params, stats=stats, opt_state=opt_state, ema=ema, centres=centres)
    if balanced:
      moved = moved.replace(averages=balance.moved(state.averages, terms, balanced.decay))
      terms |= {f'weight_{k}': w for part in weights for k, w in part.items()}
    images = len(x) * (lax.axis_size(axis_name) if axis_name is not None else 1)
    aids, told = critic_aids.moved(
      state.averages, terms, played(model.losses), model.lecam_decay, model.critic_augment, images
    )
    moved, terms = moved.replace(averages={**moved.averages, **aids}), {**terms, **told}
    sound = finite((norms, stats, centres, moved.averages))  # the rest is: see `optimizers` above
    moved = choose(sound, moved, state)
    return (
      moved.replace(step=state.step + 1, skipped=jnp.where(sound, 0, state.skipped + 1)),
      {**terms, **norms},
    )

  return step


def global_norm(tree: Any) -> jax.Array:
  """float32 []: the Euclidean norm of a tree of arrays.

  On a TPU its matrix units sum the squares of large arrays, six times as fast as its vector unit by
  XLA's estimate, and in bfloat16 take what bfloat16 gradients hold.
  """
  if jax.default_backend() != 'tpu':
    return optax.tree.norm(tree)
  return jnp.sqrt(sum(map(squares, jax.tree.leaves(tree))))


def squares(a: jax.Array) -> jax.Array:
  """float32 []: the sum of squares of an array: a trace, if it has whole tiles of 128 rows."""
  if a.ndim < 2 or a.size % (128 * a.shape[-1]):
    return jnp.square(a).sum()
  rows = a.reshape(-1, 128, a.shape[-1])
  return jnp.trace(jnp.einsum('nik,njk->ij', rows, rows, preferred_element_type=jnp.float32))


def finite(tree: Any) -> jax.Array:
  """bool []: whether all floats of a tree are finite."""
  floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)]
  return jnp.stack([jnp.isfinite(a).all() for a in floats]).all()


def choose(condition: jax.Array, new: Any, old: Any) -> Any:
  """Tree `new` if the condition (bool []) holds, else `old`, to the bit."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def averaged(params: Mapping, stats: Mapping) -> dict[str, Any]:
  """{maker: {'params', 'stats'}}: the part of a state that has a moving average."""
  return {k: dict(params=params[k], stats=stats[k]) for k in params if k in MAKERS}


def as_float(x: jax.Array) -> jax.Array:
  """Images in [-1, 1] float32 from uint8 [0, 255]; float32 images pass unchanged."""
  return x.astype(jnp.float32) / 127.5 - 1.0 if x.dtype == jnp.uint8 else x


def as_condition(c: jax.Array | None, classes: int) -> jax.Array | None:
  """c for the networks, float32 [B, A]: one-hot classes (classes > 0) or attributes."""
  if c is None:
    return None
  return jax.nn.one_hot(c, classes) if classes else c.astype(jnp.float32)
