"""From source text to batches, in four rooms: clean <- read <- corpus <- tokens.

`prepare` runs all of it for a configuration. Each step that writes files writes them once, into a folder named by a
digest of its inputs, and finds them there the next time. Not here: jax and the model; a batch leaves this package as
NumPy arrays.
"""
