"""Health that is watched and healed: what a run notes, where it goes back to, what it ends with."""

import json

import jax
import numpy as np
import pytest

from tests.test_train import digest
from vaegan_jax import checkpoint, data, metrics, programs, settings
from vaegan_jax.configs import digits
from vaegan_jax.page.read import live, read
from vaegan_jax.rules import State
from vaegan_jax.runs import events, probe, report, watch
from vaegan_jax.runs.train import train, train_members

SMALL = {
  'network.name': 'benchmarks.dense',
  'network.latent_size': 4,
  'batch_size': 8,
  'steps': 24,
  'log_every_steps': 2,
  'health.every_steps': 4,
  'sample_every_steps': 1000,
  'save_every_steps': 2,
  'keep_checkpoints': 1,
}
SICK = 14, 16  # from the log at 14 on the first course of the run is sick; it is judged at 16


def config(**changes):
  return settings.with_settings(digits.get_config('vae'), {**SMALL, **changes})


class Killed(BaseException):
  """The process ends here."""


def lines(workdir):
  """The log without clocks and without the line that each start adds."""
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in r.items() if k != 'images_per_s'} for r in rows if not r['step'] % 2]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def warned(runs):
  """A run that is watched."""
  assert train(config(), runs / 'warned', say=lambda _: None) == 0
  return runs / 'warned'


def sicken(warned, monkeypatch):
  """Calls the first course of the run sick, that of the run `warned`, from a step on."""
  first = {row['step']: row['pixel'] for row in lines(warned)}

  def state(history, _):
    last = history[-1] if history else dict(step=0)
    if last['step'] >= SICK[0] and last['pixel'] == first.get(last['step']):
      return State('bad', 'collapse: samples vary too little', 'narrow')
    return State('good', 'no sign of trouble')

  monkeypatch.setattr(watch.health, 'state', state)


@pytest.mark.slow
def test_watching_changes_no_bit(runs, warned):
  train(config(**{'health.action': 'off'}), runs / 'off', say=lambda _: None)
  assert digest(runs / 'off', 24) == digest(warned, 24)
  assert not (runs / 'off' / 'events.jsonl').exists()
  signs = {
    'sample_distance',
    'prior_gap',
    'diversity_pixels',
    'diversity_least',
    'diversity_class',
    'posterior_kl',
    'active_units',
  }
  for row in lines(warned):
    assert signs <= {*row} if row['step'] % 4 == 0 else not signs & {*row}
  assert not any(signs & {*row} for row in lines(runs / 'off'))


@pytest.mark.slow
@pytest.mark.parametrize('moment', ['never', 'before', 'noted', 'aside', 'later'])
def test_a_heal_does_not_depend_on_kills(runs, warned, monkeypatch, moment):
  """It goes back to 10, with another course, and keeps the lines that it leaves."""
  workdir, said, own = runs / moment, [], config(**{'health.action': 'heal'})
  sicken(warned, monkeypatch)
  if moment != 'never':
    kill(moment, monkeypatch)
    with pytest.raises(Killed):
      train(own, workdir, say=said.append)
    monkeypatch.undo()
    sicken(warned, monkeypatch)
  assert train(own, workdir, say=said.append) == 0
  told = [json.loads(line) for line in (workdir / 'events.jsonl').read_text().splitlines()]
  assert [(e['step'], e['heals'], e['level']) for e in told] == [
    *((16, 0, 'bad'), (16, 0, 'heal')),
    (16, 1, 'good'),  # where it was sick, and a whole interval of the watch after 10
  ]
  assert told[2]['event'] == 'healed: step 16 is healthy, after heal 1'
  assert told[1]['to'] == 10 and told[1]['rates'] == {'all': 0.5} and told[1]['kl'] == 1
  assert 'heal 1 of 3: back to step 10' in told[1]['event']
  rows = lines(workdir)
  steps = [(row.get('heals', 0), row['step']) for row in rows]
  assert steps == [(0, s) for s in range(2, 17, 2)] + [(1, s) for s in range(12, 25, 2)]
  assert rows[:8] == lines(warned)[:8] and rows[8]['pixel'] != rows[5]['pixel']
  assert [t['step'] for t in read(workdir, '').history if not t['step'] % 2] == [*range(2, 25, 2)]
  health = checkpoint.manifest(workdir, 24)['health']
  assert health['heals'] == told[1:2] and checkpoint.steps(workdir) == [14, 16, 18, 20, 22, 24]
  if moment != 'never':
    assert digest(workdir, 24) == digest(runs / 'never', 24)
    events_of = [(w / 'events.jsonl').read_bytes() for w in (workdir, runs / 'never')]
    assert events_of[0] == events_of[1]
    assert rows == lines(runs / 'never')


def kill(moment, monkeypatch):
  """Ends the next run at a moment of its heal."""

  def end(*_, **__):
    raise Killed

  write, after = events.write, report.Report.after

  def noted(workdir, new):
    write(workdir, new)
    if events.heals(new):
      raise Killed

  def later(own, step, *rest):
    after(own, step, *rest)
    if own.watch.done and step == 18:
      raise Killed

  if moment == 'before':
    monkeypatch.setattr(
      events, 'write', lambda w, new: end() if events.heals(new) else write(w, new)
    )
  elif moment == 'noted':
    monkeypatch.setattr(events, 'write', noted)
  elif moment == 'aside':
    aside = checkpoint.set_aside
    monkeypatch.setattr(checkpoint, 'set_aside', lambda w, s: end() if s else aside(w, s))
  else:
    monkeypatch.setattr(report.Report, 'after', later)


@pytest.mark.slow
def test_a_run_that_ends_in_skipped_steps_fails(runs, monkeypatch):
  """Also between two logs, and where heals are left."""
  monkeypatch.setattr('vaegan_jax.build.check', lambda _: None)  # it refuses such a rate
  own = {'health.action': 'heal', 'optimizer.learning_rate': 1e30, 'steps': 7}
  own |= {'log_every_steps': 5, 'health.every_steps': 100, 'save_every_steps': 100}
  with pytest.raises(FloatingPointError, match='step 7: .* not been finite for 6 steps'):
    train(config(**own), runs / 'skipped', say=lambda _: None)


def test_live_lines_are_those_of_the_last_course():
  rows = [dict(step=s, heals=h) for h, s in [(0, 1), (0, 2), (0, 3), (1, 3), (2, 2), (2, 4)]]
  assert [(r['heals'], r['step']) for r in live(rows)] == [(0, 1), (2, 2), (2, 4)]


def test_what_becomes_gentler():
  """Twice after a discriminator that won, once after a posterior collapsed, once by all rates."""
  alike = dict(generator=1.0, discriminator=1.0)
  first = [events.remedy(State('bad', '', 'discriminator won'), alike, [])] * 2
  fast = alike | dict(discriminator=10.0)
  assert events.remedy(State('bad', '', 'off'), fast, [])['rates'] == {'discriminator': 0.1}
  slower = events.remedy(State('bad', '', 'off'), alike, [])
  assert slower == dict(rates={'all': 0.5}, kl=1.0)
  done = [slower, *first, events.remedy(State('bad', '', 'posterior collapsed'), {}, [])]
  assert events.remedy(State('bad', '', 'alike'), alike, done) == done[-1]
  before = config(**{'method.encoder.kl': 300.0, 'seed': 2**32 - 1})
  after = events.healed(before, done)
  assert after.optimizer.learning_rate == pytest.approx(before.optimizer.learning_rate / 2)
  assert after.optimizer.factor.discriminator == pytest.approx(0.04)
  assert after.optimizer.factor.generator == 1.0 and after.method.encoder.kl == pytest.approx(30)
  seeds = {events.healed(before, done[:n]).seed for n in range(4)}
  assert len(seeds) == 4 and all(0 <= s < 2**32 for s in seeds)
  assert events.healed(before, []) is before


def test_populations_are_not_healed(tmp_path):
  own = config(**{'health.action': 'heal'})
  with pytest.raises(ValueError, match='--config.health.action=heal is for one run .* to warn'):
    train_members({'seed_0': own}, tmp_path)
  assert not list(tmp_path.iterdir())


def test_signals():
  """Of class 0 the samples vary as the images do; those of class 1 are one picture."""
  rng = np.random.default_rng(0)
  x, labels = rng.normal(size=(16, 4, 4, 1)), np.arange(16) % 2
  fakes = np.where(labels[:, None, None, None] == 1, x[1], x)
  found = probe.signals(
    dict(
      pixels=(x, fakes),
      features=(x, fakes / 2),
      distance=0.5,
      kl=np.float32(3),
      gap=0.25,
      pairs=0.5,
      active=np.array([1, 0]),
    ),
    labels,
  )
  assert found['diversity_pixels'] == pytest.approx(0.5)
  assert found['diversity_features'] == pytest.approx(0.125)
  assert found['diversity_least'] == pytest.approx(0) and found['diversity_class'] == 1
  assert found['posterior_kl'] == 3 and found['active_units'] == 0.5
  assert found['sample_distance'] == 0.5 and found['prior_gap'] == 0.25
  assert found['pair_loss'] == 0.5


def test_the_distance_of_samples():
  """It is the energy distance over the mean distance of two real images."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 40, 4, 4, 1)).astype(np.float32)
  apart = [np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]]
  for other in (y, y / 2 + 3):
    known = metrics.energy_distance(x.reshape(40, -1), other.reshape(40, -1)) / np.mean(apart)
    assert float(probe.sample_distance(x, other)) == pytest.approx(known, abs=1e-4)


def test_the_loss_of_pairs_does_not_compare_classes():
  """A critic may add any constant to all outputs of a class."""
  labels = np.array([0, 1, 0, 1, 1])
  real, fake = np.random.default_rng(0).normal(size=(2, 5))
  same = [(i, j) for i in range(5) for j in range(5) if labels[i] == labels[j]]
  known = np.mean([np.log1p(np.exp(fake[j] - real[i])) for i, j in same])
  assert len(same) == 13
  for offset in (0, 30):
    found = probe.pair_loss(real + offset * labels, fake + offset * labels, labels)
    assert float(found) == pytest.approx(known, rel=1e-5)


def test_few_classes_have_more_images_each():
  shown = data.Dataset('two', np.zeros((200, 1, 1, 1), np.uint8), labels=np.arange(200) % 2)
  _, labels = probe.chosen(shown, 2)
  assert np.bincount(labels).tolist() == [32, 32]


def test_signals_that_few_images_do_not_have():
  """Of one image there is no spread; among equal ones there is no distance."""
  x, one = np.ones((4, 4, 4, 1), np.float32), np.zeros(4, int)
  apart = probe.sample_distance(x, x + 1)
  found = probe.signals(dict(pixels=(x, x + 1), distance=apart, kl=np.float32(3)), one)
  assert not np.isfinite(apart) and found == {'posterior_kl': 3.0}
  signs = probe_of(1)
  assert {*signs} == {'posterior_kl'} and np.isfinite(signs['posterior_kl'])
  assert {'sample_distance', 'active_units', 'prior_gap'} <= {*probe_of(2)}


def probe_of(count):
  """The signals of a fresh VAE by so many images."""
  own = config(**{'network.latent_size': 4})
  side = own.data.image_size
  images = np.random.default_rng(0).integers(0, 255, (count, side, side, 1)).astype(np.uint8)
  about = dict(condition='none', size=0)
  (program,) = programs.stages([own], 0)[-1].programs
  state = programs.init(own, 0, program)(jax.random.key(0))
  shown = data.Dataset('made up', images)
  return probe.Probe(program.model, 4, about, shown)(state)


def test_the_gap_of_the_latents_from_the_prior():
  """Posteriors that are the prior together have none, whatever each of them tells."""
  z = np.random.default_rng(0).normal(size=(100_000, 2))
  assert float(probe.prior_gap(z, np.full(z.shape, -20.0))) == pytest.approx(0, abs=1e-4)
  assert float(probe.prior_gap(np.ones((8, 2)), np.zeros((8, 2)))) == pytest.approx(0.5)
