"""Unfinished files and folders: held by the process that makes them, removed by the next start.

Whatever is built aside has a name from `name_of`, and its maker holds a lock on it. The system
releases the lock when the process ends, however it ends. So the next start can tell what a killed
process has left behind from what another process is making at this moment. Locks of other computers
may not show, on a disk that several share, so what they have left stays for a day.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
# The last part is the number of a process, a word, or tempfile's.
_NAME = re.compile(r"\..+\.partial-([0-9a-f]{8})-(\d+|removed|[a-z0-9_]{8})")
_TEMPORARY = "llm60_jax"  # the name of folders in the system's place for temporary files
_STALE_SECONDS = 24 * 3600  # where locks do not tell: older than this belongs to no living process


def name_of(finished: str, maker: str = "") -> str:
    """Return the name of a file or folder while it is made or removed.

    Args:
      finished: its name when it is finished.
      maker: digits or "removed"; by default the caller adds the eight characters of `tempfile`.
    """
    return f".{finished}.partial-{_HOST}-{maker}"


@contextlib.contextmanager
def held(make: Callable[[], Path]) -> Iterator[Path]:
    """Make a file or folder, and hold it inside the block.

    Args:
      make: makes it and returns its path. It is called again if another process removes the path
        before this one holds it.

    Raise OSError.
    """
    while True:
        path = make()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a disk without locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists():
                break
            os.close(descriptor)
    try:
        yield path
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def folder(name: str = _TEMPORARY, parent: Path | None = None) -> Iterator[Path]:
    """Make an empty folder, hold it inside the block, and remove it at the end, if it is still there.

    Args:
      name: becomes a part of its name.
      parent: where to make it; by default, the system's place for temporary files.

    Raise OSError.
    """
    with held(lambda: Path(tempfile.mkdtemp(prefix=name_of(name), dir=parent))) as path:
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def remove(folders: Iterable[Path]) -> str:
    """Remove what ended processes have left unfinished in some folders and among temporary files.

    Folders below these, foreign files, and what a living process holds stay.

    Returns:
      What was removed, for the user: "2 unfinished files and folders ...", or "".
    """
    temporary = [path for path in _inside(Path(tempfile.gettempdir())) if path.name.startswith(name_of(_TEMPORARY))]
    paths = [*temporary, *(path for place in folders for path in _inside(place))]
    sizes = [size for path in paths if (size := _removed(path)) is not None]
    if not sizes:
        return ""
    things = "unfinished file or folder" if len(sizes) == 1 else "unfinished files and folders"
    return f"{len(sizes)} {things} of an earlier process removed, {sum(sizes) / 1e6:.1f} MB"


def _inside(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return [Path(entry) for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:
        return []


def _removed(path: Path) -> int | None:
    """Remove a file or folder unless a process holds it. Return its bytes, or None if it stays."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # neither links nor pipes
    except OSError:  # another process was faster, or it is not ours to read
        return None
    try:
        status = os.fstat(descriptor)
        is_ours = status.st_uid == os.geteuid() and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))
        if not is_ours or not _is_left_behind(path, descriptor):
            return None
        size = sum(part.lstat().st_size for part in (path, *path.rglob("*")) if not part.is_dir())
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return size
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _is_left_behind(path: Path, descriptor: int) -> bool:
    """Whether no process holds a file or folder. `descriptor` is open on it."""
    is_old = time.time() - os.fstat(descriptor).st_mtime > _STALE_SECONDS
    name = _NAME.fullmatch(path.name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return is_old
    return is_old or (name is not None and name[1] == _HOST)
