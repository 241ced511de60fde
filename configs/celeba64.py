"""CelebA: faces at 64x64 with 40 attributes, cropped as in Larsen et al.'s code.

    python experiments/train.py --config=configs/celeba64.py:vae_gan --workdir=runs/faces

Reads TFDS's celeb_a and keeps rows 40:188, columns 15:163; --config.data.name=celeb_a64 reads a set
of faces stored at 64x64. Conditional methods train on the attributes; prior samples take those of
other images.

Run card: 37,500 steps of 64 images, as in the authors' code at arXiv v2 (150 epochs of 250
batches). docs/runs.md says how far our runs went.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'vae_gan') -> ConfigDict:
  """The config of a method on CelebA."""
  config = base.faces(argument)
  config.data.name, config.data.held_out = 'celeb_a', 'test'
  return base.finished(base.halved_first_phase(config), argument)
