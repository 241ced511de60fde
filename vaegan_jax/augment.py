"""Augmentation of images on the device, as in the code of Larsen et al. 2016; neither paper mentions it."""

import jax
import jax.numpy as jnp
from jax.scipy import ndimage

# Standard deviations in the authors' code for CelebA: pixels at 64x64, factor, radians, exponent, factor, turns.
LARSEN = dict(shift=2.0, scale=0.01, rotation=0.01, gamma=0.05, contrast=0.05, hue=0.01)
DRAWS = 7  # normal numbers that an image takes
# Brightness and two axes of colour (NTSC's YIQ), so that a turn of the latter changes the hue train.
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def moved(x, noise, *, shift, scale, rotation):
  """Images [B, H, W, C]: x shifted, scaled and turned about its centre; borders are drawn out.

  Args:
    noise: [B, 4] ~ N(0, I): down, right, scale, rotation; times the standard deviations given.
  """
  size = jnp.array(x.shape[1:3], jnp.float32)
  centre = (size - 1) / 2
  grid = (
    jnp.stack(jnp.meshgrid(*map(jnp.arange, x.shape[1:3]), indexing='ij'), -1) - centre
  )  # [H, W, 2]

  def one(image, n):
    turn, factor = rotation * n[3], jnp.exp(scale * n[2])
    matrix = jnp.array([[jnp.cos(turn), -jnp.sin(turn)], [jnp.sin(turn), jnp.cos(turn)]]) / factor
    source = grid @ matrix + centre + shift * n[:2] * size / 64
    look = lambda channel: ndimage.map_coordinates(
      channel, list(jnp.moveaxis(source, -1, 0)), 1, 'nearest'
    )
    return jax.vmap(look, -1, -1)(image)

  return jax.vmap(one)(x, noise)


def recoloured(x, noise, *, gamma, contrast, hue):
  """Images [B, H, W, C] in [-1, 1]: x with another gamma, contrast about its mean and, of RGB, hue.

  Args:
    noise: [B, 3] ~ N(0, I): gamma (log exponent), contrast (log factor), hue; times the deviations given.
  """
  n = noise[:, :, None, None, None]
  x = ((x + 1) / 2).clip(0, 1) ** jnp.exp(
    gamma * n[:, 0]
  )  # interpolation leaves black just below -1
  mean = x.mean((1, 2, 3), keepdims=True)
  x = mean + (x - mean) * jnp.exp(contrast * n[:, 1])
  if x.shape[-1] == 3:
    turn, to_yiq = 2 * jnp.pi * hue * noise[:, 2], jnp.array(YIQ)
    zero, one, c, s = jnp.zeros_like(turn), jnp.ones_like(turn), jnp.cos(turn), jnp.sin(turn)
    turned = jnp.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).reshape(-1, 3, 3)
    x = jnp.einsum('bhwc,bdc->bhwd', x, jnp.linalg.inv(to_yiq) @ turned @ to_yiq)
  return 2 * x.clip(0, 1) - 1


def larsen(x, noise):
  """Images [B, H, W, C] in [-1, 1], x augmented as the code of Larsen et al. augments CelebA.

  Translation, scale, rotation, gamma, contrast and hue, by noise [B, DRAWS] ~ N(0, I) and LARSEN's
  deviations (these are the code's; the formulas of gamma, contrast and hue are ours). The code does it
  once to the whole picture and keeps 600,000 results; here each step does it anew, at the training size.
  """
  part = lambda *names: {k: LARSEN[k] for k in names}
  x = moved(x, noise[:, :4], **part('shift', 'scale', 'rotation'))
  return recoloured(x, noise[:, 4:], **part('gamma', 'contrast', 'hue'))


AUGMENTATIONS = dict(none=None, larsen=larsen)
