"""The compiled step: gradients, optimizer, freezing, programs, their proof and their costs.

This package takes a batch on the host to a new training state. When to evaluate, save or stop is
decided in run/; the files of a run are in record/.
"""
