"""Optimizers, one for each network, and the rule that holds a network that is too far ahead."""

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ('adam', 'rmsprop', 'sgd')
SCHEDULES = ('constant', 'cosine', 'larsen')


def learning_rate(schedule, start, *, end, steps):
  """An optax schedule: step -> learning rate.

  `larsen` is the annealing of the authors' code, start - (t / steps)^0.75 (start - end); they step
  it once every 250 updates, here it is continuous. `cosine` goes from start to end alike. A start that is
  traced must not be 0.
  """
  if schedule == 'constant' or isinstance(start, (int, float)) and not start:
    return optax.schedules.constant_schedule(start)
  if schedule == 'cosine':
    return optax.schedules.cosine_decay_schedule(start, steps, alpha=end / start)
  if schedule == 'larsen':
    return lambda t: start - jnp.minimum(t / steps, 1.0) ** 0.75 * (start - end)
  raise ValueError(f'unknown schedule {schedule!r}: use one of {", ".join(SCHEDULES)}')


def optimizer(
  name, rate, *, b1=0.5, b2=0.999, decay=0.9, eps=1e-8, weight_decay=0.0, clip_norm=0.0
):
  """An optax transformation for one network.

  Args:
    name: adam (b1, b2), rmsprop (decay; eps outside the root as in Larsen et al.'s code and in
      PyTorch, no momentum) or sgd.
    rate: learning rate or schedule.
    weight_decay: added to the gradient of kernels as weight_decay * w (coupled L2, before the
      optimizer's scaling: Larsen et al.'s code); 0 leaves it out.
    clip_norm: largest global norm of this network's gradient; 0 leaves it out.
  """
  scale = dict(
    adam=lambda: optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
    rmsprop=lambda: optax.scale_by_rms(decay=decay, eps=eps, eps_in_sqrt=False),
    sgd=optax.identity,
  )
  if name not in scale:
    raise ValueError(f'unknown optimizer {name!r}: use one of {", ".join(OPTIMIZERS)}')
  chain = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
  chain += [optax.add_decayed_weights(weight_decay, mask=kernels)] if weight_decay else []
  return optax.chain(*chain, scale[name](), optax.scale_by_learning_rate(rate))


def kernels(params):
  """A tree of booleans: which parameters are kernels of layers (not biases, not normalisation)."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)


def clipped_parameters(bound):
  """An optax transformation, the last of a chain: parameters end within [-bound, bound].

  Arjovsky et al. 2017 clip all of WGAN's critic after each update. The first update already brings initial
  values within the bound.
  """
  if not bound > 0:
    raise ValueError(f'parameters can be clipped to a bound over 0, not {bound}')
  clipped = lambda update, param: jnp.clip(param + update, -bound, bound) - param
  return optax.stateless(lambda updates, params: jax.tree.map(clipped, updates, params))


def equilibrium_gate(terms, *, equilibrium=0.68, margin=0.35):
  """{'generator': bool[], 'discriminator': bool[]}: which of the two may be updated this step.

  Larsen et al.'s code (not in the paper): the discriminator rests while its mean cross-entropy on
  real or on fake images is under equilibrium - margin, the generator while either is over
  equilibrium + margin; if both were to rest, both go on. The encoder always goes on.

  Args:
    terms: means of `real` and of whichever of `fake_recon`, `fake_prior` the method has, in nats.
  """
  fakes = [terms[k] for k in ('fake_recon', 'fake_prior') if k in terms]
  real, fake = terms['real'], sum(fakes) / len(fakes)
  low, high = equilibrium - margin, equilibrium + margin
  ahead = (real < low) | (fake < low)
  behind = (real > high) | (fake > high)
  both = ahead & behind
  return dict(discriminator=~ahead | both, generator=~behind | both)
