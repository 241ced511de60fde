"""A relativistic critic and its penalties inside the model: closed forms of a linear critic."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import checks, losses
from vaegan_jax.configs import digits
from vaegan_jax.model import ADVERSARIAL, Model, judge, losses_of

TABLE = dict(
  generator=dict(fool_recon=1.0, fool_prior=1.0),
  discriminator=dict(real=1.0, fake_recon=1.0, fake_prior=1.0, r1=1.0, r2=1.0),
)


class Linear(nn.Module):
  @nn.compact
  def __call__(self, x, c, train):
    h = x.reshape(len(x), -1)
    return nn.Dense(1, name='logit')(h)[:, 0], h


@pytest.fixture
def judged(key):
  """(terms of TABLE, logits of x, x_f and x_p, the critic's weights)."""
  images = [jax.random.normal(k, (6, 2, 2, 1)) for k in jax.random.split(key, 3)]
  net = Linear()
  params = net.init(key, images[0], None, train=True)['params']
  model = Model(
    dict(discriminator=net),
    losses_of(TABLE),
    joint_critics=False,
    adversarial=ADVERSARIAL['relativistic'],
  )
  x, x_f, x_p = images
  params, stats = dict(discriminator=params), dict(discriminator={})
  terms, _ = judge(model, params, stats, {}, x, None, None, dict(f=x_f, p=x_p))
  logits = [
    np.asarray(net.apply({'params': params['discriminator']}, i, None, True)[0]) for i in images
  ]
  return terms, logits, np.asarray(params['discriminator']['logit']['kernel'])


def softplus(x):
  return np.logaddexp(0, x)


def test_a_fake_is_paired_with_the_real_image_of_its_place(judged):
  terms, (real, recon, prior), _ = judged
  np.testing.assert_allclose(terms['fake_recon'], softplus(recon - real), rtol=1e-5)
  np.testing.assert_allclose(terms['fake_prior'], softplus(prior - real), rtol=1e-5)
  np.testing.assert_allclose(terms['fool_recon'], softplus(real - recon), rtol=1e-5)
  np.testing.assert_allclose(terms['fool_prior'], softplus(real - prior), rtol=1e-5)
  assert not terms['real'].any()


def test_penalties_of_a_linear_critic_are_half_its_squared_weights(judged):
  terms, _, weights = judged
  for name in ('r1', 'r2'):
    np.testing.assert_allclose(terms[name], np.full(6, 0.5 * (weights**2).sum()), rtol=1e-5)


def test_relativistic_real_is_zero_and_has_no_gradient():
  logits = jnp.array([-1e4, 0.0, 1e4])
  assert not losses.relativistic_real(logits).any()
  assert not jax.grad(lambda v: losses.relativistic_real(v).sum())(logits).any()


def test_a_relativistic_critic_needs_real_images():
  config = digits.get_config('vae_gan_relativistic').unlock()
  del config.method.discriminator['real']
  with pytest.raises(ValueError, match='adversarial=relativistic compares fakes with real images'):
    checks.check(config)


@pytest.mark.parametrize(
  'method, settings, words',
  [
    ('vae_gan_relativistic', {'gate.on': True}, 'gate.on compares cross-entropies.*=relativistic'),
    ('vae_gan', {'gate.on': True, 'adversarial': 'wasserstein'}, 'set it to False.*=wasserstein'),
    ('vae_gan_relativistic', {'network.latent_size': 1}, 'latent_size=1: .*use at least 2'),
  ],
)
def test_settings_that_would_train_nothing_are_refused(method, settings, words):
  config = digits.get_config(method).unlock()
  config.update_from_flattened_dict(settings)
  with pytest.raises(ValueError, match=words):
    checks.check(config)
