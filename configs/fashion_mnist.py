"""Fashion-MNIST: 60,000 articles of clothing, 28x28 with a border of zeros to 32x32.

    python experiments/train.py --config=configs/fashion_mnist.py:cvae_gan --workdir=runs/fashion_mnist

Run card: see the README's table of runs. The widths are for one GPU; --config.network.width=0.25
trains on a CPU.
"""

from vaegan_jax.configs import base


def get_config(method='cvae_gan'):
  """The config of a method of methods.METHODS on Fashion-MNIST."""
  config = base.small_grey(method)
  config.data.name = 'fashion_mnist'
  config.gate.on = method.startswith('vae_gan')  # as in the authors' code
  return base.halved_first_phase(config)
