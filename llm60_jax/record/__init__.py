"""What a run leaves on the disk, and how it is read back: run directory, checkpoints, metrics, doctor, report.

Not here: training, the model, and preparation of text. Only the checkpoint store touches arrays.
"""
