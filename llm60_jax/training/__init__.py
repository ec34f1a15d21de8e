"""The compiled step: gradients, optimizer, freezing, programs by StepKey, proof of what they do, and what they cost.

Here: everything between a batch on the host and a new training state. Not here: when to evaluate, save or stop, which
is the run's; and nothing that a run leaves on the disk.
"""
