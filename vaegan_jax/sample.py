"""Trained models restored for use: samples, reconstructions, interpolations. No TensorFlow, no config.

model = vaegan_jax.restore('runs/demo')
images = model.sample(64, labels=3)  # uint8 [64, H, W, C]
"""

import collections
import functools
import itertools
import pathlib
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaegan_jax import build, checkpoint, settings
from vaegan_jax.parallel import compiler_options
from vaegan_jax.step import as_float

BATCH = 64  # images per dispatch: one compilation serves any number of images
AHEAD = 2  # dispatches that may wait for the devices or for being fetched


class Trained(NamedTuple):
  """Encoder and generator of a run, with their moving-average weights.

  Images are uint8 [N, H, W, C], latents float32 [N, Z]. The condition is given as `labels` (a class
  number or name, several that take turns, or weights [N, K] that mix classes) or as `attributes`
  ({name: 0 or 1}, or rows [N, A]), whichever the model was trained with.
  """

  networks: dict  # {'encoder', 'generator'}, as far as the method has them
  weights: dict  # {network: {'params', 'stats'}}
  latent_size: int
  about: dict  # condition, names, size, examples: see build.about
  step: int
  config: dict

  def __repr__(self):
    return (
      f'<{self.config["method_name"]} at step {self.step}: {", ".join(self.networks)}, '
      f'Z={self.latent_size}, condition {self.about["condition"]}>'
    )

  def sample(self, n=64, *, labels=None, attributes=None, seed=0):
    """Images uint8 [n, H, W, C] decoded from z ~ N(0, I); the first ones do not depend on n.

    Without labels the classes take turns; attributes that are not named are those of training
    images, drawn by the seed.
    """
    return np.concatenate(list(self.samples(n, labels=labels, attributes=attributes, seed=seed)))

  def samples(self, n, *, labels=None, attributes=None, seed=0, batch=BATCH):
    """An iterator of the images of `sample`, uint8 [batch, H, W, C] at a time, in memory that does not depend
    on n. A `batch` other than 64 changes them by no more than a device's rounding."""
    if n < 1:
      raise ValueError(f'n={n}: ask for at least one image')
    if batch < 1 or batch % BATCH:
      raise ValueError(
        f'a batch of {batch} images: use a multiple of {BATCH}'
      )  # latents are drawn by 64
    key = key_of(seed)
    given = conditions(self.about, n, batch, labels, attributes, seed)
    parts = (
      (
        blocks(key, i * (batch // BATCH), batch // BATCH, self.latent_size),
        c,
        min(batch, n - i * batch),
      )
      for i, c in enumerate(itertools.chain([next(given)], given))
    )  # what is wrong with them is said now
    return self.outputs('generator', parts, batch)

  def encode(self, images, *, labels=None, attributes=None):
    """Means [N, Z] and log-variances [N, Z] (of nats) of the posterior of images uint8 [N, H, W, C]."""
    if 'encoder' not in self.networks:
      raise ValueError(f'{self.config["method_name"]} has no encoder: it can only sample')
    d = self.config['data']
    shape = (d['image_size'], d['image_size'], d['channels'])
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
      raise ValueError(
        f'images must be uint8 [N, {shape[0]}, {shape[1]}, {shape[2]}], not '
        f'{images.dtype} {list(images.shape)}; vaegan_jax.images.fit_image makes them so'
      )
    return self.apply('encoder', images, self.given(len(images), labels, attributes))

  def decode(self, z, *, labels=None, attributes=None):
    """Images uint8 [N, H, W, C] of latents float32 [N, Z]."""
    z = np.asarray(z, np.float32)
    if z.ndim != 2 or z.shape[1] != self.latent_size:
      raise ValueError(f'latents must be [N, {self.latent_size}], not {list(z.shape)}')
    return self.apply('generator', z, self.given(len(z), labels, attributes))

  def reconstruct(self, images, *, labels=None, attributes=None):
    """Images uint8 [N, H, W, C]: each decoded from the mean of its own posterior."""
    mean, _ = self.encode(images, labels=labels, attributes=attributes)
    return self.decode(mean, labels=labels, attributes=attributes)

  def interpolate(self, first, second, *, steps=8, labels=None, attributes=None):
    """Images uint8 [N, steps, H, W, C] on the line from first to second, both ends included.

    first and second are images uint8 [N, H, W, C], encoded to their means, or latents [N, Z]; the
    line is straight, as in Bao et al.'s morphing within a class (section 4.3).
    """
    if steps < 2:
      raise ValueError(f'steps={steps}: a line has at least its two ends')
    ends = [
      self.encode(e, labels=labels, attributes=attributes)[0]
      if np.asarray(e).dtype == np.uint8
      else np.asarray(e, np.float32)
      for e in (first, second)
    ]
    if len(ends[0]) != len(ends[1]):
      raise ValueError(
        f'interpolate needs as many first as second ends, not {len(ends[0])} and {len(ends[1])}'
      )
    c = self.given(len(ends[0]), labels, attributes)
    rows = [
      self.apply('generator', (1 - t) * ends[0] + t * ends[1], c) for t in np.linspace(0, 1, steps)
    ]
    return np.stack(rows, 1)

  def given(self, n, labels, attributes):
    """condition() of images at hand, whose class or attributes only the caller knows."""
    if self.about['condition'] != 'none' and labels is None and attributes is None:
      what = 'labels' if self.about['condition'] == 'label' else 'attributes'
      raise ValueError(f'this model is conditional: pass {what}= of the {n} images')
    return condition(self.about, n, labels, attributes, seed=0)

  def apply(self, name, inputs, c):
    """Outputs of one network for inputs [N, ...], in dispatches of BATCH."""
    if not len(inputs):
      raise ValueError('there is nothing to do for 0 images')
    parts = (
      (inputs[i : i + BATCH], None if c is None else c[i : i + BATCH], len(inputs[i : i + BATCH]))
      for i in range(0, len(inputs), BATCH)
    )
    return jax.tree.map(lambda *a: np.concatenate(a), *self.outputs(name, parts, BATCH))

  def outputs(self, name, parts, batch):
    """Yields one network's outputs [count, ...] for each of `parts`, (inputs, c or None, count).

    What has fewer than `batch` rows is filled up. The devices work on the next part while one is fetched.
    """

    def filled(a):
      return (
        a
        if a is None or len(a) == batch
        else np.concatenate([a, np.repeat(a[-1:], batch - len(a), 0)])
      )

    def fetched(out, count):
      return jax.tree.map(lambda a: np.asarray(a)[:count], out)

    flying = collections.deque()
    for x, c, count in parts:
      out = compiled()(self.networks[name], self.weights[name], filled(x), filled(c))
      jax.tree.map(lambda a: a.copy_to_host_async(), out)
      flying.append((out, count))
      if len(flying) > AHEAD:
        yield fetched(*flying.popleft())
    for out, count in flying:
      yield fetched(out, count)


@functools.cache
def compiled():
  """`forward`, compiled for the backend in use."""
  return jax.jit(forward, static_argnums=0, compiler_options=compiler_options())


def forward(network, weights, x, c):
  """A network's outputs as at test time; images come and go as uint8."""
  variables = {'params': weights['params'], 'batch_stats': weights['stats']}
  out = network.apply(variables, as_float(x), c, train=False)
  if isinstance(out, tuple):
    return out
  return jnp.round((jnp.clip(out, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def latents(n, size, seed):
  """z float32 [n, size] ~ N(0, I); the first rows do not depend on n."""
  key = key_of(seed)
  return np.concatenate(
    [np.zeros((0, size), np.float32)] + [blocks(key, i, 1, size) for i in range(-(-n // BATCH))]
  )[:n]


def key_of(seed):
  """JAX's key of a seed; ValueError where it is none."""
  if not 0 <= seed < 2**32:
    raise ValueError(f'seed={seed}: use 0 to 2**32 - 1')
  return jax.random.key(seed)


@functools.partial(jax.jit, static_argnums=(2, 3))
def blocks(key, start, count, size):
  """z float32 [count * BATCH, size]: rows from start * BATCH on of the endless table of latents of a key."""
  rows = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (BATCH, size)))
  return rows(start + jnp.arange(count)).reshape(-1, size)


def condition(about, n, labels=None, attributes=None, seed=0):
  """c float32 [n, A] of a request, or None for an unconditional model; see Trained.

  Raises ValueError for labels or attributes that the model does not know, with those it does.
  """
  return next(conditions(about, n, n, labels, attributes, seed))


def conditions(about, n, batch, labels=None, attributes=None, seed=0):
  """Yields `condition` by stretches of `batch` rows, in memory that does not depend on n."""
  kind, names, size = about['condition'], about['names'], about['size']
  if kind != 'label' and labels is not None:
    raise ValueError(f'labels were given, but this model was trained with condition {kind}')
  if kind != 'attributes' and attributes is not None:
    raise ValueError(f'attributes were given, but this model was trained with condition {kind}')
  stretches = ((i, min(i + batch, n)) for i in range(0, max(n, 1), max(batch, 1)))
  rows = (
    labels
    if kind == 'label' and np.ndim(labels) == 2
    else attributes
    if kind == 'attributes'
    else None
  )
  if kind == 'none':
    yield from (None for _ in stretches)
  elif rows is not None and not isinstance(rows, dict):
    rows = rows_of(rows, n, size)
    yield from (rows[a:b] for a, b in stretches)
  elif kind == 'label':
    if labels is not None and not np.size(labels):
      raise ValueError('there are no labels in labels')
    labels = np.arange(size) if labels is None else labels if np.ndim(labels) else [labels]
    chosen = np.array([class_number(label, names) for label in labels])
    yield from (
      np.eye(size, dtype=np.float32)[chosen[np.arange(a, b) % len(chosen)]] for a, b in stretches
    )
  else:
    yield from drawn_attributes(about, (b - a for a, b in stretches), rows or {}, seed)


def drawn_attributes(about, counts, wanted, seed):
  """Yields rows [count, A] of attributes of training images, with those that are `wanted` {name: value} set."""
  for name in wanted:
    if name not in about['names']:
      raise ValueError(
        f'there is no attribute {name!r}{settings.closest(name, about["names"])}; known: '
        f'{", ".join(about["names"])}'
      )
  examples, draws = np.asarray(about['examples'], np.float32), np.random.default_rng(seed)
  for count in counts:
    c = examples[draws.integers(len(examples), size=count)]
    for name, value in wanted.items():
      c[:, about['names'].index(name)] = float(value)
    yield c


def table_rows(about, files, conditions):
  """Yields the rows of a labels.csv (see folders.py) of files made with conditions [b, A], the header first."""
  by_class, names = about['condition'] == 'label', about['names']
  if not all(name[:1].isalpha() for name in names):  # a table has words or numbers, not both
    names = range(len(names)) if by_class else names
  for i, c in enumerate(itertools.chain.from_iterable(conditions)):
    if not i:
      yield ['file', 'label'] if by_class else ['file', *names]
    yield [next(files), *([names[c.argmax()]] if by_class else c.astype(int))]


def rows_of(rows, n, size):
  """Conditions float32 [n, size] given row by row, checked."""
  rows = np.asarray(rows, np.float32)
  if rows.shape != (n, size) or not np.isfinite(rows).all():
    raise ValueError(f'conditions must be finite numbers [{n}, {size}], not {list(rows.shape)}')
  return rows


def class_number(label, names):
  """The number of a class given by number or by name; a text that is a name is that name, even '1'."""
  if isinstance(label, str) and label in names:
    return names.index(label)
  number = int(label) if re.fullmatch('-?[0-9]+', str(label)) else -1
  if not 0 <= number < len(names):
    hint = '' if isinstance(label, int) or number >= 0 else settings.closest(label, names)
    known = ', '.join(
      name if name == str(i) else f'{i}={name}' for i, name in enumerate(names[:50])
    )
    raise ValueError(f'there is no class {label!r}{hint}; classes are {known}')
  return number


def named(about, c):
  """The keyword that gives conditions c [N, A] to a Trained model: {} for None."""
  return {} if c is None else {'labels' if about['condition'] == 'label' else 'attributes': c}


def pictures_of(model, path, n, labels=None, attributes=None):
  """Up to n images uint8 [N, H, W, C] and their condition as the keyword of `named`.

  path: a folder or zip; empty takes the images that the run shows, held out where it has some.
  Labels and attributes are those asked for, else the images' own, by name.
  """
  config = settings.from_dict(model.config)
  dataset = build.own_images(config, path) if path else build.dataset(config, config.data.held_out)
  at = np.linspace(0, len(dataset.images) - 1, min(n, len(dataset.images))).astype(int)
  kind, names = model.about['condition'], model.about['names']
  if kind == 'none' or labels is not None or attributes is not None:
    c = condition(model.about, len(at), labels, attributes)
  elif kind == 'label':
    if dataset.labels is None:
      raise ValueError(
        'this model is conditional: give --labels of the images, or put them in class subfolders'
      )
    c = condition(model.about, len(at), [dataset.class_names[i] for i in dataset.labels[at]])
  else:
    if not set(names) <= set(dataset.attribute_names or []):
      raise ValueError('this model is conditional: give --attributes of the images')
    columns = [dataset.attribute_names.index(name) for name in names]
    c = condition(model.about, len(at), None, dataset.attributes[at][:, columns])
  return np.asarray(dataset.images[at]), named(model.about, c)


def runs_in(workdir):
  """Folders of runs with a checkpoint in the folder of a population or of a study."""
  found = [
    p.parent
    for depth in ('*', '*/*')
    for p in pathlib.Path(workdir).glob(f'{depth}/{checkpoint.FOLDER}')
  ]
  return sorted(folder for folder in found if checkpoint.steps(folder))


def restore(workdir, step=None):
  """The Trained model of a run's checkpoint, the newest by default: its EMA weights and no more.

  Raises ValueError where `workdir` has no such checkpoint, or where its bytes are not as saved.
  """
  found = checkpoint.steps(workdir)
  if not found:
    if runs := runs_in(workdir):
      raise ValueError(
        f'{workdir} has no checkpoint, but holds {len(runs)} runs, each in a folder of its own: '
        f'give one of them, such as --workdir={runs[0]}'
      )
    raise ValueError(
      f'{pathlib.Path(workdir)} has no checkpoint: give the --workdir of a run of '
      'experiments/train.py that has saved at least once'
    )
  step = found[-1] if step is None else step
  if step not in found:
    raise ValueError(
      f'{workdir} has no checkpoint of step {step}; it has {", ".join(map(str, found))}'
    )
  if wrong := checkpoint.damage(workdir, step):
    raise ValueError(
      f'checkpoint {step} is damaged: {wrong}; {checkpoint.intact_steps(workdir, step)}; '
      'choose one with --step'
    )
  saved = checkpoint.manifest(workdir, step)
  config, about = settings.from_dict(saved['config']), saved['about']
  networks, like = build.makers(config, about['size'])
  weights = checkpoint.load(workdir, step, dict(ema=like))['ema']
  return Trained(networks, weights, config.network.latent_size, about, step, saved['config'])
