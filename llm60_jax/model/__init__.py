"""The network and its losses in pure JAX: layers, attention, matrix products, parameter groups.

This package holds the forward pass and its hand-written derivatives. Optimizers and compiled steps
are in training/, text is in data/, files are in record/.
"""
