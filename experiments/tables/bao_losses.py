"""Section 4.5 of CVAE-GAN (Bao et al. 2017): the generator's loss without each of its parts.

    python experiments/tables/bao_losses.py --data=digits --fast
    python experiments/tables/bao_losses.py --data=fashion_mnist

On accelerators all variants and seeds train as one population, on a CPU one after another;
--population overrides this.

Recalled of the paper, which shows pictures and no numbers: without L_G(D), on the discriminator's
features, images are blurred; without L_G(img), on pixels, detail is lost; without L_G(C), on the
classifier's features, the category is lost. Here reconstructions are measured: sharpness (gradient
energy over that of the originals), PSNR, top-1. Writes table.md, table.json, samples.png and
reconstructions.png to WORKDIR.
"""

import pathlib

from absl import flags

from vaegan_jax import command, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

from vaegan_jax.experiments import study
from vaegan_jax.experiments.tables import bao_fast

FLAGS = flags.FLAGS
study.define_flags('bao_losses', 'digits')
flags.DEFINE_bool(
  'population', None, 'Train all runs as one population; by default if there is an accelerator.'
)
# A part is every loss on the same features. The paper regroups L_G, L_GD and L_GC into a part on
# pixels, one on the discriminator's features and one on the classifier's (recalled).
PARTS = {'pixels': ('pixel',), 'd': ('feature_d', 'match_d'), 'c': ('feature_c', 'match_c')}
METHODS = {'whole': ('cvae_gan', {})} | {
  f'without_{part}': (
    'cvae_gan',
    {
      f'method.{network}.{loss}': 0.0
      for network in ('generator', 'encoder')
      for loss in losses
      if network == 'generator' or not loss.startswith('match')
    },
  )
  for part, losses in PARTS.items()
}
COLUMNS = (
  ('sharpness', 'reconstructions', 'sharpness', '.3f'),
  ('PSNR, dB', 'reconstructions', 'psnr', '.2f'),
  ('SSIM', 'reconstructions', 'ssim', '.3f'),
  ('top-1', 'reconstructions', 'top1', '.1%'),
  ('Frechet distance', 'reconstructions', 'frechet_distance', '.3g'),
  ('samples: sharpness', 'ratio', 'sharpness', '.2f'),
  ('samples: top-1', 'samples', 'top1', '.1%'),
  ('samples: diversity / real', 'ratio', 'diversity_features', '.2f'),
  ('samples: Frechet distance', 'samples', 'frechet_distance', '.3g'),
)


def train_population(methods: study.Methods) -> int:
  """Exit code of training all unfinished runs as one population, where study.figures finds them."""
  from vaegan_jax import checkpoint
  from vaegan_jax.runs import train

  unfinished = {}
  for seed in range(FLAGS.seeds):
    for row, (method, own) in methods.items():
      config = study.config_of(FLAGS.data, method, seed, own)
      name = f'{row}/seed_{seed}'
      if checkpoint.steps(pathlib.Path(FLAGS.workdir) / name)[-1:] != [config.steps]:
        unfinished[name] = config
  return train.train_members(unfinished, FLAGS.workdir) if unfinished else 0


def main() -> int:
  import jax

  command.keep_compiled_programs()
  methods = study.rows_of_flags(METHODS, bao_fast.SETTINGS, bao_fast.BY_METHOD)
  parallel = jax.default_backend() != 'cpu' if FLAGS.population is None else FLAGS.population
  if parallel and (code := train_population(methods)):
    return code
  results = study.figures_of_flags(methods)
  study.write(FLAGS.workdir, results, COLUMNS)
  study.picture(FLAGS.workdir, METHODS, rows=2)
  study.picture(FLAGS.workdir, METHODS, mode='reconstructions')
  return 0


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
