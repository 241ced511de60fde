"""Table 2 of VAE/GAN (Larsen et al. 2016): attributes of images generated for given attributes.

    python experiments/tables/larsen_table_2.py --data=celeba64 --fast
    python experiments/tables/larsen_table_2.py --data=lfw64
    python experiments/tables/larsen_table_2.py --data=celeba64 --recommended --set=steps=3000

Conditions VAE, GAN and VAE/GAN on attributes. A regressor trained on real faces predicts the
attributes of 10 samples for each attribute vector of held-out faces: cosine of the best of 10, and
squared error (recalled definitions, see metrics/attributes.py). The first row judges the real
held-out faces themselves. Writes table.md, table.json and samples.png to WORKDIR. With
--recommended, every method has the networks, the critic and the optimizer of vae_gan_relativistic,
and differs by its losses alone.
"""

from absl import flags

from vaegan_jax import command, interrupts

if __name__ == '__main__':
  interrupts.leave_at_once()  # before the imports that take seconds

from vaegan_jax.experiments import study

FLAGS = flags.FLAGS
study.define_flags('larsen_table_2', 'celeba64')
RECOMMENDED = flags.DEFINE_bool('recommended', False, 'With the parts of vae_gan_relativistic.')
# Encoder, generator and discriminator see the attributes, as recalled of the paper.
BY_ATTRIBUTES = {
  'data.condition': 'attributes',
  'prior_condition': 'shuffled',
  'network.conditional_discriminator': True,
}
METHODS = {name: (name, BY_ATTRIBUTES) for name in ('vae', 'gan', 'vae_gan')}
BY_RECOMMENDED = {
  'vae': ('vae', study.WITHOUT_CRITIC),
  'gan': ('gan', study.WITHOUT_ENCODER),
  'vae_gan': ('vae_gan_relativistic', {}),
}
FAST = {
  'steps': 3000,
  'batch_size': 32,
  'data.image_size': 32,
  'network.width': 0.25,
  'network.encoder_units': 1024,
  'network.latent_size': 64,
  'ema_decay': 0.99,
  'sample_every_steps': 500,
  'save_every_steps': 500,
}
COLUMNS = (
  ('cosine, best of 10', 'attributes', 'cosine_best_of_10', '.4f'),
  ('squared error', 'attributes', 'squared_error', '.2f'),
  ('Frechet distance', 'samples', 'frechet_distance', '.3g'),
  ('sharpness / real', 'ratio', 'sharpness', '.2f'),
)


def main() -> int:
  command.keep_compiled_programs()
  rows = study.recommended(BY_RECOMMENDED, 'attributes') if RECOMMENDED.value else METHODS
  results = study.figures_of_flags(study.rows_of_flags(rows, FAST))
  faces = [
    dict(
      attributes=dict(
        cosine_best_of_10=r['attributes']['real_cosine'],
        squared_error=r['attributes']['real_squared_error'],
      )
    )
    for r in results['vae']
  ]
  study.write(FLAGS.workdir, {'held-out faces themselves': faces, **results}, COLUMNS)
  study.picture(FLAGS.workdir, METHODS, rows=2)
  return 0


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
