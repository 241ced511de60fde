"""A small convolutional classifier or regressor, trained on the data it judges.

Training takes minutes on two CPU cores for images of 16 to 128 pixels. It is independent of every
generator, so the network is an impartial judge of samples; its name states its seed and data.
"""

import functools
import hashlib
import json
import logging
import os
import pathlib
from typing import Any, NamedTuple
import uuid

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
import optax

from vaegan_jax import losses
from vaegan_jax.features import batches, labelled
from vaegan_jax.paths import cache_home

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when the network or its training changes
BATCH = 250  # images at a time, when judging


class Network(nn.Module):
  """(features [B, F], outputs [B, K]) of images [B, H, W, C] in [-1, 1]."""

  num_outputs: int
  width: int
  num_features: int

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
    # The first layer leaves at most 63 pixels, cheap enough for a CPU.
    stride = max(1, images.shape[1] // 32)
    x, width = images, self.width
    x = nn.relu(norm()(nn.Conv(width, (2 * stride + 1,) * 2, stride, use_bias=False)(x)))
    while x.shape[1] > 4:
      width = min(2 * width, 8 * self.width)
      x = nn.relu(norm()(nn.Conv(width, (3, 3), 2, use_bias=False)(x)))
    x = x.reshape(len(x), -1)
    features = nn.relu(norm()(nn.Dense(self.num_features, use_bias=False)(x)))
    return features, nn.Dense(self.num_outputs)(features)


class Classifier(NamedTuple):
  """A trained network; its methods take uint8 [N, H, W, C] of the size it was trained on."""

  name: str  # report it with every result
  settings: dict[str, Any]  # of the training, for JSON
  variables: dict[str, Any]  # params, batch_stats, and scale and offset [K] of the outputs

  def features(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, F], non-negative: the layer below the outputs."""
    return self._outputs(images)[0]

  def logits(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, K]: logits of classes or attributes; the values of scores, in their units."""
    return self._outputs(images)[1]

  def predictions(self, images: ArrayLike) -> np.ndarray:
    """float32 [N, K]: probabilities of classes; 2 sigmoid - 1, in -1..1, of attributes; scores."""
    logits, kind = self.logits(images), self.settings['kind']
    if kind == 'classes':
      return np.asarray(jax.nn.softmax(logits))
    return np.tanh(logits / 2) if kind == 'attributes' else logits

  def _outputs(self, images):
    images = labelled.checked_images(images, self.settings['shape'])
    judge = functools.partial(_judge, _network(self.settings), self.variables)
    return batches.outputs(judge, images, BATCH)


def train(
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  seed: int = 0,
  steps: int = 2000,
  batch_size: int = 64,
  width: int = 24,
  num_features: int = 128,
  learning_rate: float = 2e-3,
  weight_decay: float = 1e-4,
  shift: int = 2,
  flip: bool = False,
) -> Classifier:
  """A Classifier trained on labelled images, uint8 [N, H, W, C].

  Args:
    images: square, 8 to 256 pixels, grey or colour.
    labels: integers [N] for classes; booleans or integers 0 and 1 [N, A] for attributes (sigmoids);
      floats [N, A] for scores (least squares).
    num_classes: K of classes; None takes the largest label plus one.
    seed: of initial weights, order and augmentation; another seed gives a second opinion.
    steps: AdamW updates of `batch_size` images; the rate decays from `learning_rate` by a cosine.
    width: channels of the first layer; each further layer doubles them, up to eight times.
    num_features: F.
    shift: largest random shift in pixels, up, down and sideways; edges are extended.
    flip: mirror half of the images; not for digits.

  Raises:
    ValueError: images or labels of another kind, fewer images than a batch, or divergence.
  """
  images = labelled.checked_images(images)
  labels, kind, num_outputs = labelled.checked_labels(labels, num_classes, len(images))
  if not 1 <= batch_size <= len(images) or steps < 1:
    raise ValueError(
      f'{steps} steps of {batch_size} images cannot be made from {len(images)} images'
    )
  # fmt: off
  settings = dict(
    format=FORMAT, kind=kind, num_outputs=num_outputs, shape=list(images.shape[1:]),
    images=len(images), data=labelled.digest(images, labels), seed=seed, steps=steps,
    batch_size=batch_size, width=width, num_features=num_features, learning_rate=learning_rate,
    weight_decay=weight_decay, shift=shift, flip=flip,
  )
  # fmt: on
  return _classifier(settings, _trained(settings, images, labels))


def load_or_train(
  images: ArrayLike, labels: ArrayLike, *, cache_dir: str | os.PathLike = '', **settings: Any
) -> Classifier:
  """The Classifier of train(images, labels, **settings), from the cache if it was trained before.

  `cache_dir` defaults to paths.cache_home() / 'features'. Its files are named by a hash of data and
  settings, so they are never out of date; a damaged one is trained again.
  """
  home = pathlib.Path(cache_dir).expanduser() if cache_dir else cache_home() / 'features'
  data = labelled.digest(np.asarray(images), np.asarray(labels))
  identity = json.dumps([FORMAT, data, sorted(settings.items())])
  path = home / f'classifier-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.npz'
  if path.exists():
    try:
      return load(path)
    except ValueError as error:
      log.warning('%s: training it again', error)
  log.info('training a classifier, which is then kept as %s', path)
  classifier = train(images, labels, **settings)
  save(classifier, path)
  return classifier


def save(classifier: Classifier, path: str | os.PathLike) -> None:
  """Writes a Classifier to an .npz file, which appears only once it is complete."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{uuid.uuid4().hex}.tmp')
  arrays: dict[str, Any] = dict(
    settings=json.dumps(classifier.settings),
    **flax.traverse_util.flatten_dict(classifier.variables, sep='/'),
  )
  try:
    with open(temporary, 'wb') as file:
      np.savez(file, **arrays)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike) -> Classifier:
  """The Classifier in an .npz file of save(); ValueError if it is not one or damaged."""
  try:
    with open(path, 'rb') as file, np.load(file) as content:
      settings = json.loads(str(content['settings']))
      flat = {name: content[name] for name in content.files if name != 'settings'}
    if settings['format'] != FORMAT:
      raise ValueError(f'format {settings["format"]}, expected {FORMAT}')
    return _classifier(settings, flax.traverse_util.unflatten_dict(flat, sep='/'))
  except Exception as error:  # zipfile, zlib, json and numpy each raise their own
    raise ValueError(f'{path} is not a classifier of this version, or damaged ({error})') from error


def _classifier(settings, variables):
  s = settings
  name = (
    f'small CNN of width {s["width"]} for {s["num_outputs"]} {s["kind"]}, trained {s["steps"]} '
    f'steps on {s["images"]} images {"x".join(map(str, s["shape"]))} ({s["data"][:8]}), seed '
    f'{s["seed"]}'
  )
  return Classifier(name, settings, variables)


def _network(settings):
  return Network(settings['num_outputs'], settings['width'], settings['num_features'])


def _trained(settings, images, labels):
  """A Classifier's variables after training."""
  network, kind, steps = _network(settings), settings['kind'], settings['steps']
  scores = kind == 'scores'
  scale = labels.std(0) if scores else np.ones(settings['num_outputs'])
  outputs = dict(
    scale=np.where(scale > 0, scale, 1.0).astype(np.float32),
    offset=(labels.mean(0) if scores else np.zeros(settings['num_outputs'])).astype(np.float32),
  )
  if scores:
    labels = (labels - outputs['offset']) / outputs['scale']
  rng = np.random.default_rng(settings['seed'])
  optimizer = _optimizer(settings['learning_rate'], settings['weight_decay'], steps)
  variables = _initial(network, images.shape[1:], jax.random.key(settings['seed']))
  state = dict(variables, opt=optimizer.init(variables['params']))
  order = labelled.order(rng, len(images), settings['batch_size'], steps)
  for step, chosen in enumerate(order, 1):
    batch = labelled.augmented(images[chosen], rng, settings['shift'], settings['flip'])
    state, loss = _update(network, optimizer, kind, state, batch, labels[chosen])
    if step % 200 == 0 or step == steps:
      loss = float(loss)  # also waits, so that batches do not pile up
      log.info('classifier: step %d of %d, loss %.4f', step, steps, loss)
      if not np.isfinite(loss):
        raise ValueError(
          f'the classifier diverged by step {step}: give a learning_rate below '
          f'{settings["learning_rate"]}'
        )
  return jax.device_get(
    dict(params=state['params'], batch_stats=state['batch_stats'], outputs=outputs)
  )


@functools.lru_cache  # one object per settings, so that further seeds compile nothing
def _optimizer(learning_rate, weight_decay, steps):
  schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(100, steps // 10), steps)
  return optax.adamw(schedule, weight_decay=weight_decay)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _initial(network, shape, key):
  return network.init(key, jnp.zeros((1, *shape)), train=True)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _update(network, optimizer, kind, state, images, labels):
  """(state after a step, loss before it)."""

  def loss(params):
    (_, logits), moved = network.apply(
      dict(params=params, batch_stats=state['batch_stats']),
      _scaled(images),
      train=True,
      mutable=['batch_stats'],
    )
    if kind == 'classes':
      each = losses.softmax_cross_entropy_with_labels(logits, labels)
    elif kind == 'attributes':
      each = losses.sigmoid_cross_entropy(logits, labels)
    else:
      each = losses.gaussian_nll(logits, labels)
    return each.mean(), moved

  (value, moved), grads = jax.value_and_grad(loss, has_aux=True)(state['params'])
  updates, opt = optimizer.update(grads, state['opt'], state['params'])
  return dict(moved, params=optax.apply_updates(state['params'], updates), opt=opt), value


@functools.partial(jax.jit, static_argnums=0)
def _judge(network, variables, images):
  """(features [B, F], logits [B, K]) of uint8 images [B, H, W, C]."""
  features, logits = network.apply(
    {k: variables[k] for k in ('params', 'batch_stats')}, _scaled(images)
  )
  return features, logits * variables['outputs']['scale'] + variables['outputs']['offset']


def _scaled(images):
  return images.astype(jnp.float32) / 127.5 - 1.0
