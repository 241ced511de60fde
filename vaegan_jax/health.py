"""The state of a run in words: a pure function of its config and of the history of its terms.

What is healthy depends on the adversarial loss and on whether the generator plays against the
discriminator (VAE/GAN) or matches its features (CVAE-GAN), so both are read off the config. A loss
of the game is judged in units of chance, its value for a discriminator that knows nothing.
"""

from collections.abc import Mapping, Sequence
import math
import statistics
from typing import Any, NamedTuple

from vaegan_jax.trends import RECENT, Terms, held, means, trend

Table = Mapping[str, Mapping[str, float]]  # {network: {loss: weight}}

CHANCE = dict(bce=math.log(2), hinge=1.0, least_squares=0.125, relativistic=math.log(2))
WON, LEADS, FOOLED = 0.03, 0.15, 1.7  # losses of the game over chance
TOLD_APART = 1e-3  # likewise, for a generator that matches features: far ahead even there
WILD = 3.0  # likewise, in a mean over RECENT logs, which stays below 1.3 in healthy runs
HOLD = 100  # steps for which a game must be one-sided; swings of some 20 steps are normal
VANISHED, VANISHED_STEPS = 1e-2, 500  # a gradient's norm over its median, and for how long
SPIKE, SPIKE_LOGS = 6.0, 20  # standard deviations above the mean of at least so many logs
# Pixel variance of samples over that of real images, within classes. Untrained generators start
# as low as a collapse, so that is only called once the ratio was over ARMED.
NARROW, ALIKE, ARMED, ALIKE_STEPS = 0.05, 0.15, 0.1, 200
WORSE = 2.0  # a loss over its own lowest level
COLLAPSED_KL, FAR_KL = 0.1, 1e5  # nats


class State(NamedTuple):
  """How a run does."""

  level: str  # early (nothing can be said yet), good, watch, or bad
  words: str


def state(history: Sequence[Terms], config: Mapping[str, Any]) -> State:
  """The State after the last of `history`, for the config of the run as plain dicts.

  History: {'step': int, term: float} of each logged step, in order. The worst finding is told.
  """
  if not history:
    return State('early', 'nothing is logged yet')
  table = table_at(config, history[-1]['step'])
  # The first phase of a method has other terms.
  history = [terms for terms in history if table_at(config, terms['step']) is table]
  if bad := [k for k, v in history[-1].items() if v is None or not math.isfinite(v)]:
    steps = held(history, lambda t: not all(v is not None and math.isfinite(v) for v in t.values()))
    shown = ', '.join(bad[:3]) + (' and more' if len(bad) > 3 else '')
    return State(
      'bad',
      f'not finite: {shown}, for {steps} steps; nothing is learnt: resume with a smaller '
      '--config.optimizer.learning_rate',
    )
  finite = [t for t in history if all(v is not None and math.isfinite(v) for v in t.values())]
  findings = [rule(finite, table, config) for rule in (narrow, spread, worse, gradients, game)]
  found = [f for f in findings if f]
  order = ('bad', 'watch', 'good')
  early = history[-1]['step'] - history[0]['step'] < HOLD
  best = min(found, key=lambda f: order.index(f.level))
  if early and best.level != 'bad':
    return State('early', f'too early to judge: that takes {HOLD} steps')
  return best


def table_at(config: Mapping[str, Any], step: int) -> Table:
  """The method's table at a step: that of the first phase, if the run is still in it."""
  first = config.get('first') or {}
  return first['method'] if step <= first.get('steps', 0) else config['method']


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


# --- The rules. Each has a finding or None.


def narrow(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """Samples of one class look alike."""
  ratios = [t['diversity'] for t in history if 'diversity' in t]
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


def spread(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State | None:
  """The posterior: equal to the prior, or far outside it."""
  if not weighed(table, 'encoder') or 'kl' not in history[-1]:
    return None
  if steps := held(history, lambda t: t['kl'] < COLLAPSED_KL):
    words = (
      f'the latents carry nothing (kl {history[-1]["kl"]:.2g} nats for {steps} steps): try a tenth '
      'of --config.method.encoder.kl'
    )
    return State('bad' if steps >= HOLD else 'watch', words)
  if held(history, lambda t: t['kl'] > FAR_KL):
    return State(
      'bad',
      f'the latents left the prior (kl {history[-1]["kl"]:.2g} nats), so samples mean nothing: try '
      'a smaller --config.optimizer.learning_rate',
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
  """A network whose gradient vanished, or jumped at the last log."""
  for network in table:
    name = f'gradient_{network}'
    values = [t[name] for t in history if name in t]
    if len(values) < 3:
      continue
    usual = statistics.median(values)
    quiet = held(history, lambda t, n=name, u=usual: t.get(n, u) < VANISHED * u)
    if quiet >= VANISHED_STEPS or not values[-1]:
      return State(
        'bad', f'the {network} gets no gradient any more ({values[-1]:.2g}; it was {usual:.2g})'
      )
    before = values[:-1]
    if len(before) >= SPIKE_LOGS:
      limit = statistics.fmean(before) + SPIKE * statistics.pstdev(before)
      if values[-1] > limit:
        return State(
          'watch',
          f"a spike of the {network}'s gradient ({values[-1]:.3g}; usually {usual:.3g}): if more "
          'come, set --config.optimizer.clip_norm',
        )
  return None


def game(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State:
  """Who leads between generator and discriminator; the course of the losses if nobody plays."""
  fakes = [k for k in weighed(table, 'discriminator') if k.startswith('fake_')]
  if not fakes or not all(k in history[-1] for k in fakes):
    return State('good', 'no sign of trouble: ' + course(history, table))
  if config['adversarial'] == 'wasserstein':
    return wasserstein(history, table, fakes)
  chance = CHANCE[config['adversarial']]
  relativistic = config['adversarial'] == 'relativistic'

  def fake(terms):
    return statistics.fmean(terms[k] for k in fakes) / chance

  def real(terms):
    return fake(terms) if relativistic else terms.get('real', math.nan) / chance

  value = f'fake {fake(history[-1]) * chance:.2g}'
  if not plays(table):
    if (steps := held(history, lambda t: fake(t) < TOLD_APART)) >= HOLD:
      return State(
        'watch',
        f'the discriminator is far ahead ({value} for {steps} steps): if samples stay blurred, try '
        'ten times --config.method.generator.match_d',
      )
    return State(
      'good', f'matching features ({value}, which may be low): ' + course(history, table)
    )
  recent = statistics.fmean(fake(terms) for terms in history[-RECENT:])
  judged = len(history) >= RECENT and history[-1]['step'] - history[0]['step'] >= HOLD
  if judged and recent > WILD and config['adversarial'] in ('bce', 'relativistic'):
    return State(
      'bad',
      f'the losses of the game are out of bounds (fake {recent * chance:.2g} on average, chance '
      f'{chance:.2g}): try {slower(config)} in another --workdir',
    )
  saturating = any(k.startswith('fake_') for k in weighed(table, 'generator'))
  won = held(history, lambda t: fake(t) < WON and (saturating or real(t) < LEADS))
  if won >= HOLD:
    return State('bad', f'the discriminator has won: {value} for {won} steps; {remedy(config)}')
  fooled = held(history, lambda t: (fake(t) + real(t)) / 2 > FOOLED)
  if fooled >= HOLD:
    return State(
      'bad',
      f'the generator has won: {value} for {fooled} steps, so the discriminator teaches nothing; '
      'try --config.optimizer.factor.generator=0.3',
    )
  leads = held(history, lambda t: fake(t) < LEADS)
  if won or leads >= HOLD:
    return State('watch', f'the discriminator leads ({value}); no sign yet that it has won')
  return State('good', f'balanced ({value}, chance {chance:.2g})')


def wasserstein(history: Sequence[Terms], table: Table, fakes: Sequence[str]) -> State:
  """Of a critic without bounds: the gap between its means on real images and on fakes."""

  def gap(terms):
    return -terms.get('real', 0.0) - statistics.fmean(terms[k] for k in fakes)

  now, gaps = gap(history[-1]), [abs(gap(t)) for t in history]
  usual = statistics.median(gaps[: max(RECENT, len(gaps) // 4)])
  if abs(now) > 1e3 and abs(now) > 100 * usual:
    return State(
      'bad',
      f'the critic grows without bound (gap {now:.2g}, at first {usual:.2g}): try '
      '--config.optimizer.factor.discriminator=0.3',
    )
  if (steps := held(history, lambda t: gap(t) < 0)) >= HOLD:
    return State('bad', f'the critic prefers fakes (gap {now:.2g} for {steps} steps)')
  return State('good', f'no sign of trouble: the gap of the critic is {now:.2g}')


def remedy(config: Mapping[str, Any]) -> str:
  """What to try when the discriminator has won."""
  row = weighed(config['method'], 'discriminator')
  if 'r1' in row:
    return f'try --config.method.discriminator.r1={10 * row["r1"]:g} in another --workdir'
  if config['adversarial'] == 'bce' and 'real' in row and not config['gate']['on']:
    return 'try --config.gate.on=True in another --workdir'
  return 'try --config.optimizer.factor.discriminator=0.3 in another --workdir'


def slower(config: Mapping[str, Any]) -> str:
  """The flag to try when some rate is too high."""
  if config['optimizer']['factor'].get('discriminator', 1) > 1:
    return '--config.optimizer.factor.discriminator=1'
  return f'--config.optimizer.learning_rate={config["optimizer"]["learning_rate"] / 5:.2g}'


def course(history: Sequence[Terms], table: Table) -> str:
  """What the first of the telling terms does, in words."""
  names = [k for k in ('match_d', *shown_terms(table)) if k in history[-1]]
  names = [k for k in names if not k.startswith(('fake', 'real', 'kl'))] or names
  if not names:
    return 'nothing to judge'
  arrow = trend(history, names[0])
  does = {'↗': 'rises', '↘': 'falls', '→': 'holds its level'}.get(arrow, 'has just begun')
  return f'{names[0]} {does}'
