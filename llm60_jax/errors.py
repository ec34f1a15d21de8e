"""How a command can fail, with one exit code for each way.

A `Failure` carries a message to the user: what is wrong, where, and what to do. `launch.py` and the
tools print it without a traceback and exit with its code. Any other exception that escapes is a bug
in this project: exit code 1, traceback in the log.
"""


class Failure(Exception):
    """Base of all expected failures. Scripts tell the classes apart by `exit_code`."""

    exit_code = 1


class InputError(Failure):
    """Bad input or configuration, or a run directory that belongs to another run."""

    exit_code = 2


class GateError(Failure):
    """The evidence of a phase does not suffice to close it."""

    exit_code = 3


class DamageError(Failure):
    """Prepared data or a checkpoint differs from its recorded digests."""

    exit_code = 4


class MachineError(Failure):
    """The machine cannot do it: disk, memory, permissions or device."""

    exit_code = 5


class TrainingError(Failure):
    """Training stopped itself: a non-finite loss, or a schedule without effect.

    The last good state is kept.
    """

    exit_code = 6


class Interrupted(Failure):
    """A signal stopped the run, and its state is saved.

    The exit code is 128 + the number of the signal.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
