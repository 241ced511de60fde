"""Optimizers, one per network, and the rule that pauses a network that is too far ahead."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ('adam', 'rmsprop', 'sgd')
SCHEDULES = ('constant', 'step', 'cosine', 'larsen')
GATED = ('real', 'fake_recon', 'fake_prior')  # the losses that equilibrium_gate reads


def learning_rate(
  schedule: str, start: float | jax.Array, *, end: float | jax.Array, steps: int
) -> optax.Schedule:
  """An optax schedule: step -> learning rate.

  Args:
    schedule: `constant`; `step`: start, then end for the last fifth of the steps; `cosine` from
      start to end; or `larsen`, the annealing of the authors' code, start - (t / steps)^0.75
      (start - end), which they update once every 250 steps and which is continuous here.
    start: the first learning rate; a start of 0 stays 0. A traced start must not be 0.
    end: the learning rate after `steps`; start, if that is less, so that no rate rises.
    steps: length of the schedule.

  Raises:
    ValueError: unknown schedule.
  """
  if schedule == 'constant' or (isinstance(start, (int, float)) and not start):
    return optax.schedules.constant_schedule(start)
  end = jnp.minimum(start, end)
  if schedule == 'step':
    constant = optax.schedules.constant_schedule
    return optax.schedules.join_schedules([constant(start), constant(end)], [steps * 4 // 5])
  if schedule == 'cosine':
    return optax.schedules.cosine_decay_schedule(start, steps, alpha=end / start)
  if schedule == 'larsen':
    return lambda t: start - jnp.minimum(t / steps, 1.0) ** 0.75 * (start - end)
  raise ValueError(f'unknown schedule {schedule!r}: use one of {", ".join(SCHEDULES)}')


def optimizer(
  name: str,
  rate: optax.ScalarOrSchedule,
  *,
  b1: float = 0.5,
  b2: float = 0.999,
  decay: float = 0.9,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  clip_norm: float = 0.0,
) -> optax.GradientTransformation:
  """An optax transformation for one network.

  Args:
    name: adam (b1, b2), rmsprop (decay; no momentum, eps outside the root as in Larsen et al.'s
      code and in PyTorch) or sgd.
    rate: learning rate or schedule.
    weight_decay: factor of the kernels that is added to their gradient (coupled L2, before the
      optimizer's scaling, as in Larsen et al.'s code); 0 omits it.
    clip_norm: largest global norm of this network's gradient; 0 does not clip.

  Raises:
    ValueError: unknown optimizer.
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


def kernels(params: Any) -> Any:
  """A tree of bools like `params`: True for kernels, False for biases and normalisation."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)


def clipped_parameters(bound: float) -> optax.GradientTransformation:
  """An optax transformation that keeps parameters within [-bound, bound]; the last of its chain.

  Arjovsky et al. 2017 clip WGAN's whole critic after each update. The first update also clips the
  initial values.

  Raises:
    ValueError: bound is not positive.
  """
  if not bound > 0:
    raise ValueError(f'bound is {bound}: parameters can be clipped only to a bound over 0')

  def clip(update, param):
    return jnp.clip(param + update, -bound, bound) - param

  return optax.stateless(lambda updates, params: jax.tree.map(clip, updates, params))


def equilibrium_gate(
  terms: Mapping[str, jax.Array], *, equilibrium: float = 0.68, margin: float = 0.35
) -> dict[str, jax.Array]:
  """{'generator': bool[], 'discriminator': bool[]}: which of the two this step may update.

  From Larsen et al.'s code (not in the paper). The discriminator pauses while its mean
  cross-entropy on real or on fake images is under equilibrium - margin, the generator while either
  is over equilibrium + margin. If both would pause, both train. The encoder always trains.

  Args:
    terms: mean `real` and whichever of `fake_recon`, `fake_prior` the method has, in nats.
    equilibrium: cross-entropy of a balanced game, in nats.
    margin: distance from it at which a network pauses, in nats.
  """
  fakes = [terms[k] for k in ('fake_recon', 'fake_prior') if k in terms]
  real, fake = terms['real'], sum(fakes) / len(fakes)
  low, high = equilibrium - margin, equilibrium + margin
  ahead = (real < low) | (fake < low)
  behind = (real > high) | (fake > high)
  both = ahead & behind
  return dict(discriminator=~ahead | both, generator=~behind | both)
