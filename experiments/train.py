"""Trains a method on a data set, or goes on where the last call stopped.

    python experiments/train.py --config=configs/digits.py:cvae_gan --workdir=runs/digits

Exit codes: 0 done, 2 something given cannot be used, 3 the run failed, 130 or 143 stopped by a
signal after saving.
"""

from absl import flags
from ml_collections import config_flags

from vaegan_jax import command

CONFIG = config_flags.DEFINE_config_file(
  'config', help_string='File and method, e.g. configs/digits.py:cvae_gan.'
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run: checkpoints, pictures, curves.')
DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Print config, parameters, FLOPs and memory; write nothing.'
)
RESUME = flags.DEFINE_enum(
  'resume',
  'newest',
  ['newest', 'strict'],
  'What to do about a damaged newest checkpoint: take the one before, or refuse.',
)
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Join the other hosts by jax.distributed.initialize().'
)


def main():
  if DISTRIBUTED.value:
    import jax

    jax.distributed.initialize()
  from vaegan_jax.runs import dry_run, train

  if DRY_RUN.value:
    return dry_run.describe(CONFIG.value)
  if not WORKDIR.value:
    raise ValueError(
      '--workdir is missing: name a folder for checkpoints and pictures, e.g. --workdir=runs/mine'
    )
  command.keep_compiled_programs()
  return train.train(CONFIG.value, WORKDIR.value, strict=RESUME.value == 'strict')


if __name__ == '__main__':
  command.run(
    main,
    needs=dict(
      config='--config is missing: name a config file and a method, e.g. '
      '--config=configs/digits.py:cvae_gan'
    ),
  )
