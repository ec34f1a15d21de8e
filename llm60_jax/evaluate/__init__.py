"""Measures of a model, given functions that score: held-out loss, grammar, rare words, prose, depth, drift, privacy.

Not here: when they are taken and what follows from them (`run`).
"""
