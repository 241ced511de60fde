"""Handwritten digits of scikit-learn: 1,797 real images of 8x8, enlarged to 16x16, no download.

    python experiments/train.py --config=configs/digits.py:cvae_gan --workdir=runs/digits

Run card: 1,000 steps take about 90 s on two CPU cores. docs/runs.md has the numbers to expect;
experiments/judge_digits.py judges conditional methods.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'cvae_gan') -> ConfigDict:
  """The config of a method on the digits."""
  config = base.get_config(argument)
  config.steps = 1000
  config.ema_decay = 0.99
  config.data.name, config.data.held_out = 'digits', 'test'
  config.data.image_size, config.data.channels = 16, 1
  config.network.latent_size, config.network.width = 16, 0.25
  config.optimizer.learning_rate = 5e-4
  row = config.method.generator
  if 'match_d' in row:  # lambda 3 and 4 suit about 16,000 features; here there are 512 and 256
    row.match_d = row.match_c = 0.02
  # Lambda 1 = 3 suits 49,152 pixel values; with 256 it leaves z unused.
  if config.method_name == 'cvae':
    config.method.encoder.kl = 0.5
  # Likewise: about 1,000 features here, 16,384 in the paper.
  if config.method_name == 'vae_dis':
    config.method.encoder.kl = 0.02
    config.first.steps = 150
  config.log_every_steps, config.sample_every_steps, config.save_every_steps = 50, 25, 200
  return base.finished(config, argument)
