"""Large files are cut between documents: their parts read as the whole file does."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import WORDS
from conftest import unruled_phase as phase

from llm60_jax.config import FolderSource, InstructionSource, Source
from llm60_jax.data.corpus import corpus, units
from llm60_jax.data.read import items, plain, sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import silent


def words(seed: int, count: int = 40) -> str:
    return " ".join(random.Random(seed).choices([*WORDS, *(f"word{i}" for i in range(300))], k=count))


def folder(path: Path, **settings: Any) -> FolderSource:
    return FolderSource(kind="folder", path=str(path), **settings)


def read(source: Source, files: Sequence[sources.InputFile]) -> tuple[list[Any], dict[str, Any]]:
    ledger = Ledger("")
    return list(sources.read(source, files, ledger)), ledger.to_tree()


def cut(source: Source, size: int) -> tuple[list[sources.InputFile], list[sources.InputFile]]:
    """Return the only file of a source, whole and cut."""
    (file,) = whole = list(sources.inputs(source))
    return whole, sources.cut(source, file, size)


def write_lines(path: Path) -> None:
    """Write lines of all kinds: records, blanks, damage, other encodings, no line end at the end."""
    rng = random.Random(1)
    records = [json.dumps({"text": words(n, rng.randrange(1, 60)), "title": f"n{n}"}).encode() for n in range(80)]
    others = [b"", b"   ", b"\r", b"broken", b'{"no": 1}', b'{"text": "caf\xe9"}', b"\0\1\2\3\4\5\6\7", b"[]"]
    lines = [rng.choice([record, record, rng.choice(others)]) for record in records]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([b"", b"", *lines, *[b""] * 40, records[0], *[b" " * 200] * 20]))


@pytest.mark.parametrize("size", [1, 50, 700, 3_000, 10**6])
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "pairs.jsonl"])
def test_parts_of_json_lines_read_as_the_whole(tmp_path: Path, name: str, size: int, monkeypatch) -> None:
    monkeypatch.setattr(plain, "BLOCK_BYTES", 997)
    monkeypatch.setattr(items, "LARGEST", 250)  # some lines are too large
    path = tmp_path / name
    source: Source = folder(path)
    if name == "pairs.jsonl":
        pairs = [json.dumps({"prompt": words(n, 9), "response": words(n)}) for n in range(50)]
        path.write_text("\n".join([*pairs, '{"prompt": 1}']))
        source = InstructionSource(kind="instructions", path=str(path))
    else:
        write_lines(path)
    whole, parts = cut(source, size)
    assert read(source, parts) == read(source, whole)
    assert (len(parts) > 1) == (size < 10**6)
    assert sum(part.size for part in parts) == path.stat().st_size
    assert all(read(source, [part])[1]["documents_in"] for part in parts)
    assert not any("empty" in read(source, [part])[1]["dropped"] for part in parts)


def test_blank_lines_alone_are_one_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n \n" * 5000)
    whole, parts = cut(folder(tmp_path / "a.jsonl"), 100)
    assert parts == whole


def test_a_long_line_is_skipped_wherever_the_blocks_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(items, "LARGEST", 100)
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps({"text": "x" * 200}), json.dumps({"text": "short"})]))
    for block in (1, 7, 150, 10_000):
        monkeypatch.setattr(plain, "BLOCK_BYTES", block)
        documents, ledger = read(folder(tmp_path), sources.inputs(folder(tmp_path)))
        assert [document.text for document in documents] == ["short"]
        assert ledger["dropped"] == {"too_large": 1}


@pytest.mark.parametrize("text", ["paragraphs", "one line", "tiny first words"])
def test_the_documents_of_a_large_text_are_its_parts(tmp_path: Path, text: str, monkeypatch) -> None:
    monkeypatch.setattr(items, "LARGEST", 5_000)
    monkeypatch.setattr(plain, "BLOCK_BYTES", 1_000)
    between = "\n\n" if text == "paragraphs" else " "
    content = "a b " + "x" * 5_450 if text == "tiny first words" else between.join(map(words, range(150)))
    (tmp_path / "a.txt").write_text(content)
    whole, parts = cut(folder(tmp_path), 1)
    assert len(parts) > 1
    assert all(part.size <= 5_000 for part in parts)
    assert read(folder(tmp_path), parts) == read(folder(tmp_path), whole)
    assert "".join(document.text for document in read(folder(tmp_path), parts)[0]) == content


def write_table(path: Path, rows: int, group: int) -> None:
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    table = {"text": [words(n) if n % 7 else None for n in range(rows)], "title": [f"t{n}" for n in range(rows)]}
    parquet.write_table(pyarrow.table(table), path, row_group_size=group)


@pytest.mark.parametrize("group", [1, 7, 100])
@pytest.mark.parametrize("size", [1, 2_000])
def test_parts_of_a_table_are_row_groups(tmp_path: Path, group: int, size: int) -> None:
    write_table(tmp_path / "a.parquet", 60, group)
    whole, parts = cut(folder(tmp_path), size)
    assert read(folder(tmp_path), parts) == read(folder(tmp_path), whole)
    assert (len(parts) > 1) == (group < 60)


def test_a_table_without_the_column_is_one_unreadable_file(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", 60, 7)
    whole, parts = cut(folder(tmp_path, text_field="body"), 1)
    assert parts == whole
    assert read(folder(tmp_path, text_field="body"), parts)[1]["dropped"] == {"unreadable": 1}


def test_a_damaged_table_is_left_whole(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", 60, 7)
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    whole, parts = cut(folder(tmp_path), 1)
    assert parts == whole


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"[" + b",".join([json.dumps({"text": "some words"}).encode()] * 500) + b"]"),
        ("a.jsonl", "\n".join([json.dumps({"text": "some words"})] * 500).encode("utf-16")),
        ("a.txt", b"some words\n\n" * 500),
        ("a.mbox", b"From anna@example.org Mon Mar  3 09:12:00 2025\nSubject: x\n\nsome words\n\n" * 50),
    ],
)
def test_other_files_are_left_whole(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    whole, parts = cut(folder(tmp_path), 100)
    assert parts == whole


def content(made: corpus.Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in made.folder.iterdir()}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """One large file of lines between two small ones."""
    place = tmp_path / "text"
    place.mkdir()
    write_lines(place / "b.jsonl")
    for name in ("a.txt", "c.txt"):
        (place / name).write_text(words(ord(name[0])) + "\n\n" + words(3, 900))
    return place


def test_a_large_file_is_cleaned_by_many_and_the_corpus_is_the_same(tmp_path: Path, large: Path, monkeypatch) -> None:
    expected = content(corpus.prepare(phase(large), tmp_path / "whole", silent))
    assert len(json.loads(expected["manifest.json"])["facts"]["sources"][0]["files"]) == 3
    monkeypatch.setattr(units, "UNIT_BYTES", 1_500)
    recipe = corpus.Recipe(phase(large), tmp_path / "cut", silent)
    (group,) = recipe.units()
    of_the_large = [unit for unit in group if any(file.name == "b.jsonl" for file, _ in unit.files)]
    assert len(of_the_large) > 5
    assert len({unit.folder(recipe.parts) for unit in group}) == len(group)
    for unit in reversed(group):
        units.make_one(unit, recipe.parts)
    monkeypatch.setattr(sources, "read", None)  # nothing is read again
    assert content(corpus.prepare(phase(large), tmp_path / "cut", silent)) == expected


@pytest.mark.slow
def test_processes_share_a_large_file(tmp_path: Path, large: Path, monkeypatch) -> None:
    expected = content(corpus.prepare(phase(large), tmp_path / "whole", silent))
    monkeypatch.setattr(units, "UNIT_BYTES", 1_500)
    assert content(corpus.prepare(phase(large), tmp_path / "cut", silent, processes=2)) == expected


def test_equal_parts_of_a_file_are_units_of_their_own(tmp_path: Path, monkeypatch) -> None:
    """Their documents have other names."""
    monkeypatch.setattr(units, "UNIT_BYTES", 100)
    (tmp_path / "a.jsonl").write_text((json.dumps({"text": words(1)}) + "\n") * 4)
    recipe = corpus.Recipe(phase(tmp_path), tmp_path / "data", silent)
    (group,) = recipe.units()
    assert len(group) == len({unit.folder(recipe.parts) for unit in group}) == 4


@pytest.mark.parametrize("moment", ["before it is cut", "before it is read"])
def test_a_large_file_that_changes_is_named(tmp_path: Path, large: Path, moment: str, monkeypatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 1_500)
    recipe = corpus.Recipe(phase(large), tmp_path / "data", silent)
    groups = recipe.units()
    data = bytearray((large / "b.jsonl").read_bytes())
    data[-3500] ^= 1
    (large / "b.jsonl").write_bytes(data)

    def go_on() -> None:
        for unit in recipe.units()[0] if moment == "before it is cut" else groups[0]:
            units.make_one(unit, recipe.parts)

    with pytest.raises(InputError, match=r"b\.jsonl: it changed while it was read; run the same command again"):
        go_on()
