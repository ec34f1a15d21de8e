"""Text to clean text: repairs, exclusion rules, near-duplicates, private strings and canaries.

Pure functions of strings. Not here: where text comes from (`read`), and which documents a phase
keeps (`corpus`).
"""
