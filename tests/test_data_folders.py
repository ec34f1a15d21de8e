"""A source folder that holds more than writing: runs, prepared text, caches, the files of other phases."""

import json
import os
import shutil
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from conftest import write_corpus

from llm60_jax import config as config_module
from llm60_jax.config import FolderSource
from llm60_jax.data import first_look
from llm60_jax.data.corpus.corpus import Recipe
from llm60_jax.data.prepare import prepare
from llm60_jax.data.read import folders, sources
from llm60_jax.errors import InputError
from llm60_jax.machine import manifest
from llm60_jax.machine.progress import silent
from llm60_jax.record.workdir import opened


def listed(path: Path, **settings: Any) -> sources.Listing:
    return sources.listed(FolderSource(kind="folder", path=str(path), **settings))


def names(path: Path) -> list[str]:
    return [file.name for file in listed(path).files]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the text of one file."""
    write_corpus(tmp_path / "home", 1, 0)
    return tmp_path / "home"


def test_a_run_that_has_just_begun_is_no_text(home: Path) -> None:
    with opened(home / "runs" / "a"):
        assert sorted(path.name for path in (home / "runs" / "a").iterdir()) == ["lock", "log.txt"]
        assert names(home) == ["000.txt"]
    assert listed(home).passed_over == {"runs/a": "runs"}


def test_what_programs_made_is_no_text(home: Path) -> None:
    for name in ("copied/config.json", "copied/metrics.jsonl", "node_modules/x/readme.md", "a/__pycache__/x.txt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("{}")
    for name in (".git", ".venv"):
        (home / name).mkdir()
        (home / name / "a.txt").write_text("hidden")
    venv.create(home / "environment", with_pip=False)
    (home / "environment" / "licence.txt").write_text("text")
    (home / "cache").mkdir()
    (home / "cache" / "CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n")
    (home / "cache" / "a.txt").write_text("cached")
    manifest.create(home / "prepared", {}, lambda scratch: {"written": (scratch / "train.txt").write_text("text")})
    assert names(home) == ["000.txt"]
    assert listed(home).passed_over == {
        ".git": "hidden",
        ".venv": "hidden",
        "a/__pycache__": "caches",
        "cache": "caches",
        "copied": "runs",
        "environment": "installed packages",
        "node_modules": "installed packages",
        "prepared": "prepared data",
    }
    assert folders.describe({"b": "runs", "a": "runs", "c": "caches"}) == ["runs (a, b)", "caches (c)"]
    assert folders.describe(dict.fromkeys("abcdefg", "runs")) == ["runs (a, b, c, d and 3 more)"]


def test_folders_that_only_look_like_it_are_text(home: Path) -> None:
    (home / "words").mkdir()
    (home / "words" / "a.txt").write_text("an essay on words")
    (home / "site").mkdir()
    (home / "site" / "manifest.json").write_text('{"name": "a web page"}')
    (home / "site" / "config.json").write_text("{}")
    (home / "site" / "a.txt").write_text("text")
    (home / "tagged").mkdir()
    (home / "tagged" / "CACHEDIR.TAG").write_text("not the signature")
    (home / "tagged" / "a.txt").write_text("text")
    assert {"words/a.txt", "site/a.txt", "tagged/a.txt"} < set(names(home))
    assert not listed(home).passed_over


def test_in_a_data_dir_the_user_s_folders_are_text(home: Path) -> None:
    for name in (*sorted(folders.PREPARED), "raw", "mine"):
        (home / "data" / name).mkdir(parents=True)
        (home / "data" / name / "a.txt").write_text("text")
    folders.claim(home / "data")
    assert names(home) == ["000.txt", "data/mine/a.txt", "data/raw/a.txt"]
    folders.claim(home)  # a data_dir that is the source itself
    assert names(home) == ["000.txt", "data/mine/a.txt", "data/raw/a.txt"]


def test_a_folder_without_text_says_what_was_passed_over(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    with pytest.raises(InputError, match=r"Passed over: installed packages \(node_modules\)"):
        listed(tmp_path)


def test_a_run_directory_is_no_source(home: Path) -> None:
    with opened(home / "run"):
        pass
    with pytest.raises(InputError, match="is a run directory"):
        listed(home / "run")


def test_the_file_that_this_command_prints_into_is_no_text(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (home / "out.log").open("w") as out:
        monkeypatch.setattr(sys, "__stdout__", out)
        assert names(home) == ["000.txt"]
        assert listed(home).passed_over == {"out.log": "output of this command"}
    monkeypatch.undo()
    assert names(home) == ["000.txt", "out.log"]


@pytest.fixture
def around(tree: dict[str, Any], home: Path) -> dict[str, Any]:
    """A configuration of one phase whose source holds its workdir and its data_dir."""
    write_corpus(home / "text", 60, 1)
    tree |= {"workdir": str(home / "runs" / "a"), "data_dir": str(home / "data"), "tokenizer": {"phases": ["grammar"]}}
    tree["phase"] = [tree["phase"][0] | {"sources": [{"kind": "folder", "path": str(home)}]}]
    return tree


def test_text_is_the_same_before_the_first_start_and_after_it(around: dict[str, Any], home: Path) -> None:
    config = config_module.parse(around, "x")
    look = first_look.look(config, silent)
    assert look.notes == []
    digests = []
    for _ in range(2):
        with opened(Path(config.workdir)):
            (home / "data" / "measured").mkdir(exist_ok=True)
            (home / "data" / "measured" / "steps.json").write_text("{}")
            digests.append(prepare(config, silent, lambda digests: None).digests)
    assert digests[0] == digests[1]
    assert {path.name for path in (home / "data").iterdir()} - {folders.MARK} <= folders.PREPARED
    (note,) = first_look.look(config, silent).notes
    assert note.startswith(f"source path '{home}': passed over: prepared data (data/measured, ")
    assert note.endswith("; runs (runs/a)")
    assert Recipe(config.phase[0], home / "data", silent).files[0][0][0].name == "000.txt"


@pytest.mark.slow
def test_a_run_reads_the_folder_that_it_stands_in(around: dict[str, Any], home: Path, train: Any) -> None:
    around["phase"][0] |= {"tokens": 4 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}
    run = train(around, stop_after=2)
    stored = json.loads((run / "config.json").read_text())["digests"]
    train(around)
    assert json.loads((run / "config.json").read_text())["digests"] == stored
    assert {path.name for path in (home / "data").iterdir()} - {folders.MARK} <= folders.PREPARED


# --- Phases that share text ------------------------------------------------------------------------------------------


def phases_of(tree: dict[str, Any], *paths: Path, **settings: Any) -> config_module.Config:
    for phase, path in zip(tree["phase"], paths, strict=True):
        phase["sources"] = [{"kind": "folder", "path": str(path), **settings}]
    return config_module.parse(tree, "x")


def test_phases_cannot_share_all_their_text_with_fine_tuning(
    tree: dict[str, Any], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = texts / "text"
    (tmp_path / "linked").mkdir()
    for number, file in enumerate(sorted((text / "grammar").iterdir())):
        link = os.link if number % 2 else os.symlink
        link(file, tmp_path / "linked" / file.name)
    monkeypatch.setattr(first_look.corpus, "prepare", lambda *arguments, **options: pytest.fail("cleaned"))
    for first, third in ((text / "grammar",) * 2, (text / "grammar", tmp_path / "linked"), (text / "grammar", text)):
        config = phases_of(tree, first, text / "vocabulary", third)
        for use in (first_look.look, lambda *some: prepare(*some, lambda digests: None)):
            with pytest.raises(InputError, match="nothing is left for grammar") as caught:
                use(config, silent)
            for words in ("phases grammar and fine_tune", f"'{first}'", f"'{third}'", "rule 2", "pattern", "own.toml"):
                assert words in str(caught.value)


def test_a_phase_that_keeps_files_of_its_own_is_told_what_it_loses(tree: dict[str, Any], texts: Path) -> None:
    text = texts / "text"
    look = first_look.look(phases_of(tree, text, text / "vocabulary", text / "fine_tune"), silent)
    (line,) = look.notes
    assert line.startswith("phases grammar and fine_tune both read 60 files")
    assert "left out of grammar" in line


def test_phases_may_share_a_folder_by_pattern(tree: dict[str, Any], texts: Path) -> None:
    config = phases_of(tree, *[texts / "text"] * 3)
    tree = config_module.to_tree(config)
    for phase in tree["phase"]:
        phase["sources"][0]["pattern"] = f"{phase['name']}/*"
    assert first_look.look(config_module.parse(tree, "x"), silent).notes == []


def test_copies_say_what_to_do_once_they_are_compared(tree: dict[str, Any], texts: Path, tmp_path: Path) -> None:
    shutil.copytree(texts / "text" / "grammar", tmp_path / "copy")
    config = phases_of(tree, texts / "text" / "grammar", texts / "text" / "vocabulary", tmp_path / "copy")
    with pytest.raises(InputError, match=r"nothing is left for train.*a folder a phase"):
        prepare(config, silent, lambda digests: None)


def test_a_run_cannot_write_where_it_reads(tree: dict[str, Any], texts: Path) -> None:
    text = texts / "text"
    tree["workdir"] = str(text / "grammar" / ".." / "grammar")
    with pytest.raises(InputError, match="is the workdir too"):
        first_look.look(config_module.parse(tree, "x"), silent)
    download = {"kind": "hub", "name": "a/b", "path": str(text / "grammar" / "b"), "max_characters": 1000}
    tree["workdir"], tree["phase"][1]["sources"] = "run", [download]
    with pytest.raises(InputError, match=r"holds the download of a/b"):
        first_look.look(config_module.parse(tree, "x"), silent)
