"""LeCam and the augmentation of what the discriminator sees: closed forms, and steps with both."""

import functools

import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import optax
import pytest

from tests import tiny
from vaegan_jax import checks, critic_aids, methods, optim, parallel
from vaegan_jax.configs import digits
from vaegan_jax.critic_aids import DRAWS, CriticAugment, augmented
from vaegan_jax.model import ADVERSARIAL, judge, losses_of
from vaegan_jax.routing import Inputs, gradients
from vaegan_jax.step import as_condition, draw, init_state, train_step

ADAPTIVE = CriticAugment(0.5, adaptive=True, images=128.0)


def with_lecam(table, weight=0.3):
  return {**table, 'discriminator': dict(table['discriminator'], lecam=weight)}


TABLE = with_lecam(methods.VAE_GAN)


def averages(**values):
  kept = dict(lecam_real=1.0, lecam_fake=-2.0, lecam_steps=3.0, augment_strength=0.5)
  return {k: jnp.float32(v) for k, v in {**kept, **values}.items()}


# --- LeCam


def test_lecam_is_that_of_numpy_for_groups_of_any_size(key):
  real, recon, prior = (2 * np.asarray(jax.random.normal(key, (n,))) for n in (6, 3, 5))
  fake = [np.square(np.maximum(0, 1.0 - f)).mean() for f in (recon, prior)]
  expected = np.square(np.maximum(0, real + 2.0)).mean() + np.mean(fake)
  got = critic_aids.lecam(averages(), jnp.asarray(real), [jnp.asarray(recon), jnp.asarray(prior)])
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_lecam_is_zero_before_there_are_averages():
  loss = lambda logits: critic_aids.lecam(averages(lecam_steps=0.0), logits, [logits])
  value, gradient = jax.value_and_grad(loss)(jnp.array([-3.0, 3.0]))
  assert value == 0 and not gradient.any()


def test_averages_are_plain_means_first_and_then_move_by_the_decay():
  rng, decay = np.random.default_rng(0), 0.75
  real, recon, prior = rng.normal(size=(3, 9)).astype(np.float32)
  state, expected = averages(lecam_real=0.0, lecam_fake=0.0, lecam_steps=0.0), (0.0, 0.0)
  for i in range(9):
    terms = dict(lecam=0.0, logit_r=real[i], logit_f=recon[i], logit_p=prior[i])
    changed, told = critic_aids.moved(state, terms, 'fp', decay, None, 4)
    state, now = {**state, **changed}, (real[i], (recon[i] + prior[i]) / 2)
    keep = min(decay, i / (i + 1))
    expected = [keep * old + (1 - keep) * new for old, new in zip(expected, now)]
    assert not told
    if i < 4:
      np.testing.assert_allclose(state['lecam_real'], real[: i + 1].mean(), rtol=1e-5)
  np.testing.assert_allclose([state['lecam_real'], state['lecam_fake']], expected, rtol=1e-5)
  assert state['lecam_steps'] == 9


def test_a_phase_without_the_game_leaves_what_is_kept():
  assert critic_aids.moved(averages(), dict(feature_d=1.0), '', 0.9, ADAPTIVE, 4) == ({}, {})


# --- The strength


def test_strength_moves_by_a_fixed_step_towards_the_target():
  augment = CriticAugment(adaptive=True, target=0.6, images=1000.0)
  move = lambda p, sign: float(critic_aids.moved_strength(augment, p, jnp.float32(sign), 50))
  np.testing.assert_allclose(
    [move(0.3, 0.61), move(0.3, 1.0), move(0.3, 0.59), move(0.3, -1.0)], [0.35, 0.35, 0.25, 0.25]
  )
  np.testing.assert_allclose(move(0.3, 0.6), 0.3, rtol=1e-6)
  np.testing.assert_allclose([move(0.79, 1.0), move(0.02, 0.0)], [0.8, 0.0], rtol=1e-6)


def test_the_sign_is_that_against_the_mean_fake_or_against_the_own_fake():
  real, fake = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0.0, 5.0, 2.0, 3.0])  # mean 2.5
  assert critic_aids.sign_real(real, [fake], False, None) == 0
  assert critic_aids.sign_real(real, [fake], True, None) == 0.5
  assert critic_aids.sign_real(real, [fake, fake - 9], True, None) == 0.75
  assert critic_aids.sign_real(real - 7, [fake - 7], True, None) == 0.5


# --- The augmentation


def acting(*names, count=3, amounts=0.5):
  """Draws [count, DRAWS]: the transformations `names` act alone, all amounts equal, in [-1, 1]."""
  order = ('mirror', 'brightness', 'saturation', 'contrast', 'translation', 'cutout')
  gates = [0.0 if name in names else 0.999 for name in order]
  return jnp.tile(jnp.array([*gates, *[(amounts + 1) / 2] * 7]), (count, 1))


@pytest.fixture
def x(key):
  return jax.random.uniform(key, (3, 16, 8, 3), minval=-1)


def test_each_transformation_is_that_of_numpy(x):
  a, run = np.asarray(x), jax.jit(augmented)
  at = lambda *names, **other: run(x, acting(*names, **other), 0.9)
  np.testing.assert_array_equal(at(), a)
  np.testing.assert_array_equal(at('mirror'), a[:, :, ::-1])
  np.testing.assert_allclose(at('brightness'), a + 0.25, atol=1e-6)
  grey = a.mean(3, keepdims=True)
  np.testing.assert_allclose(at('saturation'), grey + 1.5 * (a - grey), atol=1e-6)
  mean = a.mean((1, 2, 3), keepdims=True)
  np.testing.assert_allclose(at('contrast'), mean + 1.25 * (a - mean), atol=1e-6)
  moved = np.zeros_like(a)
  moved[:, 2:, 1:] = a[:, :-2, :-1]
  np.testing.assert_array_equal(at('translation', amounts=0.99), moved)
  cut = a.copy()
  cut[:, 4:12, 2:6] = 0
  np.testing.assert_array_equal(at('cutout', amounts=0.0), cut)


def test_strength_is_how_often_a_transformation_acts(key):
  draws = jax.random.uniform(key, (4000, DRAWS))
  x = jnp.broadcast_to(jnp.linspace(-1, 1, 16)[None, None, :, None], (4000, 2, 16, 1))
  run = jax.jit(augmented)
  np.testing.assert_array_equal(run(x, draws, 0.0), x)
  same = lambda strength: np.asarray(run(x, draws, strength) == x).all((1, 2, 3)).mean()
  # Saturation does nothing to grey. A shift is up to 2 pixels to either side, and a quarter of them
  # rounds to 0. Mirror acts half as often.
  kept = lambda p: (1 - p / 2) * (1 - p) * (1 - p) * (1 - 0.75 * p) * (1 - p)
  for strength in (0.1, 0.3):
    np.testing.assert_allclose(same(strength), kept(strength), atol=0.03)
  assert same(1.0) == 0


def test_gradient_is_that_of_differences(x, key):
  draws = jax.random.uniform(key, (3, DRAWS))
  check_grads(lambda x: augmented(x, draws, 1.0), (x,), 1, ['rev'], atol=1e-2, rtol=1e-2)


def test_images_of_one_place_share_their_draws(x, key):
  aids = dict(averages(), draws=jax.random.uniform(key, (3, DRAWS)))
  images = dict(r=(x, 'c'), f=(x, 'c'), p=(x[::-1], 'c_p'))
  shown = critic_aids.shown(CriticAugment(1.0), images, aids)
  np.testing.assert_array_equal(shown['r'][0], shown['f'][0])
  assert (shown['r'][0] != x).any((1, 2, 3)).all() and shown['p'][1] == 'c_p'
  one = jnp.broadcast_to(x[:1], x.shape)
  a, b, c = critic_aids.shown(CriticAugment(1.0), dict(r=(one, None)), aids)['r'][0]
  assert (a != b).any() and (b != c).any()


def test_draws_for_the_critic_change_no_others(key):
  batch = tiny.batch(True)
  c = as_condition(batch['c'], tiny.K)
  x, noise = draw(tiny.draws(True), key, batch['x'], c)
  other_x, other = draw(tiny.draws(True)._replace(for_critic=True), key, batch['x'], c)
  assert other.pop('critic').shape == (16, DRAWS)
  jax.tree.map(np.testing.assert_array_equal, (x, noise), (other_x, other))


# --- The step


def judged(table, images, **choices):
  """Terms and notes of fakes {'f': ..., 'p': ...} that are real images."""
  model = tiny.model(table, joint_critics=False, **choices)
  state = tiny.state(model, table, False)
  aids = dict(averages(), draws=jax.random.uniform(jax.random.key(5), (16, DRAWS)))
  fakes = dict(f=images, p=images[::-1])
  run = jax.jit(lambda s: judge(model, s.params, s.stats, {}, images, None, None, fakes, aids))
  return run(state)


def test_a_perfect_reconstruction_has_no_feature_loss_under_augmentation():
  images = tiny.batch(False)['x']
  terms, (*_, notes) = judged(methods.VAE_GAN, images, critic_augment=CriticAugment(1.0))
  plain, (*_, plain_notes) = judged(methods.VAE_GAN, images)
  np.testing.assert_array_equal(terms['feature_d'], 0.0)
  assert notes['logit_r'] != plain_notes['logit_r'] and (terms['real'] != plain['real']).any()
  assert notes.keys() == {'logit_r', 'logit_f', 'logit_p'}


def test_lecam_goes_to_the_discriminator_alone():
  model = tiny.model(TABLE)
  state = tiny.state(model, TABLE, False).replace(averages=averages())
  x, noise = draw(tiny.draws(False), jax.random.key(1), tiny.batch(False)['x'], None)
  run = lambda table: gradients(tiny.model(table), table, state, Inputs(x, None, noise))
  plain, with_it, double = jax.jit(
    lambda: [*map(run, (methods.VAE_GAN, TABLE, with_lecam(TABLE, 0.6)))]
  )()
  for maker in ('encoder', 'generator'):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
      plain.grads[maker],
      with_it.grads[maker],
    )
  added, twice = (
    optax.tree.sub(g.grads['discriminator'], plain.grads['discriminator'])
    for g in (with_it, double)
  )
  assert optax.tree.norm(added) > 1e-3
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-3, atol=1e-5), added, twice
  )


@pytest.mark.parametrize('kind', ADVERSARIAL)
@pytest.mark.parametrize('name', ['vae_gan', 'vae_gan_relativistic', 'cgan'])
def test_every_game_takes_both_aids(kind, name):
  table, conditional = with_lecam(methods.METHODS[name]), name in methods.CONDITIONAL
  model = tiny.model(table, adversarial=ADVERSARIAL[kind], critic_augment=ADAPTIVE)
  optimizers = {n: optax.sgd(0.1) for n in table}
  step = train_step(model, table, optimizers, tiny.draws(conditional)._replace(for_critic=True))
  shapes = functools.partial(
    jax.eval_shape,
    lambda: (tiny.state(model, table, conditional), tiny.batch(conditional), jax.random.key(0)),
  )
  before, *rest = shapes()
  after, terms = jax.eval_shape(step, before, *rest)
  assert {'lecam', 'sign_real', 'augment_strength'} <= terms.keys()
  assert after.averages.keys() == averages().keys()
  assert jax.tree.map(lambda a: a.shape, after) == jax.tree.map(lambda a: a.shape, before)


def steps(mode='mesh', devices=1, table=TABLE, count=3, **options):
  """Terms and state after `count` steps with both aids."""
  axis_name = parallel.AXIS if mode == 'pmap' else None
  adversarial = ADVERSARIAL[options.pop('adversarial', 'bce')]
  model = tiny.model(table, axis_name=axis_name, critic_augment=ADAPTIVE, adversarial=adversarial)
  # Adam would make whole steps of rounding where a gradient is 0, as of a relativistic bias.
  transformations = {n: optim.optimizer('sgd', 1e-1) for n in table}
  state = tiny.state(model, table, False, transformations['generator'])
  draws = tiny.draws(False)._replace(for_critic=True)
  on = parallel.PARALLEL[mode](
    train_step(model, table, transformations, draws, **options), jax.devices()[:devices]
  )
  state = on.put_state(jax.device_put(jax.device_get(state), on.at_rest))
  for i in range(count):
    host = {k: np.asarray(v) for k, v in tiny.batch(False, 16, seed=i).items()}
    state, terms = on.step(state, on.put_batch(host), jax.random.key(7))
  return on.take_terms(terms), jax.device_get(on.take_state(state))


def close(one, two):
  for k, v in one[0].items():
    np.testing.assert_allclose(two[0][k], v, rtol=1e-4, atol=1e-5, err_msg=k)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-5), one[1], two[1])


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same_numbers():
  terms, state = steps()
  assert terms['lecam'] > 0 and state.averages['lecam_steps'] == 3
  assert abs(state.averages['augment_strength'] - 0.5) in (0.125, 0.375)
  for mode in ('mesh', 'pmap'):
    close((terms, state), steps(mode, 8))


@pytest.mark.slow
def test_parts_of_a_batch_keep_the_averages_of_the_batch(monkeypatch):
  """For a relativistic critic without batch norm; others compare with the mean of their part."""
  monkeypatch.setattr(tiny.nn.BatchNorm, '__call__', lambda self, h: h)
  run = functools.partial(steps, table=with_lecam(methods.VAE_GAN_NONSATURATING), count=2)
  close(run(adversarial='relativistic'), run(adversarial='relativistic', accumulate=2))


def test_the_state_has_only_what_is_on():
  x = jnp.zeros((2, 4, 4, 1))
  keys = lambda table, **choices: jax.eval_shape(
    lambda: init_state(tiny.model(table, **choices), {}, jax.random.key(0), x, None, tiny.Z)
  ).averages.keys()
  assert not keys(methods.VAE_GAN)
  assert not keys(methods.VAE_GAN, critic_augment=CriticAugment(0.5))
  assert keys(methods.VAE_GAN, critic_augment=ADAPTIVE) == {'augment_strength'}
  assert keys(TABLE) == {'lecam_real', 'lecam_fake', 'lecam_steps'}


# --- Configs


def test_no_preset_uses_them():
  assert all('lecam' not in losses_of(table) for table in methods.METHODS.values())
  config = digits.get_config('vae_gan_relativistic')
  assert config.critic_augment.mode == 'off'


@pytest.mark.parametrize(
  'method,row,changes,words',
  [
    ('vae_gan', 'generator', {}, r'generator.lecam: move lecam to the discriminator.s row'),
    ('vae_dis', 'encoder', {}, r'encoder.lecam: move lecam to the discriminator.s row'),
    (
      'vae_gan',
      'discriminator',
      {'fake_recon': 0.0, 'fake_prior': 0.0},
      'has lecam, which compare',
    ),
  ],
)
def test_lecam_where_it_cannot_work_is_refused(method, row, changes, words):
  config = digits.get_config(method).unlock()
  config.method[row].update({'lecam': 0.1, **changes})
  with pytest.raises(ValueError, match=words):
    checks.check(config)


@pytest.mark.parametrize(
  'method,settings,words',
  [
    ('vae', dict(mode='adaptive'), 'critic_augment.mode=adaptive needs fake_recon or fake_prior'),
    ('vae_gan', dict(strength=0.5), 'strength=0.5 does nothing with mode=off'),
    ('vae_gan', dict(mode='fixed'), 'does nothing at --config.critic_augment.strength=0'),
    ('vae_gan', dict(mode='fixed', strength=1.5), 'critic_augment.strength=1.5: use at least 0'),
    ('vae_gan', dict(mode='adaptive', strength=0.9), 'with mode=adaptive use at most 0.8'),
    ('vae_gan', dict(mode='on'), 'use one of off, fixed, adaptive'),
  ],
)
def test_an_augmentation_that_cannot_act_is_refused(method, settings, words):
  config = digits.get_config(method).unlock()
  config.critic_augment.update(settings)
  with pytest.raises(ValueError, match=words):
    checks.check(config)


def test_vae_dis_takes_them_in_its_first_phase():
  config = digits.get_config('vae_dis').unlock()
  config.first.method.discriminator.lecam = 0.1
  config.critic_augment.mode = 'adaptive'
  checks.check(config)
