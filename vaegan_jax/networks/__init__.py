"""The networks (flax.linen): larsen and bao, by paper; mlp, the toy; layers, their parts."""
