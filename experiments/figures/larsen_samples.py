"""Section 4.1 of VAE/GAN (Larsen et al. 2016): samples and reconstructions of four methods.

    python experiments/figures/larsen_samples.py --data=digits --fast
    python experiments/figures/larsen_samples.py --data=celeba64

Trains VAE, VAE_Dis_l, VAE/GAN and GAN. Writes to WORKDIR samples.png (two rows per method),
reconstructions.png (originals, then one row per method with an encoder), table.md and table.json.
"""

from absl import flags

from vaegan_jax import command, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

from vaegan_jax.experiments import study

FLAGS = flags.FLAGS
study.define_flags('larsen_samples', 'digits')
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
# The small discriminator has about 1,000 features, the paper's 16,384: at 1, the KL leaves no
# information in z.
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


def main() -> int:
  command.keep_compiled_programs()
  results = study.figures_of_flags(study.rows_of_flags(METHODS, FAST, FAST_OF))
  study.write(FLAGS.workdir, results, COLUMNS)
  study.picture(FLAGS.workdir, METHODS)
  study.picture(FLAGS.workdir, METHODS, mode='reconstructions')
  return 0


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
