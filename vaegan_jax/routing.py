"""Gradients of all networks from one forward pass, routed by the method's table.

The images x_f and x_p are the waist of the graph. `gradients` differentiates its two halves one
after the other:

    makers (encoder, generator)  ->  images  ->  critics (discriminator, classifier)  ->  losses

1. Columns of the table that are proportional form a Group. Each group is pulled back through the
   critics once, down to the images; all networks share the result.
2. Each maker then pulls back its own weighted sum of image gradients, and keeps only its own part
   of the result.

An empty cell cuts a gradient. L_GAN does not reach the encoder of VAE/GAN, because the encoder's
row has no `real` and no `fake_*`: its sum of image gradients leaves that group out. The generator's
sum contains the group, and its pullback runs on through z into the encoder; that part is discarded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from vaegan_jax.balance import Weights, kind_of, kinds_of, norm_at_images
from vaegan_jax.cotangents import cotangents, is_nothing, means, nothing, of_member, weighted_sum
from vaegan_jax.model import CRITICS, MAKERS, Model, judge, make, seen_by


class Inputs(NamedTuple):
  """What one forward pass takes besides the state."""

  x: jax.Array  # [B, H, W, C] in [-1, 1]
  c: jax.Array | None  # [B, A]
  noise: Mapping[str, Any]  # see model.make


class Backward(NamedTuple):
  """What one forward and backward pass gives."""

  grads: dict[str, Any]  # {network: gradient of its own row}, for each network with a row
  terms: dict[str, jax.Array]  # {loss: mean over the batch}, and the notes of model.judge
  stats: dict[str, Any]  # batch statistics after the step
  centres: dict[str, Any]  # feature centres after the step


class Group(NamedTuple):
  """Columns of the table that are proportional: network n has the coefficients share * weights."""

  share: dict[str, Any]  # {network: factor}
  weights: dict[str, Any]  # {loss: weight}


class ImageGradients(NamedTuple):
  """What the makers pull back: maker n takes share[n] * images."""

  share: dict[str, Any]  # {maker: factor}
  images: dict[str, Any]  # {'f', 'p'}: gradients [B, H, W, C] or symbolic zeros


def gradients(
  model: Model,
  method: Mapping,
  state: Any,
  inputs: Inputs,
  member: jax.Array | None = None,
  balance: Weights | None = None,
) -> Backward:
  """The Backward of one forward pass; each network gets the gradient of its own row.

  Args:
    method: {network: {loss: weight}}; a weight may be an array [N], one per member.
    state: has params, stats and centres, each a dict by network, and averages (see
      step.TrainState).
    member: int32 [], whose weights to take from a table with arrays.
    balance: factors on the weights of the table (see balance.py). The terms then have norm_KIND:
      the norm, at the images, of what the generator descends, before its factor.
  """
  x, c, noise = inputs
  makers = {k: v for k, v in state.params.items() if k in MAKERS}
  critics = {k: v for k, v in state.params.items() if k in CRITICS}

  def first_half(makers):
    fakes, terms, moved = make(model, makers, state.stats, x, c, noise)
    return (fakes, means(terms)), moved

  def second_half(critics, fakes):
    aids = {**state.averages, 'draws': noise.get('critic')}
    terms, rest = judge(model, critics, state.stats, state.centres, x, c, noise['c_p'], fakes, aids)
    return means(terms), rest

  (fakes, maker_terms), pull_makers, made = jax.vjp(first_half, makers, has_aux=True)
  critic_terms, pull_critics, (judged, centres, notes) = jax.vjp(
    second_half, critics, fakes, has_aux=True
  )

  if missing := set(model.losses) - {*maker_terms, *critic_terms}:
    raise ValueError(
      f'{min(missing)} is in SEES of model.py, but neither judge nor make computes it: '
      'add a line there'
    )
  weighted = {network: [] for network in method}  # {network: [(weight, gradient)]}
  groups, norms = [], {}
  names = kinds_of(critic_terms) if balance and balance.kinds else [critic_terms]
  pulls = [group for own in names for group in critic_groups(model, method, own, member)]
  for share, weights in of_member(pulls, member):
    if balance:
      weights = {k: w * balance.losses.get(k, 1.0) for k, w in weights.items()}
    critic_grads, image_grads = pull_critics(cotangents(critic_terms, weights))
    reached = images_reached(model, weights)
    image_grads = {k: v if k in reached else nothing(v) for k, v in image_grads.items()}
    for network in share.keys() & critics.keys():
      weighted[network].append((share[network], critic_grads[network]))
    if to_makers := {network: part for network, part in share.items() if network in makers}:
      if balance:
        weigh_generator(to_makers, weights, image_grads, balance, norms)
      groups.append(ImageGradients(to_makers, image_grads))
  prior = of_member({k: w for k, w in method.get('encoder', {}).items() if np.any(w)}, member)
  trained = [network for network in method if network in makers]
  for share, image_grads in maker_groups(model, trained, groups, fakes):
    # The share multiplies the whole pullback below, so the encoder's own losses are divided by it.
    own = {k: prior[k] / share['encoder'] for k in prior} if 'encoder' in share else {}
    (pulled,) = pull_makers((image_grads, cotangents(maker_terms, own)))
    for network, part in share.items():
      weighted[network].append((part, pulled[network]))
  grads = {network: weighted_sum(*zip(*pairs)) for network, pairs in weighted.items() if pairs}
  terms = {**maker_terms, **critic_terms, **notes, **norms}
  return Backward(grads, terms, {**state.stats, **made, **judged}, centres)


def accumulated(
  parts: int,
  model: Model,
  method: Mapping,
  state: Any,
  inputs: Inputs,
  member: jax.Array | None = None,
  balance: Weights | None = None,
) -> Backward:
  """As `gradients`, with the batch taken in `parts`, one after the other.

  Gradients and terms are means over the parts; statistics and centres move with each part. Batch
  norm and the matching losses look across examples and see one part each. On accelerators the
  memory is that of one part; on a CPU the parts are unrolled and save none.
  """
  if parts == 1:
    return gradients(model, method, state, inputs, member, balance)

  def one(stats, centres, inputs):
    here = state.replace(stats=stats, centres=centres)
    return gradients(model, method, here, inputs, member, balance)

  def add(carried, inputs):
    sums, stats, centres = carried
    grads, terms, stats, centres = one(stats, centres, inputs)
    return (jax.tree.map(jnp.add, sums, (grads, terms)), stats, centres), None

  # Part i holds examples i, i + parts, ...: a batch sharded over devices stays in place.
  stacked = jax.tree.map(lambda a: a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1), inputs)
  shapes = jax.eval_shape(lambda inputs: one(state.stats, state.centres, inputs)[:2], inputs)
  zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
  # On a CPU XLA's weight gradients of convolutions are some 50 times slower inside a loop. But only
  # a loop saves memory: unrolled, XLA works on all parts at once, optimization_barrier or not.
  unroll = jax.default_backend() == 'cpu'
  (sums, stats, centres), _ = lax.scan(
    add, (zeros, state.stats, state.centres), stacked, unroll=unroll
  )
  grads, terms = jax.tree.map(lambda a: a / parts, sums)
  return Backward(grads, terms, stats, centres)


# --- What to pull through the critics.


def critic_groups(
  model: Model, method: Mapping, names: Iterable[str], member: jax.Array | None = None
) -> list[Group]:
  """The Groups to pull through the critics: proportional columns, or one group per row.

  Rows cost less if a critic that normalises jointly appears in two columns, because each column
  would take that critic's weight gradients for all images (VAE/GAN as in arXiv v2).
  """
  columns = column_groups(method, names)
  if member is not None:
    return columns
  rows = {network: {k: row[k] for k in names if row.get(k)} for network, row in method.items()}
  rows = [Group({network: 1.0}, row) for network, row in rows.items() if row]
  twice = any(sum(critic in share for share, _ in columns) > 1 for critic in CRITICS)
  return rows if model.joint_critics and twice and len(rows) <= len(columns) else columns


def column_groups(method: Mapping, names: Iterable[str]) -> list[Group]:
  """The columns `names` of the table, proportional ones in one Group.

  Network n's row is the sum over groups of share[n] * weights. The real and fake losses of VAE/GAN
  form one group, with share 1 for the discriminator and -1 for the generator.

  A cell may be an array [N], one weight per member of a population: columns are proportional if
  they are so for all members. No weight is 0 for any member; a share is 0 for members without the
  cell.
  """
  groups = []
  for loss in names:
    column = {network: row[loss] for network, row in method.items() if np.any(row.get(loss, 0.0))}
    if not column:
      continue
    weight = next((cell for cell in column.values() if np.all(cell)), 1.0)
    share = {network: value / weight for network, value in column.items()}
    for known, weights in groups:
      if known.keys() == share.keys() and all(
        np.all(abs(known[n] - share[n]) <= 1e-9 * abs(share[n])) for n in share
      ):
        weights[loss] = weight
        break
    else:
      groups.append(Group(share, {loss: weight}))
  return groups


def images_reached(model: Model, names: Iterable[str]) -> set[str]:
  """The fakes ('f', 'p') that the losses `names` have a gradient for."""
  seen = ''
  for critic in CRITICS:
    own = seen_by(critic, names)
    joint = model.joint_critics and critic not in model.frozen
    seen += seen_by(critic, model.losses) if own and joint else own
  return set(seen + seen_by('generator', names)) & set('fp')


# --- What to pull through the makers.


def maker_groups(
  model: Model, trained: Sequence[str], groups: Sequence[ImageGradients], fakes: Mapping
) -> list[ImageGradients]:
  """The image gradients to pull back, one pass per entry: the cheaper of two ways.

  `groups` themselves, if the encoder has one and no fake is in two: that pullback serves encoder
  and generator at once (VAE, CVAE; VAE/GAN as released, normalised apart). Otherwise the sum of the
  groups for each network of `trained`. Members of a population always take the sum, because
  a share may be 0 and `kl` is divided by it.
  """
  joint = model.joint_makers and len(fakes) > 1
  touched = [k for _, images in groups for k, v in images.items() if joint or not is_nothing(v)]
  served = [network for share, _ in groups for network in share]
  # Only the encoder's share is divided by; balance.py may trace the generator's, too.
  fixed = not any(isinstance(share.get('encoder'), jax.Array) for share, _ in groups)
  once = served.count('encoder') == 1 and len(set(touched)) == len(touched)
  if fixed and once and set(served) == set(trained):
    return list(groups)
  made = []
  for network in trained:
    pairs = [(share[network], images) for share, images in groups if network in share]
    images = weighted_sum(*zip(*pairs)) if pairs else jax.tree.map(nothing, fakes)
    made.append(ImageGradients({network: 1.0}, images))
  return made


def weigh_generator(
  share: dict[str, Any], weights: Mapping, images: Mapping, balance: Weights, norms: dict[str, Any]
) -> None:
  """Adds the group's norm_KIND to `norms`, and multiplies the generator's share by its factor.

  Groups of several kinds, which only the shadow mode has, are left out.
  """
  kinds = {kind_of(loss) for loss in weights}
  if 'generator' not in share or len(kinds) > 1:
    return
  (kind,) = kinds
  seen = [v for v in images.values() if not is_nothing(v)]
  norm = abs(share['generator']) * norm_at_images(seen)
  norms[f'norm_{kind}'] = norms.get(f'norm_{kind}', 0.0) + norm
  if kind in balance.kinds:
    share['generator'] = share['generator'] * balance.kinds[kind]
