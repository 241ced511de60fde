"""Where a heal goes back to, which checkpoints it needs, and when there is none: by hand."""

import pytest

from vaegan_jax import settings
from vaegan_jax.configs import digits
from vaegan_jax.rules import State
from vaegan_jax.runs import events, watch
from vaegan_jax.runs.workdir import Member

EVERY = {
  'health.action': 'heal',
  'health.every_steps': 100,
  'log_every_steps': 100,
  'save_every_steps': 100,
}
GOOD, EARLY = State('good', ''), State('early', '')
LEADS, OFF = State('watch', '', 'game'), State('bad', '', 'off')


@pytest.fixture
def made(tmp_path, monkeypatch):
  """Makes the Watch of a run with these checkpoints, {step: State after it}, and heals."""

  def make(states, heals=(), **changes):
    config = settings.with_settings(digits.get_config('vae'), EVERY | changes)
    monkeypatch.setattr(watch.checkpoint, 'sound_steps', lambda _: [*states])
    monkeypatch.setattr(watch.health, 'state', lambda rows, _: states[rows[-1]['step']])
    rows = [dict(step=s, pixel=1.0) for s in states]
    own = watch.Watch([Member('', config, tmp_path)], {}, None, 0, [rows])
    own.events = [[watch.event(h['step'], i, 'heal', '', '') | h for i, h in enumerate(heals)]]
    return own

  return make


def note(own, step):
  """Judges the run after `step`."""
  own.note(step, [dict(pixel=1.0)], [0])


def goes_to(own, step):
  """The step that a run goes back to, which is found sick after `step`."""
  with pytest.raises(watch.Back):
    note(own, step)
  return own.done_heals[-1]['to']


def test_a_heal_that_may_not_help_keeps_an_older_checkpoint(made):
  """Also where only one is kept: two healthy ones, and while it is not told healed one below.

  And one, 1000, from before the five logs that losses out of bounds are an average of.
  """
  states = dict.fromkeys([1000, 1900, 2000, 2100, 2200, 2300], GOOD)
  assert made(states).kept(2300) == [1000, 2000, 2100, 2200, 2300]
  back = dict(to=2000, step=2150, rates={}, kl=1.0)
  own = made(states, [back])
  assert own.kept(2300) == [1000, 1900, 2000, 2100, 2200, 2300]
  own.events[0].append(watch.event(2200, 1, 'good', watch.HEALED, ''))
  assert own.kept(2300) == [1000, 2000, 2100, 2200, 2300]
  assert goes_to(made(states | {2300: OFF}, [back]), 2300) == 1900
  assert goes_to(made(states | {2300: OFF}), 2300) == 2100
  out = OFF._replace(kind='out of bounds')
  assert goes_to(made(states | {2300: out}), 2300) == 1900
  seldom = made(states | {2300: out})  # pair_loss is in every other log: its five go back to 1900
  for row in seldom.rows[0][1::2]:
    row['pair_loss'] = 1.0
  assert goes_to(seldom, 2300) == 1000


def test_a_run_that_was_never_good_does_not_start_anew(made):
  """It goes back to where it was watched for another reason; a good checkpoint comes first."""
  before, end = [59_700, 59_800, 59_900], {60_000: OFF}
  states = dict.fromkeys(before, LEADS) | end
  assert made(states).kept(60_000) == [*before, 60_000]
  assert goes_to(made(states), 60_000) == 59_800
  assert goes_to(made({1000: GOOD, **states}), 60_000) == 1000
  assert goes_to(made(states | {59_800: OFF._replace(level='watch')}), 60_000) == 59_700
  assert goes_to(made(dict.fromkeys(before, EARLY) | end), 60_000) == 0


@pytest.mark.parametrize('kind', ['posterior exploded', 'posterior collapsed'])
def test_a_weight_of_0_cannot_be_healed(made, kind):
  states = {100: GOOD, 300: State('bad', 'the latents left the prior', kind)}
  own = made(states, **{'method.encoder.kl': 0.0})
  note(own, 300)
  assert [e['level'] for e in own.events[0]] == ['bad']
  assert goes_to(made(states), 300) == 100


def test_an_event_that_does_not_count_heals():
  """It is one before any heal."""
  old, heal = dict(step=4, level='bad', kind='off', event=''), dict(step=8, heals=0, to=2)
  assert events.until([old], 2) == [] and events.until([old, heal], 2) == [old, heal]
