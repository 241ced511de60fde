"""The state of a run in words, by a table of made-up histories."""

import math

import pytest

from vaegan_jax import health, rules, settings, trends
from vaegan_jax.configs import digits

LOG2 = math.log(2)


def config(method, **changes):
  return settings.to_dict(settings.with_settings(digits.get_config(method), changes))


def history(steps=600, every=5, **terms):
  """Logged terms: numbers, or functions of the step."""
  return [
    dict(step=s, **{k: v(s) if callable(v) else v for k, v in terms.items()})
    for s in range(every, steps + 1, every)
  ]


def game(**changes):
  """Terms of a VAE/GAN in balance."""
  return dict(kl=20.0, feature_d=400.0, real=0.6, fake_recon=0.7, fake_prior=0.6) | changes


def pairs(fake, **more):
  """Terms of a relativistic game: `fake` is the loss of reconstructions and of samples."""
  return dict(fake_recon=fake, fake_prior=fake, **more)


def matching(**changes):
  """Terms of a CVAE-GAN that trains."""
  own = dict(kl=7.0, pixel=lambda s: 90 * 0.995**s, match_d=lambda s: 90 * 0.995**s, match_c=50.0)
  return dict(own, real=0.1, fake_recon=0.1, fake_prior=0.005) | changes


def diverse(every, least=None):
  """Signals of the diversity of samples, in the discriminator's features."""
  least = every if least is None else least
  return dict(diversity_features=every, diversity_least=least, diversity_class=3.0)


def unweighed(**changes):
  """Terms of a CVAE-GAN whose KL has no weight."""
  return {k: v for k, v in matching(**changes).items() if k != 'kl'}


WON = dict(real=0.003, fake_recon=0.01, fake_prior=0.01)
DEAD = dict(real=0.001, fake_recon=0.001, fake_prior=0.001)
KIND = lambda name: dict(adversarial=name)
TABLE = [
  ('vae_gan', {}, game(), 'good', 'balanced (fake 0.65, chance 0.69)'),
  ('vae_gan', {}, game(**WON), 'bad', 'the discriminator has won: fake 0.01 for 595 steps'),
  ('vae_gan', {}, game(**WON), 'bad', 'config.gate.on=True'),
  ('vae_gan', {'gate.on': True}, game(**WON), 'bad', 'optimizer.factor.discriminator=0.3'),
  ('vae_gan', {}, game(fake_recon=0.05, fake_prior=0.05), 'watch', 'the discriminator leads'),
  ('vae_gan', {}, game(real=2.0, fake_recon=2.0, fake_prior=2.0), 'bad', 'the generator has won'),
  # Rates ten times too high: no log alone says that one side has won.
  (
    'vae_gan_relativistic',
    {'optimizer.learning_rate': 1e-2},
    pairs(lambda s: 0.1 if s % 3 else 9.0),
    'bad',
    'out of bounds (fake 3.7 on average, chance 0.69): try --config.optimizer.learning_rate=0.002',
  ),
  (
    'vae_gan_relativistic',
    {'optimizer.factor.discriminator': 10.0},
    pairs(lambda s: 0.1 if s % 3 else 9.0),
    'bad',
    'try --config.optimizer.factor.discriminator=1 in',
  ),
  (
    'vae_gan_relativistic',
    {},
    pairs(lambda s: 0.1 if s % 3 else 1.5),
    'good',
    'the generator is ahead at this log (fake 1.5, chance 0.69)',
  ),
  # A discriminator ten times too fast: blots, which are near to photographs in pixels.
  (
    'vae_gan_relativistic',
    {'optimizer.factor.discriminator': 10.0},
    pairs(lambda s: 0.3 if s % 3 else 3.0, sample_distance=0.1),
    'bad',
    'out of bounds (fake 1.4 on average',
  ),
  # What the batches hide, the pairs of held-out images and samples show: once and far above chance,
  # or twice.
  (
    'vae_gan_relativistic',
    {'optimizer.factor.discriminator': 10.0},
    pairs(0.3, sample_distance=0.1, pair_loss=lambda s: 1.7 if s == 580 else 0.4),
    'bad',
    'out of bounds (1.7 on images held out, chance 0.69): try --config.optimizer.factor.disc',
  ),
  (
    'vae_gan_relativistic',
    {},
    pairs(0.3, sample_distance=0.1, pair_loss=lambda s: 1.3 if s > 560 else 0.6),
    'bad',
    'out of bounds (1.3 on images held out, chance 0.69): try --config.optimizer.learning_rate',
  ),
  (  # as at step 13,700 of a healthy run
    'vae_gan_relativistic',
    {},
    pairs(0.3, sample_distance=0.1, pair_loss=lambda s: 1.27 if s == 580 else 0.53),
    'good',
    'balanced',
  ),
  (  # as at step 900 of a healthy run on few images
    'vae_gan_relativistic',
    {},
    pairs(0.3, sample_distance=0.1, pair_loss=lambda s: 1.29 if s == 580 else 0.16),
    'good',
    'balanced',
  ),
  (
    'vae_gan_relativistic',
    {},
    pairs(0.3, sample_distance=0.1, pair_loss=lambda s: 5.0 if s == 500 else 0.9),
    'good',
    'balanced',
  ),
  # Non-saturating: the generator learns although the fakes are known, if real ones are not.
  ('vae_gan_nonsaturating', {}, game(**WON), 'bad', 'has won'),
  ('vae_gan_nonsaturating', {}, game(**WON | dict(real=0.5)), 'watch', 'no sign yet'),
  ('vae_gan_nonsaturating', KIND('hinge'), game(real=0.8, fake_recon=1.0), 'good', 'chance 1)'),
  ('vae_gan_nonsaturating', KIND('hinge'), game(**WON), 'bad', 'has won'),
  (
    'vae_gan_nonsaturating',
    KIND('least_squares'),
    game(real=0.1, fake_recon=0.1, fake_prior=0.1),
    'good',
    'balanced (fake 0.1, chance 0.12)',
  ),
  ('vae_gan_nonsaturating', KIND('least_squares'), game(**DEAD), 'bad', 'has won'),
  (
    'vae_gan_nonsaturating',
    KIND('wasserstein'),
    game(real=-3.0, fake_recon=2.0, fake_prior=2.0),
    'good',
    'gap of the critic is 1',
  ),
  (
    'vae_gan_nonsaturating',
    KIND('wasserstein'),
    game(real=lambda s: -(1.05**s), fake_recon=-1.0, fake_prior=-1.0),
    'bad',
    'grows without bound',
  ),
  ('vae_gan_nonsaturating', KIND('wasserstein'), game(real=3.0), 'bad', 'prefers fakes'),
  ('vae_gan_relativistic', {}, game(real=0.0, **pairs(LOG2)), 'good', 'balanced'),
  ('vae_gan_relativistic', {}, game(real=0.0, **pairs(0.001)), 'bad', 'discriminator.r1=10'),
  ('vae_gan_relativistic', {}, game(real=0.0, **pairs(2.0)), 'bad', 'the generator has won'),
  # Feature matching: a discriminator that leads is no sign by itself, one far ahead for long is.
  ('cvae_gan', {}, matching(), 'good', 'matching features (fake 0.053; low is no fault here)'),
  (
    'cvae_gan',
    {},
    matching(fake_recon=lambda s: 0.1 if s < 400 else 2e-4, fake_prior=2e-4),
    'watch',
    'for 200 steps',
  ),
  ('cvae_gan', {}, matching(fake_recon=2e-4, fake_prior=2e-4), 'watch', 'generator.match_d'),
  (
    'cvae_gan',
    {},
    matching(fake_recon=2e-4, fake_prior=2e-4, sample_distance=0.6),
    'bad',
    'generator.match_d',
  ),
  ('cvae_gan', {}, matching(match_d=lambda s: 5 + s), 'watch', 'the generator falls behind'),
  ('cvae_gan', {}, matching(pixel=lambda s: 9 + abs(s - 300)), 'bad', 'reconstructions get worse'),
  ('fm_cgan', {}, dict(match_d=9.0, match_c=9.0, real=0.1, fake_prior=0.1), 'good', 'holds its'),
  ('vae', {}, dict(kl=9.0, pixel=lambda s: 90 * 0.99**s), 'good', 'pixel falls'),
  ('vae', {}, dict(kl=0.001, pixel=30.0), 'bad', 'the latents carry nothing'),
  ('vae', {}, dict(kl=1e7, pixel=30.0), 'bad', 'the latents left the prior'),
  ('vae', {}, dict(kl=9.0, pixel=lambda s: math.nan if s > 500 else 30.0), 'bad', 'for 95 steps'),
  # Collapse shows in no loss.
  ('cvae_gan', {}, matching(diversity=lambda s: 0.4 if s < 300 else 0.03), 'bad', 'collapsed'),
  ('cvae_gan', {}, matching(diversity=0.14), 'watch', 'samples look alike'),
  ('cvae_gan', {}, matching(**diverse(lambda s: 0.5 if s < 300 else 0.06)), 'bad', 'vary 6% as'),
  (
    'cvae_gan',
    {},
    matching(**diverse(0.5, lambda s: 0.04 if s > 300 else 0.4)),
    'bad',
    'class 3 vary 4%',
  ),
  ('cvae_gan', {}, matching(**diverse(0.5, lambda s: 0.04 if s > 595 else 0.4)), 'good', 'match'),
  ('cvae_gan', {}, matching(**diverse(0.06)), 'watch', 'look alike: they vary 6%'),
  ('cvae_gan', {}, matching(active_units=0.05), 'watch', '5% of the latents carry something'),
  ('cvae_gan', {'method.encoder.kl': 0.0}, unweighed(posterior_kl=1e6), 'bad', 'left the prior'),
  ('cvae_gan', {}, matching(prior_gap=0.9, sample_distance=0.3), 'bad', 'left the prior'),
  ('cvae_gan', {}, matching(prior_gap=3.0, sample_distance=0.02), 'good', 'matching'),
  # Near the images, and still one picture per class; far from them it may be the beginning.
  ('cvae_gan', {}, matching(**diverse(0.06), sample_distance=0.1), 'bad', 'vary 6% as'),
  ('cvae_gan', {'method.encoder.kl': 0.0}, unweighed(posterior_kl=60.0), 'watch', 'nothing holds'),
  ('cvae_gan', {}, matching(kl=60.0), 'good', 'matching'),
  # Samples that are like the images tell more than a game that looks lost.
  ('vae_gan', {}, game(sample_distance=0.6), 'bad', 'samples are unlike the images (distance 0.6'),
  ('vae_gan', {}, game(sample_distance=lambda s: 1 - s / 800), 'good', 'balanced'),
  (
    'vae_gan',
    {},
    game(sample_distance=lambda s: 0.1 if s < 400 else 0.9),
    'bad',
    'distance 0.9; it was 0.1',
  ),
  ('vae_gan', {}, game(**WON, sample_distance=0.1), 'watch', 'samples are still like the images'),
  ('vae_gan', {}, game(**WON, sample_distance=0.6), 'bad', 'the discriminator has won'),
  ('cvae_gan', {}, matching(diversity=0.35), 'good', 'matching'),
  # A hinge whose margins are all met has no gradient for a moment.
  ('vae_gan', {}, game(gradient_discriminator=lambda s: 5.0 * (s < 600)), 'good', 'balanced'),
  (
    'vae_gan',
    {},
    game(gradient_discriminator=lambda s: 900.0 if s == 600 else 5 + s % 3),
    'watch',
    "a spike of the discriminator's gradient (900",
  ),
]


@pytest.mark.parametrize('method,changes,terms,level,words', TABLE)
def test_state(method, changes, terms, level, words):
  state = health.state(history(**terms), config(method, **changes))
  assert state.level == level and words in state.words, state


def test_early_swings_are_not_judged():
  """By step 20 a discriminator may have won, and often has lost again by step 100."""
  state = health.state(history(steps=60, **game(**WON)), config('vae_gan'))
  assert state[:2] == ('early', 'too early to judge: that takes 100 steps')
  assert health.state([], config('vae_gan')).level == 'early'
  assert health.state(history(steps=20, kl=math.nan), config('vae')).level == 'bad'


def test_one_watch_that_saw_samples_near_the_images_is_enough():
  rows = history(**game(**WON))
  rows[-1]['sample_distance'] = 0.05
  assert 'samples are still like the images' in health.state(rows, config('vae_gan')).words


@pytest.mark.parametrize('steps', [900, 3000])
def test_a_network_that_gets_no_gradient(steps):
  """It is told after 500 steps, for as long as it lasts, whatever another network does."""
  dead = dict(gradient_generator=lambda s: 5.0 if s < 400 else 0.04)
  jump = dict(gradient_encoder=lambda s: 900.0 if s == steps else 5 + s % 3)
  state = health.state(history(steps, **game(**dead, **jump)), config('vae_gan'))
  told = 'the generator gets no gradient any more (0.04; it was 5)'
  assert state == ('bad', told, 'gradients')
  state = health.state(history(895, **game(**dead)), config('vae_gan'))
  assert state.level == 'good', state
  learnt = matching(gradient_classifier=dead['gradient_generator'])
  assert health.state(history(steps, **learnt), config('cvae_gan')).level == 'good'
  never = game(gradient_generator=0.0)
  assert 'gets no gradient' in health.state(history(steps, **never), config('vae_gan')).words


def test_what_is_remembered_for_ever():
  """After KEPT logs, too, a run is known to have been near, and its samples to have varied."""
  once = lambda far, near: lambda s: near if 300 <= s < 400 else far
  rows = history(6000, **matching(sample_distance=once(0.6, 0.1), **diverse(once(0.2, 0.5))))
  kept = []
  for row in rows:
    kept = rules.lately([*kept, row])
  assert kept == rules.lately(rows) and kept[1:] == rows[-rules.KEPT :]
  assert kept[0]['step'] == 300


def test_each_phase_is_judged_by_its_own_table():
  own = config('vae_dis', steps=600)
  first, second = own['first']['steps'], dict(kl=5.0, feature_d=9.0)
  assert 'has won' in health.state(history(steps=first, real=0.001, fake_prior=1e-9), own).words
  both = history(steps=first, real=0.001, fake_prior=1e-9) + history(**second)[first // 5 :]
  assert 'feature_d holds its level' in health.state(both, own).words


def test_trends():
  for change, arrow in ((1.01, '↗'), (0.99, '↘'), (1.0, '→')):
    assert trends.trend(history(x=lambda s, k=change: k**s), 'x') == arrow
  assert trends.trend(history(steps=15, x=1.0), 'x') == ''
