"""Table 1 of CVAE-GAN (Bao et al. 2017): CVAE, CGAN (in two readings), FM-CGAN, CVAE-GAN, judged by classifiers.

    python experiments/tables/bao_table_1.py --data=digits --fast
    python experiments/tables/bao_table_1.py --data=fashion_mnist

Trains each method with each seed, then prints top-1 and the Inception-Score-like figure, each with its
ratio to real data, and the diversity within classes that the paper's two figures do not see. Written to
WORKDIR: table.md, table.json, and samples.png (a block of rows a method, a column a class).
"""

from absl import flags

from vaegan_jax import command
from vaegan_jax.experiments.tables import bao_fast

FLAGS = flags.FLAGS
command.define_study_flags('bao_table_1', 'digits')
METHODS = {
  'cvae': ('cvae', {}),
  'cgan': ('cgan', {}),
  # The other reading of "traditional CGAN": Mirza and Osindero's, whose discriminator sees the class.
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


def main():
  from vaegan_jax.experiments import study

  command.keep_compiled_programs()
  results = study.figures(
    FLAGS.data,
    command.study_methods(METHODS, bao_fast.BY_METHOD),
    range(FLAGS.seeds),
    command.study_settings(bao_fast.SETTINGS),
    FLAGS.workdir,
    n=FLAGS.n,
    judge_steps=FLAGS.judge_steps,
  )
  study.write(FLAGS.workdir, results, COLUMNS)
  study.picture(FLAGS.workdir, METHODS, rows=3)
  return 0


if __name__ == '__main__':
  command.run(main)
