"""A local page on which one turns the latents of a trained model by hand."""
