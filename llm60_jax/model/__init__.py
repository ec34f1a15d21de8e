"""The network and its losses in pure JAX: layers, attention, matrix products, parameters as groups.

Here is the mathematics of the forward pass and of its hand-written derivatives. Not here: optimizers, compiled steps,
text, files.
"""
