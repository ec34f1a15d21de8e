"""This computer: files, locks, signals, devices, the terminal, and what the hardware is.

Here: folders that are whole or absent (`manifest`) and small files (`files`), locks, signals, sleep, the choice of a
device, the compilation cache, what was measured here before (`remembered`), and how a command talks to a person
(`terminal`, `command`). Not here: anything that knows a model, a phase or a run.
"""
