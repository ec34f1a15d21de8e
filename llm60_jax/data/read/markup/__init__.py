"""Readers of text with marks: Markdown, Org, AsciiDoc, reStructuredText, LaTeX."""
