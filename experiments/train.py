"""Trains a method on a data set, or resumes a run that stopped.

    python experiments/train.py --config=configs/digits.py:cvae_gan --workdir=runs/digits

Exit codes: 0 done, 2 unusable arguments, 3 the run failed, 130 or 143 stopped by Ctrl-C or SIGTERM:
after the first step with a checkpoint, before it at once.
"""

from absl import flags

from vaegan_jax import command

CONFIG = command.define_config_flag()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run: checkpoints, sample pictures, curves.'
)
DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Print parameters, FLOPs, memory and time; write nothing.'
)
VERBOSE = flags.DEFINE_bool('verbose', False, 'With --dry_run: also the config and all layers.')
RESUME = command.define_resume_flag()
INIT_FROM = flags.DEFINE_string(
  'init_from',
  '',
  'Folder of another run: a new run starts from the weights of its newest intact checkpoint.',
)
command.define_hosts_flags()


def main() -> int:
  command.join_hosts()
  from vaegan_jax.runs import dry_run, train

  if DRY_RUN.value:
    return dry_run.describe(CONFIG.value, verbose=VERBOSE.value)
  if not WORKDIR.value:
    raise ValueError(
      '--workdir is missing: name a folder for checkpoints and pictures, e.g. --workdir=runs/mine'
    )
  command.keep_compiled_programs()
  resume = command.resume_options(RESUME.value)
  return train.train(CONFIG.value, WORKDIR.value, init_from=INIT_FROM.value, **resume)


def cli() -> None:
  command.run(main, needs=command.NEEDS_CONFIG)


if __name__ == '__main__':
  cli()
