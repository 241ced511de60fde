"""MNIST: 60,000 handwritten digits, 28x28 with a border of zeros to 32x32.

    python experiments/train.py --config=configs/mnist.py:cvae_gan --workdir=runs/mnist

Run card: see the README's table of runs. The widths are for one GPU; --config.network.width=0.25
trains on a CPU.
"""

from vaegan_jax.configs import base


def get_config(method='cvae_gan'):
  """The config of a method of methods.METHODS on MNIST."""
  config = base.small_grey(method)
  config.data.name = 'mnist'
  return base.halved_first_phase(config)
