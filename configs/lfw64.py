"""Labeled Faces in the Wild: 13,233 faces at 64x64, with 74 attributes.

    python experiments/train.py --config=configs/lfw64.py:vae_gan --workdir=runs/lfw

Reads a set named lfw64, of 64x64 faces with attributes. --config.data.name=lfw reads TFDS's lfw: it
has no attributes, and of its 250x250 images the central 150x150 pixels are used, as in Larsen et
al.'s code.

Run card: not trained to the end yet.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'vae_gan') -> ConfigDict:
  """The config of a method on LFW."""
  config = base.faces(argument)
  # No official split exists. Images are sorted by person, so few people are in both parts.
  config.data.name, config.data.split, config.data.held_out = 'lfw64', 'train[:90%]', 'train[90%:]'
  return base.finished(base.halved_first_phase(config), argument)
