"""Measures of a model, given functions that score: held-out loss, grammar, rare words, prose,
depth, drift, privacy.

When to measure, and what follows from the result, is decided in `run`.
"""
