"""Readers of what word processors and publishers write: Word, OpenDocument, RTF, e-books, PDF."""
