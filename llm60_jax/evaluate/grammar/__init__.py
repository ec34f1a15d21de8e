"""Grammar by minimal pairs: two sentences that differ in one rule, and how often a model prefers
the right one.

`suite` makes the pairs from templates (`agreement`, `verbs`, `nouns`, `clauses`, `comparison`) and
the words of `lexicon`. `scoring` scores them, and the pairs of BLiMP.
"""
