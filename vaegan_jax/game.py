"""The rule of the game between generator and discriminator.

What is healthy depends on the adversarial loss and on whether the generator plays against the
discriminator (VAE/GAN) or matches its features (CVAE-GAN), so both are read off the config. A loss
of the game is judged in units of chance, its value for a discriminator that knows nothing.
"""

from collections.abc import Callable, Mapping, Sequence
import math
import statistics
from typing import Any

from vaegan_jax.rules import (
  HOLD,
  OFF,
  OUT_OF_BOUNDS,
  State,
  Table,
  course,
  last_two,
  plays,
  weighed,
)
from vaegan_jax.trends import RECENT, Terms, held, values

CHANCE = dict(bce=math.log(2), hinge=1.0, least_squares=0.125, relativistic=math.log(2))
WON, LEADS, FOOLED = 0.03, 0.15, 1.7  # losses of the game over chance
TOLD_APART = 1e-3  # likewise, for a generator that matches features: far ahead even there
# Likewise, in a mean over RECENT logs; no healthy run came over 1.3. Pairs of a relativistic critic
# stay close to chance, so less is wild there.
WILD = dict(bce=3.0, relativistic=1.4)
# Likewise pair_loss, if two of the last RECENT are over WILD_PAIRS or one is over BURST. Two
# healthy runs came over the first one once each, to 1.84 and 1.86; sick ones begin at 2.5.
WILD_PAIRS, BURST = 1.75, 2.25
AHEAD_STEPS = 300  # for which a discriminator may tell all apart, where features are matched


def game(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State:
  """Who leads between generator and discriminator; the course of the losses if nobody plays.

  A game that looks lost is no trouble yet while the samples are like the images. One that is out of
  bounds is: coloured blots can be as near to photographs, in pixels, as faces are.
  """
  found = losses(history, table, config)
  distances = values(history, 'sample_distance')
  lost = found.level == 'bad' and found.kind != OUT_OF_BOUNDS
  if lost and distances and distances[-1] < OFF:
    return found._replace(level='watch', words=f'{found.words}; samples are still like the images')
  return found


def losses(history: Sequence[Terms], table: Table, config: Mapping[str, Any]) -> State:
  """The same from the losses alone."""
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
    unlike = min(last_two(history, 'sample_distance'), default=0) > OFF
    if (steps := held(history, lambda t: fake(t) < TOLD_APART)) >= HOLD:
      return State(
        'bad' if steps >= AHEAD_STEPS and unlike else 'watch',
        f'the discriminator is far ahead ({value} for {steps} steps): if samples stay blurred, try '
        'ten times --config.method.generator.match_d',
        'discriminator won',
      )
    return State(
      'good', f'matching features ({value}; low is no fault here): ' + course(history, table)
    )
  if told := out_of_bounds(history, config['adversarial'], fake):
    return State(
      'bad',
      f'the losses of the game are out of bounds ({told}, chance {chance:.2g}): try '
      f'{slower(config)} in another --workdir',
      OUT_OF_BOUNDS,
    )
  saturating = any(k.startswith('fake_') for k in weighed(table, 'generator'))
  won = held(history, lambda t: fake(t) < WON and (saturating or real(t) < LEADS))
  if won >= HOLD:
    return State(
      'bad',
      f'the discriminator has won: {value} for {won} steps; {remedy(config)}',
      'discriminator won',
    )
  fooled = held(history, lambda t: (fake(t) + real(t)) / 2 > FOOLED)
  if fooled >= HOLD:
    return State(
      'bad',
      f'the generator has won: {value} for {fooled} steps, so the discriminator teaches nothing; '
      'try --config.optimizer.factor.generator=0.3',
      'generator won',
    )
  leads = held(history, lambda t: fake(t) < LEADS)
  if won or leads >= HOLD:
    return State('watch', f'the discriminator leads ({value}); no sign yet that it has won')
  ahead = 'the discriminator' if leads else 'the generator' if fooled else ''
  words = f'{ahead} is ahead at this log' if ahead else 'balanced'
  return State('good', f'{words} ({value}, chance {chance:.2g})')


def out_of_bounds(
  history: Sequence[Terms], adversarial: str, fake: Callable[[Terms], float]
) -> str:
  """Which losses of the game are out of bounds, in nats; '' if none are.

  fake: the loss of the fakes over chance.
  """
  chance, recent = CHANCE[adversarial], [fake(terms) for terms in history[-RECENT:]]
  judged = len(history) >= RECENT and history[-1]['step'] - history[0]['step'] >= HOLD
  mean = statistics.fmean(recent)
  swings = min(recent) < FOOLED  # where they do not, the generator has won
  if judged and swings and mean > WILD.get(adversarial, math.inf):
    return f'fake {mean * chance:.2g} on average'
  pairs = values(history, 'pair_loss')[-RECENT:]
  over = [value for value in pairs if value > WILD_PAIRS * chance]
  told = len(over) > 1 or max(over, default=0) > BURST * chance
  return f'{max(over):.2g} on images held out' if told else ''


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
