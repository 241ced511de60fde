"""CIFAR-10: 50,000 photographs of ten classes of objects, 32x32.

    python experiments/train.py --config=configs/cifar10.py:cvae_gan --workdir=runs/cifar10

Run card: not trained to the end yet. docs/photographs.md shows cvae_gan_relativistic after 3,300
processor seconds, 28,029 steps.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'cvae_gan') -> ConfigDict:
  """The config of a method on CIFAR-10."""
  config = base.get_config(argument)
  config.steps = 100_000
  config.data.name, config.data.held_out = 'cifar10', 'test'
  config.data.image_size, config.data.channels = 32, 3
  config.data.flip = True
  config.network.latent_size = 128
  config.network.encoder_units = 1024
  return base.finished(base.halved_first_phase(config), argument)
