"""Handwritten digits of scikit-learn: 1,797 real images of 8x8, enlarged to 16x16 (the embedded default).

    python experiments/train.py --config=configs/digits.py:cvae_gan --workdir=runs/digits

Run card: to be measured.
"""
from configs import base


def get_config(method='cvae_gan'):
  """The config of a method of methods.METHODS on the digits."""
  config = base.get_config(method)
  config.steps = 2500
  config.data.name, config.data.held_out = 'digits', 'test'
  config.data.image_size, config.data.channels = 16, 1
  config.network.latent_size, config.network.width = 16, 0.25
  config.network.encoder_units = 512
  config.sample_every_steps = config.save_every_steps = 500
  return config.lock()
