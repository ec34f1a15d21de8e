"""The ways a command ends, each with its exit code.

A `Failure` is a message for a person: what is wrong, where, and what to do. `launch.py` and the tools print it
without a traceback and exit with its code. Anything else that escapes is a bug of ours: exit code 1, traceback in
the log.
"""


class Failure(Exception):
    """Base of all expected failures; `exit_code` tells the class to scripts."""

    exit_code = 1


class InputError(Failure):
    """Bad input or configuration, or a run directory that belongs to something else."""

    exit_code = 2


class GateError(Failure):
    """A phase's evidence does not suffice to close it."""

    exit_code = 3


class DamageError(Failure):
    """Prepared data or a checkpoint does not match its recorded digests."""

    exit_code = 4


class MachineError(Failure):
    """The environment refuses: disk, memory, permissions, device."""

    exit_code = 5


class TrainingError(Failure):
    """Training stopped itself: a non-finite loss, or a schedule that is not in effect. The last good state is kept."""

    exit_code = 6


class Interrupted(Failure):
    """A signal asked the run to stop; its state is saved. The exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
