"""Folders that are whole or absent, after a crash, beside a second process, on a full disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm60_jax.errors import DamageError, MachineError
from llm60_jax.machine import files, manifest

IDENTITY = {"of": ("tuples", "too")}


def build(folder: Path) -> dict[str, Any]:
    (folder / "a.txt").write_text("content")
    return {"count": 1}


def refuse(folder: Path) -> dict[str, Any]:
    raise AssertionError("built again")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    first = manifest.build_once(tmp_path / "x", IDENTITY, build, "thing")
    assert manifest.build_once(tmp_path / "x", IDENTITY, refuse, "thing") == first
    assert first["facts"] == {"count": 1}
    assert list(first["files"]) == ["a.txt"]
    assert manifest.verify(tmp_path / "x") == first


def test_a_manifest_of_other_inputs_is_not_accepted(tmp_path: Path) -> None:
    manifest.build_once(tmp_path / "x", IDENTITY, build, "thing")
    assert manifest.build_once(tmp_path / "x", {"of": "others"}, build, "thing")["identity"] == {"of": "others"}


def test_a_folder_that_another_process_finished_meanwhile_stays(tmp_path: Path) -> None:
    first: list[int] = []

    def build_slowly(folder: Path) -> dict[str, Any]:
        manifest.build_once(tmp_path / "x", IDENTITY, build, "thing")
        first.append((tmp_path / "x").stat().st_ino)
        return build(folder)

    manifest.build_once(tmp_path / "x", IDENTITY, build_slowly, "thing")
    manifest.verify(tmp_path / "x")
    assert [(path.name, path.stat().st_ino) for path in tmp_path.iterdir()] == [("x", first[0])]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_build_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        build(folder)
        raise error

    with pytest.raises(error):
        manifest.build_once(tmp_path / "x", IDENTITY, fail, "thing")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_machine_error(tmp_path: Path) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineError, match=r"cannot write the thing: No space left on device; free some space"):
        manifest.build_once(tmp_path / "x", IDENTITY, fill, "thing")


@pytest.mark.parametrize("content", ["", "[]", '{"files": []}', '{"files": {"a": 1}}', '{"files": {}}', "[" * 100_000])
def test_a_broken_manifest_is_damage(tmp_path: Path, content: str) -> None:
    (tmp_path / manifest.NAME).write_text(content)
    with pytest.raises(DamageError, match="not a readable manifest"):
        manifest.verify(tmp_path)


def test_a_broken_array_file_is_damage(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3), allow_pickle=False)
    whole = path.read_bytes()
    np.testing.assert_array_equal(files.read_array(path), np.arange(3))
    for broken in (
        b"",
        whole[:20],
        whole[:-1],
        whole.replace(b"}", b"("),
        whole.replace(b"(3,)", b"(9,)"),
        b"\x93NUMPY",
    ):
        path.write_bytes(broken)
        with pytest.raises(DamageError, match=r"x\.npy: not an array of numbers"):
            files.read_array(path)
