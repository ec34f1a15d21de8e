"""One run, from its first step to its last gate: the only place where pure code meets the disk and the clock.

`loop` is the playbook: phases -> stages -> steps. `stage` holds the order that resume rests on, `state` what a
checkpoint remembers, `gates` and `closing` the end of a phase, `observers` those who only watch. Not here: how a step
computes (`training`) and how files are written (`record`, `machine`).
"""
