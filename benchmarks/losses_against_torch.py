"""Prints a table of relative differences from PyTorch of the losses, values and gradients.

PyTorch is no dependency of this project. In an environment of its own:

    python -m venv parity && parity/bin/pip install torch jax
    cd <this repository> && parity/bin/python benchmarks/losses_against_torch.py

Exit status 1 if a value differs by more than 1e-5, or a gradient by more than 1e-4, relative to the
largest entry. Gradients are those of the sum over the batch: for the inputs, or for the penalties
for the parameters of a two-layer critic (a second derivative).
"""

import os
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as tf

from vaegan_jax import losses

B, K, SHAPE = 64, 10, (8, 8, 3)
KEY = jax.random.key(0)


def total(x):
  return x.flatten(1).sum(1)


def torch_bce(logits, target):
  return tf.binary_cross_entropy_with_logits(
    logits, torch.as_tensor(target).expand_as(logits), reduction='none'
  )


def torch_kl(mean, logvar):
  posterior = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
  return total(torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)))


def critic(tanh, params, x):
  return (tanh(x.reshape(B, -1) @ params[0]) @ params[1]).reshape(B)


def torch_gradient(params, x):
  x = x.detach().requires_grad_()
  logits = critic(torch.tanh, params, x)
  return torch.autograd.grad(logits.sum(), x, create_graph=True)[0].flatten(1)


def torch_penalty(params, real, fake, one_sided):
  u = np.asarray(jax.random.uniform(KEY, (B,) + (1,) * len(SHAPE), jnp.float32))
  excess = torch_gradient(params, fake + torch.tensor(u) * (real - fake)).norm(2, 1) - 1.0
  return (excess.clamp(min=0.0) if one_sided else excess) ** 2


def rows():
  """(name, ours, torch's, differentiable arrays) of every comparison."""
  rng = np.random.default_rng(0)
  draw = lambda *shape, scale=1.0: (scale * rng.normal(size=shape)).astype(np.float32)
  logits, other = draw(B, scale=5.0), draw(B, scale=5.0)
  x, y = draw(B, *SHAPE), draw(B, *SHAPE)
  bits = rng.integers(0, 2, (B, *SHAPE)).astype(np.float32)
  labels = rng.integers(0, K, B)
  mixture = rng.dirichlet(np.ones(K), B).astype(np.float32)
  features = int(np.prod(SHAPE))
  params = (draw(features, 32, scale=features**-0.5), draw(32, 1, scale=0.3))  # norms around 1
  ours = lambda params: lambda x: critic(jnp.tanh, params, x)

  for kind, real, fake, fool in (
    ('bce', lambda l: torch_bce(l, 1.0), lambda l: torch_bce(l, 0.0), lambda l: torch_bce(l, 1.0)),
    ('hinge', lambda l: tf.relu(1.0 - l), lambda l: tf.relu(1.0 + l), lambda l: -l),
    (
      'least_squares',
      lambda l: 0.5 * (l - 1.0) ** 2,
      lambda l: 0.5 * l**2,
      lambda l: 0.5 * (l - 1.0) ** 2,
    ),
    ('wasserstein', lambda l: -l, lambda l: l, lambda l: -l),
  ):
    for part, theirs in (('real', real), ('fake', fake), ('fool', fool)):
      yield f'{kind}_{part}', getattr(losses, f'{kind}_{part}'), theirs, (logits,)
  yield (
    'relativistic_discriminator',
    losses.relativistic_discriminator,
    lambda r, f: tf.softplus(f - r),
    (logits, other),
  )
  yield (
    'relativistic_generator',
    losses.relativistic_generator,
    lambda r, f: tf.softplus(r - f),
    (logits, other),
  )
  yield 'gaussian_kl', losses.gaussian_kl, torch_kl, (draw(B, 128), draw(B, 128))
  yield (
    'gaussian_nll',
    losses.gaussian_nll,
    lambda p, t: 0.5 * total(tf.mse_loss(p, t, reduction='none')),
    (x, y),
  )
  yield (
    'laplace_nll',
    losses.laplace_nll,
    lambda p, t: total(tf.l1_loss(p, t, reduction='none')),
    (x, y),
  )
  yield (
    'bernoulli_nll',
    lambda p: losses.bernoulli_nll(p, bits),
    lambda p: total(torch_bce(p, bits)),
    (5.0 * x,),
  )
  yield (
    'sigmoid_cross_entropy',
    lambda p: losses.sigmoid_cross_entropy(p, bits.reshape(B, -1)),
    lambda p: total(torch_bce(p, bits.reshape(B, -1))),
    (5.0 * x.reshape(B, -1),),
  )
  yield (
    'softmax_cross_entropy',
    lambda p: losses.softmax_cross_entropy(p, mixture),
    lambda p: tf.cross_entropy(p, torch.tensor(mixture), reduction='none'),
    (draw(B, K, scale=5.0),),
  )
  yield (
    'softmax_cross_entropy_with_labels',
    lambda p: losses.softmax_cross_entropy_with_labels(p, jnp.asarray(labels)),
    lambda p: tf.cross_entropy(p, torch.tensor(labels), reduction='none'),
    (draw(B, K, scale=5.0),),
  )
  yield (
    'mean_feature_matching',
    losses.mean_feature_matching,
    lambda r, f: 0.5 * (r.mean(0) - f.mean(0)).square().sum(),
    (draw(B, 256), draw(B, 256)),
  )
  yield (
    'r1',
    lambda *p: losses.r1(ours(p), x),
    lambda *p: 0.5 * torch_gradient(p, torch.tensor(x)).square().sum(1),
    params,
  )
  yield (
    'r2',
    lambda *p: losses.r2(ours(p), y),
    lambda *p: 0.5 * torch_gradient(p, torch.tensor(y)).square().sum(1),
    params,
  )
  for one_sided in (False, True):
    yield (
      'gradient_penalty' + ', one-sided' * one_sided,
      lambda *p, o=one_sided: losses.gradient_penalty(ours(p), x, y, KEY, one_sided=o),
      lambda *p, o=one_sided: torch_penalty(p, torch.tensor(x), torch.tensor(y), o),
      params,
    )


def difference(ours, theirs):
  """Largest difference, relative to the largest entry."""
  theirs = theirs.detach().numpy()
  return np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def main():
  worst = [0.0, 0.0]
  print(f'jax {jax.__version__}, torch {torch.__version__}; relative differences')
  print(f'{"loss":36}{"value":>10}{"gradient":>10}')
  for name, ours, theirs, arrays in rows():
    value, pullback = jax.vjp(ours, *map(jnp.asarray, arrays))
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*tensors)
    expected.sum().backward()
    errors = (
      difference(value, expected),
      max(difference(g, t.grad) for g, t in zip(pullback(jnp.ones_like(value)), tensors)),
    )
    worst = [max(pair) for pair in zip(worst, errors)]
    print(f'{name:36}{errors[0]:10.1e}{errors[1]:10.1e}')
  good = worst[0] <= 1e-5 and worst[1] <= 1e-4
  print(f'{"worst":36}{worst[0]:10.1e}{worst[1]:10.1e}  ' + ('good' if good else 'BAD'))
  return not good


if __name__ == '__main__':
  sys.exit(main())
