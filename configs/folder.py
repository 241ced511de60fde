"""Your own images: a folder or a zip, with one subfolder per class, or with a table of labels, or without.

    python experiments/train.py --config=configs/folder.py:cvae_gan --config.data.path=FOLDER_OR_ZIP --workdir=runs/mine

JPEG, PNG, WebP, BMP and GIF of any size; the largest central square is taken and resized to
--config.data.image_size (16, 32, 64 or 128). Without classes choose vae_gan, vae or gan. See folders.py for
tables of labels and attributes.
"""

from vaegan_jax.configs import base


def get_config(method='cvae_gan'):
  """The config of a method of methods.METHODS on a folder of images."""
  config = base.get_config(method)
  config.data.name = 'folder'
  config.data.image_size, config.data.channels = 64, 3
  config.network.latent_size = 128
  return base.halved_first_phase(config)
