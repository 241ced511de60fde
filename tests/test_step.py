"""The train step: who gets which gradient, from one forward pass, on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from vaegan_jax import methods, optim, parallel, routing
from vaegan_jax.model import SEES, judge, losses_of, make
from vaegan_jax.routing import Inputs, column_groups, gradients
from vaegan_jax.step import (
  as_condition,
  as_float,
  draw,
  finite,
  global_norm,
  shuffled,
  train_step,
  uniform_classes,
)

QUICK = ('vae_gan', 'cvae_gan')  # the methods of `make quick`
EIGHT = ('vae', 'gan', 'vae_dis', 'vae_gan', 'cvae', 'cgan', 'fm_cgan', 'cvae_gan')


def case(name, **choices):
  """table, conditional, model, state of a method of tiny networks."""
  table, conditional = methods.METHODS[name], name in methods.CONDITIONAL
  model = tiny.model(table, **choices)
  return table, conditional, model, tiny.state(model, table, conditional)


def inputs(conditional, count=16, seed=1):
  """x, one-hot c, noise."""
  batch = tiny.batch(conditional, count, seed)
  c = as_condition(batch.get('c'), tiny.K)
  x, noise = draw(tiny.draws(conditional), jax.random.key(seed), batch['x'], c)
  return x, c, noise


def row_loss(model, row, params, state, x, c, noise):
  """One network's row as a scalar, by a plain forward pass."""
  fakes, terms, _ = make(model, params, state.stats, x, c, noise)
  critic_terms, _ = judge(model, params, state.stats, state.centres, x, c, noise['c_p'], fakes)
  return sum(weight * {**terms, **critic_terms}[loss].mean() for loss, weight in row.items())


def compiled_gradients(model, table, state, x, c, noise):
  return jax.jit(functools.partial(gradients, model, table))(state, Inputs(x, c, noise))


def norm(tree):
  return float(optax.tree.norm(tree))


@pytest.mark.parametrize(
  'name,joint',
  [
    *(pytest.param(n, True, marks=() if n in QUICK else pytest.mark.slow) for n in methods.METHODS),
    *(
      pytest.param(n, False, marks=pytest.mark.slow)
      for n in ('vae_gan', 'vae_gan_released', 'cvae', 'cvae_gan')
    ),
  ],
)
def test_gradients_are_those_of_each_networks_own_row(name, joint):
  table, conditional, model, state = case(name, joint_makers=joint, joint_critics=joint)
  x, c, noise = inputs(conditional)
  grads, *_ = compiled_gradients(model, table, state, x, c, noise)
  assert grads.keys() == table.keys()

  @jax.jit
  def one_by_one(params):
    return {
      network: jax.grad(
        lambda own, n=network, r=row: row_loss(model, r, {**params, n: own}, state, x, c, noise)
      )(params[network])
      for network, row in table.items()
    }

  expected = one_by_one(state.params)
  for network in table:
    size = norm(expected[network])
    assert size > 0
    for got, want in zip(jax.tree.leaves(grads[network]), jax.tree.leaves(expected[network])):
      np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * size)


def three_steps(name, mode, count, **options):
  """Terms and state after three steps on `count` devices, noise and flips included."""
  table, conditional = methods.METHODS[name], name in methods.CONDITIONAL
  model = tiny.model(table, axis_name=parallel.AXIS if mode == 'pmap' else None)
  transformations = {n: optim.optimizer('adam', 1e-2) for n in table}
  state = tiny.state(model, table, conditional, transformations['generator'])
  step = train_step(model, table, transformations, tiny.draws(conditional), **options)
  on = parallel.PARALLEL[mode](step, jax.devices()[:count])
  state = on.put_state(jax.device_put(jax.device_get(state), on.at_rest))
  for i in range(3):
    host = {k: np.asarray(v) for k, v in tiny.batch(conditional, 16, seed=i).items()}
    state, terms = on.step(state, on.put_batch(host), jax.random.key(7))
  return on.take_terms(terms), jax.device_get(on.take_state(state))


@pytest.mark.slow
@pytest.mark.parametrize('name', EIGHT)
def test_any_number_of_devices_gives_the_same_numbers(name):
  """Losses, parameters, statistics, centres: jit over 1, 2, 8 devices, and pmap over 8."""
  terms, state = three_steps(name, 'mesh', 1)
  for mode, count in (('mesh', 2), ('mesh', 8), ('pmap', 8)):
    other_terms, other = three_steps(name, mode, count)
    for k, v in terms.items():
      np.testing.assert_allclose(
        other_terms[k], v, rtol=1e-4, atol=1e-5, err_msg=f'{k} {mode} {count}'
      )
    for got, want in zip(jax.tree.leaves(other), jax.tree.leaves(state)):
      np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5, err_msg=f'{mode} {count}')


def test_the_average_warms_up_from_the_beginning_of_its_phase():
  table = methods.METHODS['vae']
  model = tiny.model(table)
  state = tiny.state(model, table, False).replace(step=jnp.asarray(100))
  step = train_step(
    model, table, dict.fromkeys(table, optax.sgd(0.1)), tiny.draws(False), begin=100
  )
  moved, _ = jax.jit(step)(state, tiny.batch(False), jax.random.key(7))
  before, now = state.params['generator'], moved.params['generator']
  expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before, now)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    moved.ema['generator']['params'],
    expected,
  )


def same(one, two):
  """Asserts that two trees of arrays are equal to rounding (they come from two programs)."""
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), one, two)


def test_empty_cells_do_not_reach_a_network():
  """Pitfalls: L_GAN leaks to the encoder, L_llike to the discriminator, gamma to the encoder."""
  table, _, model, state = case('vae_gan', joint_critics=False, joint_makers=False)
  x, c, noise = inputs(False)
  before, *_ = compiled_gradients(model, table, state, x, c, noise)
  louder = {**table, 'generator': {**table['generator'], 'feature_d': 10.0, 'real': -5.0}}
  after, *_ = compiled_gradients(model, louder, state, x, c, noise)
  for network in ('encoder', 'discriminator'):
    same(before[network], after[network])
  assert norm(jax.tree.map(jnp.subtract, before['generator'], after['generator'])) > 0
  # The head above Dis_l cannot matter to the encoder, nor the prior's noise.
  params = jax.tree.map(lambda a: a, state.params)
  params['discriminator']['out0'] = jax.tree.map(lambda a: a + 1.0, params['discriminator']['out0'])
  moved, *_ = compiled_gradients(
    model, table, state.replace(params=params), x, c, {**noise, 'prior': noise['prior'] + 1.0}
  )
  same(before['encoder'], moved['encoder'])


@pytest.mark.slow
def test_asymmetric_training_ignores_the_critics_outputs():
  """CVAE-GAN's generator sees features only: the last layers of D and C do not reach it."""
  table, _, model, state = case('cvae_gan', joint_critics=False)
  x, c, noise = inputs(True)
  before, *_ = compiled_gradients(model, table, state, x, c, noise)
  params = jax.tree.map(lambda a: a, state.params)
  for critic in ('discriminator', 'classifier'):
    params[critic]['out0'] = jax.tree.map(lambda a: a - 2.0, params[critic]['out0'])
  after, *_ = compiled_gradients(model, table, state.replace(params=params), x, c, noise)
  for network in ('encoder', 'generator'):
    same(before[network], after[network])


@pytest.mark.slow
def test_signs_of_the_adversarial_game():
  """A small step of the discriminator lowers its loss; one of the generator, gamma 0, raises it."""
  table, _, model, state = case('vae_gan')
  table = {**table, 'generator': dict(real=-1.0, fake_recon=-1.0, fake_prior=-1.0)}
  x, c, noise = inputs(False)
  grads, *_ = compiled_gradients(model, table, state, x, c, noise)
  loss = lambda params: row_loss(
    model, methods.VAE_GAN['discriminator'], params, state, x, c, noise
  )
  for network, sign in (('discriminator', -1), ('generator', 1)):
    step = jax.tree.map(lambda p, g: p - 1e-2 * g, state.params[network], grads[network])
    change = loss({**state.params, network: step}) - loss(state.params)
    assert sign * change > 0, network


@pytest.mark.slow
def test_both_fakes_and_nothing_else_enter_the_discriminators_loss():
  table, _, model, state = case('vae_gan', joint_critics=False)
  x, c, noise = inputs(False)
  base, *_ = compiled_gradients(model, table, state, x, c, noise)
  for k in ('posterior', 'prior'):
    other, *_ = compiled_gradients(model, table, state, x, c, {**noise, k: -noise[k]})
    assert norm(jax.tree.map(jnp.subtract, base['discriminator'], other['discriminator'])) > 0, k
  table, _, model, state = case('vae_gan_released', joint_critics=False, joint_makers=False)
  base, *_ = compiled_gradients(model, table, state, x, c, noise)
  other, *_ = compiled_gradients(
    model, table, state, x, c, {**noise, 'posterior': -noise['posterior']}
  )
  same(base['discriminator'], other['discriminator'])


@pytest.mark.slow
def test_conditions_of_prior_samples_are_random_classes_or_the_batchs_own():
  c = jax.nn.one_hot(jnp.arange(4000) % 2, tiny.K)  # real images of two classes only
  drawn = np.asarray(uniform_classes(jax.random.key(0), c))
  assert set(np.unique(drawn)) == {0.0, 1.0} and (drawn.sum(1) == 1).all()
  assert (abs(drawn.mean(0) - 1 / tiny.K) < 0.03).all()
  assert abs(np.corrcoef(drawn.argmax(1), np.asarray(c).argmax(1))[0, 1]) < 0.05
  again = np.asarray(shuffled(jax.random.key(0), c))
  np.testing.assert_array_equal(again.sum(0), c.sum(0))
  assert (again != c).any()


@pytest.mark.slow
def test_one_step_draws_once_and_prior_noise_is_normal():
  _, noise = draw(tiny.draws(False), jax.random.key(0), jnp.zeros((20000, 1, 1, 1)), None)
  for k in ('posterior', 'prior'):
    assert abs(float(noise[k].var()) - 1) < 0.03 and abs(float(noise[k].mean())) < 0.02
  assert abs(np.corrcoef(noise['posterior'].ravel(), noise['prior'].ravel())[0, 1]) < 0.02


@pytest.mark.slow
def test_statistics_move_by_exactly_one_update_and_frozen_networks_not_at_all():
  for joint in (True, False):
    table, _, model, state = case('vae_gan', joint_critics=joint, joint_makers=joint)
    x, c, noise = inputs(False)
    _, _, stats, _ = compiled_gradients(model, table, state, x, c, noise)
    zeros = jax.tree.map(jnp.zeros_like, state.stats)
    _, _, from_zero, _ = compiled_gradients(model, table, state.replace(stats=zeros), x, c, noise)
    # new = 0.9 old + 0.1 batch: from zero, 0.1 batch is left.
    jax.tree.map(
      lambda new, old, tenth: np.testing.assert_allclose(
        new, 0.9 * old + tenth, rtol=1e-4, atol=1e-6
      ),
      stats,
      state.stats,
      from_zero,
    )
  table, _, model, state = case('vae_dis')
  assert model.frozen == ('discriminator',)
  grads, _, stats, _ = compiled_gradients(model, table, state, x, c, noise)
  assert 'discriminator' not in grads
  jax.tree.map(np.testing.assert_array_equal, stats['discriminator'], state.stats['discriminator'])


@pytest.mark.slow
@pytest.mark.parametrize('joint', [True, False], ids=['joint', 'apart'])
def test_features_of_real_images_depend_on_the_fakes_only_when_normalised_jointly(joint):
  _, _, model, state = case('vae_gan', joint_critics=joint)
  x, c, noise = inputs(False)
  fakes, *_ = make(model, state.params, state.stats, x, c, noise)
  run = lambda fakes: judge(model, state.params, state.stats, {}, x, c, None, fakes)[0]['real']
  change = abs(run(fakes) - run({**fakes, 'p': -fakes['p']})).max()
  assert (change > 1e-4) == joint


def test_columns_that_are_proportional_go_through_the_critics_together():
  critic = [n for n in losses_of(methods.VAE_GAN) if n != 'kl']
  groups = column_groups(methods.VAE_GAN, critic)
  assert [set(weights) for _, weights in groups] == [
    {'real', 'fake_recon', 'fake_prior'},
    {'feature_d'},
  ]
  rows = {n: {} for n in methods.VAE_GAN}
  for share, weights in groups:
    for network, part in share.items():
      for loss, weight in weights.items():
        rows[network][loss] = part * weight
  for network, row in methods.VAE_GAN.items():
    assert rows[network] == pytest.approx({k: v for k, v in row.items() if k != 'kl'})


def makers_pulled(name, **choices):
  """The shares of each pullback through the makers of a method."""
  table, conditional, model, state = case(name, **choices)
  x, c, noise = inputs(conditional, 2)
  seen = []

  def spy(*arguments):
    seen.extend(share for share, _ in real(*arguments))
    return real(*arguments)

  real = routing.maker_groups
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(routing, 'maker_groups', spy)
    jax.eval_shape(functools.partial(gradients, model, table), state, Inputs(x, c, noise))
  return seen


@pytest.mark.slow
def test_one_pullback_serves_both_makers_where_that_costs_less():
  apart = dict(joint_makers=False, joint_critics=False)
  both = dict(encoder=1.0, generator=1.0)
  assert makers_pulled('vae') == makers_pulled('cvae') == [both]
  assert makers_pulled('vae_gan_released', **apart) == [
    dict(generator=1.0),
    pytest.approx(dict(encoder=1.0, generator=1e-6)),
  ]
  assert makers_pulled('cvae_gan', **apart) == [both, dict(generator=1.0)]
  for name, choices in (
    ('vae_gan', apart),
    ('vae_gan_released', {**apart, 'joint_critics': True}),
    ('cvae_gan', {**apart, 'joint_makers': True}),
  ):
    assert sorted(map(list, makers_pulled(name, **choices))) == [['encoder'], ['generator']]


@pytest.mark.slow
def test_gate_holds_parameters_and_optimizer_state_to_the_bit():
  table, _, model, state = case('vae_gan')
  transformations = {n: optim.optimizer('adam', 1e-2) for n in table}
  state = tiny.state(model, table, False, transformations['encoder'])
  for held in ('generator', 'discriminator'):
    gate = lambda terms, held=held: {held: jnp.asarray(False)}
    step = train_step(model, table, transformations, tiny.draws(False), gate=gate)
    after, terms = jax.jit(step)(state, tiny.batch(False), jax.random.key(0))
    assert terms[f'update_{held}'] == 0
    for network in table:
      before = (state.params[network], state.opt_state[network])
      equal = jax.tree.map(
        lambda a, b: bool((a == b).all()), before, (after.params[network], after.opt_state[network])
      )
      assert all(jax.tree.leaves(equal)) == (network == held), network


@pytest.mark.slow
def test_a_step_without_finite_gradients_changes_nothing():
  table, _, model, state = case('cvae_gan')
  step = jax.jit(train_step(model, table, {n: optax.sgd(0.1) for n in table}, tiny.draws(True)))
  batch = tiny.batch(True)
  after, _ = step(state, {**batch, 'x': batch['x'].at[3].set(jnp.nan)}, jax.random.key(0))
  assert int(after.step) == 1 and int(after.skipped) == 1
  jax.tree.map(
    np.testing.assert_array_equal, after.replace(step=state.step, skipped=state.skipped), state
  )
  after, _ = step(after, batch, jax.random.key(0))
  assert (
    int(after.skipped) == 0 and norm(jax.tree.map(jnp.subtract, after.params, state.params)) > 0
  )


@pytest.mark.slow
def test_centres_move_with_the_state():
  """Pitfall: a moving average that is made anew each step and never moves."""
  table, _, model, state = case('cvae_gan')
  step = jax.jit(train_step(model, table, {n: optax.sgd(0.0) for n in table}, tiny.draws(True)))
  first, _ = step(state, tiny.batch(True, seed=1), jax.random.key(0))
  second, _ = step(first, tiny.batch(True, seed=2), jax.random.key(0))
  fresh, _ = step(
    state.replace(step=first.step, stats=first.stats), tiny.batch(True, seed=2), jax.random.key(0)
  )
  apart = jax.tree.map(
    jnp.subtract, second.centres['match_c']['real'], fresh.centres['match_c']['real']
  )
  assert norm(apart) > 1e-4


@pytest.mark.slow
def test_ema_is_warmed_up_and_follows():
  table, _, model, state = case('vae')
  step = jax.jit(train_step(model, table, {n: optax.sgd(1.0) for n in table}, tiny.draws(False)))
  after, _ = step(state, tiny.batch(False), jax.random.key(0))
  want = jax.tree.map(
    lambda old, new: 0.1 * old + 0.9 * new, state.params['generator'], after.params['generator']
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    after.ema['generator']['params'],
    want,
  )


def test_uint8_images_and_flips():
  x = jnp.asarray([[0, 128, 255]], jnp.uint8)
  np.testing.assert_allclose(as_float(x), [[-1, 0.00392157, 1]], atol=1e-6)
  image = jnp.arange(3.0)[None, None, :, None].repeat(400, 0)
  flipped, _ = draw(tiny.draws(False), jax.random.key(0), image, None)
  count = int((flipped[:, 0, 0, 0] == 2).sum())
  assert 150 < count < 250 and int((flipped[:, 0, 0, 0] == 0).sum()) == 400 - count


# --- Batches taken in parts.


def one_step(model, table, conditional, accumulate, count=24):
  """(state, terms) after one step on a batch taken in parts."""
  transformations = {n: optim.optimizer('adam', 1e-2) for n in table}
  step = train_step(model, table, transformations, tiny.draws(conditional), accumulate=accumulate)
  return jax.jit(step)(
    tiny.state(model, table, conditional, transformations['generator']),
    tiny.batch(conditional, count),
    jax.random.key(7),
  )


@pytest.mark.slow
@pytest.mark.parametrize('loop', [False, True], ids=['unrolled', 'loop'])
@pytest.mark.parametrize('name', ['vae', 'vae_gan', 'cvae'])
def test_parts_of_a_batch_are_the_batch_where_nothing_looks_across_examples(
  name, loop, monkeypatch
):
  monkeypatch.setattr(tiny.nn.BatchNorm, '__call__', lambda self, h: h)
  table, conditional, model, _ = case(name)
  if loop:  # as on accelerators
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  whole, terms = one_step(model, table, conditional, 1)
  parts, part_terms = one_step(model, table, conditional, 3)
  for k, v in terms.items():
    np.testing.assert_allclose(part_terms[k], v, rtol=1e-4, atol=1e-5, err_msg=k)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), parts, whole)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vae_gan', 'cvae_gan'])
def test_parts_of_a_batch_make_one_update_and_move_statistics_in_turn(name):
  table, conditional, model, state = case(name)
  after, terms = one_step(model, table, conditional, 4)
  assert all(np.isfinite(v) for v in terms.values())
  assert int(after.step) == 1 and int(after.skipped) == 0
  counts = [
    a
    for p, a in jax.tree_util.tree_leaves_with_path(after.opt_state)
    if 'count' in jax.tree_util.keystr(p)
  ]
  assert counts and all(int(a) == 1 for a in counts)
  batch = tiny.batch(conditional, 24)
  c = as_condition(batch.get('c'), tiny.K)
  x, noise = draw(tiny.draws(conditional), jax.random.fold_in(jax.random.key(7), 0), batch['x'], c)
  stats, centres = state.stats, state.centres
  for i in range(4):
    part = jax.tree.map(lambda a, i=i: a[i::4], (x, c, noise))
    _, _, stats, centres = compiled_gradients(
      model, table, state.replace(stats=stats, centres=centres), *part
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after.stats, stats
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after.centres, centres
  )


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['mesh', 'pmap'])
def test_parts_of_a_sharded_batch_stay_on_their_devices(mode):
  terms, state = three_steps('cvae_gan', 'mesh', 1, accumulate=2)
  other_terms, other = three_steps('cvae_gan', mode, 8, accumulate=2)
  for k, v in terms.items():
    np.testing.assert_allclose(other_terms[k], v, rtol=1e-4, atol=1e-5, err_msg=k)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), other, state)


def test_a_loss_that_nothing_computes_is_an_error(monkeypatch):
  """One that is in SEES and in a row, but not in judge, must not train without it."""
  monkeypatch.setitem(SEES, 'forgotten', dict(discriminator='r'))
  table = {**methods.GAN, 'discriminator': dict(methods.GAN['discriminator'], forgotten=1.0)}
  model = tiny.model(table)
  state = tiny.state(model, table, False)
  with pytest.raises(ValueError, match=r'forgotten is in SEES of model.py, but neither judge'):
    gradients(model, table, state, Inputs(*inputs(False)))


@pytest.mark.slow
@pytest.mark.parametrize('where', ['gradients', 'stats'])
def test_a_step_with_numbers_that_are_not_finite_changes_nothing(where):
  table = methods.METHODS['vae']
  optimizers = {n: optim.optimizer('adam', 1e-3) for n in table}
  model = tiny.model(table)
  state = tiny.state(model, table, False, optimizers['generator'])
  if where == 'gradients':  # all are finite, but the squares of some are not
    table = {n: dict.fromkeys(row, 1e30) for n, row in table.items()}
  else:  # a running average that is infinite stays so, whatever the gradients
    kernels = jax.tree.map(jnp.zeros_like, state.params)
    bad = jax.tree.map(lambda a: a.at[0].set(jnp.inf), state.stats)
    state = state.replace(params=kernels, stats=bad)
  step = jax.jit(train_step(model, table, optimizers, tiny.draws(False)))
  after, _ = step(state, tiny.batch(False), jax.random.key(0))
  assert int(after.step) == 1 and int(after.skipped) == 1
  after = after.replace(step=state.step, skipped=state.skipped)
  jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize('size', [0.0, 1e-45, 1e-30, 1e-19, 1.0, 1e10, 1.8e19])
@pytest.mark.parametrize(
  'own',
  [
    dict(name='adam', b1=0.0, b2=0.0, eps=1e-30),
    dict(name='adam', weight_decay=1.0),
    dict(name='rmsprop', eps=1e-30),
    dict(name='rmsprop', decay=0.0, clip_norm=1e9),
    dict(name='sgd', weight_decay=1.0),
  ],
)
def test_finite_gradients_make_finite_states(own, size):
  """train_step relies on it: from a gradient of finite norm comes a finite state, at any rate."""
  optimizer = optim.optimizer(rate=10.0, **own)  # the largest that a config may ask for
  params = dict(kernel=jnp.array([-1e10, 0.0, 1e-40, 1.0]))
  state = optimizer.init(params)
  for sign in (1.0, 1.0, 0.0, -1.0):
    gradient = dict(kernel=jnp.array([sign * size, 0.0, 0.0, 0.0]))
    assert finite(optax.tree.norm(gradient))
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    assert finite((params, state))


def test_a_step_is_the_optimizers_update_of_the_gradients_to_rounding():
  """The check is in one program with the new values and may move their bits."""
  table, key = methods.METHODS['vae'], jax.random.key(0)
  model, draws = tiny.model(table), tiny.draws(False)
  optimizer = optim.optimizer('rmsprop', 1e-3)
  state = tiny.state(model, table, False, optimizer)
  after, _ = jax.jit(train_step(model, table, dict.fromkeys(table, optimizer), draws))(
    state, tiny.batch(False), key
  )
  x, noise = draw(draws, jax.random.fold_in(key, 0), as_float(tiny.batch(False)['x']), None, None)
  grads = gradients(model, table, state, Inputs(x, None, noise)).grads
  for network, grad in grads.items():
    old = state.params[network]
    updates, opt_state = optimizer.update(grad, state.opt_state[network], old)
    new = optax.apply_updates(old, updates)
    ema = optax.incremental_update(new, state.ema[network]['params'], 0.9)  # 1 - (1 + 0) / (10 + 0)
    for found, expected in (
      (after.params[network], new),
      (after.opt_state[network], opt_state),
      (after.ema[network]['params'], ema),
    ):
      assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
      jax.tree.map(assert_close, found, expected)


def test_the_norm_of_a_tree_on_a_tpu_is_its_norm(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  shapes = ((2, 2, 64, 5), (256, 7), (130, 7), (9,), ())  # the first two as traces
  tree = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
  np.testing.assert_allclose(global_norm(tree), optax.tree.norm(tree), rtol=1e-6)
  assert 'dot_general' in str(jax.make_jaxpr(global_norm)(tree[1]))
  for bad in (np.nan, np.inf, -np.inf):
    assert not np.isfinite(global_norm([tree[0].at[1, 0, 3, 2].set(bad), *tree[1:]]))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_finite_sees_every_float(bad):
  tree = dict(a=jnp.ones((2, 3)), b=-jnp.ones((2, 3)), c=jnp.float32(-1e30), empty=jnp.ones(0))
  tree |= dict(n=jnp.int32(7), d=jnp.full(4, 1e38))
  assert finite(tree)
  for name in 'abcd':
    a = tree[name]
    assert not finite({**tree, name: a.at[..., -1].set(bad) if a.ndim else jnp.float32(bad)})
