"""The corpus of a phase: splits, ledger, caching, damage."""

import json
import logging
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WORDS

from llm60_jax.config import Exclude, FolderSource, Phase
from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus import corpus, joining
from llm60_jax.data.read import sources
from llm60_jax.errors import DamageError, MachineError
from llm60_jax.machine import manifest
from llm60_jax.machine.progress import silent


def sentences(seed: int, count: int) -> str:
    pick = random.Random(seed)
    return " ".join(" ".join(pick.choices(WORDS, k=9)).capitalize() + "." for _ in range(count))


def write_lines(folder: Path, texts: Iterable[str], name: str = "text.jsonl") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def phase(*folders: Path, name: str = "grammar") -> Phase:
    return Phase(
        name=name,
        tokens=1,
        context=((0.0, 8),),
        freeze=((0.0, 0),),
        learning_rate=(1e-3, 1e-4),
        sources=tuple(FolderSource(kind="folder", path=str(folder)) for folder in folders),
        exclude=Exclude(rules=()),  # the rules would drop sentences of so few words
    )


def texts_of(prepared: corpus.Corpus, split: Any) -> list[str]:
    return [record["text"] for record in prepared.read(split)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    write_lines(tmp_path / "text", [sentences(seed, 3) for seed in range(100)])
    return tmp_path / "text"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the sources that are read."""
    names: list[str] = []
    real = sources.read

    def spy(source: Any, files: Any, ledger: Any) -> Iterator[sources.Document]:
        names.append(sources.label(source))
        return real(source, files, ledger)

    monkeypatch.setattr(sources, "read", spy)
    return names


def test_every_document_lands_in_one_split(tmp_path: Path, text: Path) -> None:
    made = corpus.prepare(phase(text), tmp_path / "data", silent)
    train, validation = texts_of(made, "train"), texts_of(made, "validation")
    assert sorted(train + validation) == sorted(sentences(seed, 3) for seed in range(100))
    assert 0.08 <= sum(map(len, validation)) / sum(map(len, train + validation)) <= 0.1
    ids = [[record["id"] for record in made.read(split)] for split in ("train", "validation")]
    assert max(ids[1]) < min(ids[0])
    assert [made.ids(split) for split in ("train", "validation")] == [set(split_ids) for split_ids in ids]
    assert made.folder == tmp_path / "data" / "processed" / f"grammar-{made.digest[:16]}"
    assert {p.name for p in made.folder.iterdir()} == {
        "train.jsonl",
        "validation.jsonl",
        "train.ids",
        "validation.ids",
        "train.sketches.bin",
        "train.sizes.npy",
        "validation.sketches.bin",
        "validation.sizes.npy",
        "ledger.json",
        "manifest.json",
    }
    assert made.ledger["splits"]["train"] == {"documents": len(train), "characters": sum(map(len, train))}
    assert made.ledger == json.loads((made.folder / "ledger.json").read_text())


def test_a_moved_folder_is_the_same_corpus(tmp_path: Path, text: Path) -> None:
    first = corpus.prepare(phase(text), tmp_path / "data", silent)
    text.rename(tmp_path / "moved")
    assert corpus.prepare(phase(tmp_path / "moved"), tmp_path / "data", silent).digest == first.digest


def test_the_error_names_what_was_dropped(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.JSONL").write_text('{"words": "misnamed"}\n' * 50)
    made = corpus.prepare(phase(tmp_path / "text"), tmp_path / "data", silent)
    assert "50 dropped as no_field (a.JSONL:1, a.JSONL:2" in made.problem


def test_the_split_does_not_depend_on_the_order_of_documents(tmp_path: Path) -> None:
    texts = [sentences(seed, 3) for seed in range(100)]
    write_lines(tmp_path / "a", texts)
    write_lines(tmp_path / "b", texts[::-1])
    made = [corpus.prepare(phase(tmp_path / name), tmp_path / "data", silent) for name in "ab"]
    assert set(texts_of(made[0], "validation")) == set(texts_of(made[1], "validation"))
    assert made[0].digest != made[1].digest


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_little_text_is_counted_and_cannot_train(tmp_path: Path, count: int) -> None:
    texts = [sentences(seed, 3) for seed in range(count)]
    write_lines(tmp_path / "text", texts)
    made = corpus.prepare(phase(tmp_path / "text"), tmp_path / "data", silent)
    found = sum(map(len, texts))
    assert made.problem.startswith(f"phase.grammar.sources: {found:,} characters of distinct text were found")
    assert f"but 4,000 are needed, of which 1,000 are held out for validation; add {4_000 - found:,}" in made.problem
    assert made.ledger["sources"][0]["documents_kept"] == count


def test_one_file_of_ten_thousand_words_suffices(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    paragraphs = [sentences(seed, 8) for seed in range(140)]
    (tmp_path / "text" / "diary.txt").write_text("\n\n".join(paragraphs))
    made = corpus.prepare(phase(tmp_path / "text"), tmp_path / "data", silent)
    assert not made.problem
    train, validation = texts_of(made, "train"), texts_of(made, "validation")
    assert 0.05 <= sum(map(len, validation)) / sum(map(len, train + validation)) <= 0.1
    assert len(validation) >= 2
    # every paragraph is in one split, and in one piece
    both = "\n\n".join(train + validation).split("\n\n")
    assert sorted(both) == sorted(paragraphs)
    without_validation = made.without(made.ids("validation"), "a reason")
    assert "nothing is left for validation" in without_validation.problem
    assert f"{len(validation)} documents left out: a reason" in without_validation.problem


def test_a_large_phase_holds_out_whole_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining.held_out, "SMALL_CHARACTERS", 1000)
    texts = [sentences(seed, 30) for seed in range(50)]
    write_lines(tmp_path / "text", texts)
    made = corpus.prepare(phase(tmp_path / "text"), tmp_path / "data", silent)
    train, validation = texts_of(made, "train"), texts_of(made, "validation")
    assert sorted(train + validation) == sorted(texts)
    assert sum(map(len, validation)) >= 0.05 * sum(map(len, texts))


def test_the_ledger_balances_on_broken_input(tmp_path: Path, text: Path) -> None:
    (text / "broken.jsonl").write_text('{"text": " \\u0000 "}\n{broken\n{"text": ""}\n')
    (text / "binary.txt").write_bytes(bytes(range(256)))
    (text / "latin.txt").write_bytes(b"d\xe9j\xe0 vu")
    (text / "again.txt").write_text(sentences(5, 3) + "\n\n")
    (text / "long.txt").write_text("\n\n".join(sentences(seed, 40) for seed in range(200, 230)))
    made = corpus.prepare(phase(text), tmp_path / "data", silent)
    (account,) = made.ledger["sources"]
    assert account["dropped"] == {"not_text": 1, "duplicate": 1, "unreadable": 1, "empty": 2}
    assert account["documents_in"] == 107 == account["documents_kept"] + sum(account["dropped"].values())
    # Of two equal texts the later stays.
    assert account["examples"]["duplicate"] == ["again.txt"]
    assert account["repaired"] == 1
    assert account["examples"]["repaired"] == ["latin.txt"]
    pieces = [record for split in ("train", "validation") for record in made.read(split)]
    assert account["pieces_kept"] == len(pieces) > account["documents_kept"]
    assert account["characters_kept"] == sum(len(record["text"]) for record in pieces) <= account["characters_in"]
    assert max(len(record["text"]) for record in pieces) <= 5_000


def test_duplicates_across_the_sources_of_a_phase_are_dropped(tmp_path: Path) -> None:
    write_lines(tmp_path / "a", [sentences(seed, 3) for seed in range(60)])
    write_lines(tmp_path / "b", [sentences(seed, 3) + "  " for seed in range(50, 70)])
    made = corpus.prepare(phase(tmp_path / "a", tmp_path / "b"), tmp_path / "data", silent)
    assert [account["dropped"] for account in made.ledger["sources"]] == [{}, {"duplicate": 10}]


def test_near_duplicates_inside_and_across_sources_are_dropped_and_counted(tmp_path: Path) -> None:
    texts = [sentences(seed, 30) for seed in range(60)]
    edited = [" ".join(w if i % 20 else "other" for i, w in enumerate(text.split())) for text in texts[:5]]
    quoted = f"{texts[7]} {sentences(99, 10)}"  # three quarters of it are known
    quoting = f"{' '.join(texts[8].split()[:60])} {sentences(98, 30)}"  # a fifth of it is known
    write_lines(tmp_path / "a", [*texts, *edited])
    write_lines(tmp_path / "b", [quoted, quoting])
    made = corpus.prepare(phase(tmp_path / "a", tmp_path / "b"), tmp_path / "data", silent)
    assert [account["dropped"] for account in made.ledger["sources"]] == [{"near_duplicate": 5}, {"near_duplicate": 1}]
    remaining = texts_of(made, "train") + texts_of(made, "validation")
    assert quoting in remaining
    assert quoted not in remaining
    for split in ("train", "validation"):
        ids, sketches = made.sketches(split)
        assert len(ids) == len(sketches.sizes) == len(texts_of(made, split))
        assert [dedup.sketch_of(dedup.shingles(text)).tolist() for text in texts_of(made, split)] == [
            part.tolist() for part in np.split(sketches.hashes, np.cumsum(sketches.sizes)[:-1])
        ]


def test_second_run_does_no_work(tmp_path: Path, text: Path, reads: list[str]) -> None:
    first = corpus.prepare(phase(text), tmp_path / "data", silent)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert corpus.prepare(phase(text), tmp_path / "data", silent) == first
    assert reads == ["text"]
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before


def test_a_changed_input_is_noticed_and_a_moved_folder_is_the_same(
    tmp_path: Path, text: Path, reads: list[str]
) -> None:
    first = corpus.prepare(phase(text), tmp_path / "data", silent)
    (tmp_path / "elsewhere").mkdir()
    moved = text.rename(tmp_path / "elsewhere" / "text")
    assert corpus.prepare(phase(moved), tmp_path / "data", silent) == first
    assert len(reads) == 1
    write_lines(moved, [sentences(seed, 3) for seed in range(1, 101)])
    assert corpus.prepare(phase(moved), tmp_path / "data", silent).digest != first.digest
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["flip", "shorten", "delete", "manifest", "manifest_gone"])
def test_damage_is_rebuilt_with_a_warning(
    tmp_path: Path, text: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = corpus.prepare(phase(text), tmp_path / "data", silent)
    good = first.train.read_bytes()
    if damage == "flip":
        first.train.write_bytes(good[:50] + bytes([good[50] ^ 1]) + good[51:])
    elif damage == "shorten":
        first.train.write_bytes(good[:-1])
    elif damage == "delete":
        first.train.unlink()
    elif damage == "manifest":
        (first.folder / "manifest.json").write_text('{"files": 5}')
    else:
        (first.folder / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING, logger="llm60_jax"):
        again = corpus.prepare(phase(text), tmp_path / "data", silent)
    assert again == first
    assert first.train.read_bytes() == good
    assert [r for r in caplog.messages if "corpus of phase 'grammar' is damaged and will be built again" in r]
    manifest.verify(first.folder)


def test_verify_names_the_damaged_file(tmp_path: Path, text: Path) -> None:
    made = corpus.prepare(phase(text), tmp_path / "data", silent)
    made.validation.write_bytes(b"x" * made.validation.stat().st_size)
    with pytest.raises(DamageError, match=r"validation\.jsonl: its content differs"):
        manifest.verify(made.folder)


def test_an_interrupted_build_leaves_nothing_and_can_be_repeated(tmp_path: Path, text: Path) -> None:
    def interrupting(items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        for number, item in enumerate(items):
            if "cleaning" in description and number == 50:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        corpus.prepare(phase(text), tmp_path / "data", interrupting)
    assert not list((tmp_path / "data" / "processed").iterdir())
    made = corpus.prepare(phase(text), tmp_path / "data", silent)
    assert made.ledger["sources"][0]["documents_kept"] == 100


def test_unwritable_data_dir_is_a_machine_error_with_its_path(tmp_path: Path, text: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(MachineError, match=rf"{tmp_path / 'data'}.*set data_dir to a folder that can be written"):
        corpus.prepare(phase(text), tmp_path / "data", silent)


def test_odd_titles_do_not_break_the_files(tmp_path: Path, text: Path) -> None:
    (text / "odd.jsonl").write_text(json.dumps({"title": "half \ud800\npair", "text": "A text of its own."}))
    made = corpus.prepare(phase(text), tmp_path / "data", silent)
    titles = [record["title"] for split in ("train", "validation") for record in made.read(split)]
    assert "half pair" in titles
