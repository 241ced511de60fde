r"""Trains a population: one method with several seeds, loss weights or learning rates, in parallel.

    python experiments/population.py --config=configs/digits.py:cvae_gan --workdir=runs/sweep \
        --seeds=0,1,2 --vary=method.generator.match_c=0,0.01,0.1

Each combination of a seed and one value per --vary is a member. A member is an ordinary run in
WORKDIR/NAME, e.g. seed_0,match_c_0.01: the other scripts can sample from it or train it further.
The same command resumes a population that stopped. Exit codes are those of train.py.
"""

from absl import flags

from vaegan_jax import command

CONFIG = command.define_config_flag()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the population: one folder per member, and population.json.'
)
SEEDS = flags.DEFINE_list('seeds', [], 'Seeds of each setting; by default the seed of the config.')
VARY = flags.DEFINE_multi_string(
  'vary', [], 'FIELD=VALUE,VALUE,... of a loss weight or a learning rate; may be repeated.'
)
RESUME = command.define_resume_flag()
INIT_FROM = flags.DEFINE_string(
  'init_from', '', 'Folder of a run whose weights all members start from; see docs/training.md.'
)


def main() -> int:
  from vaegan_jax import settings
  from vaegan_jax.runs import train

  values = {}
  for text in VARY.value:
    path, equals, listed = text.removeprefix('config.').partition('=')
    if not equals or not all(value.strip() for value in listed.split(',')):
      raise ValueError(f'--vary={text}: write --vary=field=value,value')
    if path in values:
      raise ValueError(f'--vary={path} is given twice: list its values with commas')
    values[path] = listed.split(',')
  configs = settings.members(CONFIG.value, SEEDS.value or [str(CONFIG.value.seed)], values)
  command.keep_compiled_programs()
  resume = command.resume_options(RESUME.value)
  return train.train_members(configs, WORKDIR.value, init_from=INIT_FROM.value, **resume)


def cli() -> None:
  command.run(
    main,
    needs=dict(
      command.NEEDS_CONFIG,
      workdir='--workdir is missing: name a folder for the members, e.g. --workdir=runs/sweep',
    ),
  )


if __name__ == '__main__':
  cli()
