"""Readers of files, one for each kind: from a path to documents. They know nothing of sources and ledgers."""
