"""MNIST: 60,000 handwritten digits, 28x28, padded with zeros to 32x32.

    python experiments/train.py --config=configs/mnist.py:cvae_gan --workdir=runs/mnist

Run card: see docs/runs.md. The widths are meant for one GPU; on a CPU use
--config.network.width=0.25.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'cvae_gan') -> ConfigDict:
  """The config of a method on MNIST."""
  config = base.small_grey(argument)
  config.data.name = 'mnist'
  return base.finished(base.halved_first_phase(config), argument)
