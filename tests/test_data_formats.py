"""Readers of files: what each kind yields."""

import codecs
import gzip
from pathlib import Path

import pytest
from sample_files import LINES, ONE, TWO, letter, parquet, read, texts

from llm60_jax.data.read import kinds
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.errors import InputError

pytest.importorskip("trafilatura")
pyarrow = pytest.importorskip("pyarrow")
zstandard = pytest.importorskip("zstandard")
pytest.importorskip("mwparserfromhell")
pytest.importorskip("striprtf")


def test_the_longest_extension_decides_in_any_letter_case() -> None:
    names = {"a.TXT": ".txt", "b.jsonl.GZ": ".jsonl.gz", "c.xml.bz2": ".xml.bz2", "d.gz": "", "e": "", "f.pages": ""}
    assert {name: kinds.kind_of(name) for name in names} == names


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None if name == "striprtf" else object())
    kinds.require({"a.txt": ".txt", "b.docx": ".docx", "c.html": ".html"})
    with pytest.raises(InputError, match=r"c/d\.rtf: reading it needs striprtf: pip install -e '\.\[formats\]'"):
        kinds.require({"a.txt": ".txt", "c/d.rtf": ".rtf"})


def test_mail_yields_the_message_without_quoted_text(tmp_path: Path) -> None:
    answer = f"{ONE}\n\nYours,\nAnn\n\nOn Monday, Bob wrote:\n> What happened?\n> Tell me.\n"
    (item,) = read(tmp_path / "a.eml", letter(answer, "Das Café 渡し", f"<p>{ONE}</p>"))
    assert item == Document("a.eml", "Das Café 渡し", f"{ONE}\n\nYours,\nAnn")
    signed = f"{ONE}\n> quoted\n{TWO}\n-- \nAnn Ferry, Captain\n"
    assert texts(read(tmp_path / "b.eml", letter(signed))) == [f"{ONE}\n\n{TWO}"]
    (item,) = read(tmp_path / "c.eml", f"Subject: x\nContent-Type: text/html\n\n<p>{ONE}</p><p>{TWO}</p>")
    assert isinstance(item, Document)
    assert item.text == f"{ONE}\n\n{TWO}"


def test_a_mailbox_yields_each_message(tmp_path: Path) -> None:
    mark = b"From a@example.org Mon Jan  1 00:00:00 2024\n"
    data = (
        mark
        + letter(ONE, "1")
        + b"\n"
        + mark
        + letter(f"{TWO}\nFrom here on it rained.", "2").replace(b"\nFrom h", b"\n>From h")
    )
    results = read(tmp_path / "a.mbox", data)
    assert [(item.name, item.title) for item in results if isinstance(item, Document)] == [
        ("a.mbox:1", "1"),
        ("a.mbox:2", "2"),
    ]
    assert "From here on it rained." in texts(results)[1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.JSONL.gz", gzip.compress(LINES.encode())),
        ("a.jsonl.gz", gzip.compress(LINES.encode()[:30]) + gzip.compress(LINES.encode()[30:])),
        ("a.jsonl.zst", zstandard.compress(LINES.encode())),
        ("a.jsonl.zst", zstandard.compress(LINES.encode()[:30]) + zstandard.compress(LINES.encode()[30:])),
    ],
)
def test_json_lines_are_read_compressed_or_not(tmp_path: Path, name: str, data: bytes) -> None:
    assert read(tmp_path / name, data) == [Document(f"{name}:1", "T", ONE), Document(f"{name}:2", f"{name}:2", TWO)]


def test_parquet_yields_one_document_per_row(tmp_path: Path) -> None:
    data = parquet({"title": ["T", None, "U"], "body": [ONE, TWO, None]})
    assert read(tmp_path / "a.parquet", data, "body") == [
        Document("a.parquet:1", "T", ONE),
        Document("a.parquet:2", "a.parquet:2", TWO),
        Broken("a.parquet:3", "unreadable"),
    ]
    assert read(tmp_path / "a.parquet", data, "text") == [Broken("a.parquet", "unreadable")]


def test_utf_16_with_a_mark_is_read(tmp_path: Path) -> None:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert texts(read(tmp_path / "a.txt", mark + f"Café. {ONE}".encode(encoding))) == [f"Café. {ONE}"]
