"""Labeled Faces in the Wild: 13,233 faces at 64x64, with 74 attributes.

    python experiments/train.py --config=configs/lfw64.py:vae_gan --workdir=runs/lfw

reads a set named lfw64, of 64x64 faces with attributes; --config.data.name=lfw reads TFDS's lfw, which
has 250x250 images (their central 150x150 pixels are taken, as by Larsen et al.'s code) and no attributes.

Run card: not trained to the end yet.
"""

from vaegan_jax.configs import base


def get_config(method='vae_gan'):
  """The config of a method of methods.METHODS on LFW."""
  config = base.faces(method)
  # There is no official split; images are in the order of persons, few of whom are on both sides.
  config.data.name, config.data.split, config.data.held_out = 'lfw64', 'train[:90%]', 'train[90%:]'
  return base.halved_first_phase(config)
