"""Losses against closed forms in float64, under every transformation, at the edges of float32."""

import doctest
import functools
import inspect
import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads
import numpy as np
import pytest

from vaegan_jax import losses

B, N, F, K = 32, 3, 5, 4  # examples; pixels, latents or logits; features; classes
ROOT = pathlib.Path(__file__).parents[1]
RNG = np.random.default_rng(0)
MEMBERSHIP = jnp.asarray(RNG.uniform(size=(B, K)), jnp.float32)
LABELS = jnp.asarray(np.arange(B) % N, jnp.int32)
MEAN = jnp.float32(0.3)  # of logits
CRITIC = jnp.asarray(RNG.normal(size=(N, 8)), jnp.float32)
CENTRES = dict(
  real=jnp.ones((K, F)), fake=-jnp.ones((K, F)), real_count=jnp.ones(K), fake_count=jnp.ones(K)
)


def critic(x):
  """Logits [B] of [B, N], smooth, with a gradient that depends on x."""
  return jnp.tanh(x @ CRITIC).sum(1) + 0.5 * jnp.square(x).sum(1)


def class_matching(real, fake):
  return losses.class_mean_feature_matching(real, fake, MEMBERSHIP, MEMBERSHIP[::-1], CENTRES)[0]


# Every loss as a function of float arrays alone, with their shapes; 'p' marks a probability.
ADVERSARIAL = [
  f'{kind}_{part}'
  for kind in ('bce', 'hinge', 'least_squares', 'wasserstein')
  for part in ('real', 'fake', 'fool')
]
CASES = {
  'gaussian_kl': (losses.gaussian_kl, (B, N), (B, N)),
  'gaussian_kl_per_dim': (losses.gaussian_kl_per_dim, (B, N), (B, N)),
  'gaussian_nll': (losses.gaussian_nll, (B, N), (B, N)),
  'bernoulli_nll': (losses.bernoulli_nll, (B, N), (B, N, 'p')),
  'laplace_nll': (losses.laplace_nll, (B, N), (B, N)),
  'mean_feature_matching': (losses.mean_feature_matching, (B, F), (B, F)),
  'class_mean_feature_matching': (class_matching, (B, F), (B, F)),
  **{name: (getattr(losses, name), (B,)) for name in ADVERSARIAL},
  'relativistic_real': (losses.relativistic_real, (B,)),
  'relativistic_discriminator': (losses.relativistic_discriminator, (B,), (B,)),
  'relativistic_generator': (losses.relativistic_generator, (B,), (B,)),
  'lecam_real': (lambda x: losses.lecam_real(x, MEAN), (B,)),
  'lecam_fake': (lambda x: losses.lecam_fake(x, MEAN), (B,)),
  'softmax_cross_entropy': (losses.softmax_cross_entropy, (B, N), (B, N, 'p')),
  'softmax_cross_entropy_with_labels': (
    lambda x: losses.softmax_cross_entropy_with_labels(x, LABELS),
    (B, N),
  ),
  'sigmoid_cross_entropy': (losses.sigmoid_cross_entropy, (B, N), (B, N, 'p')),
  'r1': (functools.partial(losses.r1, critic), (B, N)),
  'r2': (functools.partial(losses.r2, critic), (B, N)),
  'gradient_penalty': (
    lambda r, f: losses.gradient_penalty(critic, r, f, jax.random.key(0)),
    (B, N),
    (B, N),
  ),
}
PENALTIES = ('r1', 'r2', 'gradient_penalty')
cases = pytest.mark.parametrize('name', CASES)


def arrays_of(name, seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  draw = lambda shape: (
    rng.uniform(size=shape[:-1]) if 'p' in shape else scale * rng.normal(size=shape)
  ).astype(np.float32)
  return [jnp.asarray(draw(shape)) for shape in CASES[name][1:]]


@functools.cache
def compiled(name):
  """(weight, *arrays) -> the loss, and the gradients of its sum times the weight; compiled once."""

  def run(weight, *arrays):
    value, pullback = jax.vjp(CASES[name][0], *arrays)
    return value, pullback(weight * jnp.ones_like(value))

  return jax.jit(run)


def test_all_names_every_public_function_and_each_is_tested_and_sourced():
  functions = {
    name
    for name, value in vars(losses).items()
    if inspect.isfunction(value) and value.__module__ == losses.__name__
  }
  assert {name for name in functions if name[0] != '_'} == set(losses.__all__) - {'LOGVAR_RANGE'}
  assert set(CASES) == set(losses.__all__) - {'LOGVAR_RANGE', 'init_centres'}
  for name in CASES:
    doc = inspect.getdoc(getattr(losses, name))
    assert 'Source: ' in doc and 'Used by: ' in doc, name


@pytest.mark.slow
def test_doctests():
  result = doctest.testmod(losses)
  assert result.attempted >= 8 and not result.failed


def test_import_brings_jax_alone():
  code = """if True:
    import sys, jax, jax.numpy
    before = set(sys.modules)
    from vaegan_jax import losses
    print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))
    print(*sorted({'flax', 'optax', 'tensorflow', 'torch', 'orbax'} & set(sys.modules)))"""
  out = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout.split('\n')
  assert out[0] == 'vaegan_jax' and out[1] == ''


# --- Values


def softplus(x):
  return np.logaddexp(x, 0.0)


def log_softmax(x):
  x = x - x.max(1, keepdims=True)
  return x - np.log(np.exp(x).sum(1, keepdims=True))


def kl_per_dim(mean, logvar):
  inside = np.clip(logvar, -30.0, 20.0)
  excess = np.expm1(inside) - inside + np.expm1(inside) * (logvar - inside)
  return 0.5 * (mean**2 + excess)


# In float64; the second number is the size of the terms that float32 adds up, where they cancel.
REFERENCES = {
  'gaussian_kl': lambda m, v: (kl_per_dim(m, v).sum(1), np.abs(v).clip(max=1.0).sum(1)),
  'gaussian_kl_per_dim': lambda m, v: (kl_per_dim(m, v), np.abs(v).clip(max=1.0)),
  'gaussian_nll': lambda p, t: (0.5 * ((p - t) ** 2).sum(1), 0.0),
  'bernoulli_nll': lambda x, t: ((t * softplus(-x) + (1.0 - t) * softplus(x)).sum(1), 0.0),
  'laplace_nll': lambda p, t: (np.abs(p - t).sum(1), 0.0),
  'mean_feature_matching': lambda r, f: (
    0.5 * ((r.mean(0) - f.mean(0)) ** 2).sum(),
    ((np.abs(r).mean(0) + np.abs(f).mean(0)) * np.abs(r.mean(0) - f.mean(0))).sum(),
  ),
  'bce_real': lambda x: (softplus(-x), 0.0),
  'bce_fake': lambda x: (softplus(x), 0.0),
  'bce_fool': lambda x: (softplus(-x), 0.0),
  'hinge_real': lambda x: (np.maximum(0.0, 1.0 - x), 0.0),
  'hinge_fake': lambda x: (np.maximum(0.0, 1.0 + x), 0.0),
  'hinge_fool': lambda x: (-x, 0.0),
  'least_squares_real': lambda x: ((x - 1.0) ** 2 / 2.0, 0.0),
  'least_squares_fake': lambda x: (x**2 / 2.0, 0.0),
  'least_squares_fool': lambda x: ((x - 1.0) ** 2 / 2.0, 0.0),
  'wasserstein_real': lambda x: (-x, 0.0),
  'wasserstein_fake': lambda x: (x, 0.0),
  'wasserstein_fool': lambda x: (-x, 0.0),
  'relativistic_real': lambda x: (0.0 * x, 0.0),
  'relativistic_discriminator': lambda r, f: (softplus(f - r), 0.0),
  'relativistic_generator': lambda r, f: (softplus(r - f), 0.0),
  'lecam_real': lambda x: (np.maximum(0.0, x - float(MEAN)) ** 2, 0.0),
  'lecam_fake': lambda x: (np.maximum(0.0, float(MEAN) - x) ** 2, 0.0),
  'softmax_cross_entropy': lambda x, p: (
    -(p * log_softmax(x)).sum(1),
    np.abs(p * np.log(N)).sum(1),
  ),
  'softmax_cross_entropy_with_labels': lambda x: (
    -log_softmax(x)[np.arange(B), np.asarray(LABELS)],
    np.log(N),
  ),
  'sigmoid_cross_entropy': lambda x, t: ((t * softplus(-x) + (1.0 - t) * softplus(x)).sum(1), 0.0),
}


@pytest.mark.parametrize('name', REFERENCES)
def test_values_agree_with_float64(name):
  shapes, seen = CASES[name][1:], []

  # 32 draws of a batch of 32 are 1,024 examples.
  @hypothesis.settings(max_examples=32, deadline=None, derandomize=True, database=None)
  @hypothesis.given(
    st.tuples(
      *(
        hnp.arrays(
          np.float32,
          shape[:2] if 'p' in shape else shape,
          elements=st.floats(
            0.0 if 'p' in shape else -1e4,
            1.0 if 'p' in shape else 1e4,
            width=32,
            allow_subnormal=False,
          ),
        )
        for shape in shapes
      )
    )
  )
  def check(inputs):
    value, size = REFERENCES[name](*(x.astype(np.float64) for x in inputs))
    error = np.abs(np.asarray(compiled(name)(1.0, *inputs)[0], np.float64) - value)
    seen.append(len(inputs[0]))
    # Products such as target * softplus may underflow.
    assert np.all(error <= 1e-6 * np.abs(value) + 4e-7 * size + 1e-37), (error, value)

  check()
  assert sum(seen) >= 1000


def test_hand_made_numbers():
  ones, zeros = jnp.ones((2, 128)), jnp.zeros((2, 128))
  np.testing.assert_array_equal(losses.gaussian_kl(ones, zeros), 64.0)
  np.testing.assert_allclose(
    losses.gaussian_kl(zeros, jnp.full((2, 128), np.log(4.0))), 0.5 * 128 * (3 - np.log(4)), 1e-6
  )
  features = jnp.zeros((2, 8, 8, 256))
  np.testing.assert_array_equal(losses.gaussian_nll(features + 1.0, features), 8192.0)
  np.testing.assert_allclose(losses.bce_real(jnp.zeros(3)), np.log(2), 1e-6)
  np.testing.assert_allclose(
    losses.softmax_cross_entropy(jnp.zeros((2, 530)), jnp.full((2, 530), 1 / 530)),
    np.log(530),
    1e-6,
  )
  np.testing.assert_array_equal(
    losses.mean_feature_matching(jnp.ones((4, F)), -jnp.ones((3, F))), 2.0 * F
  )


def test_saturating_and_non_saturating_gradients():
  logits = jnp.array([-6.0, -1.0, 0.0, 2.0])
  probability = jax.nn.sigmoid(logits)
  gradient = lambda f: jax.grad(lambda x: f(x).sum())(logits)
  np.testing.assert_allclose(-gradient(losses.bce_fake), -probability, 1e-6)  # saturating: -D
  np.testing.assert_allclose(gradient(losses.bce_fool), probability - 1.0, 1e-6)  # -(1 - D)


def test_kl_is_that_of_samples():
  mean, logvar = jnp.array([[0.7]]), jnp.array([[2.0]])
  z = 0.7 + np.exp(1.0) * np.random.default_rng(1).normal(size=1_000_000)
  assert abs(z.var() - np.exp(2.0)) < 0.05
  sampled = np.mean(0.5 * z**2 - 0.5 * ((z - 0.7) / np.exp(1.0)) ** 2 - 1.0)
  assert abs(losses.gaussian_kl(mean, logvar)[0] - sampled) < 0.03


def test_kl_leads_back_into_the_range_of_logvar():
  low, high = losses.LOGVAR_RANGE
  logvar = jnp.array([[-1e4, low - 1.0, low, -5.0, 0.0, 5.0, high - 1.0, high, high + 1.0, 1e4]])
  zeros = jnp.zeros_like(logvar)
  value = lambda v: losses.gaussian_kl(zeros, v).sum()
  inside = np.clip(np.asarray(logvar, np.float64), low, high)
  np.testing.assert_allclose(jax.grad(value)(logvar), 0.5 * (np.exp(inside) - 1.0), 1e-6, atol=1e-7)
  assert np.all(np.sign(jax.grad(value)(logvar)) == np.sign(logvar))


def test_free_bits():
  mean, logvar = jnp.array([[0.1, 2.0], [3.0, 0.2]]), jnp.zeros((2, 2))
  np.testing.assert_array_equal(
    losses.gaussian_kl(mean, logvar, free_bits=0.0), losses.gaussian_kl_per_dim(mean, logvar).sum(1)
  )
  value = jax.jit(lambda m, bits: losses.gaussian_kl(m, logvar, free_bits=bits))
  np.testing.assert_allclose(value(mean, 0.5), [0.5 + 2.0, 4.5 + 0.5], 1e-6)
  gradient = jax.grad(lambda m: losses.gaussian_kl(m, logvar, free_bits=0.5).sum())(mean)
  np.testing.assert_array_equal(gradient, [[0.0, 2.0], [3.0, 0.0]])
  per_batch = np.maximum(losses.gaussian_kl_per_dim(mean, logvar).mean(0), 0.5).sum()
  assert losses.gaussian_kl(mean, logvar, free_bits=0.5).mean() >= per_batch


@pytest.mark.parametrize('name', [n for n in CASES if n != 'class_mean_feature_matching'])
def test_gradients_agree_with_differences(name):
  inputs = [np.asarray(x) for x in arrays_of(name, 1)]
  if name.startswith('hinge') or name == 'laplace_nll':  # away from the corners
    inputs = [3.0 * np.sign(x) + 0.1 * i for i, x in enumerate(inputs)]
  gradients = compiled(name)(1.0, *inputs)[1]

  def at(i, step):
    moved = [*inputs[:i], inputs[i] + step, *inputs[i + 1 :]]
    return np.asarray(compiled(name)(1.0, *moved)[0], np.float64).sum()

  for i, direction in enumerate(arrays_of(name, 2)):
    numeric = (at(i, 1e-2 * direction) - at(i, -1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(np.vdot(gradients[i], direction), numeric, 1e-2, 1e-2)


# --- Stability, dtypes, transformations


@cases
def test_finite_at_1e4(name):
  shapes = CASES[name][1:]
  extremes = np.array(
    [-1e4, -1e4, 1e4, 1e4, -100.0, 100.0, -20.0, 20.0, -1.0, 1.0, 0.0, 0.0, 1e-30, 1e4]
  )
  for shift in range(len(extremes)):
    arrays = []
    for i, shape in enumerate(shapes):
      values = np.roll(extremes, i * shift)
      values = (values > 0.0) if 'p' in shape else values
      arrays.append(jnp.asarray(np.resize(values, [n for n in shape if n != 'p']), jnp.float32))
    value, gradients = compiled(name)(1.0, *arrays)
    assert value.dtype == jnp.float32
    assert all(np.all(np.isfinite(a)) for a in (value, *gradients))
    for gradient in compiled(name)(0.0, *arrays)[1]:  # zero times a gradient that is finite
      np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(
  'name,dtype',
  [(name, jnp.bfloat16) for name in CASES]
  + [(name, jnp.float16) for name in ('gaussian_nll', 'bce_fake', 'softmax_cross_entropy')],
)
def test_half_precision_is_upcast_first(name, dtype):
  half = [x.astype(dtype) for x in arrays_of(name, scale=3.0)]
  value, gradients = compiled(name)(1.0, *half)
  upcast, wanted = compiled(name)(1.0, *(x.astype(jnp.float32) for x in half))
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, upcast, 5e-6 if name in PENALTIES else 1e-6)
  for got, want in zip(gradients, wanted):
    assert got.dtype == dtype
    # Equal but for the one rounding to the gradient's own type.
    np.testing.assert_allclose(got.astype(jnp.float32), want, 2 * jnp.finfo(dtype).eps, atol=1e-6)


@cases
def test_nothing_is_promoted_or_broadcast(name):
  if name not in PENALTIES:  # whose critic, of this file, does
    with jax.numpy_rank_promotion('raise'), jax.numpy_dtype_promotion('strict'):
      jax.eval_shape(CASES[name][0], *arrays_of(name))


@cases
def test_float64_is_computed_in_float32(name):
  doubles = [np.asarray(x, np.float64) for x in arrays_of(name)]
  with jax.enable_x64(True):
    shape = jax.eval_shape(CASES[name][0], *map(jnp.asarray, doubles))
    assert jnp.asarray(doubles[0]).dtype == jnp.float64 and shape.dtype == jnp.float32
  value, _ = compiled(name)(1.0, *arrays_of(name))
  np.testing.assert_array_equal(compiled(name)(1.0, *doubles)[0], value)


@cases
def test_shapes_and_jit(name):
  function, *shapes = CASES[name]
  arrays = arrays_of(name)
  value = function(*arrays)
  wanted = () if 'matching' in name else shapes[0] if name == 'gaussian_kl_per_dim' else (B,)
  assert value.shape == wanted
  # Eager and compiled matrix products of the critic differ by more than one rounding.
  tolerance = 5e-6 if name in PENALTIES else 3e-7
  np.testing.assert_allclose(compiled(name)(1.0, *arrays)[0], value, tolerance, atol=1e-7)


@cases
def test_vmap_is_a_loop(name):
  batches = [arrays_of(name, seed) for seed in range(3)]
  mapped = jax.jit(jax.vmap(CASES[name][0]))(*(np.stack(parts) for parts in zip(*batches)))
  looped = np.stack([compiled(name)(1.0, *arrays)[0] for arrays in batches])
  np.testing.assert_allclose(mapped, looped, 5e-6 if name in PENALTIES else 1e-6, atol=1e-6)


@pytest.mark.parametrize('name', ['gaussian_kl', 'gaussian_nll', 'bernoulli_nll', 'laplace_nll'])
def test_sums_over_every_axis_but_the_batch(name):
  x, y = RNG.uniform(size=(2, 4, 3, 3, 2)).astype(np.float32)
  flat = getattr(losses, name)(x.reshape(4, -1), y.reshape(4, -1))
  np.testing.assert_allclose(getattr(losses, name)(x, y), flat, 1e-6)


def test_sum_over_an_image_keeps_its_digits():
  x, y = RNG.uniform(size=(2, 2, 64, 64, 3)).astype(np.float32)
  wanted = 0.5 * ((x.astype(np.float64) - y) ** 2).sum((1, 2, 3))
  np.testing.assert_allclose(losses.gaussian_nll(x, y), wanted, 2e-6)


# --- Errors


def f(*shape):
  return jnp.ones(shape)


def centres(k=K, n=F, **other):
  return {**losses.init_centres(k, n), **other}


def match(*args, **kwargs):
  return losses.class_mean_feature_matching(*args, **kwargs)


def penalty(*args):
  return losses.gradient_penalty(*args, jax.random.key(0))


row = lambda x: x.sum(1)
WRONG_SHAPES = [  # (call, what the message must say)
  (lambda: losses.gaussian_kl(f(4, 3), f(4, 2)), 'logvar (4, 2) mean (4, 3)'),
  (lambda: losses.gaussian_kl(f(4, 3), f(4, 1)), 'logvar (4, 1) mean (4, 3)'),
  (lambda: losses.gaussian_kl(f(4, 3), f(1, 3)), 'logvar (1, 3) mean (4, 3)'),
  (lambda: losses.gaussian_kl(f(4, 3), f(3)), 'logvar (3,) mean (4, 3)'),
  (lambda: losses.gaussian_kl(f(3), f(3)), 'mean (3,) logvar [B, ...]'),
  (lambda: losses.gaussian_kl(f(4, 3), f(4, 3), free_bits=f(3)), 'free_bits (3,)'),
  (lambda: losses.gaussian_kl_per_dim(f(4, 3), f(4, 1)), 'logvar (4, 1) mean (4, 3)'),
  (lambda: losses.gaussian_nll(f(4, 8, 8, 3), f(4, 8, 8, 1)), 'target (4, 8, 8, 1) prediction'),
  (lambda: losses.gaussian_nll(f(4, 8, 8, 3), f(4, 192)), 'target (4, 192) (4, 8, 8, 3)'),
  (lambda: losses.gaussian_nll(f(4), f(4)), 'prediction (4,) [B, ...]'),
  (lambda: losses.gaussian_nll(f(0, 3), f(0, 3)), 'prediction (0, 3) empty'),
  (lambda: losses.gaussian_nll(f(4, 0), f(4, 0)), 'prediction (4, 0) empty'),
  (lambda: losses.bernoulli_nll(f(4, 1), f(4)), 'target (4,) logits (4, 1)'),
  (lambda: losses.bernoulli_nll(f(4, 1), f(1, 4)), 'target (1, 4) logits (4, 1)'),
  (lambda: losses.laplace_nll(f(4, 3), f(3, 4)), 'target (3, 4) prediction (4, 3)'),
  (lambda: losses.mean_feature_matching(f(4, 5), f(4, 6)), 'fake (4, 6) real (4, 5)'),
  (lambda: losses.mean_feature_matching(f(4, 5), f(4, 1)), 'fake (4, 1) real (4, 5)'),
  (lambda: losses.mean_feature_matching(f(4, 2, 5), f(4, 2, 5)), 'real [B, F] (4, 2, 5)'),
  (lambda: losses.mean_feature_matching(f(0, 5), f(4, 5)), 'real (0, 5) empty'),
  (lambda: match(f(4, 6), f(4, 6), f(4, 4), f(4, 4), centres()), "centres['real'] (4, 5) (4, 6)"),
  (lambda: match(f(4, 5), f(4, 5), f(4, 3), f(4, 3), centres()), "centres['real'] (4, 3)"),
  (lambda: match(f(4, 5), f(4, 5), f(4, 4), f(4, 3), centres()), 'fake_membership (4, 3) (4, 4)'),
  (lambda: match(f(4, 5), f(4, 5), f(3, 4), f(4, 4), centres()), 'real_membership (3, 4) (4, 5)'),
  (lambda: match(f(4, 5), f(4, 5), f(4), f(4), centres()), 'real_membership (4,)'),
  (
    lambda: match(f(4, 5), f(4, 5), f(4, 4), f(4, 4), centres(real_count=f(5))),
    "centres['real_count'] (5,) (4, 5)",
  ),
  (lambda: match(f(4, 5), f(4, 5), f(4, 4), f(4, 4), {'real': f(4, 5)}), 'centres init_centres'),
  (lambda: match(f(4, 5), f(4, 5), f(4, 4), f(4, 4), centres(), decay=1.0), 'decay 1.0'),
  (lambda: match(f(4, 5), f(4, 5), f(4, 4), f(4, 4), centres(), decay=-0.1), 'decay -0.1'),
  (lambda: losses.init_centres(0, 5), 'class 0'),
  (lambda: losses.bce_real(f(4, 1)), 'logits (4, 1) [B]'),
  (lambda: losses.bce_fake(f()), 'logits () [B]'),
  (lambda: losses.hinge_real(f(4, 8, 8)), 'logits (4, 8, 8) [B]'),
  (lambda: losses.least_squares_fool(f(0)), 'logits (0,) empty'),
  (lambda: losses.relativistic_generator(f(4), f(3)), 'fake_logits (3,) real_logits (4,)'),
  (lambda: losses.relativistic_discriminator(f(4), f(1)), 'fake_logits (1,) real_logits (4,)'),
  (lambda: losses.relativistic_discriminator(f(4, 1), f(4)), 'real_logits (4, 1) fake_logits'),
  (lambda: losses.softmax_cross_entropy(f(4, 3), f(4, 2)), 'probabilities (4, 2) logits (4, 3)'),
  (lambda: losses.softmax_cross_entropy(f(4, 3), f(1, 3)), 'probabilities (1, 3) logits (4, 3)'),
  (lambda: losses.softmax_cross_entropy(f(4, 3), f(4)), 'probabilities (4,) logits (4, 3)'),
  (lambda: losses.softmax_cross_entropy(f(4, 2, 3), f(4, 2, 3)), 'logits (4, 2, 3) [B, K]'),
  (
    lambda: losses.softmax_cross_entropy_with_labels(f(4, 3), jnp.zeros((4, 1), int)),
    'labels (4, 1) logits (4, 3)',
  ),
  (
    lambda: losses.softmax_cross_entropy_with_labels(f(4, 3), jnp.zeros(1, int)),
    'labels (1,) logits (4, 3)',
  ),
  (lambda: losses.sigmoid_cross_entropy(f(4, 1), f(4)), 'targets (4,) logits (4, 1)'),
  (lambda: losses.sigmoid_cross_entropy(f(4, 3), f(4, 1)), 'targets (4, 1) logits (4, 3)'),
  (lambda: losses.r1(row, f(4)), 'real (4,) [B, ...]'),
  (lambda: losses.r1(lambda x: x, f(4, 3)), 'logits_fn(real) (4, 3) [B]'),
  (lambda: losses.r2(lambda x: x[:, :1], f(4, 3)), 'logits_fn(fake) (4, 1) (4, 3)'),
  (lambda: losses.r2(lambda x: x.sum(1)[:2], f(4, 3)), 'logits_fn(fake) (2,) (4, 3)'),
  (lambda: losses.r1(lambda x: x.sum(), f(4, 3)), 'logits_fn(real) () [B]'),
  (lambda: penalty(row, f(4, 3), f(3, 3)), 'fake (3, 3) real (4, 3)'),
  (lambda: penalty(row, f(4, 3), f(4, 1)), 'fake (4, 1) real (4, 3)'),
]


@pytest.mark.parametrize('number', range(len(WRONG_SHAPES)))
def test_wrong_shapes_are_named(number):
  call, words = WRONG_SHAPES[number]
  with pytest.raises(ValueError) as caught:
    call()
  message = str(caught.value)
  shapes = words.replace(', ', ',').split()  # keep '(4, 3)' together
  assert all(word in message.replace(', ', ',') for word in shapes), message
  assert '\n' not in message


@pytest.mark.parametrize('wrong', ['int32', 'uint8', 'bool', 'complex64', 'list', 'None', 'float'])
@cases
def test_only_float_arrays(name, wrong):
  function = CASES[name][0]
  arrays = arrays_of(name)
  values = {'list': lambda x: x.tolist(), 'None': lambda x: None, 'float': lambda x: 1.0}
  convert = values.get(wrong, lambda x: x.astype(wrong))
  for i in range(len(arrays)):
    with pytest.raises(TypeError, match='must be an array of floating dtype, got'):
      function(*(convert(x) if i == j else x for j, x in enumerate(arrays)))


def test_only_integer_labels():
  for labels in (jnp.zeros(4), jnp.zeros(4, bool), [0, 1, 2, 0]):
    with pytest.raises(TypeError, match='labels must be an array of integer dtype'):
      losses.softmax_cross_entropy_with_labels(f(4, 3), labels)


# --- Classification


def test_labels_and_one_hot_agree():
  logits = arrays_of('softmax_cross_entropy')[0]
  for dtype in (jnp.int8, jnp.uint8, jnp.int32, jnp.uint32):
    np.testing.assert_array_equal(
      losses.softmax_cross_entropy_with_labels(logits, LABELS.astype(dtype)),
      losses.softmax_cross_entropy(logits, jax.nn.one_hot(LABELS, N)),
    )


@pytest.mark.parametrize(
  'label,dtype',
  [
    (-1, 'int32'),
    (3, 'int32'),
    (255, 'uint8'),
    (-128, 'int8'),
    (2**31 - 1, 'int32'),
    (2**32 - 1, 'uint32'),
  ],
)
def test_labels_out_of_range_are_nan(label, dtype):
  labels = jnp.asarray(np.array([0, label, 2], dtype))
  value, pullback = jax.vjp(lambda x: losses.softmax_cross_entropy_with_labels(x, labels), f(3, 3))
  np.testing.assert_array_equal(np.isnan(value), [False, True, False])
  (gradient,) = pullback(jnp.ones(3))
  np.testing.assert_array_equal(np.isnan(gradient).any(1), [False, True, False])


def test_more_classes_than_the_labels_dtype_holds():
  value = losses.softmax_cross_entropy_with_labels(f(2, 1000), jnp.array([0, 127], jnp.int8))
  np.testing.assert_allclose(value, np.log(1000), 1e-6)


def test_soft_labels_interpolate():
  logits = arrays_of('softmax_cross_entropy')[0]
  a, b = jax.nn.one_hot(LABELS, N), jax.nn.one_hot((LABELS + 1) % N, N)
  loss = functools.partial(losses.softmax_cross_entropy, logits)
  np.testing.assert_allclose(loss(0.3 * a + 0.7 * b), 0.3 * loss(a) + 0.7 * loss(b), 1e-5)


# --- Class centres


def one_hot(labels):
  return jnp.asarray(np.eye(K, dtype=np.float32)[np.asarray(labels)])


def reference_centres(steps, decay):
  """Last loss and centres in float64, class by class, of steps (real, fake, w_real, w_fake)."""
  state = {side: [None] * K for side in ('real', 'fake')}
  for real, fake, w_real, w_fake in steps:
    for side, features, weights in (('real', real, w_real), ('fake', fake, w_fake)):
      for k in range(K):
        w = np.asarray(weights, np.float64)[:, k]
        if w.sum() > 0:
          mean = (w[:, None] * np.asarray(features, np.float64)).sum(0) / w.sum()
          old = state[side][k]
          state[side][k] = mean if old is None else decay * old + (1 - decay) * mean
  loss = sum(
    0.5 * ((r - g) ** 2).sum()
    for r, g in zip(state['real'], state['fake'])
    if r is not None and g is not None
  )
  return loss, state


@pytest.mark.parametrize('kind', ['classes', 'attributes', 'mixtures'])
@pytest.mark.parametrize('decay', [0.0, 0.9, 0.99])
def test_centres_are_the_moving_averages(kind, decay):
  rng, state, steps = np.random.default_rng(3), losses.init_centres(K, F), []
  for _ in range(4):
    real, fake = rng.normal(size=(2, B, F)).astype(np.float32)
    members = dict(
      classes=lambda: np.eye(K)[rng.integers(0, K - 1, B)],  # the last class is never seen
      attributes=lambda: rng.integers(0, 2, (B, K)),
      mixtures=lambda: rng.dirichlet(np.ones(K), B),
    )[kind]
    w_real, w_fake = members().astype(np.float32), members().astype(np.float32)
    steps.append((real, fake, w_real, w_fake))
    loss, state = losses.class_mean_feature_matching(*steps[-1], state, decay=decay)
    wanted, centres = reference_centres(steps, decay)
    np.testing.assert_allclose(loss, wanted, 1e-5)
    for side in ('real', 'fake'):
      for k in range(K):
        seen = centres[side][k] is not None
        assert (state[f'{side}_count'][k] > 0) == seen
        np.testing.assert_allclose(state[side][k], centres[side][k] if seen else 0.0, 1e-5, 1e-6)
  np.testing.assert_array_equal(state['real_count'], [4, 4, 4, 0 if kind == 'classes' else 4])


def test_centres_move_and_remember():  # pitfalls 1 and 3 of Bao et al.'s reimplementations
  everyone = one_hot([0] * 6)
  feature = lambda value: jnp.full((6, F), value)
  step = functools.partial(
    losses.class_mean_feature_matching,
    real_membership=everyone,
    fake_membership=everyone,
    decay=0.9,
  )
  first, state = step(feature(1.0), feature(3.0), centres=losses.init_centres(K, F))
  second, state = step(feature(2.0), feature(7.0), centres=state)
  fresh, _ = step(feature(2.0), feature(7.0), centres=losses.init_centres(K, F))
  np.testing.assert_allclose(state['real'][0], 0.9 * 1.0 + 0.1 * 2.0, 1e-6)
  np.testing.assert_allclose(state['fake'][0], 0.9 * 3.0 + 0.1 * 7.0, 1e-6)
  np.testing.assert_allclose([first, second, fresh], [F * 2.0, F * 0.5 * 2.3**2, F * 12.5], 1e-6)
  absent, later = step(
    feature(9.0),
    feature(9.0),
    centres=state,
    real_membership=one_hot([1] * 6),
    fake_membership=one_hot([2] * 6),
  )
  np.testing.assert_array_equal(later['real'][0], state['real'][0])
  np.testing.assert_array_equal(later['fake'][0], state['fake'][0])
  np.testing.assert_allclose(absent, second, 1e-6)  # classes 1 and 2 were seen on one side only


def test_classes_that_swap_their_features_do_not_match():  # pitfall 2
  features = jnp.concatenate([jnp.ones((4, F)), -jnp.ones((4, F))])
  classes = one_hot([0] * 4 + [1] * 4)
  assert losses.mean_feature_matching(features, -features) == 0.0
  loss, _ = losses.class_mean_feature_matching(
    features, -features, classes, classes, losses.init_centres(K, F)
  )
  np.testing.assert_allclose(loss, 2 * 0.5 * F * 4.0)


def test_unseen_classes_contribute_nothing():  # pitfall 23
  rng = np.random.default_rng(5)
  real, fake = (jnp.asarray(a, jnp.float32) for a in 100.0 + rng.normal(size=(2, 6, F)))
  value = lambda fake, state: losses.class_mean_feature_matching(
    real, fake, one_hot([0] * 6), one_hot([1] * 6), state
  )
  (loss, state), gradient = jax.value_and_grad(value, has_aux=True)(fake, losses.init_centres(K, F))
  assert loss == 0.0
  np.testing.assert_array_equal(gradient, 0.0)
  np.testing.assert_array_equal(state['real_count'], [1, 0, 0, 0])
  np.testing.assert_array_equal(state['fake_count'], [0, 1, 0, 0])
  # Class 1 of the real images was seen before: now its fakes count, and they train.
  state['real_count'] = state['real_count'].at[1].set(1.0)
  loss, _ = value(fake, state)
  assert loss > 1e4


def gradient_formula(real_centre, fake_centre, seen, w_fake):
  """d loss / d fake [P, F]: every batch centre has gradient fake_centre - real_centre."""
  share = np.asarray(w_fake) / np.maximum(np.asarray(w_fake).sum(0), 1e-30)
  return share @ (np.asarray(seen)[:, None] * (np.asarray(fake_centre) - np.asarray(real_centre)))


@pytest.mark.parametrize('decay', [0.0, 0.9, 0.99])
def test_gradient_is_that_of_the_batch_centres(decay):  # pitfall 22
  rng = np.random.default_rng(7)
  real, fake = rng.normal(size=(2, B, F)).astype(np.float32)
  w_real = one_hot(rng.integers(0, K, B))
  w_fake = one_hot(rng.integers(0, K - 1, B))  # the last class has a fake centre, but no fakes
  value = lambda real, fake, w_real, w_fake, state: losses.class_mean_feature_matching(
    real, fake, w_real, w_fake, state, decay=decay
  )
  inputs = (real, fake, w_real, w_fake, CENTRES)
  (_, new), gradients = jax.value_and_grad(value, (0, 1, 2, 3, 4), has_aux=True)(*inputs)
  np.testing.assert_allclose(
    gradients[1], gradient_formula(new['real'], new['fake'], np.ones(K), w_fake), 1e-4, 1e-6
  )
  assert np.abs(gradients[1]).max() > 0.01
  for constant in (gradients[0], *gradients[2:4], *gradients[4].values()):
    np.testing.assert_array_equal(constant, 0.0)
  moved = lambda fake: sum(a.sum() for a in value(real, fake, w_real, w_fake, CENTRES)[1].values())
  np.testing.assert_array_equal(jax.grad(moved)(fake), 0.0)


def test_scale_of_the_gradient_does_not_depend_on_the_decay():  # pitfall 22
  rng = np.random.default_rng(8)
  real, fake = rng.normal(size=(2, B, F)).astype(np.float32)
  members = one_hot(np.arange(B) % K)
  _, state = losses.class_mean_feature_matching(
    real, fake, members, members, losses.init_centres(K, F)
  )
  # The centres already are this batch's: no decay moves them.
  gradient = lambda decay: jax.grad(
    lambda fake: losses.class_mean_feature_matching(
      real, fake, members, members, state, decay=decay
    )[0]
  )(fake)
  np.testing.assert_allclose(gradient(0.99), gradient(0.0), 1e-5, atol=1e-6)
  assert np.abs(gradient(0.99)).max() > 0.01


def test_one_class_is_matching_of_global_means():
  real, fake = arrays_of('mean_feature_matching')
  everyone, value = jnp.ones((B, 1)), losses.mean_feature_matching
  by_class = lambda r, f: losses.class_mean_feature_matching(
    r, f, everyone, everyone, losses.init_centres(1, F), decay=0.0
  )[0]
  np.testing.assert_allclose(by_class(real, fake), value(real, fake), 1e-6)
  np.testing.assert_allclose(
    jax.grad(by_class, 1)(real, fake), jax.grad(value, 1)(real, fake), 1e-5, atol=1e-7
  )


def test_centres_thread_through_jit_and_scan():
  real, fake = arrays_of('class_mean_feature_matching')
  step = lambda state, shift: losses.class_mean_feature_matching(
    real + shift, fake, MEMBERSHIP, MEMBERSHIP, state
  )[::-1]
  shifts, state, wanted = jnp.arange(3.0), losses.init_centres(K, F), []
  scanned, values = jax.jit(lambda s: jax.lax.scan(step, s, shifts))(state)
  for shift in shifts:
    state, value = step(state, shift)
    wanted.append(value)
  np.testing.assert_allclose(values, jnp.stack(wanted), 1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), scanned, state)


# --- Eight devices


def generator_loss(theta, state, batch, axis_name=None):
  """Both matching losses and a per-example one, of a linear generator: a scalar, new centres."""
  x, z, w_real, w_fake = batch
  features = jnp.tanh(z @ theta)
  by_class, state = losses.class_mean_feature_matching(
    x, features, w_real, w_fake, state, axis_name=axis_name
  )
  by_mean = losses.mean_feature_matching(x, features, axis_name=axis_name)
  return by_class + 3.0 * by_mean + losses.bce_fool(features[:, 0]).mean(), state


def devices_case():
  rng = np.random.default_rng(11)
  theta = jnp.asarray(rng.normal(size=(6, F)), jnp.float32)
  batches = []
  for _ in range(2):
    labels = np.sort(rng.integers(0, K, B))  # sorted: no device has all classes
    batches.append(
      tuple(
        jnp.asarray(a, jnp.float32)
        for a in (
          rng.normal(size=(B, F)) + labels[:, None],
          rng.normal(size=(B, 6)),
          np.eye(K)[labels],
          np.eye(K)[labels[::-1]],
        )
      )
    )
  return theta, batches


def over_steps(step, theta, batches):
  """Last loss, pmean'd gradients [steps, ...] and centres after stepping through the batches."""
  state, gradients = losses.init_centres(K, F), []
  for batch in batches:
    (loss, state), gradient = step(theta, state, batch)
    gradients.append(gradient)
  return loss, jnp.stack(gradients), state


def on_devices(how, axis_name='i'):
  """A step of the global batch on eight devices, with the signature of the one on one device."""
  devices = jax.devices()[:8]
  assert len(devices) == 8, 'tests/conftest.py sets up eight'
  differentiate = jax.value_and_grad(generator_loss, has_aux=True)

  def local(theta, state, batch):
    (loss, state), gradient = differentiate(theta, state, batch, axis_name)
    return (jax.lax.pmean(loss, 'i'), state), jax.lax.pmean(gradient, 'i')

  if how == 'pmap':
    mapped = jax.pmap(local, 'i', in_axes=(None, None, 0), devices=devices)
    split = lambda batch: jax.tree.map(lambda a: a.reshape(8, -1, *a.shape[1:]), batch)

    def step(theta, state, batch):
      every = jax.device_get(mapped(theta, state, split(batch)))
      assert all((leaf == leaf[:1]).all() for leaf in jax.tree.leaves(every))
      return jax.tree.map(lambda a: a[0], every)

    return step
  mesh, spec = Mesh(np.array(devices), ('i',)), PartitionSpec
  if how == 'shard_map':
    return jax.jit(
      jax.shard_map(
        local, mesh=mesh, in_specs=(spec(), spec(), spec('i')), out_specs=spec(), check_vma=False
      )
    )
  whole, shared = NamedSharding(mesh, spec()), NamedSharding(mesh, spec('i'))
  return jax.jit(differentiate, in_shardings=(whole, whole, shared), out_shardings=whole)


@pytest.mark.slow
@pytest.mark.parametrize('how', ['pmap', 'shard_map', 'jit'])
def test_eight_devices_are_one(how):
  theta, batches = devices_case()
  one = over_steps(jax.jit(jax.value_and_grad(generator_loss, has_aux=True)), theta, batches)
  eight = over_steps(on_devices(how), theta, batches)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-5, 2e-6), eight, one)


@pytest.mark.slow
def test_without_the_axis_name_eight_devices_differ():
  theta, batches = devices_case()
  one = over_steps(jax.value_and_grad(generator_loss, has_aux=True), theta, batches)
  apart = over_steps(on_devices('shard_map', axis_name=None), theta, batches)
  assert abs(apart[0] / one[0] - 1.0) > 0.01


# --- Penalties


def test_penalties_of_a_linear_critic():
  w = jnp.array([3.0, 4.0])
  x, y = RNG.normal(size=(2, 6, 2)).astype(np.float32)
  key, linear = jax.random.key(1), lambda w: lambda x: x @ w + 7.0
  np.testing.assert_allclose(losses.r1(linear(w), x), 12.5, 1e-6)
  np.testing.assert_allclose(losses.r2(linear(w), x), 12.5, 1e-6)
  for target, one_sided, wanted in (
    (1.0, False, 16.0),
    (1.0, True, 16.0),
    (7.0, False, 4.0),
    (7.0, True, 0.0),
  ):
    value = losses.gradient_penalty(linear(w), x, y, key, target=target, one_sided=one_sided)
    np.testing.assert_allclose(value, wanted, 1e-5)
  np.testing.assert_allclose(jax.grad(lambda w: losses.r1(linear(w), x).mean())(w), w, 1e-6)
  gradient = jax.grad(lambda w: losses.gradient_penalty(linear(w), x, y, key).mean())(w)
  np.testing.assert_allclose(gradient, 2.0 * (5.0 - 1.0) * w / 5.0, 1e-5)


def test_penalties_of_a_quadratic_critic():
  a = jnp.array([[2.0, 1.0], [1.0, 3.0]])
  x = jnp.asarray(RNG.normal(size=(6, 2)), jnp.float32)
  quadratic = lambda a: lambda x: 0.5 * jnp.einsum('bi,ij,bj->b', x, a, x)
  np.testing.assert_allclose(losses.r1(quadratic(a), x), 0.5 * jnp.square(x @ a).sum(1), 1e-5)
  both = jax.jit(
    lambda a: jnp.stack(
      [
        losses.r1(quadratic(a), x).mean(),
        losses.gradient_penalty(quadratic(a), x, -2.0 * x, jax.random.key(2)).mean(),
      ]
    )
  )
  check_grads(both, (a,), 2, ['rev'], 2e-2, 2e-2, eps=1e-2)


def test_penalty_is_of_points_between_real_and_fake():
  real, fake = jnp.zeros((256, 2, 2)), jnp.ones((256, 2, 2))  # at a distance of 2
  norm = lambda x: 0.5 * jnp.square(x).sum((1, 2))  # the norm of its gradient is that of x
  penalty = jax.jit(lambda key: losses.gradient_penalty(norm, real, fake, key, target=0.0))
  value = penalty(jax.random.key(3))
  share = np.sqrt(value) / 2.0
  assert share.min() >= 0.0 and share.max() <= 1.0 and len(np.unique(share)) > 250
  assert abs(share.mean() - 0.5) < 0.06 and abs(share.std() - 12**-0.5) < 0.03
  np.testing.assert_array_equal(value, penalty(jax.random.key(3)))
  np.testing.assert_array_equal(value, penalty(jax.random.PRNGKey(3)))
  assert np.all(value != penalty(jax.random.key(4)))


@pytest.mark.parametrize('one_sided', [False, True])
def test_penalties_are_finite_where_the_gradient_vanishes(one_sided):
  network = lambda p: lambda x: jnp.tanh(x @ p[0]) @ p[1]
  x, y = RNG.normal(size=(2, 4, 2)).astype(np.float32)

  @jax.jit
  def derivatives(p):
    value = lambda p: jnp.stack(
      [
        losses.r1(network(p), x).sum(),
        losses.r2(network(p), x).sum(),
        losses.gradient_penalty(network(p), x, y, jax.random.key(0), one_sided=one_sided).sum(),
      ]
    )
    gradient = jax.jacrev(value)
    return value(p), gradient(p), jax.jvp(gradient, (p,), (p,))[1]

  for scale in (0.0, 1e-30, 1e-19, 1e-15, 1.0):
    every = derivatives((jnp.ones((2, 3)), jnp.full(3, scale)))
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(every)), scale
    if scale == 0.0:
      np.testing.assert_array_equal(every[0], [0.0, 0.0, 0.0 if one_sided else 4.0])


def test_penalties_take_a_half_precision_critic():
  x = jnp.asarray(RNG.normal(size=(4, 3)), jnp.bfloat16)
  w = jnp.array([1.0, 2.0, 2.0], jnp.bfloat16)
  value = losses.r1(lambda x: (x.astype(jnp.bfloat16) * w).sum(1), x)
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, 4.5)


def test_r1_of_an_example_does_not_depend_on_the_others():
  (x,) = arrays_of('r1')
  np.testing.assert_allclose(losses.r1(critic, x[::-1]), losses.r1(critic, x)[::-1], 1e-6)
  alone = jnp.concatenate([losses.r1(critic, x[i : i + 1]) for i in range(3)])
  np.testing.assert_allclose(losses.r1(critic, x)[:3], alone, 1e-5)
