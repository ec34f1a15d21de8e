"""A corpus to batches: tokenizer, token shards, packed rows, loss weights, the Grain loader.

Not here: text rules, and anything on a device.
"""
