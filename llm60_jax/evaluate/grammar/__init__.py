"""Minimal pairs: sentences that differ in one rule of grammar, and the share of them that a model judges right.

`suite` makes the pairs from the words of `lexicon`; `scoring` scores them, and BLiMP too.
"""
