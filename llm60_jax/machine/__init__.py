"""This computer: files, locks, signals, devices, the terminal, and what the hardware is.

Here: folders that are whole or absent (`manifest`) and small files (`files`); locks, signals and
sleep (`locks`, `signals`, `awake`); the choice of a device and the compilation cache (`devices`,
`compilation_cache`); facts and cached measurements of the machine (`facts`, `remembered`); the
terminal, progress and the frame of a command (`terminal`, `progress`, `cli`). Not here: anything
that knows a model, a plan or a run.
"""
