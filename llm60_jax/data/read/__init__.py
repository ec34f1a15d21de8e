"""Sources to documents: packages, folders, datasets from the hub, each file format, and the ledger.

A reader yields one document at a time, in bounded memory, and names what it cannot read. Not here:
cleaning of the text itself.
"""
