"""A corpus to batches: tokenizer, shards of token ids, packing into rows, loss weights, the Grain loader.

Not here: text rules, and anything on a device.
"""
