"""Augmentation: zero noise changes nothing, and each deviation changes what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import augment
from vaegan_jax.step import Draws, draw

OFF = dict(shift=0.0, scale=0.0, rotation=0.0)
PLAIN = dict(gamma=0.0, contrast=0.0, hue=0.0)


def pictures(count=2, size=16, channels=3):
  return jnp.asarray(
    np.random.default_rng(0).uniform(-0.9, 0.9, (count, size, size, channels)), jnp.float32
  )


def only(index, width, value=1.0, count=2):
  return jnp.zeros((count, width)).at[:, index].set(value)


@pytest.mark.parametrize('channels', [1, 3])
def test_noise_zero_changes_nothing(channels):
  x = pictures(channels=channels)
  np.testing.assert_allclose(augment.larsen(x, jnp.zeros((2, augment.DRAWS))), x, atol=1e-5)


def test_a_shift_is_in_pixels_at_64_and_extends_edges():
  x = pictures(size=32)  # where 4 pixels at 64 are 2
  down = augment.warped(x, only(0, 4), **{**OFF, 'shift': 4.0})
  np.testing.assert_allclose(down[:, :-2], x[:, 2:], atol=1e-5)
  np.testing.assert_allclose(down[:, -2:], jnp.repeat(x[:, -1:], 2, 1), atol=1e-5)
  right = augment.warped(x, only(1, 4, -1.0), **{**OFF, 'shift': 4.0})
  np.testing.assert_allclose(right[:, :, 2:], x[:, :, :-2], atol=1e-5)


def test_a_quarter_turn_and_a_scale_of_two():
  x = pictures(size=8)
  np.testing.assert_allclose(
    augment.warped(x, only(3, 4), **{**OFF, 'rotation': np.pi / 2}),
    np.rot90(x, 1, (1, 2)),
    atol=1e-5,
  )
  smooth = jnp.broadcast_to(jnp.linspace(-1, 1, 9)[:, None, None], (2, 9, 9, 1))
  np.testing.assert_allclose(
    augment.warped(smooth, only(2, 4), **{**OFF, 'scale': np.log(2.0)}), smooth / 2, atol=1e-5
  )


def test_colours():
  x = pictures()
  gamma = augment.recoloured(x, only(0, 3), **{**PLAIN, 'gamma': np.log(2.0)})
  np.testing.assert_allclose((gamma + 1) / 2, jnp.square((x + 1) / 2), atol=1e-5)
  contrast = augment.recoloured(x * 0.2, only(1, 3), **{**PLAIN, 'contrast': np.log(2.0)})
  np.testing.assert_allclose(contrast.std((1, 2, 3)), 2 * (x * 0.2).std((1, 2, 3)), rtol=1e-4)
  grey = jnp.repeat(x[..., :1], 3, -1)
  np.testing.assert_allclose(
    augment.recoloured(grey, only(2, 3), **{**PLAIN, 'hue': 0.3}), grey, atol=5e-3
  )
  hue = augment.recoloured(x * 0.1, only(2, 3), **{**PLAIN, 'hue': 0.5})
  weights = jnp.array(augment.YIQ[0])
  np.testing.assert_allclose(hue @ weights, x * 0.1 @ weights, atol=1e-4)
  assert float(jnp.abs(hue - x * 0.1).max()) > 0.05


@pytest.mark.slow
def test_a_step_augments_each_image_with_its_own_noise():
  same = jnp.repeat(pictures(1), 4, 0)
  x, _ = draw(Draws(2, augment=augment.larsen), jax.random.key(0), same, None)
  assert x.shape == same.shape and float(jnp.abs(x).max()) <= 1.0
  assert all(float(jnp.abs(x[i] - x[j]).max()) > 0.01 for i in range(4) for j in range(i))


def test_black_slightly_below_the_range_stays_black():
  """Interpolation leaves it there; a negative number to a fractional power is NaN."""
  x = jnp.full((2, 16, 16, 1), -1.0 - 1e-6)
  augmented = augment.recoloured(x, jnp.ones((2, 3)), gamma=0.05, contrast=0.05, hue=0.01)
  np.testing.assert_allclose(augmented, -1.0, atol=1e-5)
