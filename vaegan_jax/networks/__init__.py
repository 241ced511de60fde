"""The networks (flax.linen): larsen and bao, one file per paper; mlp, the toy; layers, their parts."""
