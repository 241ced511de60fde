"""Table 1 of CVAE-GAN (Bao et al. 2017): CVAE, two readings of CGAN, FM-CGAN and CVAE-GAN.

    python experiments/tables/bao_table_1.py --data=digits --fast
    python experiments/tables/bao_table_1.py --data=fashion_mnist
    python experiments/tables/bao_table_1.py --data=fashion_mnist --recommended --set=steps=2000

Trains each method with each seed and judges its samples with classifiers. Prints the paper's two
figures, top-1 and a score like Inception Score, each with its ratio to real data, and the diversity
within classes, which neither of the two sees. Writes table.md, table.json and samples.png (a block
of rows per method, one column per class) to WORKDIR. With --recommended, every method has the
networks, the critic and the optimizer of cvae_gan_relativistic, and differs by its losses alone.
"""

from absl import flags

from vaegan_jax import command, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

from vaegan_jax.experiments import study
from vaegan_jax.experiments.tables import bao_fast

FLAGS = flags.FLAGS
study.define_flags('bao_table_1', 'digits')
RECOMMENDED = flags.DEFINE_bool('recommended', False, 'With the parts of cvae_gan_relativistic.')
METHODS = {
  'cvae': ('cvae', {}),
  'cgan': ('cgan', {}),
  # Another reading of "traditional CGAN": Mirza and Osindero's, whose discriminator sees the class.
  'cgan_without_classifier': (
    'cgan',
    {
      'method.generator.classify_prior': 0.0,
      'method.classifier.classify': 0.0,
      'network.conditional_discriminator': True,
    },
  ),
  'fm_cgan': ('fm_cgan', {}),
  'cvae_gan': ('cvae_gan', {}),
}
MATCHING = dict(match_d=1.0, match_c=1.0)
BY_RECOMMENDED = {
  'cvae': ('cvae', {'method.encoder.kl': 1.0, **study.WITHOUT_CRITIC}),
  # Mirza and Osindero's: its discriminator sees the class, and there is no classifier.
  'cgan': ('gan', study.WITHOUT_ENCODER),
  'fm_cgan': (
    'fm_cgan',
    {
      'method': dict(classifier=dict(classify=1.0), discriminator=study.CRITIC, generator=MATCHING),
      'match_d_decay': 0.9,
      'balance.mode': 'off',
    },
  ),
  'cvae_gan': ('cvae_gan_relativistic', {}),
}
COLUMNS = (
  ('top-1', 'samples', 'top1', '.1%'),
  ('worst class', 'samples', 'top1_worst', '.1%'),
  ('top-1 / real', 'ratio', 'top1', '.3f'),
  ('score', 'samples', 'score', '.2f'),
  ('score / real', 'ratio', 'score', '.3f'),
  ('diversity / real', 'ratio', 'diversity_features', '.2f'),
  ('least class', 'ratio', 'diversity_features_least', '.2f'),
  ('diversity / real, pixels', 'ratio', 'diversity_pixels', '.2f'),
  ('Frechet distance', 'samples', 'frechet_distance', '.3g'),
  ('sharpness / real', 'ratio', 'sharpness', '.2f'),
)


def main() -> int:
  command.keep_compiled_programs()
  rows = study.recommended(BY_RECOMMENDED) if RECOMMENDED.value else METHODS
  methods = study.rows_of_flags(rows, bao_fast.SETTINGS, bao_fast.BY_METHOD)
  results = study.figures_of_flags(methods)
  study.write(FLAGS.workdir, results, COLUMNS)
  study.picture(FLAGS.workdir, methods, rows=3)
  return 0


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
