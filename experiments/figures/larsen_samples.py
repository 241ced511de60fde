"""Samples and reconstructions of VAE, VAE_Dis_l, VAE/GAN and GAN side by side (Larsen et al. 2016, section 4.1).

    python experiments/figures/larsen_samples.py --data=digits --fast
    python experiments/figures/larsen_samples.py --data=celeba64

Trains each method, and writes to WORKDIR samples.png (two rows of samples each of VAE, VAE_Dis_l, VAE/GAN, GAN),
reconstructions.png (originals, then a row each of VAE, VAE_Dis_l, VAE/GAN), table.md and table.json.
"""

from absl import flags

from vaegan_jax import command

FLAGS = flags.FLAGS
command.define_study_flags('larsen_samples', 'digits')
METHODS = {name: (name, {}) for name in ('vae', 'vae_dis', 'vae_gan', 'gan')}
FAST = {
  'steps': 1500,
  'data.image_size': 16,
  'network.width': 0.25,
  'network.latent_size': 32,
  'ema_decay': 0.99,
  'sample_every_steps': 500,
  'save_every_steps': 500,
}
# Some 1,000 features of a small discriminator, where the paper has 16,384: at 1 the KL leaves nothing to z.
FAST_OF = {'vae_dis': {'method.encoder.kl': 0.02}}
COLUMNS = (
  ('Frechet distance', 'samples', 'frechet_distance', '.3g'),
  ('precision', 'samples', 'precision', '.2f'),
  ('recall', 'samples', 'recall', '.2f'),
  ('sharpness / real', 'ratio', 'sharpness', '.2f'),
  ('reconstructions: Frechet distance', 'reconstructions', 'frechet_distance', '.3g'),
  ('PSNR, dB', 'reconstructions', 'psnr', '.2f'),
  ('SSIM', 'reconstructions', 'ssim', '.3f'),
  ('sharpness', 'reconstructions', 'sharpness', '.2f'),
)


def main():
  from vaegan_jax.experiments import study

  command.keep_compiled_programs()
  results = study.figures(
    FLAGS.data,
    command.study_methods(METHODS, FAST_OF),
    range(FLAGS.seeds),
    command.study_settings(FAST),
    FLAGS.workdir,
    n=FLAGS.n,
    judge_steps=FLAGS.judge_steps,
  )
  study.write(FLAGS.workdir, results, COLUMNS)
  study.picture(FLAGS.workdir, METHODS)
  study.picture(FLAGS.workdir, METHODS, mode='reconstructions')
  return 0


if __name__ == '__main__':
  command.run(main)
