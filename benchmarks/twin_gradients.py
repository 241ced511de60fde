"""Our losses and gradients of one VAE/GAN step against those of the PyTorch twin, leaf by leaf.

The part of benchmarks/step.py behind --check. The step of ours passes the discriminator once and
its target takes no gradient, so the twin's losses are not a table of ours. Here our networks and
losses are combined as the twin's two passes, with the twin's epsilon in batch norm.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import differences
from vaegan_jax import losses
from vaegan_jax.model import ADVERSARIAL
from vaegan_jax.networks import larsen

LIMIT = 1e-4  # relative
LOSSES = ('kl', 'like', 'gan')
MAP = (256, 8, 8)  # channels, height, width of the maps that enter or leave a full layer, flattened
TRANSPOSED = ('conv.0', 'conv.3', 'conv.6')  # of the generator
# fmt: off
# Layers by name, the twin's and ours.
NAMES = dict(
    enc=('encoder', {
        'conv.0': 'conv0', 'conv.1': 'norm0', 'conv.3': 'conv1', 'conv.4': 'norm1',
        'conv.6': 'conv2', 'conv.7': 'norm2', 'fc.0': 'full', 'fc.1': 'norm_full',
        'mu': 'mean', 'lv': 'logvar'}),
    dec=('generator', {
        'fc.0': 'full', 'fc.1': 'norm_full', 'conv.0': 'conv0', 'conv.1': 'norm0',
        'conv.3': 'conv1', 'conv.4': 'norm1', 'conv.6': 'conv2', 'conv.7': 'norm2',
        'conv.9': 'image'}),
    dis=('discriminator', {
        'lower.0': 'conv0', 'lower.2': 'conv1', 'lower.3': 'norm1', 'lower.5': 'conv2',
        'lower.6': 'norm2', 'lower.8': 'conv3', 'bn': 'norm3', 'fc.0': 'full',
        'fc.1': 'norm_full', 'fc.3': 'logit'}))
# fmt: on


def to_ours(layer: str, network: str, value: np.ndarray) -> np.ndarray:
  """One array of the twin's (a parameter or its gradient) in our layout."""
  if value.ndim == 4:  # [out, in, k, k]; transposed convolutions have [in, out, k, k], flipped
    transposed = network == 'dec' and layer in TRANSPOSED
    value = value.transpose(2, 3, 0, 1)[::-1, ::-1] if transposed else value.transpose(2, 3, 1, 0)
  elif value.ndim == 2:
    value = value.T
  for axis in range(value.ndim):  # flattened as [C, H, W] there, as [H, W, C] here
    if value.ndim < 4 and value.shape[axis] == np.prod(MAP):
      maps = value.reshape(*value.shape[:axis], *MAP, *value.shape[axis + 1 :])
      value = np.moveaxis(maps, axis, axis + 2).reshape(value.shape)
  return value


def our_tree(gold: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
  """{network: {layer: {leaf: array}}} of the twin's PREFIX/NETWORK.LAYER.weight and .bias."""
  tree = {}
  for short, (network, layers) in NAMES.items():
    for theirs, layer in layers.items():
      for kind in ('weight', 'bias'):
        if (key := f'{prefix}/{short}.{theirs}.{kind}') in gold:
          value = to_ours(theirs, short, gold[key])
          leaf = 'bias' if kind == 'bias' else 'kernel' if value.ndim > 1 else 'scale'
          tree.setdefault(network, {}).setdefault(layer, {})[leaf] = value
  return tree


def twin_losses(
  networks: Mapping[str, Any],
  params: Mapping[str, Any],
  x: jax.Array,
  posterior: jax.Array,
  prior: jax.Array,
) -> dict[str, jax.Array]:
  """The twin's losses {'kl', 'like', 'gan'}, means over the batch, by our networks."""

  def run(name, *inputs):
    variables = {'params': params[name]}
    outputs, _ = networks[name].apply(variables, *inputs, None, train=True, mutable=['batch_stats'])
    return outputs

  mean, logvar = run('encoder', x)
  z = mean + jnp.exp(logvar / 2) * posterior
  reconstructions, samples = run('generator', z), run('generator', prior)
  _, features = run('discriminator', jnp.concatenate([reconstructions, x]))
  logits, _ = run('discriminator', jnp.concatenate([x, samples]))
  on_real, on_fake, _ = ADVERSARIAL['bce']
  terms = dict(
    kl=losses.gaussian_kl(mean, logvar),
    like=losses.gaussian_nll(*jnp.split(features, 2)),
    gan=on_real(logits[: len(x)]) + on_fake(logits[len(x) :]),
  )
  return {name: term.mean() for name, term in terms.items()}


def losses_and_gradients(
  networks: Mapping[str, Any], gold: Mapping[str, np.ndarray], params: Mapping, dtype: Any
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
  """(losses, {network: gradient of its row}), in the arithmetic of `dtype`."""
  rows = dict(
    encoder=(1.0, 1.0, 0.0),
    generator=(0.0, float(gold['gamma']), -1.0),
    discriminator=(0.0, 0.0, 1.0),
  )
  own = {name: network.clone(dtype=dtype) for name, network in networks.items()}
  params, x, posterior, prior = jax.tree.map(
    lambda a: jnp.asarray(np.ascontiguousarray(a), dtype),
    (params, gold['x'], gold['eps'], gold['zp']),
  )

  @jax.jit
  def run(params, x, posterior, prior):
    values, pull = jax.vjp(lambda p: twin_losses(own, p, x, posterior, prior), params)
    grads = {
      network: pull(dict(zip(LOSSES, map(dtype, weights))))[0][network]
      for network, weights in rows.items()
    }
    return values, grads

  # PyTorch's epsilon is 1e-5 everywhere. What our code computes in float32 by name is in `dtype`.
  with mock.patch.object(larsen, 'CONV', larsen.FULL), mock.patch.object(jnp, 'float32', dtype):
    return run(params, x.transpose(0, 2, 3, 1), posterior, prior)


def check(path: str, networks: Mapping[str, Any]) -> int:
  """Prints the relative differences from the twin's; returns 1 if one exceeds LIMIT, else 0."""
  jax.config.update('jax_default_matmul_precision', 'highest')
  jax.config.update('jax_enable_x64', True)
  gold = np.load(path)
  params, expected = (our_tree(gold, prefix) for prefix in ('w', 'g'))

  def errors(dtype):
    values, grads = losses_and_gradients(networks, gold, params, dtype)
    pairs = {f'loss {name}': (value, gold[f'loss/{name}']) for name, value in values.items()}
    leaves = jax.tree_util.tree_leaves_with_path(grads)
    for (at, got), want in zip(leaves, jax.tree.leaves(expected), strict=True):
      pairs[jax.tree_util.keystr(at, simple=True, separator='/')] = got, want
    return {
      name: float(np.linalg.norm(np.asarray(got, np.float64) - want) / np.linalg.norm(want))
      for name, (got, want) in pairs.items()
    }

  double, single = errors(jnp.float64), errors(jnp.float32)
  print(f'{"relative difference":32s}{"float64":>10s}{"float32":>10s}')
  for name in double:
    print(f'{name:32s}{double[name]:10.1e}{single[name]:10.1e}')
  worst = max(double.values())
  good = worst <= LIMIT
  print(f'{"worst":32s}{worst:10.1e}{max(single.values()):10.1e}  {differences.verdict(good)}')
  return int(not good)
