"""CelebA: faces with 40 attributes at 64x64, cut as by Larsen et al.'s code (rows 40:188, columns 15:163).

    python experiments/train.py --config=configs/celeba64.py:vae_gan --workdir=runs/faces

reads TFDS's celeb_a; --config.data.name=celeb_a64 reads a set that holds 64x64 faces already.
Conditional methods are trained on the attributes, those of prior samples being other images'.

Run card: 37,500 steps of 64 images are the authors' code's at arXiv v2 (150 epochs of 250 batches); see
the README's table of runs for how far we went.
"""

from vaegan_jax.configs import base


def get_config(method='vae_gan'):
  """The config of a method of methods.METHODS on CelebA."""
  config = base.faces(method)
  config.data.name, config.data.held_out = 'celeb_a', 'test'
  return base.halved_first_phase(config)
