"""This computer: files, locks, signals, devices, the terminal, and what the hardware is.

Here: folders that are whole or absent (`manifest`), small files (`files`), and both while they are
made (`unfinished`); locks, signals and sleep (`locks`, `signals`, `awake`); the environment, the
choice of a device and the compilation cache (`environment`, `devices`, `compilation_cache`); facts
and cached measurements of the machine (`facts`, `remembered`); the terminal, progress and the frame
of a command (`terminal`, `progress`, `cli`). Not here: anything that knows a model, a plan or a run.
"""
