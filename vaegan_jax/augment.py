"""Image augmentation on the device, as in the code of Larsen et al. 2016; no paper mentions it."""

import jax
import jax.numpy as jnp
from jax.scipy import ndimage

# Standard deviations in the authors' code for CelebA: pixels at 64x64, log factor, radians, log
# exponent, log factor, turns.
LARSEN = dict(shift=2.0, scale=0.01, rotation=0.01, gamma=0.05, contrast=0.05, hue=0.01)
DRAWS = 7  # normal numbers per image
# Brightness and two axes of colour (NTSC's YIQ); rotating the latter two changes the hue.
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def warped(
  x: jax.Array, noise: jax.Array, *, shift: float, scale: float, rotation: float
) -> jax.Array:
  """Images [B, H, W, C]: x shifted, scaled and rotated about its centre, its edges extended.

  Args:
    x: images [B, H, W, C].
    noise: [B, 4] ~ N(0, I): down, right, scale, rotation, in units of the deviations below.
    shift: standard deviation in pixels at 64x64.
    scale: of the log factor.
    rotation: in radians.
  """
  size = jnp.array(x.shape[1:3], jnp.float32)
  centre = (size - 1) / 2
  pixels = jnp.stack(jnp.meshgrid(*map(jnp.arange, x.shape[1:3]), indexing='ij'), -1)
  grid = pixels - centre  # [H, W, 2]

  def warp(image, n):
    angle, factor = rotation * n[3], jnp.exp(scale * n[2])
    matrix = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    source = grid @ (matrix / factor) + centre + shift * n[:2] * size / 64

    def interpolate(channel):
      return ndimage.map_coordinates(channel, list(jnp.moveaxis(source, -1, 0)), 1, 'nearest')

    return jax.vmap(interpolate, -1, -1)(image)

  return jax.vmap(warp)(x, noise)


def recoloured(
  x: jax.Array, noise: jax.Array, *, gamma: float, contrast: float, hue: float
) -> jax.Array:
  """Images [B, H, W, C] in [-1, 1]: x with gamma, contrast about the mean and, if RGB, hue changed.

  Args:
    x: images [B, H, W, C] in [-1, 1].
    noise: [B, 3] ~ N(0, I): gamma, contrast, hue, in units of the deviations below.
    gamma: standard deviation of the log exponent.
    contrast: of the log factor.
    hue: in turns.
  """
  n = noise[:, :, None, None, None]
  x = ((x + 1) / 2).clip(0, 1)  # interpolation leaves black just below -1
  x = x ** jnp.exp(gamma * n[:, 0])
  mean = x.mean((1, 2, 3), keepdims=True)
  x = mean + (x - mean) * jnp.exp(contrast * n[:, 1])
  if x.shape[-1] == 3:
    angle, to_yiq = 2 * jnp.pi * hue * noise[:, 2], jnp.array(YIQ)
    zero, one, c, s = jnp.zeros_like(angle), jnp.ones_like(angle), jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).reshape(-1, 3, 3)
    x = jnp.einsum('bhwc,bdc->bhwd', x, jnp.linalg.inv(to_yiq) @ turn @ to_yiq)
  return 2 * x.clip(0, 1) - 1


def larsen(x: jax.Array, noise: jax.Array) -> jax.Array:
  """Images [B, H, W, C] in [-1, 1]: x augmented as Larsen et al.'s code augments CelebA.

  Translation, scale, rotation, gamma, contrast and hue, with LARSEN's deviations and noise
  [B, DRAWS] ~ N(0, I). The deviations are the code's; the formulas of gamma, contrast and hue are
  ours. The code augments each whole picture in advance and keeps 600,000 results; here every step
  augments anew, at the training size.
  """
  deviations = lambda *names: {name: LARSEN[name] for name in names}
  x = warped(x, noise[:, :4], **deviations('shift', 'scale', 'rotation'))
  return recoloured(x, noise[:, 4:], **deviations('gamma', 'contrast', 'hue'))


AUGMENTATIONS = dict(none=None, larsen=larsen)
