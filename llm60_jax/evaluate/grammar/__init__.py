"""Grammar by minimal pairs: does a model prefer the right one of two sentences?

`suite` makes the pairs from templates (`agreement`, `verbs`, `nouns`, `clauses`, `comparison`) and
the words of `lexicon`. `scoring` scores them, and the pairs of BLiMP.
"""
