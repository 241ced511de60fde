"""CelebA: faces with 40 attributes at 64x64, cut as by Larsen et al.'s code (rows 40:188, columns 15:163).

    python experiments/train.py --config=configs/celeba64.py:vae_gan --workdir=runs/faces

reads TFDS's celeb_a; --config.data.name=celeb_a64 reads a set that holds 64x64 faces already.
Conditional methods are trained on the attributes, those of prior samples being other images'.

Run card: 37,500 steps of 64 images are the authors' code's at arXiv v2 (150 epochs of 250 batches); see
the README's table of runs for how far we went.
"""
from configs import base


def get_config(method='vae_gan'):
  """The config of a method of methods.METHODS on CelebA."""
  config = base.get_config(method)
  config.steps = 37_500
  config.data.name, config.data.held_out = 'celeb_a', 'test'
  config.data.image_size, config.data.channels = 64, 3
  config.data.flip = True
  if config.data.condition == 'label':
    config.data.condition = 'attributes'
  config.prior_condition = 'shuffled'
  config.network.latent_size = 128
  config.gate.on = method.startswith('vae_gan')  # as in the authors' code
  if method == 'vae_dis':
    config.first.steps = config.steps // 2
  return config.lock()
