"""The Inception-v3 of 2015 whose 2048 features define FID (Heusel et al. 2017), in JAX.

You supply the weights: pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or torch-fidelity's
weights-inception-2015-12-05-6726825d.pth. With them a Frechet distance may be called FID, a kernel
distance KID, and the score of its logits the Inception Score.

It is the network of TensorFlow's graph, not torchvision's: average pools ignore the padding, the
last block uses max pooling, there are 1008 classes, and images are resized to 299 pixels as in
TensorFlow 1, by bilinear interpolation without antialiasing on a grid that starts at the corner.
"""

from collections.abc import Mapping
import functools
import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.features import batches, torch_file

SIZE = 299  # pixels
BATCH = 16  # images at a time
EPSILON = 1e-3  # of batch norm
DIGEST = '6726825d'  # the first digits of the weight file's SHA-256, also in its name
HIGHEST = jax.lax.Precision.HIGHEST  # without it features depend on the device


class Inception(NamedTuple):
  """The network; images are uint8 [N, H, W, C] of any size, grey or RGB."""

  name: str  # report it with every result
  weights: dict[str, Any]

  def features(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, 2048], non-negative: pool3."""
    return self._outputs(images)[0]

  def logits(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, 1008]."""
    return self._outputs(images)[1]

  def score_logits(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, 1008], without the bias: the input of the Inception Score."""
    return self._outputs(images)[1] - np.asarray(self.weights['fc'][1])

  def _outputs(self, images):
    return batches.outputs(functools.partial(_outputs, self.weights), images, BATCH)


def load(path: str | os.PathLike) -> Inception:
  """The network with the weights in the file `path`; its name says so if they are not FID's.

  Raises:
    ValueError: no such file, or it does not hold weights of this network.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(
      f'there is no file {path}: FID needs pt_inception-2015-12-05-{DIGEST}.pth, which '
      'pytorch-fid names in its README'
    )
  content = path.read_bytes()
  digest = hashlib.sha256(content).hexdigest()[:8]
  name = "FID's Inception-v3 (2015-12-05), 2048 features"
  if digest != DIGEST:
    name = f"Inception-v3 with weights {digest}, which are not FID's; 2048 features"
  return Inception(name, weights_of(torch_file.read_state_dict(content)))


def weights_of(state: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """{layer: (kernel HWIO, bias)} of a state_dict, with batch norm folded into the kernels.

  Raises:
    ValueError: these are not the weights of this network.
  """
  weights = {}
  try:
    for key in state:
      if key.endswith('.conv.weight'):
        layer = key.removesuffix('.conv.weight')
        scale, bias, mean, variance = (
          np.asarray(state[f'{layer}.bn.{part}'], np.float64)
          for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        scale = scale / np.sqrt(variance + EPSILON)
        kernel = np.asarray(state[key], np.float64).transpose(2, 3, 1, 0) * scale
        weights[layer] = kernel.astype(np.float32), (bias - mean * scale).astype(np.float32)
    weights['fc'] = np.ascontiguousarray(state['fc.weight'].T), state['fc.bias']
    found = jax.eval_shape(_outputs, weights, jax.ShapeDtypeStruct((1, 8, 8, 3), np.uint8))
    if [a.shape for a in found] != [(1, 2048), (1, 1008)]:
      raise ValueError(f'outputs would be {[a.shape for a in found]}')
  except (KeyError, ValueError, TypeError) as error:
    raise ValueError(
      'these are not the weights of the Inception-v3 of 2015 with 1008 classes: '
      f'{str(error).splitlines()[0]}'
    ) from error
  return weights


@jax.jit
def _outputs(weights, images):
  """(features [B, 2048], logits [B, 1008]) of uint8 images [B, H, W, C]."""

  def conv(layer, x, stride=1, padding='SAME'):
    kernel, bias = weights[layer]
    return jax.nn.relu(
      bias
      + jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision=HIGHEST,
      )
    )

  x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
  x = (_resized(x) - 128.0) / 128.0
  x = conv('Conv2d_1a_3x3', x, 2, 'VALID')
  x = conv('Conv2d_2a_3x3', x, 1, 'VALID')
  x = _max_pool(conv('Conv2d_2b_3x3', x))
  x = conv('Conv2d_4a_3x3', conv('Conv2d_3b_1x1', x), 1, 'VALID')
  x = _max_pool(x)  # [B, 35, 35, 192]
  for block in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d'):
    x = _block_35(functools.partial(_layer, conv, block), x)
  x = _to_17(functools.partial(_layer, conv, 'Mixed_6a'), x)
  for block in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'):
    x = _block_17(functools.partial(_layer, conv, block), x)
  x = _to_8(functools.partial(_layer, conv, 'Mixed_7a'), x)
  x = _block_8(functools.partial(_layer, conv, 'Mixed_7b'), x, _mean_pool)
  x = _block_8(functools.partial(_layer, conv, 'Mixed_7c'), x, _max_pool_same)
  features = x.mean((1, 2))
  kernel, bias = weights['fc']
  return features, jnp.matmul(features, kernel, precision=HIGHEST) + bias


def _layer(conv, block, names, x, **how):
  """x through these layers of a block, in order."""
  for name in names.split():
    x = conv(f'{block}.branch{name}', x, **how)
  return x


def _block_35(through, x):
  return jnp.concatenate(
    [
      through('1x1', x),
      through('5x5_1 5x5_2', x),
      through('3x3dbl_1 3x3dbl_2 3x3dbl_3', x),
      through('_pool', _mean_pool(x)),
    ],
    -1,
  )


def _to_17(through, x):
  down = functools.partial(through, stride=2, padding='VALID')
  return jnp.concatenate(
    [down('3x3', x), down('3x3dbl_3', through('3x3dbl_1 3x3dbl_2', x)), _max_pool(x)], -1
  )


def _block_17(through, x):
  return jnp.concatenate(
    [
      through('1x1', x),
      through('7x7_1 7x7_2 7x7_3', x),
      through('7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5', x),
      through('_pool', _mean_pool(x)),
    ],
    -1,
  )


def _to_8(through, x):
  down = functools.partial(through, stride=2, padding='VALID')
  return jnp.concatenate(
    [
      down('3x3_2', through('3x3_1', x)),
      down('7x7x3_4', through('7x7x3_1 7x7x3_2 7x7x3_3', x)),
      _max_pool(x),
    ],
    -1,
  )


def _block_8(through, x, pool):
  short, long = through('3x3_1', x), through('3x3dbl_1 3x3dbl_2', x)
  return jnp.concatenate(
    [
      through('1x1', x),
      through('3x3_2a', short),
      through('3x3_2b', short),
      through('3x3dbl_3a', long),
      through('3x3dbl_3b', long),
      through('_pool', pool(x)),
    ],
    -1,
  )


def _max_pool(x, stride=2, padding='VALID'):
  return jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding
  )


def _max_pool_same(x):
  return _max_pool(x, 1, 'SAME')


def _mean_pool(x):
  """Means over the pixels of 3x3 windows that lie inside the image."""
  total = lambda a: jax.lax.reduce_window(a, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), 'SAME')
  return total(x) / total(jnp.ones((1, *x.shape[1:3], 1)))


def _resized(x):
  """[B, 299, 299, C]: x [B, H, W, C] resized."""
  down, right = (_resizing(size) for size in x.shape[1:3])
  return jnp.einsum('ph,bhwc,qw->bpqc', down, x, right, precision=HIGHEST)


def _resizing(size):
  """float32 [299, size]: pixel i is at i size/299 of the original, between two of its pixels."""
  place = np.arange(SIZE) * (size / SIZE)
  low = np.floor(place).astype(int)
  matrix = np.zeros((SIZE, size))
  np.add.at(matrix, (np.arange(SIZE), low), 1.0 - (place - low))
  np.add.at(matrix, (np.arange(SIZE), np.minimum(low + 1, size - 1)), place - low)
  return matrix.astype(np.float32)
