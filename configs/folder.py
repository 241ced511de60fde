"""Your own images: a folder or a zip, with one subfolder per class, a table of labels, or neither.

    python experiments/train.py --config=configs/folder.py:vae_gan_relativistic \\
        --config.data.path=FOLDER_OR_ZIP --workdir=runs/mine

With classes or attributes take cvae_gan_relativistic. Both suit one or two CPU cores; append
,medium or ,large for a GPU or TPU (see base.SIZES). On Linux,
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before the command makes steps about 9 % faster. The published
methods work too, with weights to set.

Reads JPEG, PNG, WebP, BMP and GIF of any size. The largest central square of each image is resized
to --config.data.image_size (16 to 256).
A tenth of the images, chosen by name, is held out for reconstructions and evaluation.
vaegan_jax/data/folders.py describes the tables of labels and attributes.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'vae_gan_relativistic') -> ConfigDict:
  """The config of a method on a folder of images."""
  config = base.get_config(argument)
  config.data.name = 'folder'
  config.data.split, config.data.held_out = 'nine_tenths', 'tenth'
  config.data.image_size, config.data.channels = 64, 3
  config.data.flip = True
  config.network.latent_size = 128
  config.sample_at_steps, config.sample_every_seconds = (1, 10, 50), 120.0
  return base.finished(base.halved_first_phase(config), argument)
