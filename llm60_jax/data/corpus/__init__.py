"""Documents to a phase's corpus: units of work, duplicates, held-out documents, doses, and the account of all of them.

Work is cut into units, so that many processes or machines can share it and an interrupted preparation can continue. Not
here: tokens.
"""
