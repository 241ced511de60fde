"""A small convolutional classifier or regressor, trained on the data that it is to judge.

Minutes on two CPU cores for images of 16 to 128 pixels. It is trained apart from every generator, so
that its opinion of samples is an independent one; its seed and data stand in its name.
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
import optax

from vaegan_jax import files, losses
from vaegan_jax.features import batches

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when the network or its training changes
BATCH = 250  # images at a time, when judging
KINDS = ('classes', 'attributes', 'scores')


class Network(nn.Module):
  """(features [B, F], outputs [B, K]) of images [B, H, W, C] in [-1, 1]."""

  num_outputs: int
  width: int
  num_features: int

  @nn.compact
  def __call__(self, images, train=False):
    norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
    stride = max(
      1, images.shape[1] // 32
    )  # the first layer leaves at most 63 pixels, cheap enough for a CPU
    x, width = images, self.width
    x = nn.relu(norm()(nn.Conv(width, (2 * stride + 1,) * 2, stride, use_bias=False)(x)))
    while x.shape[1] > 4:
      width = min(2 * width, 8 * self.width)
      x = nn.relu(norm()(nn.Conv(width, (3, 3), 2, use_bias=False)(x)))
    x = x.reshape(len(x), -1)
    features = nn.relu(norm()(nn.Dense(self.num_features, use_bias=False)(x)))
    return features, nn.Dense(self.num_outputs)(features)


class Classifier(NamedTuple):
  """A trained network; arrays of images are uint8 [N, H, W, C] of the size that it was trained on."""

  name: str  # carry it with every result
  settings: dict[str, Any]  # what it was trained with, JSON
  variables: dict[str, Any]  # params, batch_stats, and scale and offset [K] of the outputs

  def features(self, images):
    """float32 [N, F], non-negative: the layer below the outputs."""
    return self._outputs(images)[0]

  def logits(self, images):
    """float32 [N, K]: logits of classes or attributes; of scores their values, in their units."""
    return self._outputs(images)[1]

  def predictions(self, images):
    """float32 [N, K]: probabilities of classes; 2 sigmoid - 1, in -1..1, of attributes; scores."""
    logits, kind = self.logits(images), self.settings['kind']
    if kind == 'classes':
      return np.asarray(jax.nn.softmax(logits))
    return np.tanh(logits / 2) if kind == 'attributes' else logits

  def _outputs(self, images):
    images = _checked_images(images, self.settings['shape'])
    judge = functools.partial(_judge, _network(self.settings), self.variables)
    return batches.outputs(judge, images, BATCH)


def train(
  images,
  labels,
  *,
  num_classes=None,
  seed=0,
  steps=2000,
  batch_size=64,
  width=24,
  num_features=128,
  learning_rate=2e-3,
  weight_decay=1e-4,
  shift=2,
  flip=False,
) -> Classifier:
  """A Classifier trained on images, uint8 [N, H, W, C], and what they are labelled with.

  Args:
    images: square, 8 to 256 pixels, grey or colour.
    labels: integers [N] for classes; booleans or integers 0 and 1 [N, A] for attributes, each by a
      sigmoid; floats [N, A] for scores, by least squares.
    num_classes: K of classes; None for the largest label and one.
    seed: of initial weights, order and augmentation. Two judges with other seeds are two opinions.
    steps: updates of `batch_size` images by AdamW, its rate falling from `learning_rate` as a cosine.
    width: channels of the first layer; doubled in each further one, up to eight times.
    num_features: F.
    shift: pixels by which images are moved at most, either way; their borders are drawn out.
    flip: mirror half of them; not for digits.
  """
  images = _checked_images(images)
  labels, kind, num_outputs = _checked_labels(labels, num_classes, len(images))
  if not 1 <= batch_size <= len(images) or steps < 1:
    raise ValueError(
      f'{steps} steps of {batch_size} images cannot be made from {len(images)} images'
    )
  settings = dict(
    format=FORMAT,
    kind=kind,
    num_outputs=num_outputs,
    shape=list(images.shape[1:]),
    images=len(images),
    data=data_digest(images, labels),
    seed=seed,
    steps=steps,
    batch_size=batch_size,
    width=width,
    num_features=num_features,
    learning_rate=learning_rate,
    weight_decay=weight_decay,
    shift=shift,
    flip=flip,
  )
  network = _network(settings)
  scale = labels.std(0) if kind == 'scores' else np.ones(num_outputs)
  outputs = dict(
    scale=np.where(scale > 0, scale, 1.0).astype(np.float32),
    offset=(labels.mean(0) if kind == 'scores' else np.zeros(num_outputs)).astype(np.float32),
  )
  if kind == 'scores':
    labels = (labels - outputs['offset']) / outputs['scale']
  rng = np.random.default_rng(seed)
  optimizer = _optimizer(learning_rate, weight_decay, steps)
  variables = _initial(network, images.shape[1:], jax.random.key(seed))
  state = dict(variables, opt=optimizer.init(variables['params']))
  for step, chosen in enumerate(_order(rng, len(images), batch_size, steps), 1):
    batch = _augmented(images[chosen], rng, shift, flip)
    state, loss = _update(network, optimizer, kind, state, batch, labels[chosen])
    if step % 200 == 0 or step == steps:
      loss = float(loss)  # also waits, so that batches do not pile up
      log.info('classifier: step %d of %d, loss %.4f', step, steps, loss)
      if not np.isfinite(loss):
        raise ValueError(
          f'the classifier diverged by step {step}: give a learning_rate below {learning_rate}'
        )
  return _classifier(
    settings,
    jax.device_get(dict(params=state['params'], batch_stats=state['batch_stats'], outputs=outputs)),
  )


def load_or_train(images, labels, *, cache_dir='', **settings) -> Classifier:
  """The Classifier that train(images, labels, **settings) gives, from the cache if it was trained before.

  `cache_dir` is a folder, by default `vaegan_jax/features` in the user's cache folder; a file there is
  named by a hash of data and settings, so that it is never out of date.
  """
  home = pathlib.Path(cache_dir).expanduser() if cache_dir else files.cache_home() / 'features'
  what = [FORMAT, data_digest(np.asarray(images), np.asarray(labels)), sorted(settings.items())]
  path = home / f'classifier-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]}.npz'
  if path.exists():
    try:
      return load(path)
    except ValueError as error:
      log.warning('%s: training it again', error)
  classifier = train(images, labels, **settings)
  save(classifier, path)
  return classifier


def save(classifier, path):
  """Writes a Classifier to an .npz file, which appears only when it is complete."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{uuid.uuid4().hex}.tmp')
  try:
    with open(temporary, 'wb') as file:
      np.savez(
        file,
        settings=json.dumps(classifier.settings),
        **flax.traverse_util.flatten_dict(classifier.variables, sep='/'),
      )
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def load(path) -> Classifier:
  """The Classifier in an .npz file of save(); ValueError if it is none or damaged."""
  try:
    with np.load(path) as content:
      settings = json.loads(str(content['settings']))
      flat = {name: content[name] for name in content.files if name != 'settings'}
    if settings['format'] != FORMAT:
      raise ValueError(f'format {settings["format"]}, wanted {FORMAT}')
    return _classifier(settings, flax.traverse_util.unflatten_dict(flat, sep='/'))
  except Exception as error:  # zipfile, zlib, json and numpy each raise their own
    raise ValueError(f'{path} is no classifier of this version, or damaged ({error})') from error


def data_digest(images, labels) -> str:
  """16 hexadecimal digits that tell one data set from another."""
  digest = hashlib.sha256()
  for array in (images, labels):
    digest.update(f'{array.dtype.str} {array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()[:16]


def _classifier(settings, variables):
  s = settings
  name = (
    f'small CNN of width {s["width"]} for {s["num_outputs"]} {s["kind"]}, trained {s["steps"]} steps '
    f'on {s["images"]} images {"x".join(map(str, s["shape"]))} ({s["data"][:8]}), seed {s["seed"]}'
  )
  return Classifier(name, settings, variables)


def _network(settings):
  return Network(settings['num_outputs'], settings['width'], settings['num_features'])


@functools.partial(jax.jit, static_argnums=0)
def _judge(network, variables, images):
  features, logits = network.apply(
    {k: variables[k] for k in ('params', 'batch_stats')}, _scaled(images)
  )
  return features, logits * variables['outputs']['scale'] + variables['outputs']['offset']


@functools.lru_cache  # the same object for the same settings, so that other seeds need no compilation
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
    else:
      each = (losses.sigmoid_cross_entropy if kind == 'attributes' else losses.gaussian_nll)(
        logits, labels
      )
    return each.mean(), moved

  (value, moved), grads = jax.value_and_grad(loss, has_aux=True)(state['params'])
  updates, opt = optimizer.update(grads, state['opt'], state['params'])
  return dict(moved, params=optax.apply_updates(state['params'], updates), opt=opt), value


def _scaled(images):
  return images.astype(jnp.float32) / 127.5 - 1.0


def _order(rng, count, batch_size, steps):
  """Yields int64 [batch_size], `steps` times, each image once an epoch."""
  waiting = np.empty(0, np.int64)
  for _ in range(steps):
    if len(waiting) < batch_size:
      waiting = np.concatenate([waiting, rng.permutation(count)])
    chosen, waiting = waiting[:batch_size], waiting[batch_size:]
    yield chosen


def _augmented(images, rng, shift, flip):
  """Images of a batch, each moved and perhaps mirrored."""
  if flip:
    mirrored = rng.random(len(images)) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
  if not shift:
    return images
  size = images.shape[1]
  padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), 'edge')
  down, right = rng.integers(0, 2 * shift + 1, (2, len(images), 1)) + np.arange(size)
  return padded[np.arange(len(images))[:, None, None], down[:, :, None], right[:, None, :]]


def _checked_images(images, shape=None):
  images = batches.checked(images)
  if shape is not None and list(images.shape[1:]) != list(shape):
    raise ValueError(
      f'images are {list(images.shape[1:])}, the classifier was trained on {list(shape)}: '
      'train one for these'
    )
  if images.shape[1] != images.shape[2] or not 8 <= images.shape[1] <= 256:
    raise ValueError(f'images are {list(images.shape[1:])}: squares of 8 to 256 pixels are wanted')
  return images


def _checked_labels(labels, num_classes, count):
  """(labels as the loss wants them, kind, number of outputs)."""
  labels = np.asarray(labels)
  if (
    labels.ndim not in (1, 2)
    or len(labels) != count
    or labels.dtype.kind not in 'biuf'
    or not labels.size
  ):
    raise ValueError(
      f'labels are {labels.dtype} {list(labels.shape)} for {count} images: integers [N] for '
      'classes, or 0 and 1 or floats [N, A] are wanted'
    )
  if labels.ndim == 1:
    if labels.dtype.kind not in 'iu':
      raise ValueError(
        f'labels [N] are {labels.dtype}: classes are integers; give scores as [N, 1]'
      )
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.min() < 0 or labels.max() >= num_classes:
      raise ValueError(
        f'labels lie in {labels.min()}..{labels.max()}, outside 0..{num_classes - 1}'
      )
    return labels.astype(np.int32), 'classes', num_classes
  if num_classes is not None:
    raise ValueError('num_classes is given for labels [N, A], which are no classes: leave it out')
  if labels.dtype.kind in 'biu':
    if labels.max() > 1 or labels.min() < 0:
      raise ValueError(
        f'attributes lie in {labels.min()}..{labels.max()}: give 0 and 1, or floats for scores'
      )
    return labels.astype(np.float32), 'attributes', labels.shape[1]
  if not np.isfinite(labels).all():
    raise ValueError('labels have NaN or infinite scores: leave out the images that have none')
  return labels.astype(np.float32), 'scores', labels.shape[1]
