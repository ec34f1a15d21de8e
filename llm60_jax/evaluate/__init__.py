"""Measures of a model: validation loss now; grammar, vocabulary and style have their place here."""
