"""What training shows: a live display in a terminal, one short line per log elsewhere."""

import io

import pytest
from rich.console import Console

from tests.test_health import WON, config, game, history
from vaegan_jax.runs import screen


@pytest.fixture
def clock(monkeypatch):
  """A clock that stands still; set clock[0]."""
  now = [100.0]
  monkeypatch.setattr(screen.time, 'monotonic', lambda: now[0])
  return now


def trained(made, clock, terms, steps=300):
  """Steps of a second each, logged every five."""
  for logged in history(steps=steps, **terms):
    last = logged.pop('step')
    for step in range(last - 4, last + 1):
      clock[0] += 1
      made.done(step)
    made.log(last, [logged] * len(made.configs))


def test_a_line_per_log(clock):
  said = []
  with screen.Screen({'': (config('vae_gan', steps=1000), [])}, 0, said.append) as made:
    trained(made, clock, game(**WON))
  assert len(said) == 60 and said[-1].startswith('step 300/1000  64 images/s, 0:11:40 left  kl 20 ')
  assert 'the discriminator has won: fake 0.01 for 295 steps' in said[-1]
  assert max(map(len, said)) < 240 and not any('\n' in line for line in said)


def test_members_in_a_line(clock):
  said, own = [], config('vae_gan', steps=1000)
  with screen.Screen({'a': (own, []), 'b': (own, [])}, 0, said.append) as made:
    trained(made, clock, game(**WON))
  assert '128 images/s' in said[-1] and '2 members: 2 bad; a: the discriminator has' in said[-1]


def test_a_display_in_a_terminal(clock):
  out, said = io.StringIO(), []
  console = Console(file=out, force_terminal=True, width=100)
  with screen.Screen({'': (config('vae_gan', steps=1000), [])}, 0, said.append, console) as made:
    trained(made, clock, game(kl=lambda s: 1.01**s))
    made.live.refresh()
  text = out.getvalue()
  assert 'step 300/1,000' in text and 'fake_prior 0.6→' in text and 'kl 19.79↗' in text
  assert 'balanced' in text and '0:11:40 left' in text and not said


def test_the_time_left_follows_the_speed(clock):
  pace = screen.Pace()
  for step, seconds in enumerate([0.5] * 100 + [3.0] * 40):
    clock[0] += seconds
    pace.mark(step)
  assert pace.seconds_per_step() == pytest.approx(3.0, rel=0.05)


def test_nothing_is_green_before_it_can_be_judged(clock):
  out = io.StringIO()
  console = Console(file=out, force_terminal=True, width=100, color_system='standard')
  with screen.Screen({'': (config('vae_gan', steps=1000), [])}, 0, print, console) as made:
    trained(made, clock, game(**WON), steps=60)
    made.live.refresh()
  assert '\x1b[2mtoo early to judge' in out.getvalue()


def test_a_run_that_resumes_knows_its_history(clock):
  own = config('vae_gan', steps=1000)
  made = screen.Screen({'': (own, history(steps=300, **game(**WON)))}, 300, print)
  assert made.states[''].level == 'bad'


def test_a_long_compilation_is_told(monkeypatch):
  import threading

  monkeypatch.setattr(screen, 'STILL_EVERY', 0.01)
  said, told = [], threading.Event()

  def say(line):
    said.append(line)
    told.set()

  with screen.Screen({'': (config('vae_gan'), [])}, 0, say) as made:
    assert told.wait(10)
    made.done(1)
  assert said[0].startswith('still compiling after 0:00:0')
