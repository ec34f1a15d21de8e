"""llm60_jax: train a small, deep language model from raw English text on one ordinary computer."""

__version__ = "0.1.0"
