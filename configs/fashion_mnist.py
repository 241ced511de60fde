"""Fashion-MNIST: 60,000 articles of clothing, 28x28, padded with zeros to 32x32.

    python experiments/train.py --config=configs/fashion_mnist.py:cvae_gan --workdir=runs/clothes

Run card: see docs/runs.md; for cvae_gan_relativistic, docs/photographs.md. The published methods'
widths are meant for one GPU; on a CPU use --config.network.width=0.25.
"""

from ml_collections import ConfigDict

from vaegan_jax.configs import base


def get_config(argument: str = 'cvae_gan') -> ConfigDict:
  """The config of a method on Fashion-MNIST."""
  config = base.small_grey(argument)
  config.data.name = 'fashion_mnist'
  config.gate.on = config.method_name.startswith('vae_gan')  # as in the authors' code
  return base.finished(base.halved_first_phase(config), argument)
