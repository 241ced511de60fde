"""Table 2 of VAE/GAN (Larsen et al. 2016): attributes of images generated for given attributes.

    python experiments/tables/larsen_table_2.py --data=celeba64 --fast
    python experiments/tables/larsen_table_2.py --data=lfw64

VAE, GAN and VAE/GAN conditioned on attributes; a regressor trained on real faces reads the attributes off
10 samples for each attribute vector of held-out faces: cosine of the best of 10, and squared error (recalled
definitions, see metrics/attributes.py). The first row is that of the real held-out faces. Written to WORKDIR:
table.md, table.json, samples.png.
"""

from absl import flags

from vaegan_jax import command

FLAGS = flags.FLAGS
command.define_study_flags('larsen_table_2', 'celeba64')
# Attributes are seen by encoder, generator and discriminator, as recalled of the paper.
BY_ATTRIBUTES = {
  'data.condition': 'attributes',
  'prior_condition': 'shuffled',
  'network.conditional_discriminator': True,
}
METHODS = {name: (name, BY_ATTRIBUTES) for name in ('vae', 'gan', 'vae_gan')}
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


def main():
  from vaegan_jax.experiments import study

  command.keep_compiled_programs()
  results = study.figures(
    FLAGS.data,
    METHODS,
    range(FLAGS.seeds),
    command.study_settings(FAST),
    FLAGS.workdir,
    n=FLAGS.n,
    judge_steps=FLAGS.judge_steps,
  )
  own = [
    dict(
      attributes=dict(
        cosine_best_of_10=r['attributes']['real_cosine'],
        squared_error=r['attributes']['real_squared_error'],
      )
    )
    for r in results['vae']
  ]
  study.write(FLAGS.workdir, {'held-out faces themselves': own, **results}, COLUMNS)
  study.picture(FLAGS.workdir, METHODS, rows=2)
  return 0


if __name__ == '__main__':
  command.run(main)
