"""Gradients of all networks from one forward pass, routed by the table of the method."""

import jax
from jax import lax
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np

from vaegan_jax.model import CRITICS, MAKERS, judge, make, seen_by


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
      groups.append((share, {loss: weight}))
  return groups


def critic_groups(model, method, names):
  """What to pull through the critics, each entry once: column_groups, or one group for each network's row.

  Rows are cheaper where a critic that normalises jointly is in two columns, each of which would take its weight
  gradients of all images (VAE/GAN as of February 2016).
  """
  columns = column_groups(method, names)
  rows = {network: {k: row[k] for k in names if row.get(k)} for network, row in method.items()}
  rows = [({network: 1.0}, row) for network, row in rows.items() if row]
  twice = any(sum(critic in share for share, _ in columns) > 1 for critic in CRITICS)
  return rows if model.joint_critics and twice and len(rows) <= len(columns) else columns


def of_member(cells, member):
  """A tree of cells, floats or arrays [N], with those of arrays taken for `member`: int32 [], or None where all
  are floats."""
  if member is None:
    return cells
  return jax.tree.map(
    lambda cell: jnp.asarray(cell, jnp.float32)[member] if np.ndim(cell) else cell, cells
  )


def nothing(like):
  """The symbolic zero cotangent of an array: what it would be pulled through is not computed, and
  an infinite derivative behind it stays harmless."""
  return ad.Zero(jax.typeof(like).to_tangent_aval())


def weigh(share, parts):
  """Sum of share_i * tree_i over [(share_i, tree_i)], trees of arrays or symbolic zeros.

  A traced share that is 0 takes nothing, even of what is not finite: for that member its tree is absent.
  """
  zero = lambda a: isinstance(a, ad.Zero)
  times = lambda w, a: w * a if isinstance(w, float) else jnp.where(w == 0, 0.0, w * a)

  def total(*leaves):
    real = [times(w, a) for w, a in zip(share, leaves) if not zero(a)]
    return sum(real[1:], real[0]) if real else leaves[0]

  return jax.tree.map(total, *parts, is_leaf=zero)


def gradients(model, method, params, stats, centres, x, c, noise, member=None):
  """({network: gradient of its own row}, terms, statistics, centres), from one forward pass.

  terms: {loss: scalar mean over the batch}, with D's mean logits as `logit_r`, `logit_f`, `logit_p`.
  Networks without a row have no gradient. member: which one's weights to take of a table with arrays.
  """
  makers = {k: v for k, v in params.items() if k in MAKERS}
  critics = {k: v for k, v in params.items() if k in CRITICS}
  mean = lambda terms: {k: v.mean() for k, v in terms.items()}

  def first_half(makers):
    fakes, terms, moved = make(model, makers, stats, x, c, noise)
    return (fakes, mean(terms)), moved

  def second_half(critics, fakes):
    terms, rest = judge(model, critics, stats, centres, x, c, noise['c_p'], fakes)
    return mean(terms), rest

  (fakes, maker_terms), pull_makers, made = jax.vjp(first_half, makers, has_aux=True)
  critic_terms, pull_critics, (judged, centres, logits) = jax.vjp(
    second_half, critics, fakes, has_aux=True
  )

  parts, groups = {network: [] for network in method}, []
  through = (
    critic_groups(model, method, critic_terms)
    if member is None
    else column_groups(method, critic_terms)
  )
  for share, weights in of_member(through, member):
    cotangent = {
      k: jnp.float32(weights[k]) if k in weights else nothing(v) for k, v in critic_terms.items()
    }
    critic_grads, image_grads = pull_critics(cotangent)
    touched = reaches(model, weights)
    image_grads = {k: v if k in touched else nothing(v) for k, v in image_grads.items()}
    for network in share.keys() & critics.keys():
      parts[network].append((share[network], critic_grads[network]))
    if makers_share := {network: part for network, part in share.items() if network in makers}:
      groups.append((makers_share, image_grads))
  trained = [n for n in method if n in makers]
  prior = of_member(
    {k: cell for k, cell in method.get('encoder', {}).items() if np.any(cell)}, member
  )
  for share, image_grads in maker_groups(model, trained, groups, fakes):
    row = {
      k: jnp.float32(prior[k] / share['encoder'])
      if k in prior and 'encoder' in share
      else nothing(v)
      for k, v in maker_terms.items()
    }
    (pulled,) = pull_makers((image_grads, row))
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
  touched = [
    k for _, images in groups for k, v in images.items() if joint or not isinstance(v, ad.Zero)
  ]
  served = [network for share, _ in groups for network in share]
  sure = not any(isinstance(part, jax.Array) for share, _ in groups for part in share.values())
  if (
    sure
    and served.count('encoder') == 1
    and len(set(touched)) == len(touched)
    and set(served) == set(trained)
  ):
    return groups
  own = {
    network: [(share[network], images) for share, images in groups if network in share]
    for network in trained
  }
  return [
    ({network: 1.0}, weigh(*zip(*parts)) if parts else jax.tree.map(nothing, fakes))
    for network, parts in own.items()
  ]


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

  shapes = jax.eval_shape(
    lambda *a: gradients(model, method, params, stats, centres, *a, member)[:2], x, c, noise
  )
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
  for critic in CRITICS:
    looked = seen_by(critic, names)
    joint = model.joint_critics and critic not in model.frozen
    seen += seen_by(critic, model.losses) if looked and joint else looked
  return set(seen + seen_by('generator', names)) & set('fp')
