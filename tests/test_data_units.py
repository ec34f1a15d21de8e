"""Units of a corpus: its bytes are the same, whoever makes the units, in any order."""

import json
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import WORDS
from conftest import unruled_phase as phase

from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus import corpus, evaluation_text, joining, units
from llm60_jax.data.read import sources
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import files
from llm60_jax.machine.progress import silent


def words(seed: int, count: int = 40) -> str:
    return " ".join(random.Random(seed).choices([*WORDS, *(f"word{i}" for i in range(300))], k=count))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(words(number % 50))  # ten texts occur twice
    (folder / "long.txt").write_text("\n\n".join(words(seed, 200) for seed in range(100, 130)))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def prepared(text: Path, data: Path, **settings: Any) -> corpus.Corpus:
    return corpus.prepare(phase(text), data, settings.pop("track", silent), **settings)


@pytest.mark.parametrize("size", [1, 3_000, 10**9])
def test_units_hold_every_file_once_in_order(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, size) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", size)
    recipe = corpus.Recipe(phase(text), tmp_path / "data", silent)
    (group,) = recipe.units()
    assert [file.name for unit in group for file, _ in unit.files] == sorted(path.name for path in text.iterdir())
    assert len(group) == {1: 61, 3_000: 6, 10**9: 1}[size]


def test_many_processes_and_any_order_give_the_same_bytes(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(prepared(text, tmp_path / "one").folder)
    monkeypatch.setattr(units, "UNIT_BYTES", 3_000)
    assert content(prepared(text, tmp_path / "many", processes=2).folder) == expected
    recipe = corpus.Recipe(phase(text), tmp_path / "backwards", silent)
    for unit in reversed(recipe.units()[0]):
        units.make_one(unit, recipe.parts)

    def unread(*rest: Any) -> None:
        raise AssertionError("the units exist already")

    monkeypatch.setattr(sources, "read", unread)
    assert content(prepared(text, tmp_path / "backwards").folder) == expected
    assert not recipe.parts.exists()


def test_units_finished_before_an_interruption_are_reused(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(prepared(text, tmp_path / "one").folder)
    monkeypatch.setattr(units, "UNIT_BYTES", 3_000)
    names_read: list[str] = []
    real = sources.read

    def spy(source: Any, files: Any, ledger: Any) -> Iterator[sources.Document]:
        names_read.extend(file.name for file in files)
        return real(source, files, ledger)

    def interrupting(items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        for number, item in enumerate(items):
            if "cleaning" in description and number == 30:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(sources, "read", spy)
    with pytest.raises(KeyboardInterrupt):
        prepared(text, tmp_path / "data", track=interrupting)
    first, names_read[:] = list(names_read), []
    assert not list((tmp_path / "data").glob("processed/*"))
    assert content(prepared(text, tmp_path / "data").folder) == expected
    assert len(first) + len(names_read) - 61 in range(1, 12)  # only the unfinished one again
    assert not list((tmp_path / "data" / "screened").rglob("*.jsonl"))


def test_a_damaged_unit_is_made_again(tmp_path: Path, text: Path) -> None:
    expected = content(prepared(text, tmp_path / "one").folder)
    recipe = corpus.Recipe(phase(text), tmp_path / "data", silent)
    (unit,) = recipe.units()[0]
    units.make_one(unit, recipe.parts)
    damaged = unit.folder(recipe.parts) / "documents.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b"river", b"rover"))
    assert content(prepared(text, tmp_path / "data").folder) == expected


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, text: Path, monkeypatch) -> None:
    real = sources.read

    def changing(source: Any, files: Any, ledger: Any) -> Iterator[sources.Document]:
        yield from real(source, files, ledger)
        (text / "07.txt").write_text("something else")

    monkeypatch.setattr(sources, "read", changing)
    with pytest.raises(InputError, match=r"07\.txt: it changed while it was read; run the same command again"):
        prepared(text, tmp_path / "data")
    assert not list((tmp_path / "data").glob("processed/*"))
    monkeypatch.undo()
    assert not prepared(text, tmp_path / "data").problem


def test_a_worker_that_dies_is_one_message(tmp_path: Path, text: Path, monkeypatch) -> None:
    class Broken:
        def __init__(self, *rest: Any, **settings: Any) -> None: ...

        def __enter__(self) -> "Broken":
            return self

        def __exit__(self, *rest: Any) -> None: ...

        def submit(self, *rest: Any) -> Any:
            future: units.Future[None] = units.Future()
            future.set_exception(units.BrokenProcessPool("gone"))
            return future

    monkeypatch.setattr(units, "UNIT_BYTES", 3_000)
    monkeypatch.setattr(units, "ProcessPoolExecutor", Broken)
    with pytest.raises(MachineError, match=r"one of 2 processes died.*set processes to a smaller number"):
        prepared(text, tmp_path / "data", processes=2)


def test_a_second_process_waits_for_the_first(tmp_path: Path, text: Path) -> None:
    waited = []

    def track(items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        for item in items:
            if "waiting" in description:
                waited.append(item)
                shutil.rmtree(recipe.parts.parent, ignore_errors=True)
                raise KeyboardInterrupt
            yield item

    recipe = corpus.Recipe(phase(text), tmp_path / "data", silent)
    with corpus._alone(recipe.parts, silent), pytest.raises(KeyboardInterrupt):
        prepared(text, tmp_path / "data", track=track)
    assert waited == [0]


EVALUATION = "The quick brown fox of the village jumps over a lazy dog every single morning."


@pytest.mark.parametrize(
    ("evaluation", "text", "contained"),
    [
        (EVALUATION, f"{words(1)} {EVALUATION.upper()} {words(2)}", True),
        (
            EVALUATION,
            f"{words(1)} The quick brown fox of the village jumps over a wall. {words(2)}",
            True,
        ),  # half of it
        (EVALUATION, f"{words(1)} The quick brown fox of the hill jumps over a wall. {words(2)}", False),
        (EVALUATION, words(1), False),
        (
            "One two three four five six seven.",
            f"One two three four five six {words(1)}",
            False,
        ),  # a single run of words
        ("One two three four five six seven.", f"{words(1)} one two three four five six seven", True),
        (words(5, 400), words(5, 60), True),  # the text is a part of it
        ("Too short to tell.", f"Too short to tell. {words(3)}", False),
        ("", words(1), False),
    ],
)
def test_text_that_contains_evaluation_text_is_detected(
    tmp_path: Path, evaluation: str, text: str, contained: bool
) -> None:
    (tmp_path / "a.txt").write_text(evaluation)
    (file,) = sources.inputs(sources.folder(str(tmp_path)))
    loaded = evaluation_text.load(((file, file.digest()),))
    assert loaded is not None
    assert loaded.is_in(dedup.shingles(text)) == contained


def test_evaluation_text_leaves_the_corpus_and_is_counted(tmp_path: Path, text: Path) -> None:
    judged = tmp_path / "judged"
    judged.mkdir()
    (judged / "pairs.jsonl").write_text(json.dumps({"good": words(3), "bad": 5}) + "\nbroken\n")
    whole = prepared(text, tmp_path / "data")
    made = prepared(text, tmp_path / "data", evaluation=[str(judged)])
    assert made.digest != whole.digest
    (ledger,) = made.ledger["sources"]
    assert ledger["dropped"] == {"duplicate": 9, "evaluation": 2}  # it occurs twice
    assert ledger["characters_dropped"]["evaluation"] == 2 * len(words(3))
    texts = [record["text"] for split in joining.SPLITS for record in made.read(split)]
    assert words(3) not in texts
    assert words(4) in texts


def test_an_unreadable_file_is_counted_and_named(tmp_path: Path, text: Path, monkeypatch) -> None:
    real = files.sha256_of

    def refuse(path: Path) -> str:
        if path.name == "07.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(files, "sha256_of", refuse)
    recipe = corpus.Recipe(phase(text), tmp_path / "data", silent)
    assert [digest for file, digest in recipe.files[0] if file.name == "07.txt"] == [sources.UNREADABLE]
