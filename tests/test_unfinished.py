"""What a killed process leaves half done goes at the next start; what a living process makes stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT

from llm60_jax.machine import files, unfinished

# Holds a folder, a file and a temporary folder until it is killed.
MAKER = """
import sys, time
from pathlib import Path
from llm60_jax.machine import unfinished
place = Path(sys.argv[1])
def make():
    path = place / unfinished.name_of("x.json", "1")
    path.write_text("half")
    return path
with unfinished.folder("x", place) as folder, unfinished.held(make), unfinished.folder():
    (folder / "inside").mkdir()
    (folder / "inside" / "text").write_bytes(bytes(2_000_000))
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, and a place for temporary files beside it."""
    for name in ("place", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(unfinished.tempfile, "tempdir", None)
    return tmp_path / "place"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_removed_after_its_maker_was_killed_and_not_before(place):
    command = [sys.executable, "-c", MAKER, str(place)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        before = names(place)
        assert len(before) == 2
        assert unfinished.remove([place]) == ""
        assert names(place) == before
        assert len(names(place.parent / "temporary")) == 1
        process.send_signal(signal.SIGKILL)
    assert folder.is_dir()
    assert unfinished.remove([place]) == "3 unfinished files and folders of an earlier process removed, 2.0 MB"
    assert names(place) == names(place.parent / "temporary") == []
    assert unfinished.remove([place]) == ""


def test_foreign_files_links_pipes_and_what_is_finished_stay(place):
    (place / "x").mkdir()
    other_computer = unfinished.name_of("x", "1").replace(unfinished._HOST, "0123abcd")
    for name in (".notes", unfinished.name_of("x"), ".x.partial-12", unfinished.name_of("x", "1")[1:], other_computer):
        (place / name).write_text("")
    (place / unfinished.name_of("link", "1")).symlink_to(place / "x")
    os.mkfifo(place / unfinished.name_of("pipe", "1"))
    temporary = place.parent / "temporary" / unfinished.name_of("other", "1")
    temporary.write_text("")
    before = names(place)
    assert unfinished.remove([place, place / "absent"]) == ""
    assert names(place) == before
    assert temporary.exists()


def test_without_locks_only_what_is_a_day_old_goes(place, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(unfinished.fcntl, "flock", no_locks)
    old, new = (place / unfinished.name_of("x", number) for number in "12")
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    assert unfinished.remove([place]).startswith("1 unfinished")
    assert names(place) == [new.name]
    files.write_text(place / "y", "text")
    assert (place / "y").read_text() == "text"


def test_what_another_process_removed_too_early_is_made_again(place):
    made = []

    def make() -> Path:
        path = place / unfinished.name_of("x", str(len(made)))
        path.mkdir()
        made.append(path)
        if len(made) < 3:
            path.rmdir()
        return path

    with unfinished.held(make) as path:
        assert path == made[2]
        assert path.is_dir()


def test_what_goes_while_its_maker_waits_for_the_lock_is_made_again(place, monkeypatch):
    locked = []

    def flock(descriptor, how):
        locked.append(descriptor)
        if len(locked) == 1:
            next(place.iterdir()).rmdir()

    monkeypatch.setattr(unfinished.fcntl, "flock", flock)
    with unfinished.folder("x", place) as path:
        assert path.is_dir()
    assert len(locked) == 2


def test_a_file_that_cannot_be_written_leaves_nothing(place, monkeypatch):
    monkeypatch.setattr(files, "flush", lambda path: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(files.MachineError, match="No space left"):
        files.write_text(place / "x", "text")
    assert names(place) == []
