"""Rules that find signs of trouble in the logged terms of a run; that of the game is in game.py.

A rule takes the history of a run, its method's table and its config; it gives a State or None.
"""

import bisect
from collections.abc import Mapping, Sequence
import itertools
import statistics
from typing import Any, NamedTuple

from vaegan_jax.trends import Terms, held, means, trend, values

Table = Mapping[str, Mapping[str, float]]  # {network: {loss: weight}}

OUT_OF_BOUNDS = 'out of bounds'  # kind of the State of a game whose losses are so
HOLD = 100  # steps for which a game must be one-sided; swings of some 20 steps are normal
VANISHED, VANISHED_STEPS = 1e-2, 500  # a gradient's norm over its median, and for how long
SPIKE, SPIKE_LOGS = 6.0, 20  # standard deviations above the mean of at least so many logs
# Pixel variance of samples over that of real images, within classes. Untrained generators start
# as low as a collapse, so that is only called once the ratio was over ARMED.
NARROW, ALIKE, ARMED, ALIKE_STEPS = 0.05, 0.15, 0.1, 200
# The same in the discriminator's features, of samples for this purpose; see runs/probe.py.
COLLAPSED, ONE_COLLAPSED, ALIKE_FEATURES, RAISED = 0.1, 0.05, 0.15, 0.3
# Steps after which samples that never varied or are unlike the images, or latents off the prior,
# are no start.
UNSEEN = 500
INACTIVE = 0.1  # share of active latents
WORSE = 2.0  # a loss over its own lowest level
COLLAPSED_KL = 0.1  # nats
# KL per latent, in nats, of the posteriors, and of all posteriors together from the prior.
FAR_KL, FAR_PRIOR = 30.0, 0.5
LOOSE_KL = 3.0  # likewise of the posteriors, where nothing holds them at the prior
# Distance of samples from images, see runs/probe.py; that of early samples is 0.5 to 1.
NEAR, OFF, BEGUN = 0.2, 0.4, 300  # the last one in steps
KEPT = 1000  # logs that a state is judged by; see lately


class State(NamedTuple):
  """How a run does."""

  level: str  # early (nothing can be said yet), good, watch, or bad
  words: str
  kind: str = ''  # the rule that found it


def weighed(table: Table, network: str) -> dict[str, float]:
  """{loss: weight} of a network's row, without cells of weight 0."""
  return {loss: w for loss, w in table.get(network, {}).items() if w}


def plays(table: Table) -> bool:
  """Whether the generator descends a loss of the game, and not only matches features."""
  row = weighed(table, 'generator')
  return any(k.startswith('fool_') or (k.startswith('fake_') and w < 0) for k, w in row.items())


def shown_terms(table: Table, adversarial: str = 'bce') -> list[str]:
  """Names of the few terms that tell most of a method, at most five."""
  losses = {loss for network in table for loss in weighed(table, network)}
  pixels = ('pixel',) if 'pixel' in losses else ('feature_d', 'feature_c')
  game = ('real', 'fake_recon', 'fake_prior')
  game = tuple(k for k in game if k != 'real' or adversarial != 'relativistic')
  wanted = ('kl', pixels[0], *game, 'match_d')
  return [k for k in wanted if k in losses][:5]


def course(history: Sequence[Terms], table: Table) -> str:
  """What the first of the telling terms does, in words."""
  names = [k for k in ('match_d', *shown_terms(table)) if k in history[-1]]
  names = [k for k in names if not k.startswith(('fake', 'real', 'kl'))] or names
  if not names:
    return 'nothing to judge'
  arrow = trend(history, names[0])
  does = {'↗': 'rises', '↘': 'falls', '→': 'holds its level'}.get(arrow, 'has just begun')
  return f'{names[0]} {does}'


def lately(history: Sequence[Terms]) -> list[Terms]:
  """The last KEPT logs, after the first ones that were past a threshold which arms a rule."""
  armed = (
    lambda t: t.get('diversity', 0) > ARMED,
    lambda t: t.get('diversity_features', 0) > RAISED,
    lambda t: t.get('sample_distance', OFF) <= NEAR,
  )
  first = (next((t for t in history[:-KEPT] if arms(t)), None) for arms in armed)
  early = {t['step']: t for t in first if t}
  return [*(early[step] for step in sorted(early)), *history[-KEPT:]]


def narrow(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """Samples of one class look alike."""
  ratios = values(history, 'diversity')
  if not ratios or ratios[-1] >= ALIKE:
    return None
  if max(ratios) > ARMED and ratios[-1] < NARROW:
    return State(
      'bad',
      f'collapsed: samples vary {ratios[-1]:.1%} as much as real images; start again in another '
      '--workdir with a smaller --config.optimizer.learning_rate',
    )
  if history[-1]['step'] < ALIKE_STEPS:
    return None
  return State(
    'watch',
    f'samples look alike: they vary {ratios[-1]:.1%} as much as real images; if it stays so, try a '
    'smaller --config.optimizer.learning_rate',
  )


def alike(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """Samples of one class, or of all, vary too little in the discriminator's features.

  Two values in a row must say so, as each is of few samples. Untrained generators vary as little:
  it counts once samples varied more, or where they have come near the images and vary too little.
  """
  pair = [t for t in history if 'diversity_features' in t][-2:]
  if len(pair) < 2:
    return None
  raised = max(t.get('diversity_features', 0) for t in history) > RAISED
  near = max(t.get('sample_distance', OFF) for t in pair) < NEAR and pair[-1]['step'] >= BEGUN
  every, classes = max(t['diversity_features'] for t in pair), {t['diversity_class'] for t in pair}
  if every < (ALIKE_FEATURES if near else COLLAPSED if raised else 0):
    return State('bad', f'collapse: samples vary {every:.0%} as much as real ones')
  least = max(t['diversity_least'] for t in pair)
  if raised and len(classes) == 1 and least < ONE_COLLAPSED:
    which = f'samples of class {classes.pop():.0f}'
    return State('bad', f'collapse: {which} vary {least:.0%} as much as real ones')
  if every < ALIKE_FEATURES and (raised or history[-1]['step'] >= UNSEEN):
    return State('watch', f'samples look alike: they vary {every:.0%} as much as real ones')
  return None


def last_two(history: Sequence[Terms], name: str) -> list[float]:
  """The last two values of a signal, which is not in every log; [] if there are fewer."""
  known = values(history, name)
  return known[-2:] if len(known) > 1 else []


def off(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """Samples are unlike the images, after a beginning in which they may come and go."""
  pair = last_two(history, 'sample_distance')
  if not pair or min(pair) < OFF or history[-1]['step'] < UNSEEN:
    return None
  nearest = min(values(history, 'sample_distance'))
  return State(
    'bad',
    f'samples are unlike the images (distance {pair[-1]:.2g}; it was {nearest:.2g}): try a smaller '
    '--config.optimizer.learning_rate',
  )


def spread(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """The posterior: equal to the prior, or far outside it."""
  seen = [t | {'kl': t.get('kl', t.get('posterior_kl'))} for t in history]
  seen = [t for t in seen if t['kl'] is not None]  # it is not logged where nothing weighs it
  if not weighed(table, 'encoder') or not seen or seen[-1]['step'] < history[-1]['step']:
    return None
  kl = seen[-1]['kl']
  if steps := held(seen, lambda t: t['kl'] < COLLAPSED_KL):
    words = (
      f'the latents carry nothing (kl {kl:.2g} nats for {steps} steps): try a tenth '
      'of --config.method.encoder.kl'
    )
    return State('bad' if steps >= HOLD else 'watch', words, 'posterior collapsed')
  each, gap = kl / config['network']['latent_size'], last_two(history, 'prior_gap')
  distance = last_two(history, 'sample_distance')  # the game may teach the prior's samples alone
  left = min(gap, default=0) > FAR_PRIOR and min(distance, default=0) > NEAR
  if each > FAR_KL or (left and seen[-1]['step'] >= UNSEEN):
    return State(
      'bad',
      f'the latents left the prior (kl {kl:.2g} nats), so samples mean nothing: try '
      'a smaller --config.optimizer.learning_rate',
      'posterior exploded',
    )
  if each > LOOSE_KL and 'kl' not in weighed(table, 'encoder'):
    return State(
      'watch',
      f'nothing holds the latents at the prior (kl {kl:.2g} nats): give --config.method.encoder.kl '
      'a weight',
      'posterior exploded',
    )
  active = [t for t in history if 'active_units' in t]
  if held(active, lambda t: t['active_units'] < INACTIVE) >= HOLD:
    return State(
      'watch',
      f'{active[-1]["active_units"]:.0%} of the latents carry something: try a tenth of '
      '--config.method.encoder.kl',
    )
  return None


def worse(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """Losses that only fall in a healthy run have risen."""
  matches = () if plays(table) else ('match_d', 'match_c')
  for name in ('pixel', *matches):
    smooth = means(history, name)
    if smooth and smooth[-1] > WORSE * min(smooth):
      what = 'reconstructions get worse' if name == 'pixel' else 'the generator falls behind'
      level = 'bad' if name == 'pixel' and smooth[-1] > 2 * WORSE * min(smooth) else 'watch'
      return State(
        level,
        f'{what}: {name} {smooth[-1]:.3g}, after {min(smooth):.3g}; if it stays so, try a smaller '
        '--config.optimizer.learning_rate',
      )
  return None


def gradients(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """A network whose gradient vanished, or else one whose gradient jumped at the last log."""
  norms = {name: [t for t in history if f'gradient_{name}' in t] for name in table}
  found = [rule(name, own) for rule in (vanished, spike) for name, own in norms.items()]
  return next(filter(None, found), None)


def vanished(network: str, history: Sequence[Terms]) -> State | None:
  """All logs of VANISHED_STEPS or more, up to the last, are far below the median of those before.

  Those before span HOLD steps at least. A classifier that has learnt all gets none, and is well.
  """
  if network == 'classifier':
    return None
  norms, known = [t[f'gradient_{network}'] for t in history], []
  most = list(itertools.accumulate(reversed(norms), max))[::-1]  # from each log to the last
  for terms, value, later in zip(history, norms, most):
    if history[-1]['step'] - terms['step'] < VANISHED_STEPS:
      break
    judged = len(known) >= 3 and terms['step'] - history[0]['step'] >= HOLD
    if judged and later <= VANISHED * statistics.median(known):
      usual = statistics.median(known)
      return State(
        'bad', f'the {network} gets no gradient any more ({norms[-1]:.2g}; it was {usual:.2g})'
      )
    bisect.insort(known, value)
  return None


def spike(network: str, history: Sequence[Terms]) -> State | None:
  """The last log is far above all before."""
  *before, last = [t[f'gradient_{network}'] for t in history] or [0.0]
  if len(before) < SPIKE_LOGS:
    return None
  if last <= statistics.fmean(before) + SPIKE * statistics.pstdev(before):
    return None
  return State(
    'watch',
    f"a spike of the {network}'s gradient ({last:.3g}; usually {statistics.median(before):.3g}): "
    'if more come, set --config.optimizer.clip_norm',
  )
