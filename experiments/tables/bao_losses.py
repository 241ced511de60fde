"""Section 4.5 of CVAE-GAN (Bao et al. 2017): each part of the generator's loss removed in turn.

    python experiments/tables/bao_losses.py --data=digits --fast
    python experiments/tables/bao_losses.py --data=fashion_mnist

All variants and seeds are trained as one population on accelerators, one after another on a CPU; --population says
otherwise.

Recalled of the paper, which shows pictures and no numbers: without L_G(D), on the discriminator's features,
images are blurred; without L_G(img), on pixels, detail is lost; without L_G(C), on the classifier's features,
the category is lost. Measured here on reconstructions: sharpness (gradient energy over that of the
originals), PSNR, top-1. Written to WORKDIR: table.md, table.json, samples.png, reconstructions.png.
"""

import pathlib

from absl import flags

from vaegan_jax import command
from vaegan_jax.experiments.tables import bao_fast

FLAGS = flags.FLAGS
command.define_study_flags('bao_losses', 'digits')
# A part is all that sees the same features: the paper regroups L_G, L_GD and L_GC into a part on pixels, one on
# the discriminator's and one on the classifier's features (recalled).
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
flags.DEFINE_bool(
  'population', None, 'Train all runs side by side; by default if there is an accelerator.'
)
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


def train_together(methods, settings):
  """The exit code of a population of all runs that are not done, in the workdirs where study.figures looks for them."""
  from vaegan_jax import checkpoint, population, study

  configs = {
    f'{row}/seed_{seed}': study.config_of(FLAGS.data, method, seed, {**settings, **own})
    for seed in range(FLAGS.seeds)
    for row, (method, own) in methods.items()
  }
  done = lambda name, config: (
    checkpoint.steps(pathlib.Path(FLAGS.workdir) / name)[-1:] == [config.steps]
  )
  left = {name: config for name, config in configs.items() if not done(name, config)}
  return population.train(left, FLAGS.workdir) if left else 0


def main():
  import jax

  from vaegan_jax.experiments import study

  command.keep_compiled_programs()
  methods, settings = (
    command.study_methods(METHODS, bao_fast.BY_METHOD),
    command.study_settings(bao_fast.SETTINGS),
  )
  together = jax.default_backend() != 'cpu' if FLAGS.population is None else FLAGS.population
  if together and (code := train_together(methods, settings)):
    return code
  results = study.figures(
    FLAGS.data,
    methods,
    range(FLAGS.seeds),
    settings,
    FLAGS.workdir,
    n=FLAGS.n,
    judge_steps=FLAGS.judge_steps,
  )
  study.write(FLAGS.workdir, results, COLUMNS)
  study.picture(FLAGS.workdir, METHODS, rows=2)
  study.picture(FLAGS.workdir, METHODS, mode='reconstructions')
  return 0


if __name__ == '__main__':
  command.run(main)
