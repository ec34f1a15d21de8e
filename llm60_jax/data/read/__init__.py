"""Sources to documents: packages, folders, datasets from the hub, each file format, and the ledger.

A reader yields one document at a time, in bounded memory, and names what it cannot read. Rooms:
`markup` (text with marks), `mail`, `office` (word processors, books, PDF), `web` (HTML).

All readers yield one convention of plain text. Blank lines part blocks, and a paragraph is a line.
A line break inside a block is meant: verse, code, items. Items begin with "- " or "1. ". Code
stands between two lines of three backticks, a table has a line a row ("| a | b |"): the exclusion
rules see these two marks, and cleaning takes them off.

Not here: cleaning of the text itself.
"""
