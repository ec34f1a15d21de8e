"""Documents to a phase's corpus: units, duplicates, held-out documents, doses, ledger.

A corpus is made in units, so that many processes or machines share the work and an interrupted
preparation resumes. Not here: tokens.
"""
