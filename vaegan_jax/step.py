"""One training step: all networks of a method from one forward pass, routed by the method's table."""
from typing import Any, Callable, NamedTuple

from flax import struct
import jax
from jax import lax
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np
import optax

from vaegan_jax import augment as augmentation
from vaegan_jax import losses
from vaegan_jax import model as wiring
from vaegan_jax.networks import layers


@struct.dataclass
class TrainState:
  """Everything that a run continues from; each field but step and centres is a dict by network."""
  step: jax.Array  # int32 []: steps done
  skipped: jax.Array  # int32 []: steps in a row that changed nothing, their gradients not being finite
  params: dict[str, Any]
  stats: dict[str, Any]  # running batch statistics
  opt_state: dict[str, Any]
  ema: dict[str, Any]  # {maker: {'params', 'stats'}}: moving averages, what sampling uses
  centres: dict[str, Any]  # moving-average feature centres of the matching losses


class Draws(NamedTuple):
  """What a step draws at random, beside the order of the data."""
  latent_size: int
  prior_condition: Callable | None = None  # (key, c [N, A]) -> c_p [N, A]
  classes: int = 0  # of class labels c; 0 where c is absent or attributes
  flip: bool = False  # mirror half of the images, left to right
  augment: Callable | None = None  # (x, normal noise [B, augment.DRAWS]) -> x


def uniform_classes(key, c):
  """One-hot c_p [N, K], each class alike: the random classes of Bao et al.'s Algorithm 1."""
  return jax.nn.one_hot(jax.random.randint(key, len(c), 0, c.shape[1]), c.shape[1])


def shuffled(key, c):
  """c_p [N, A]: the batch's own conditions in another order, so that attributes go together as in
  the data."""
  return jax.random.permutation(key, c)


def draw(draws, key, x, c, axis_name=None):
  """(x flipped and augmented, noise for model.make), equal for any number of devices.

  Under pmap (axis_name) the numbers of the global batch are drawn on each device, which then takes
  its own part.
  """
  count, devices, index = len(x), 1, 0
  if axis_name is not None:
    devices, index = lax.axis_size(axis_name), lax.axis_index(axis_name)
    c = None if c is None else lax.all_gather(c, axis_name, tiled=True)
  own = lambda a: lax.dynamic_slice_in_dim(a, index * count, count) if devices > 1 else a
  keys = jax.random.split(key, 4)
  shape = (count * devices, draws.latent_size)
  noise = dict(posterior=own(jax.random.normal(keys[0], shape)),
               prior=own(jax.random.normal(keys[1], shape)),
               c_p=None if c is None else own(draws.prior_condition(keys[2], c)))
  if draws.flip:
    mirrored = own(jax.random.bernoulli(keys[3], shape=(count * devices, 1, 1, 1)))
    x = jnp.where(mirrored, x[:, :, ::-1], x)
  if draws.augment:
    normal = jax.random.normal(jax.random.fold_in(keys[3], 1), (count * devices, augmentation.DRAWS))
    x = draws.augment(x, own(normal))
  return x, noise


def column_groups(method, names):
  """[({network: share}, {loss: weight})]: the table's columns `names`, proportional ones together.

  The gradient that a group sends through the critics is had once, for all networks; network n's row
  is the sum over groups of share[n] * weight. E.g. VAE/GAN's real and fake losses form one group,
  with share 1 for the discriminator and -1 for the generator.

  A cell may be an array [N], a weight for each member of a population: columns are proportional where they are so
  for all members. No weight is 0 for any member, a share is 0 for those without the cell.
  """
  groups = []
  for loss in names:
    column = {network: row[loss] for network, row in method.items() if np.any(row.get(loss, 0.))}
    if not column:
      continue
    weight = next((cell for cell in column.values() if np.all(cell)), 1.)
    share = {network: value / weight for network, value in column.items()}
    for known, weights in groups:
      if known.keys() == share.keys() and all(
          np.all(abs(known[n] - share[n]) <= 1e-9 * abs(share[n])) for n in share):
        weights[loss] = weight
        break
    else:
      groups.append((share, {loss: weight}))
  return groups


def critic_groups(model, method, names):
  """What to pull through the critics, each entry once: column_groups, or one group for each network's row.

  Rows are cheaper where a critic that normalises jointly is in two columns, each of which would take its weight
  gradients of all images (VAE/GAN as of February 2016).
  """
  columns = column_groups(method, names)
  rows = {network: {k: row[k] for k in names if row.get(k)} for network, row in method.items()}
  rows = [({network: 1.}, row) for network, row in rows.items() if row]
  twice = any(sum(critic in share for share, _ in columns) > 1 for critic in wiring.CRITICS)
  return rows if model.joint_critics and twice and len(rows) <= len(columns) else columns


def of_member(cells, member):
  """A tree of cells, floats or arrays [N], with those of arrays taken for `member`: int32 [], or None where all
  are floats."""
  if member is None:
    return cells
  return jax.tree.map(lambda cell: jnp.asarray(cell, jnp.float32)[member] if np.ndim(cell) else cell, cells)


def nothing(like):
  """The symbolic zero cotangent of an array: what it would be pulled through is not computed, and
  an infinite derivative behind it stays harmless."""
  return ad.Zero(jax.typeof(like).to_tangent_aval())


def weigh(share, parts):
  """Sum of share_i * tree_i over [(share_i, tree_i)], trees of arrays or symbolic zeros.

  A traced share that is 0 takes nothing, even of what is not finite: for that member its tree is absent.
  """
  zero = lambda a: isinstance(a, ad.Zero)
  times = lambda w, a: w * a if isinstance(w, float) else jnp.where(w == 0, 0., w * a)
  def total(*leaves):
    real = [times(w, a) for w, a in zip(share, leaves) if not zero(a)]
    return sum(real[1:], real[0]) if real else leaves[0]
  return jax.tree.map(total, *parts, is_leaf=zero)


def gradients(model, method, params, stats, centres, x, c, noise, member=None):
  """({network: gradient of its own row}, terms, statistics, centres), from one forward pass.

  terms: {loss: scalar mean over the batch}, with D's mean logits as `logit_r`, `logit_f`, `logit_p`.
  Networks without a row have no gradient. member: which one's weights to take of a table with arrays.
  """
  makers = {k: v for k, v in params.items() if k in wiring.MAKERS}
  critics = {k: v for k, v in params.items() if k in wiring.CRITICS}
  mean = lambda terms: {k: v.mean() for k, v in terms.items()}

  def first_half(makers):
    fakes, terms, moved = wiring.make(model, makers, stats, x, c, noise)
    return (fakes, mean(terms)), moved

  def second_half(critics, fakes):
    terms, rest = wiring.judge(model, critics, stats, centres, x, c, noise['c_p'], fakes)
    return mean(terms), rest

  (fakes, maker_terms), pull_makers, made = jax.vjp(first_half, makers, has_aux=True)
  critic_terms, pull_critics, (judged, centres, logits) = jax.vjp(second_half, critics, fakes, has_aux=True)

  parts, groups = {network: [] for network in method}, []
  through = critic_groups(model, method, critic_terms) if member is None else column_groups(method, critic_terms)
  for share, weights in of_member(through, member):
    cotangent = {k: jnp.float32(weights[k]) if k in weights else nothing(v) for k, v in critic_terms.items()}
    critic_grads, image_grads = pull_critics(cotangent)
    touched = reaches(model, weights)
    image_grads = {k: v if k in touched else nothing(v) for k, v in image_grads.items()}
    for network in share.keys() & critics.keys():
      parts[network].append((share[network], critic_grads[network]))
    if makers_share := {network: part for network, part in share.items() if network in makers}:
      groups.append((makers_share, image_grads))
  trained = [n for n in method if n in makers]
  prior = of_member({k: cell for k, cell in method.get('encoder', {}).items() if np.any(cell)}, member)
  for share, image_grads in maker_groups(model, trained, groups, fakes):
    row = {k: jnp.float32(prior[k] / share['encoder']) if k in prior and 'encoder' in share else nothing(v)
           for k, v in maker_terms.items()}
    pulled, = pull_makers((image_grads, row))
    for network, part in share.items():
      parts[network].append((part, pulled[network]))
  grads = {network: weigh(*zip(*own)) for network, own in parts.items() if own}
  terms = {**maker_terms, **critic_terms, **{f'logit_{k}': v for k, v in logits.items()}}
  return grads, terms, {**stats, **made, **judged}, centres


def maker_groups(model, trained, groups, fakes):
  """[({maker: share}, image gradients)]: what to pull through the makers, each entry once; the cheaper of two ways.

  `groups` themselves, where the encoder has one and no fake is in two: that one serves encoder and generator at
  once (VAE, CVAE; VAE/GAN as released, normalised apart). Else the groups' sum for each network of `trained`;
  so for members of a population, whose share may be 0, by which the encoder's own losses could not be divided.
  """
  joint = model.joint_makers and len(fakes) > 1
  touched = [k for _, images in groups for k, v in images.items() if joint or not isinstance(v, ad.Zero)]
  served = [network for share, _ in groups for network in share]
  sure = not any(isinstance(part, jax.Array) for share, _ in groups for part in share.values())
  if sure and served.count('encoder') == 1 and len(set(touched)) == len(touched) and set(served) == set(trained):
    return groups
  own = {network: [(share[network], images) for share, images in groups if network in share] for network in trained}
  return [({network: 1.}, weigh(*zip(*parts)) if parts else jax.tree.map(nothing, fakes))
          for network, parts in own.items()]


def accumulated(parts, model, method, params, stats, centres, x, c, noise, member=None):
  """As `gradients`, of the batch in so many parts, one after the other: gradients and terms are the means over
  the parts, statistics and centres move with each part in turn.

  Equal to the whole batch but for what looks across examples: batch norm and the matching losses see a part.
  Memory is that of one part on accelerators; on a CPU only the numbers are those of parts.
  """
  if parts == 1:
    return gradients(model, method, params, stats, centres, x, c, noise, member)
  # Part i is every parts-th example from i on: a batch that is sharded over devices stays put.
  stacked = jax.tree.map(lambda a: a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1), (x, c, noise))

  def add(carried, batch):
    sums, stats, centres = carried
    grads, terms, stats, centres = gradients(model, method, params, stats, centres, *batch, member)
    return (jax.tree.map(jnp.add, sums, (grads, terms)), stats, centres), None

  shapes = jax.eval_shape(lambda *a: gradients(model, method, params, stats, centres, *a, member)[:2], x, c, noise)
  zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
  # In a loop XLA has the weight gradients of convolutions some 50 times slower, on a CPU. But a loop alone divides
  # the memory: without it XLA works on all parts at once, optimization_barrier or not.
  unroll = jax.default_backend() == 'cpu'
  (sums, stats, centres), _ = lax.scan(add, (zeros, stats, centres), stacked, unroll=unroll)
  grads, terms = jax.tree.map(lambda a: a / parts, sums)
  return grads, terms, stats, centres


def reaches(model, names):
  """Which fakes ('f', 'p') the losses `names` have a gradient for."""
  seen = ''
  for critic in wiring.CRITICS:
    looked = wiring.seen_by(critic, names)
    joint = model.joint_critics and critic not in model.frozen
    seen += wiring.seen_by(critic, model.losses) if looked and joint else looked
  return set(seen + wiring.seen_by('generator', names)) & set('fp')


def init_state(model, optimizers, key, x, c, latent_size):
  """A TrainState at step 0, for example inputs x [B, H, W, C] float32 and c [B, A] or None."""
  z = jnp.zeros((len(x), latent_size))
  inputs = dict(encoder=(x, c), generator=(z, c), discriminator=(x, c), classifier=(x,))
  params, stats = {}, {}
  for i, (name, arguments) in enumerate(inputs.items()):
    if name in model.networks:
      variables = layers.init(model.networks[name], jax.random.fold_in(key, i), *arguments)
      params[name], stats[name] = variables['params'], variables.get('batch_stats', {})
  centres = {}
  for loss, critic, classes in (('match_d', 'discriminator', 1), ('match_c', 'classifier', None)):
    if loss in model.losses:
      variables = {'params': params[critic], 'batch_stats': stats[critic]}
      apply = lambda v, n=model.networks[critic], a=inputs[critic]: n.apply(v, *a, train=False)
      features = jax.eval_shape(apply, variables)[1].shape[1]
      centres[loss] = losses.init_centres(classes or c.shape[1], features)
  opt_state = {name: optimizer.init(params[name]) for name, optimizer in optimizers.items()}
  ema = jax.tree.map(jnp.copy, averaged(params, stats))
  zero = jnp.zeros((), jnp.int32)
  return TrainState(zero, jnp.copy(zero), params, stats, opt_state, ema, centres)


def next_phase(fresh, state, keep):
  """`fresh` at the step of `state`, with the parameters and statistics of its networks `keep`."""
  kept = lambda new, old: {**new, **{k: v for k, v in old.items() if k in keep}}
  return fresh.replace(step=state.step, params=kept(fresh.params, state.params),
                       stats=kept(fresh.stats, state.stats), ema=kept(fresh.ema, state.ema))


def train_step(model, method, optimizers, draws, *, ema_decay=0.999, gate=None, accumulate=1):
  """step(state, batch, key, member=None) -> (state, terms): every network updated once, at the same parameters.

  Args:
    method: {network: {loss: weight}}, see methods.py; a weight may be an array [N] for the members of a population
      (see population.py), of which `member`, int32 [], says whose step this is.
    optimizers: {network: optax transformation}, for each network with a row; or a function of `member` that gives it.
    ema_decay: of the makers' moving average, warmed up as min(decay, (1 + t) / (10 + t)).
    gate: None or a function of the terms, {network: bool[]}: a network that it holds back keeps its
      parameters and its optimizer's state to the bit.
    accumulate: parts that the batch is taken in, for want of memory; see accumulated.
  A step whose gradients or new parameters are not all finite changes nothing but the counters `step` and `skipped`.
  The batch is dict(x=[B, H, W, C] uint8 or float in [-1, 1], c=[B] classes, [B, A] attributes or
  absent); `key` is the run's, the step folds its number in. Under pmap give the model axis_name;
  the gradients are then averaged here, and nowhere else.
  """
  axis_name = model.axis_name

  def step(state, batch, key, member=None):
    own = optimizers(member) if callable(optimizers) else optimizers
    x, c = as_float(batch['x']), as_condition(batch.get('c'), draws.classes)
    x, noise = draw(draws, jax.random.fold_in(key, state.step), x, c, axis_name)
    grads, terms, stats, centres = accumulated(
        accumulate, model, method, state.params, state.stats, state.centres, x, c, noise, member)
    if axis_name is not None:
      grads, terms = lax.pmean((grads, terms), axis_name)
    norms = {f'gradient_{n}': optax.tree.norm(grad) for n, grad in grads.items()}
    params, opt_state = dict(state.params), dict(state.opt_state)
    held = gate(terms) if gate else {}
    for network, grad in grads.items():
      updates, opt_state[network] = own[network].update(
          grad, state.opt_state[network], state.params[network])
      params[network] = optax.apply_updates(state.params[network], updates)
      if network in held:
        go = held[network]
        params[network] = choose(go, params[network], state.params[network])
        opt_state[network] = choose(go, opt_state[network], state.opt_state[network])
        terms[f'update_{network}'] = go.astype(jnp.float32)
    sound = jnp.isfinite(sum(norms.values()) + optax.tree.norm(params))
    decay = jnp.minimum(ema_decay, (1. + state.step) / (10. + state.step))
    ema = optax.incremental_update(averaged(params, stats), state.ema, 1. - decay)
    moved = state.replace(params=params, stats=stats, opt_state=opt_state, ema=ema, centres=centres)
    moved = choose(sound, moved, state)
    return (moved.replace(step=state.step + 1, skipped=jnp.where(sound, 0, state.skipped + 1)),
            {**terms, **norms})

  return step


def choose(condition, new, old):
  """Tree `new` where the condition (bool []) holds, else `old`, to the bit."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def averaged(params, stats):
  """{maker: {'params', 'stats'}}: the part of a state that has a moving average."""
  return {k: dict(params=params[k], stats=stats[k]) for k in params if k in wiring.MAKERS}


def as_float(x):
  """Images in [-1, 1] float32 from uint8 [0, 255]; float32 images go through unchanged."""
  return x.astype(jnp.float32) / 127.5 - 1. if x.dtype == jnp.uint8 else x


def as_condition(c, classes):
  """c as the networks take it, float32 [B, A]: one-hot of classes [B] (classes > 0) or attributes."""
  if c is None:
    return None
  return jax.nn.one_hot(c, classes) if classes else c.astype(jnp.float32)
