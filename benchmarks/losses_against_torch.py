"""Prints a table of relative differences from PyTorch of the losses, values and gradients.

PyTorch is not a dependency of this project. In a separate environment, from the project's root:

    python -m venv parity && parity/bin/pip install torch jax
    parity/bin/python -m benchmarks.losses_against_torch

Exit status 1 if a value differs by more than 1e-5, or a gradient by more than 1e-4, relative to the
largest entry. Gradients are those of the sum over the batch: by the inputs, or for the penalties
by the parameters of a two-layer critic (a second derivative).
"""

from collections.abc import Callable, Iterator
import itertools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as tf

from benchmarks import differences
from vaegan_jax import losses

jax.config.update('jax_platforms', 'cpu')
B, K, SHAPE = 64, 10, (8, 8, 3)
KEY, RNG = jax.random.key(0), np.random.default_rng(0)


class Row(NamedTuple):
  """A comparison: two functions of the same arrays."""

  name: str
  ours: Callable
  theirs: Callable
  arrays: tuple[np.ndarray, ...]  # to differentiate by


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
  """Normal noise, float32."""
  return (scale * RNG.normal(size=shape)).astype(np.float32)


def total(x: torch.Tensor) -> torch.Tensor:
  """Sums over everything but the batch."""
  return x.flatten(1).sum(1)


def torch_bce(logits: torch.Tensor, target: Any) -> torch.Tensor:
  """Binary cross-entropy of each logit."""
  return tf.binary_cross_entropy_with_logits(
    logits, torch.as_tensor(target).expand_as(logits), reduction='none'
  )


def torch_kl(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
  """KL divergence from N(0, I), in nats."""
  posterior = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
  return total(torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)))


def critic(tanh: Callable, params: Any, x: Any) -> Any:
  """Logits [B] of a two-layer critic."""
  return (tanh(x.reshape(B, -1) @ params[0]) @ params[1]).reshape(B)


def torch_gradient(params: Any, x: torch.Tensor) -> torch.Tensor:
  """Gradient [B, features] of the critic's logits by its input."""
  x = x.detach().requires_grad_()
  logits = critic(torch.tanh, params, x)
  return torch.autograd.grad(logits.sum(), x, create_graph=True)[0].flatten(1)


def torch_penalty(
  params: Any, real: torch.Tensor, fake: torch.Tensor, one_sided: bool
) -> torch.Tensor:
  """WGAN-GP's penalty [B], at the same mixtures of real and fake as ours."""
  u = np.asarray(jax.random.uniform(KEY, (B,) + (1,) * len(SHAPE), jnp.float32))
  excess = torch_gradient(params, fake + torch.tensor(u) * (real - fake)).norm(2, 1) - 1.0
  return (excess.clamp(min=0.0) if one_sided else excess) ** 2


ADVERSARIAL = dict(
  bce=dict(
    real=lambda logits: torch_bce(logits, 1.0),
    fake=lambda logits: torch_bce(logits, 0.0),
    fool=lambda logits: torch_bce(logits, 1.0),
  ),
  hinge=dict(
    real=lambda logits: tf.relu(1.0 - logits),
    fake=lambda logits: tf.relu(1.0 + logits),
    fool=lambda logits: -logits,
  ),
  least_squares=dict(
    real=lambda logits: 0.5 * (logits - 1.0) ** 2,
    fake=lambda logits: 0.5 * logits**2,
    fool=lambda logits: 0.5 * (logits - 1.0) ** 2,
  ),
  wasserstein=dict(
    real=lambda logits: -logits, fake=lambda logits: logits, fool=lambda logits: -logits
  ),
)


def adversarial_rows() -> Iterator[Row]:
  """The comparisons of the losses on logits."""
  logits, other = normal(B, scale=5.0), normal(B, scale=5.0)
  for kind, theirs in ADVERSARIAL.items():
    for part in ('real', 'fake', 'fool'):
      yield Row(f'{kind}_{part}', getattr(losses, f'{kind}_{part}'), theirs[part], (logits,))
  for part, theirs in (
    ('discriminator', lambda real, fake: tf.softplus(fake - real)),
    ('generator', lambda real, fake: tf.softplus(real - fake)),
  ):
    name = f'relativistic_{part}'
    yield Row(name, getattr(losses, name), theirs, (logits, other))


def likelihood_rows() -> Iterator[Row]:
  """The comparisons of KL, likelihoods, cross-entropies and feature matching."""
  x, y = normal(B, *SHAPE), normal(B, *SHAPE)
  bits = RNG.integers(0, 2, (B, *SHAPE)).astype(np.float32)
  flat_bits, flat_x = bits.reshape(B, -1), 5.0 * x.reshape(B, -1)
  labels = RNG.integers(0, K, B)
  mixture = RNG.dirichlet(np.ones(K), B).astype(np.float32)
  class_logits = normal(B, K, scale=5.0)

  def bernoulli(p):
    return losses.bernoulli_nll(p, bits)

  def sigmoid(p):
    return losses.sigmoid_cross_entropy(p, flat_bits)

  def softmax(p):
    return losses.softmax_cross_entropy(p, mixture)

  def softmax_with_labels(p):
    return losses.softmax_cross_entropy_with_labels(p, jnp.asarray(labels))

  def torch_softmax(target):
    return lambda p: tf.cross_entropy(p, torch.tensor(target), reduction='none')

  def torch_gaussian(p, t):
    return 0.5 * total(tf.mse_loss(p, t, reduction='none'))

  def torch_laplace(p, t):
    return total(tf.l1_loss(p, t, reduction='none'))

  def torch_matching(r, f):
    return 0.5 * (r.mean(0) - f.mean(0)).square().sum()

  yield Row('gaussian_kl', losses.gaussian_kl, torch_kl, (normal(B, 128), normal(B, 128)))
  yield Row('gaussian_nll', losses.gaussian_nll, torch_gaussian, (x, y))
  yield Row('laplace_nll', losses.laplace_nll, torch_laplace, (x, y))
  yield Row('bernoulli_nll', bernoulli, lambda p: total(torch_bce(p, bits)), (5.0 * x,))
  yield Row('sigmoid_cross_entropy', sigmoid, lambda p: total(torch_bce(p, flat_bits)), (flat_x,))
  yield Row('softmax_cross_entropy', softmax, torch_softmax(mixture), (class_logits,))
  yield Row(
    'softmax_cross_entropy_with_labels',
    softmax_with_labels,
    torch_softmax(labels),
    (class_logits,),
  )
  features = (normal(B, 256), normal(B, 256))
  yield Row('mean_feature_matching', losses.mean_feature_matching, torch_matching, features)


def penalty_rows() -> Iterator[Row]:
  """The comparisons of the penalties, by the parameters of a two-layer critic."""
  x, y = normal(B, *SHAPE), normal(B, *SHAPE)
  features = int(np.prod(SHAPE))
  # Gradient norms are around 1.
  params = (normal(features, 32, scale=features**-0.5), normal(32, 1, scale=0.3))

  def ours(params):
    return lambda x: critic(jnp.tanh, params, x)

  def squared(params, x):
    return 0.5 * torch_gradient(params, torch.tensor(x)).square().sum(1)

  yield Row('r1', lambda *p: losses.r1(ours(p), x), lambda *p: squared(p, x), params)
  yield Row('r2', lambda *p: losses.r2(ours(p), y), lambda *p: squared(p, y), params)
  for one_sided in (False, True):
    yield Row(
      'gradient_penalty, one-sided' if one_sided else 'gradient_penalty',
      lambda *p, o=one_sided: losses.gradient_penalty(ours(p), x, y, KEY, one_sided=o),
      lambda *p, o=one_sided: torch_penalty(p, torch.tensor(x), torch.tensor(y), o),
      params,
    )


def differences_of(row: Row) -> tuple[float, float]:
  """Relative differences of a row's value and of its gradient, the largest over the inputs."""
  value, pullback = jax.vjp(row.ours, *map(jnp.asarray, row.arrays))
  tensors = [torch.tensor(a, requires_grad=True) for a in row.arrays]
  expected = row.theirs(*tensors)
  expected.sum().backward()
  grads = zip(pullback(jnp.ones_like(value)), tensors)
  return (
    differences.relative(value, expected.detach()),
    max(differences.relative(grad, tensor.grad) for grad, tensor in grads),
  )


def main() -> int:
  worst = (0.0, 0.0)
  print(f'jax {jax.__version__}, torch {torch.__version__}; relative differences')
  print(f'{"loss":36}{"value":>10}{"gradient":>10}')
  for row in itertools.chain(adversarial_rows(), likelihood_rows(), penalty_rows()):
    found = differences_of(row)
    worst = tuple(map(max, worst, found))
    print(f'{row.name:36}{found[0]:10.1e}{found[1]:10.1e}')
  good = worst[0] <= 1e-5 and worst[1] <= 1e-4
  print(f'{"worst":36}{worst[0]:10.1e}{worst[1]:10.1e}  {differences.verdict(good)}')
  return int(not good)


if __name__ == '__main__':
  sys.exit(main())
