"""Documents to a phase's corpus: units, duplicates, held-out documents, doses, and the ledger that counts them.

A corpus is made in units, so that many processes or machines share the work and an interrupted preparation resumes.
Not here: tokens.
"""
