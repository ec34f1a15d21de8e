"""Sources to documents: packages, folders, datasets from the hub, and each file format; and the ledger they fill.

A reader yields one document at a time, in bounded memory, and names what it cannot read. Not here: cleaning of the text
itself.
"""
