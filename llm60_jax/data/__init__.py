"""From source text to batches: sources -> cleaning -> corpus -> tokenizer -> shards -> packing -> loader.

Each step that writes files (`corpus`, `tokenizer`, `shards`) writes them once into a folder named by a digest of its
inputs, and finds them there the next time (`manifest`). This package imports no jax of its own.
"""
