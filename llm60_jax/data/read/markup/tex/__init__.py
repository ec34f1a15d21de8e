"""LaTeX and plain TeX: from tokens to the blocks of a text."""
