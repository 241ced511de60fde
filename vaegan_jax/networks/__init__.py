"""The networks of both papers; each module has an Encoder, a Generator, and a Discriminator.

`bao` also has a Classifier. `mlp`, for points in the plane, belongs to the toy example alone.
"""

from vaegan_jax.networks import bao, larsen, residual

NETWORKS = dict(bao=bao, larsen=larsen, residual=residual)
