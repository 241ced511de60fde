"""Trains a population: a method with several seeds, loss weights or learning rates, side by side.

    python experiments/population.py --config=configs/digits.py:cvae_gan --workdir=runs/sweep --seeds=0,1,2 \\
        --vary=method.generator.match_c=0,0.01,0.1

Each member, a seed with a value of each --vary, is a run in WORKDIR/NAME such as seed_0,match_c_0.01, to sample from
or to go on with by the other scripts. The same command goes on where it stopped; exit codes as of train.py.
"""

from absl import flags
from ml_collections import config_flags

from vaegan_jax import command

CONFIG = config_flags.DEFINE_config_file(
  'config', help_string='File and method, e.g. configs/digits.py:cvae_gan.'
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the population: a folder a member, and population.json.'
)
SEEDS = flags.DEFINE_list('seeds', [], 'Seeds of each setting; empty: that of the config.')
VARY = flags.DEFINE_multi_string(
  'vary', [], 'Field=value,value,...: a loss weight or a learning rate; may be repeated.'
)
RESUME = flags.DEFINE_enum(
  'resume',
  'newest',
  ['newest', 'strict'],
  'What to do about a damaged newest checkpoint: take the one before, or refuse.',
)


def main():
  from vaegan_jax import settings
  from vaegan_jax.runs import population

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
  return population.train(configs, WORKDIR.value, strict=RESUME.value == 'strict')


if __name__ == '__main__':
  command.run(
    main,
    needs=dict(
      config='--config is missing: name a config file and a method, e.g. --config=configs/digits.py:cvae_gan',
      workdir='--workdir is missing: name a folder for the members, e.g. --workdir=runs/sweep',
    ),
  )
