"""Advisory locks: one process at a time, its name in the lock's file.

The system releases a lock when its process ends, however it ends, so no lock outlives its holder.
The name does outlive a holder that was killed, and so tells the next process about it. A folder
that is synchronised between computers carries the name along, but not the lock.
"""

import contextlib
import fcntl
import os
import platform
import time
from pathlib import Path
from types import TracebackType

_MAX_CHARACTERS = 200  # of a name in the lock's file, which anybody may have written
_SIGNED: set["Lock"] = set()  # those that this process holds


class Lock:
    """An advisory lock on a file.

    As a context manager it erases a name that it signed, and releases the lock.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock's file, without taking the lock. Raise OSError."""
        self._file = path.open("a+", encoding="utf-8", errors="replace")

    def take(self) -> bool:
        """Take the lock and return True, or return False if another process holds it.

        Raise OSError if the disk offers no locks.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def name(self) -> str:
        """The name in the file: the holder, or a holder that ended without erasing it.

        "" if there is none.
        """
        self._file.seek(0)
        return self._file.read(_MAX_CHARACTERS).strip()

    @property
    def is_from_here(self) -> bool:
        """Whether the name is that of a process on this computer."""
        return f" on {platform.node()}, " in self.name

    def sign(self) -> None:
        """Write the name of this process into the file, for others to read. Raise OSError."""
        _SIGNED.add(self)
        self._file.truncate(0)
        self._file.write(f"pid {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        self._file.flush()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file:
            if self in _SIGNED:
                _SIGNED.remove(self)
                self._file.truncate(0)


def erase_names() -> None:
    """Erase the names that this process has signed with: it knows why it ends at once, and has told."""
    for lock in list(_SIGNED):
        with contextlib.suppress(OSError, ValueError):
            lock._file.truncate(0)
