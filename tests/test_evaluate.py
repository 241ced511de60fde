"""Evaluation and studies, with judges and models whose results are known in advance."""

import json
import types

import numpy as np
from PIL import Image
import pytest

from vaegan_jax import data, evaluate, settings
from vaegan_jax.configs import digits as digits_config
from vaegan_jax.experiments import study

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def digits():
  return [data.load('digits', image_size=16, channels=1, split=s) for s in ('test', 'train')]


class Pixels:
  """Features are pixels; the class is that of the nearest mean of real digits."""

  name = 'pixels'

  def __init__(self, dataset):
    x = dataset.images.reshape(len(dataset.images), -1) / 255.0
    self.means = np.stack([x[dataset.labels == k].mean(0) for k in range(10)])

  def features(self, images):
    return images.reshape(len(images), -1)[:, ::5] / 255.0

  def logits(self, images):
    x = images.reshape(len(images), -1) / 255.0
    return -np.square(x[:, None] - self.means).sum(-1)


class Model:
  """Samples are training images of the class asked for; if collapsed, always the same one."""

  latent_size, step = 2, 5

  def __init__(self, dataset, collapsed=False, wrong=0):
    self.about, self.config = dict(condition='label'), dict(method_name='known', seed=0)
    self.dataset, self.collapsed, self.wrong = dataset, collapsed, wrong
    self.networks = dict(encoder=None, generator=None)

  def sample(self, n, labels, seed):
    rng = np.random.default_rng(seed)
    own = {k: np.flatnonzero(self.dataset.labels == (k + self.wrong) % 10) for k in range(10)}
    return np.stack(
      [self.dataset.images[own[k][0] if self.collapsed else rng.choice(own[k])] for k in labels]
    )

  def encode(self, images, labels):
    x = images.reshape(len(images), -1).mean(1)
    return np.stack([x, 0 * x], 1), np.zeros((len(x), 2))

  def decode(self, mean, labels):
    return np.broadcast_to(mean[:, :1, None, None], (len(mean), 16, 16, 1)).astype(np.uint8)


def judged(digits, **how):
  held_out, seen = digits
  judge = Pixels(seen)
  return evaluate.evaluate(
    Model(seen, **how), evaluate.Judges(judge, judge, judge), held_out, seen, n=290
  )


def test_real_images_as_samples_reach_what_real_images_reach(digits):
  result = judged(digits)
  assert result['ratio']['top1'] == pytest.approx(1, abs=0.05)
  assert result['ratio']['diversity_pixels'] == pytest.approx(1, abs=0.08)
  assert result['samples']['modes'] == 10 and result['samples']['coverage'] > 0.7
  assert result['samples']['frechet_distance'] < 2 * result['real']['frechet_distance']
  assert result['judges'] == dict(features='pixels', labels='pixels', scores='pixels')
  json.dumps(result)


def test_samples_that_are_training_images_are_told(digits):
  result = judged(digits)
  assert result['overfitting']['c_t'] < -3 < result['held_out']['c_t']
  assert result['overfitting']['authenticity'] == 0 < 0.2 < result['held_out']['authenticity']
  assert result['overfitting']['fld_gap'] < -50 < -20 < result['held_out']['fld_gap']
  assert 'copies training images' in result['verdict']
  assert any(line.startswith('held_out') for line in evaluate.lines(result))
  held_out, _ = digits
  judge = Pixels(held_out)
  alone = evaluate.evaluate(
    Model(held_out), evaluate.Judges(judge, judge, judge), held_out, held_out, n=100
  )
  assert not {'overfitting', 'held_out'} & set(alone)  # there is no held-out split


def test_what_collapses_or_mistakes_the_class_is_seen(digits):
  good, collapsed, wrong = judged(digits), judged(digits, collapsed=True), judged(digits, wrong=1)
  assert 'look alike' in collapsed['verdict'] and 'often wrong' in wrong['verdict']
  assert collapsed['ratio']['diversity_pixels'] < 0.01 and collapsed['samples']['recall'] < 0.1
  assert wrong['samples']['top1'] < 0.1 < 0.8 < good['samples']['top1']


def test_reconstructions_and_latents(digits):
  result = judged(digits)
  assert result['latents']['active_units'] == 1 and result['latents']['size'] == 2
  assert result['reconstructions']['psnr'] < 15 and result['reconstructions']['sharpness'] == 0
  lines = list(evaluate.lines(result))
  assert any('top1' in line for line in lines) and not any('[' in line for line in lines)


SAMPLES = dict(recall=0.5, frechet_distance=9.0, top1=0.9)


@pytest.mark.parametrize(
  'samples,ratio,more,words',
  [
    ({}, dict(top1=0.95), {}, 'verdict: nothing stands out; Frechet distance 9, real images 3'),
    ({}, dict(top1=0.5), {}, 'classes are often wrong (top-1 90%, 50% of real)'),
    ({}, dict(diversity_pixels=0.1), {}, 'samples of a class look alike (diversity 10% of real)'),
    (dict(recall=0.05), {}, {}, 'much of the data is missing (recall 0.05)'),
    ({}, dict(sharpness=0.5), {}, 'blurred'),
    ({}, dict(sharpness=2.0), {}, 'noisy'),
    ({}, {}, dict(latents=dict(active_units=0)), 'the latents carry nothing'),
    (
      {},
      {},
      dict(reconstructions=dict(sharpness=0.2)),
      'reconstructions are blurred (sharpness 20%',
    ),
    ({}, {}, dict(settings=dict(n=81)), 'nothing stands out; 81 images are few to judge by'),
  ],
)
def test_the_verdict(samples, ratio, more, words):
  given = dict(settings=dict(n=1000), real=dict(recall=0.7, frechet_distance=3.0), ratio=ratio)
  assert words in evaluate.verdict(given | dict(samples=SAMPLES | samples) | more)


def test_too_few_images_are_told():
  few, enough = (data.Dataset('few', np.zeros((n, 4, 4, 1), np.uint8)) for n in (5, 6))
  evaluate.check_count(enough, enough)
  with pytest.raises(ValueError, match='few has 5 images, and distances need 6'):
    evaluate.check_count(few, enough)


def test_a_study_names_what_it_does_not_have():
  with pytest.raises(
    ValueError, match='--data=digit: no such config; .*celeba64.*did you mean digits'
  ):
    study.config_of('digit', 'vae', 0, {})
  config = study.config_of('digits', 'vae', 3, {'network.width': '0.5', 'steps': 7, 'ema_decay': 0})
  assert (config.seed, config.network.width, config.steps, config.ema_decay) == (3, 0.5, 7, 0.0)
  for own, first_steps in (({}, 20), ({'first.steps': 5}, 5)):
    config = study.config_of('digits', 'vae_dis', 0, {'steps': 40, **own})
    assert config.first.steps == first_steps


@pytest.mark.parametrize(
  'setting, words',
  [
    (('network.widht', '1'), 'did you mean network.width'),
    (('steps', '1.5'), '--set=steps=1.5: give a whole number'),
    (('steps', 'many'), 'give a whole number'),
    (('data.flip', '3'), 'give True or False'),
    (('data.attributes', 'Male'), 'give a list'),
    (('ema_decay', 'nan'), 'give a finite number'),
  ],
)
def test_settings_that_do_not_fit_are_named(setting, words):
  config = digits_config.get_config('vae')
  with pytest.raises(ValueError, match=words):
    settings.with_settings(config, dict([setting]))


def test_the_table_gives_mean_and_deviation_over_seeds():
  results = dict(
    a=[dict(samples=dict(top1=0.25)), dict(samples=dict(top1=0.75))], b=[dict(samples={})]
  )
  lines = list(study.table(results, [('top-1', 'samples', 'top1', '.0%')]))
  assert lines[2:] == ['| a | 50% ± 35% |', '| b |  |']
  results['a'][0]['samples']['top1'] = None  # NaN, as figures.json has it
  lines = list(study.table(results, [('top-1', 'samples', 'top1', '.0%')]))
  assert lines[2:] == ['| a |  |', '| b |  |']


def test_a_study_resumes_where_it_stopped(tmp_path):
  settings = {
    'steps': 2,
    'batch_size': 16,
    'network.width': 0.0625,
    'network.latent_size': 4,
    'sample_every_steps': 2,
    'save_every_steps': 2,
  }
  said = []

  def call():
    plain = dict(plain=('cvae', settings))
    return study.figures('digits', plain, [0], tmp_path, n=100, judge_steps=2, say=said.append)

  first = call()
  assert any('done: 2 steps' in line for line in said)
  said.clear()
  assert call() == first and not any('done' in line for line in said)
  study.write(tmp_path, first, [('top-1', 'samples', 'top1', '.1%')], say=said.append)
  study.picture(tmp_path, ['plain'], rows=1)
  with Image.open(tmp_path / 'samples.png') as picture:
    width, height = picture.size
    # Ten classes of 16x16, enlarged four times, with the name of the row on the left.
    assert height == 68 and 10 * 66 + 2 + 20 < width < 10 * 66 + 2 + 60
  assert (tmp_path / 'table.md').read_text().count('\n') == 3
  with pytest.raises(ValueError, match='another config.*\n.*batch_size: 8 now, 16 then'):
    study.figures('digits', dict(plain=('cvae', {**settings, 'batch_size': 8})), [0], tmp_path)
  with pytest.raises(
    ValueError, match='a run at step 2, without a checkpoint of step 1: use --set'
  ):
    study.figures('digits', dict(plain=('cvae', {**settings, 'steps': 1})), [0], tmp_path)
  with pytest.raises(ValueError, match=r'--config.batch_size=0.* \(row second\)'):
    rows = dict(plain=('cvae', settings), second=('cgan', {**settings, 'batch_size': 0}))
    study.figures('digits', rows, [0], tmp_path / 'none')
  assert not (tmp_path / 'none').exists()
  figures = tmp_path / 'plain' / 'seed_0' / 'figures.json'
  figures.write_text('{"asked": {"ste')
  with pytest.raises(ValueError, match='figures.json is damaged: delete it'):
    call()


def test_what_set_says_overrides_the_rows_of_a_study(monkeypatch):
  rows = dict(a=('cvae', {'batch_size': 8, 'network.width': 0.25}), b=('cgan', {}))
  monkeypatch.setattr(study, 'FLAGS', types.SimpleNamespace(fast=True, set=['batch_size=32']))
  found = study.rows_of_flags(rows, {'steps': 5, 'network.width': 1.0}, dict(cgan={'steps': 9}))
  with pytest.raises(ValueError, match='leave out --fast'):
    study.recommended(rows)
  assert found == dict(
    a=('cvae', {'steps': 5, 'network.width': 0.25, 'batch_size': '32'}),
    b=('cgan', {'steps': 9, 'network.width': 1.0, 'batch_size': '32'}),
  )
  for pair, words in (('seed=7', 'use --seeds'), ('method=vae', 'one weight'), ('steps', 'field=')):
    monkeypatch.setattr(study, 'FLAGS', types.SimpleNamespace(fast=False, set=[pair]))
    with pytest.raises(ValueError, match=f'--set={pair}: .*{words}'):
      study.settings_of_flags()


def test_a_class_of_one_held_out_image_is_left_out_of_the_diversity():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (5, 4, 4, 1), np.uint8)
  labels = np.array([0, 0, 1, 2, 2])
  judges = types.SimpleNamespace(
    features=types.SimpleNamespace(features=lambda x: x.reshape(len(x), -1).astype(np.float32))
  )
  compared = types.SimpleNamespace(samples=images, labels=labels, reference=images)
  figures = evaluate.diversity_ratios(judges, compared, 3)
  assert set(figures.values()) == {1.0} and len(figures) == 4
  compared = types.SimpleNamespace(samples=images[:3], labels=np.arange(3), reference=images[:3])
  assert evaluate.diversity_ratios(judges, compared, 3) == {}
