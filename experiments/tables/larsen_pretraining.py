"""Section 4.3 of VAE/GAN (Larsen et al. 2016): an encoder pretrained without labels.

    python experiments/tables/larsen_pretraining.py --workdir=runs/digits_vae_gan --per_class=10

Trains a full layer on the encoder's means with few labelled images, in three ways: the pretrained
encoder stays fixed (frozen), is trained further (finetuned), or starts from random weights (from
scratch). Prints top-1 on held-out images. The paper gives no numbers; it says (recalled) that this
was not competitive on CIFAR-10 and STL-10. Writes WORKDIR/larsen_pretraining.json.
"""

from typing import Any, NamedTuple

from absl import flags

from vaegan_jax import command, files, interrupts, paths, settings

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaegan_jax import bounds
from vaegan_jax.step import as_float

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run of an unconditional method with an encoder.'
)
PER_CLASS = flags.DEFINE_integer('per_class', 10, 'Labelled images per class.', lower_bound=1)
SEEDS = flags.DEFINE_integer('seeds', 5, 'Choices of these images and of weights.', lower_bound=1)
STEPS = flags.DEFINE_integer(
  'steps', 300, 'Updates by Adam, on batches of at most 64.', lower_bound=1
)
RATE = flags.DEFINE_float('learning_rate', 1e-3, 'Learning rate of Adam.')


class Labelled(NamedTuple):
  images: np.ndarray  # uint8 [N, H, W, C]
  labels: np.ndarray  # int [N]


def main() -> int:
  if complaint := bounds.RATE.complaint(RATE.value):
    raise ValueError(f'--learning_rate={RATE.value}: {complaint}')
  from vaegan_jax import build, sample
  from vaegan_jax.networks import layers

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  unconditional = model.about['condition'] == 'none'
  if 'encoder' not in model.networks or not unconditional or not config.data.held_out:
    raise ValueError(
      f'{WORKDIR.value} must be a run of an unconditional method with an encoder, on data '
      'with a held-out split'
    )
  seen, held_out = build.dataset(config), build.held_out(config)
  if seen.labels is None:
    raise ValueError(f'{seen.name} has no labels to learn')
  test = Labelled(np.asarray(held_out.images), held_out.labels)
  encoder, weights = model.networks['encoder'], model.weights['encoder']
  pretrained = dict(params=weights['params'], batch_stats=weights['stats'])
  zeros = np.zeros((2, *seen.images.shape[1:]), np.float32)
  result = {name: [] for name in ('frozen', 'finetuned', 'from scratch')}
  for seed in range(SEEDS.value):
    few = labelled(seen, seed)
    random = layers.init(encoder, jax.random.key(seed), zeros, None)
    for name, start in zip(result, (pretrained, pretrained, random)):
      top1 = learn(encoder, start, few, test, len(seen.class_names), name != 'frozen', seed)
      result[name].append(top1)
  print(
    f'| {PER_CLASS.value} labels per class, {model.config["method_name"]} on {seen.name} | top-1 |'
    '\n|---|---|'
  )
  for name, figures in result.items():
    spread = f' ± {np.std(figures, ddof=1):.2%}' if SEEDS.value > 1 else ''
    print(f'| {name} | {np.mean(figures):.2%}{spread} |')
  files.write_json(
    paths.open_path(WORKDIR.value) / 'larsen_pretraining.json',
    dict(per_class=PER_CLASS.value, steps=STEPS.value, step=model.step, top1=result),
  )
  return 0


def labelled(seen: Any, seed: int) -> Labelled:
  """--per_class random images of each class."""
  order = np.random.default_rng(seed).permutation(len(seen.images))
  few = np.concatenate(
    [order[seen.labels[order] == k][: PER_CLASS.value] for k in range(len(seen.class_names))]
  )
  return Labelled(np.asarray(seen.images[few]), seen.labels[few])


def learn(
  encoder: Any,
  start: dict[str, Any],
  few: Labelled,
  test: Labelled,
  classes: int,
  finetune: bool,
  seed: int,
) -> float:
  """Top-1 on `test` of a full layer on the encoder's means, trained on `few`.

  Args:
    encoder: the module.
    start: its variables.
    classes: number of classes.
    finetune: whether the encoder is trained, too.
    seed: seed of the order of the images.
  """
  scale = float(np.std(encoder.apply(start, as_float(few.images), None, train=False)[0])) + 1e-6

  def logits(params, stats, x, train):
    variables = dict(params=params['encoder'], batch_stats=stats)
    (mean, _), moved = encoder.apply(
      variables, as_float(x), None, train=train, mutable=['batch_stats']
    )
    return mean / scale @ params['kernel'] + params['bias'], moved.get('batch_stats', stats)

  def loss(params, stats, x, y):
    if not finetune:
      params = dict(params, encoder=jax.lax.stop_gradient(params['encoder']))
    out, moved = logits(params, stats, x, train=finetune)
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean(), moved

  @jax.jit
  def update(params, stats, opt, x, y):
    grads, moved = jax.grad(loss, has_aux=True)(params, stats, x, y)
    updates, opt = optimizer.update(grads, opt)
    return optax.apply_updates(params, updates), moved, opt

  @jax.jit
  def guess(x):
    return logits(params, stats, x, train=False)[0].argmax(1)

  params = dict(
    encoder=start['params'],
    kernel=jnp.zeros((encoder.latent_size, classes)),
    bias=jnp.zeros(classes),
  )
  stats, optimizer = start['batch_stats'], optax.adam(RATE.value)
  opt, rng = optimizer.init(params), np.random.default_rng(seed)
  for _ in range(STEPS.value):
    batch = rng.permutation(len(few.images))[:64]
    params, stats, opt = update(params, stats, opt, few.images[batch], few.labels[batch])
  guesses = np.concatenate(
    [guess(test.images[i : i + 250]) for i in range(0, len(test.images), 250)]
  )
  return float((guesses == test.labels).mean())


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN)


if __name__ == '__main__':
  cli()
