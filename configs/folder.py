"""Your own images: a folder or a zip, with one subfolder per class, a table of labels, or neither.

    python experiments/train.py --config=configs/folder.py:cvae_gan --workdir=runs/mine \\
        --config.data.path=FOLDER_OR_ZIP

Reads JPEG, PNG, WebP, BMP and GIF of any size. The largest central square of each image is resized
to --config.data.image_size (16, 32, 64 or 128). Without classes choose vae_gan, vae or gan.
vaegan_jax/data/folders.py describes the tables of labels and attributes.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(method: str = 'cvae_gan') -> ConfigDict:
  """The config of a method on a folder of images."""
  config = base.get_config(method)
  config.data.name = 'folder'
  config.data.image_size, config.data.channels = 64, 3
  config.network.latent_size = 128
  return base.halved_first_phase(config)
