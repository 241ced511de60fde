"""The networks of both papers; each module has Encoder, Generator, Discriminator, Classifier."""

from vaegan_jax.networks import bao, larsen

NETWORKS = dict(bao=bao, larsen=larsen)
