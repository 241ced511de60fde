"""Trained models, restored for use: they need neither TensorFlow nor the config file.

model = vaegan_jax.restore('runs/demo')
images = model.sample(64, labels=3)  # uint8 [64, H, W, C]
"""

from collections.abc import Callable, Iterator
import os
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaegan_jax import build, checkpoint, conditions, functions, paths, settings
from vaegan_jax.conditions import Attributes, Labels
from vaegan_jax.dispatch import BATCH, Dispatch, blocks, key_of, outputs


class Trained(NamedTuple):
  """Encoder and generator of a run, with their moving-average weights.

  Images are uint8 [N, H, W, C], latents float32 [N, Z]. Give the condition as the model was
  trained: `labels` (a class number or name, several that take turns, or weights [N, K] that mix
  classes) or `attributes` ({name: 0 or 1}, or rows [N, A]).
  """

  networks: dict[str, Any]  # 'generator', and 'encoder' if the method has one
  weights: dict[str, Any]  # {network: {'params', 'stats'}}
  latent_size: int
  about: dict[str, Any]  # condition, names, size, examples: see build.about
  step: int
  config: dict[str, Any]
  workdir: str = ''  # where its critics are; empty if it has none
  batch: int = BATCH  # examples per dispatch of encode and decode; it changes no more than rounding

  def __repr__(self) -> str:
    return (
      f'<{self.config["method_name"]} at step {self.step}: {", ".join(self.networks)}, '
      f'Z={self.latent_size}, condition {self.about["condition"]}>'
    )

  def sample(
    self,
    n: int = 64,
    *,
    labels: Labels | None = None,
    attributes: Attributes | None = None,
    seed: int = 0,
  ) -> np.ndarray:
    """Images uint8 [n, H, W, C] decoded from z ~ N(0, I); the first ones do not depend on n.

    Without labels the classes take turns; the seed draws the attributes that you do not name from
    those of training images.
    """
    return np.concatenate(list(self.samples(n, labels=labels, attributes=attributes, seed=seed)))

  def samples(
    self,
    n: int,
    *,
    labels: Labels | None = None,
    attributes: Attributes | None = None,
    seed: int = 0,
    batch: int = BATCH,
  ) -> Iterator[np.ndarray]:
    """An iterator over the images of `sample`, uint8 [batch, H, W, C] at a time.

    Its memory does not depend on n. A `batch` other than 64 changes the images by no more than a
    device's rounding.
    """
    if n < 1:
      raise ValueError(f'n={n}: ask for at least one image')
    if batch < 1 or batch % BATCH:  # latents are drawn in blocks of BATCH
      raise ValueError(f'a batch of {batch} images: use a multiple of {BATCH}')
    key, count = key_of(seed), batch // BATCH
    given = conditions.batches(self.about, n, batch, labels, attributes, seed)
    dispatches = (
      Dispatch(blocks(key, i * count, count, self.latent_size), c, min(batch, n - i * batch))
      for i, c in enumerate(given)
    )
    return outputs(self.networks['generator'], self.weights['generator'], dispatches, batch)

  def truncated(self, factor: float) -> 'Trained':
    """This model, with latents `factor` (over 0, at most 1) times as long.

    Samples come nearer to the mean: fewer are broken, and they vary less (the truncation of
    Karras et al. 2019). 0.6 to 0.8 is usual. Reconstructions need the whole length.
    """
    generator = functions.truncated(self.networks['generator'], factor)
    return self._replace(networks={**self.networks, 'generator': generator})

  def encode(
    self,
    images: ArrayLike,
    *,
    labels: Labels | None = None,
    attributes: Attributes | None = None,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Means and log-variances [N, Z] (nats) of the posterior of images uint8 [N, H, W, C]."""
    if 'encoder' not in self.networks:
      raise ValueError(f'{self.config["method_name"]} has no encoder: it can only sample')
    d = self.config['data']
    shape = (d['image_size'], d['image_size'], d['channels'])
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
      raise ValueError(
        f'images must be uint8 [N, {shape[0]}, {shape[1]}, {shape[2]}], not '
        f'{images.dtype} {list(images.shape)}; vaegan_jax.images.fit_image converts them'
      )
    return self._apply('encoder', images, self._given(len(images), labels, attributes))

  def decode(
    self,
    z: ArrayLike,
    *,
    labels: Labels | None = None,
    attributes: Attributes | None = None,
  ) -> np.ndarray:
    """Images uint8 [N, H, W, C] of latents float32 [N, Z]."""
    z = functions.latents(z, self.latent_size)
    return self._apply('generator', z, self._given(len(z), labels, attributes))

  def reconstruct(
    self,
    images: ArrayLike,
    *,
    labels: Labels | None = None,
    attributes: Attributes | None = None,
  ) -> np.ndarray:
    """Images uint8 [N, H, W, C]: each decoded from the mean of its own posterior."""
    mean, _ = self.encode(images, labels=labels, attributes=attributes)
    return self._apply('generator', mean, self._given(len(mean), labels, attributes))

  def interpolate(
    self,
    first: ArrayLike,
    second: ArrayLike,
    *,
    steps: int = 8,
    labels: Labels | None = None,
    attributes: Attributes | None = None,
  ) -> np.ndarray:
    """Images uint8 [N, steps, H, W, C] on the line from first to second, both ends included.

    first and second are images uint8 [N, H, W, C], which it encodes to their means, or latents
    [N, Z]. The line is straight, as in Bao et al.'s morphing within a class (section 4.3).
    """
    if steps < 2:
      raise ValueError(f'steps={steps}: use at least 2, for the two ends of the line')
    start, end = (
      self.encode(e, labels=labels, attributes=attributes)[0]
      if np.asarray(e).dtype == np.uint8
      else functions.latents(e, self.latent_size)
      for e in (first, second)
    )
    if len(start) != len(end):
      raise ValueError(f'first and second differ in length: {len(start)} and {len(end)}')
    c = self._given(len(start), labels, attributes)
    columns = [
      self._apply('generator', (1 - t) * start + t * end, c) for t in np.linspace(0, 1, steps)
    ]
    return np.stack(columns, 1)

  def function(self, name: str) -> tuple[Callable[..., Any], functions.Variables]:
    """(fn, variables) of one network as at test time: pure, for jit, vmap, grad and jax.export.

    `variables` are flax's own, {'params': ..., 'batch_stats': ...}; fn takes them first.

        generator      fn(variables, z, c) -> images float32 [B, H, W, C] in [-1, 1]
        encoder        fn(variables, x, c) -> means, log-variances float32 [B, Z]
        discriminator  fn(variables, x, c) -> logits float32 [B], features [B, F]
        classifier     fn(variables, x)    -> logits float32 [B, K], features [B, F]

    z is float32 [B, Z], x images float32 [B, H, W, C] in [-1, 1] or uint8, c the condition float32
    [B, A] (leave it out for an unconditional model). Gradients are of reverse mode only. The
    makers have their EMA weights; the critics, which have none, those of the checkpoint.

    Raises ValueError for a network that the model lacks.
    """
    if name in self.networks:
      network, weights = self.networks[name], self.weights[name]
    else:
      network, weights = functions.critic(
        self.workdir, self.step, self.config, self.about['size'], name, tuple(self.networks)
      )
    d = self.config['data']
    shapes = dict(generator=(self.latent_size,))
    image = (d['image_size'], d['image_size'], d['channels'])
    size = 0 if name == 'classifier' else self.about['size']
    fn = functions.pure(name, network, shapes.get(name, image), size)
    return fn, functions.variables(weights)

  def _given(
    self, n: int, labels: Labels | None, attributes: Attributes | None
  ) -> np.ndarray | None:
    """The condition of images at hand, whose classes or attributes only the caller knows."""
    if self.about['condition'] != 'none' and labels is None and attributes is None:
      what = 'labels' if self.about['condition'] == 'label' else 'attributes'
      raise ValueError(f'this model is conditional: pass {what}= of the {n} images')
    return conditions.rows(self.about, n, labels, attributes)

  def _apply(self, name: str, inputs: np.ndarray, c: np.ndarray | None) -> Any:
    """Outputs of one network for inputs [N, ...], in dispatches of `batch`."""
    if not len(inputs):
      raise ValueError('give at least one image or latent, not 0')
    spans = [slice(i, i + self.batch) for i in range(0, len(inputs), self.batch)]
    dispatches = (
      Dispatch(inputs[at], None if c is None else c[at], len(inputs[at])) for at in spans
    )
    parts = outputs(self.networks[name], self.weights[name], dispatches, self.batch)
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def pictures_of(
  model: Trained,
  path: str | None,
  n: int,
  labels: Labels | None = None,
  attributes: Attributes | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Up to n images uint8 [N, H, W, C], and their condition as the keyword argument of `model`.

  path: a folder, zip or picture; if empty, the images that the run shows, held out if it has some.
  Without labels or attributes the images keep their own, matched by name.
  """
  config: Any = settings.from_dict(model.config)
  dataset = build.own_images(config, path) if path else build.dataset(config, config.data.held_out)
  at = np.linspace(0, len(dataset.images) - 1, min(n, len(dataset.images))).astype(int)
  kind, names = model.about['condition'], model.about['names']
  if kind == 'label' and labels is None and attributes is None:
    if dataset.labels is None or dataset.class_names is None:
      raise ValueError(
        'this model is conditional: give --labels of the images, or put them in class subfolders'
      )
    labels = [dataset.class_names[i] for i in dataset.labels[at]]
    if path and (unknown := sorted(set(labels) - set(names))):
      raise ValueError(f'{path} has the class {unknown[0]!r}, the model has {names}: give --labels')
  elif kind == 'attributes' and labels is None and attributes is None:
    known = dataset.attribute_names or []
    if dataset.attributes is None or not set(names) <= set(known):
      raise ValueError('this model is conditional: give --attributes of the images')
    attributes = dataset.attributes[at][:, [known.index(name) for name in names]]
  c = conditions.rows(model.about, len(at), labels, attributes)
  return np.asarray(dataset.images[at]), conditions.keyword(model.about, c)


def runs_in(workdir: str | os.PathLike[str]) -> list[Any]:
  """The folders of runs with a checkpoint, in the folder of a population or of a study."""
  found = [
    path.parent
    for depth in ('*', '*/*')
    for path in paths.open_path(workdir).glob(f'{depth}/{checkpoint.FOLDER}')
  ]
  return sorted(folder for folder in found if checkpoint.steps(folder))


def saved_steps(workdir: str | os.PathLike[str], flag: str = '--workdir') -> list[int]:
  """The steps of a run's checkpoints, ascending.

  flag: names the folder on the command line.

  Raises ValueError if there is none.
  """
  if found := checkpoint.steps(workdir):
    return found
  if runs := runs_in(workdir):
    raise ValueError(
      f'{workdir} has no checkpoint, but holds {len(runs)} runs, each in its own folder: '
      f'name one of them, such as {flag}={runs[0]}'
    )
  raise ValueError(
    f'{paths.open_path(workdir)} has no checkpoint: give {flag} the folder of a run of '
    'experiments/train.py that has saved at least once'
  )


def restore(workdir: str | os.PathLike[str], step: int | None = None) -> Trained:
  """The Trained model of a run's checkpoint: it reads the EMA weights alone.

  step: by default the newest sound one, see checkpoint.py; it warns if that is not the newest.

  Raises ValueError if `workdir` has no such checkpoint, or if its bytes are not as saved.
  """
  found = saved_steps(workdir)
  step = checkpoint.newest_sound_step(workdir) if step is None else step
  if step not in found:
    lost = ', which has no manifest' if step in checkpoint.without_manifest(workdir) else ''
    raise ValueError(
      f'{workdir} has no checkpoint of step {step}{lost}; it has {", ".join(map(str, found))}'
    )
  functions.check_intact(workdir, step)
  saved = checkpoint.manifest(workdir, step)
  config: Any = settings.from_dict(saved['config'])
  about = saved['about']
  networks, like = build.makers(config, about['size'])
  weights = checkpoint.load(workdir, step, dict(ema=like), functions.first_device())['ema']
  size = config.network.latent_size
  return Trained(networks, weights, size, about, step, saved['config'], str(workdir))
