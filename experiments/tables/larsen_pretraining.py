"""Section 4.3 of VAE/GAN (Larsen et al. 2016): an encoder trained without labels, then used with few of them.

    python experiments/tables/larsen_pretraining.py --workdir=runs/digits_vae_gan --per_class=10

A full layer on the means of the encoder is trained with few labelled images: with the encoder as trained and
kept so (frozen), as trained and trained on (finetuned), and from random weights (from scratch). Top-1 on held-out
images. The paper gives no numbers; it says (recalled) that this was not competitive on CIFAR-10 and STL-10.
Written to WORKDIR/larsen_pretraining.json.
"""

import pathlib

from absl import flags

from vaegan_jax import command, files, settings
from vaegan_jax.step import as_float

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run of an unconditional method with an encoder.'
)
PER_CLASS = flags.DEFINE_integer('per_class', 10, 'Labelled images of each class.', lower_bound=1)
SEEDS = flags.DEFINE_integer('seeds', 5, 'Choices of these images, and of weights.', lower_bound=1)
STEPS = flags.DEFINE_integer(
  'steps', 300, 'Updates by Adam, of batches of at most 64.', lower_bound=1
)
RATE = flags.DEFINE_float('learning_rate', 1e-3, 'Of Adam.', lower_bound=0.0)


def main():
  import jax
  import numpy as np

  from vaegan_jax import build, sample
  from vaegan_jax.networks import layers

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  if (
    'encoder' not in model.networks
    or model.about['condition'] != 'none'
    or not config.data.held_out
  ):
    raise ValueError(
      f'{WORKDIR.value} must be a run of an unconditional method with an encoder, on data '
      'with a held-out split'
    )
  seen, held_out = build.dataset(config), build.dataset(config, config.data.held_out)
  if seen.labels is None:
    raise ValueError(f'{seen.name} has no labels to learn')
  encoder = model.networks['encoder']
  pretrained = dict(
    params=model.weights['encoder']['params'], batch_stats=model.weights['encoder']['stats']
  )
  result = {name: [] for name in ('frozen', 'finetuned', 'from scratch')}
  for seed in range(SEEDS.value):
    order = np.random.default_rng(seed).permutation(len(seen.images))
    few = np.concatenate(
      [order[seen.labels[order] == k][: PER_CLASS.value] for k in range(len(seen.class_names))]
    )
    random = layers.init(
      encoder, jax.random.key(seed), np.zeros((2, *seen.images.shape[1:]), np.float32), None
    )
    for name, start, moves in (
      ('frozen', pretrained, False),
      ('finetuned', pretrained, True),
      ('from scratch', random, True),
    ):
      result[name].append(
        learn(
          encoder,
          start,
          moves,
          np.asarray(seen.images[few]),
          seen.labels[few],
          np.asarray(held_out.images),
          held_out.labels,
          len(seen.class_names),
          seed,
        )
      )
  print(
    f'| {PER_CLASS.value} labels a class, {model.config["method_name"]} on {seen.name} | top-1 |\n|---|---|'
  )
  for name, figures in result.items():
    spread = f' ± {np.std(figures, ddof=1):.2%}' if SEEDS.value > 1 else ''
    print(f'| {name} | {np.mean(figures):.2%}{spread} |')
  files.write_json(
    pathlib.Path(WORKDIR.value) / 'larsen_pretraining.json',
    dict(per_class=PER_CLASS.value, steps=STEPS.value, step=model.step, top1=result),
  )
  return 0


def learn(encoder, start, moves, images, labels, test_images, test_labels, classes, seed):
  """Top-1 on the test images of encoder and full layer, trained on images [N, H, W, C] and labels [N].

  start: the encoder's variables; moves: whether they are trained, too.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  scale = float(np.std(encoder.apply(start, as_float(images), None, train=False)[0])) + 1e-6

  def logits(params, stats, x, train):
    variables = dict(params=params['encoder'], batch_stats=stats)
    (mean, _), moved = encoder.apply(
      variables, as_float(x), None, train=train, mutable=['batch_stats']
    )
    return mean / scale @ params['kernel'] + params['bias'], moved.get('batch_stats', stats)

  params = dict(
    encoder=start['params'],
    kernel=jnp.zeros((encoder.latent_size, classes)),
    bias=jnp.zeros(classes),
  )
  stats, optimizer = start['batch_stats'], optax.adam(RATE.value)

  @jax.jit
  def update(params, stats, opt, x, y):
    def loss(params):
      if not moves:
        params = dict(params, encoder=jax.lax.stop_gradient(params['encoder']))
      out, moved = logits(params, stats, x, train=moves)
      return optax.softmax_cross_entropy_with_integer_labels(out, y).mean(), moved

    grads, moved = jax.grad(loss, has_aux=True)(params)
    updates, opt = optimizer.update(grads, opt)
    return optax.apply_updates(params, updates), moved, opt

  opt, rng = optimizer.init(params), np.random.default_rng(seed)
  for _ in range(STEPS.value):
    batch = rng.permutation(len(images))[:64]
    params, stats, opt = update(params, stats, opt, images[batch], labels[batch])
  judge = jax.jit(lambda x: logits(params, stats, x, train=False)[0].argmax(1))
  guesses = np.concatenate(
    [judge(test_images[i : i + 250]) for i in range(0, len(test_images), 250)]
  )
  return float((guesses == test_labels).mean())


if __name__ == '__main__':
  command.run(main, needs=dict(workdir='--workdir is missing: name the folder of a run'))
