"""The files of a run and their readers: run directory, checkpoints, metrics, doctor, report.

Not here: training, the model, and preparation of text. Only the checkpoint store touches arrays.
"""
