"""Readers of files: a large, broken or hostile file is named and ends nothing."""

import bz2
import gzip
import json
from pathlib import Path

import pytest
from sample_files import LINES, ONE, TWO, article, book, dump, open_document, parquet, read, texts, word, zipped

from llm60_jax.data.read import items, kinds, plain
from llm60_jax.data.read.items import Broken, Document

pytest.importorskip("trafilatura")
pyarrow = pytest.importorskip("pyarrow")
zstandard = pytest.importorskip("zstandard")
pytest.importorskip("mwparserfromhell")
pytest.importorskip("striprtf")


def test_a_large_text_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "LARGEST", 150)
    monkeypatch.setattr(plain, "BLOCK_BYTES", 40)
    for mark in ("\n\n", "\n", " ", "\r\n\r\n", "x"):
        whole = mark.join(["word" * 10] * 20)
        results = read(tmp_path / "a.txt", whole)
        assert all(isinstance(item, Document) and len(item.text) <= 150 for item in results)
        assert "".join(texts(results)) == whole
        assert len(results) >= 6
        assert [item.name for item in results][:2] == ["a.txt", "a.txt, part 2"]
        if mark != "x":
            assert all(text.startswith(mark) for text in texts(results)[1:])


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_too_long_line_is_named_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(items, "LARGEST", 500)
    monkeypatch.setattr(plain, "BLOCK_BYTES", 64)
    long = json.dumps({"text": "x" * 3_000})
    data = f"{LINES}{long}\n{LINES}{long}".encode()
    pack = {"a.jsonl": bytes, "a.jsonl.gz": gzip.compress, "a.jsonl.zst": zstandard.compress}[name]
    results = read(tmp_path / name, pack(data))
    assert texts(results) == [ONE, TWO, ONE, TWO]
    assert [item for item in results if isinstance(item, Broken)] == [
        Broken(f"{name}:3", "too_large"), Broken(f"{name}:6", "too_large"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.xml.bz2"])
def test_a_decompression_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(items, "ARCHIVE", 2_000_000)
    pack = {"a.jsonl.gz": gzip.compress, "a.jsonl.zst": zstandard.compress, "a.xml.bz2": bz2.compress}[name]
    start = dump("").removesuffix("</mediawiki>").encode() if name.endswith("bz2") else LINES.encode()
    results = read(tmp_path / name, pack(start + b"\n" * 20_000_000))
    assert texts(results) == ([] if name.endswith("bz2") else [ONE, TWO])
    assert results[-1] == Broken(name, "too_large")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.xml.bz2"])
def test_a_truncated_archive_keeps_what_came_before(tmp_path: Path, name: str) -> None:
    if name.endswith("bz2"):
        data = bz2.compress(dump(article("Quay", TWO)).encode()) + bz2.compress(b"<page>" * 1000)[:50]
    elif name.endswith("gz"):
        data = gzip.compress(LINES.encode()) + gzip.compress(LINES.encode() * 100)[:-30]
    else:
        data = zstandard.compress(LINES.encode()) + b"\x28\xb5\x2f\xfdbroken"
    results = read(tmp_path / name, data)
    assert TWO in texts(results)
    assert results[-1] == Broken(name, "unreadable")


BOMB = bytes(300_000_000)
ENTITIES = '<!DOCTYPE m [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", b"PK no archive", "unreadable"),
        ("a.docx", zipped({"other.xml": "<a/>"}), "unreadable"),
        ("a.docx", zipped({"word/document.xml": BOMB, "../../escaped.txt": b"x", "/escaped.txt": b"x"}), "too_large"),
        ("a.docx", zipped({"word/document.xml": ENTITIES + "<a>&b;</a>"}), "unreadable"),
        ("a.docx", zipped({"word/document.xml": "<a>" * 30_000}), "unreadable"),
        ("a.docx", word("<w:p>" * 300 + "<w:r><w:t>deep</w:t></w:r>" + "</w:p>" * 300), "unreadable"),
        ("a.odt", zipped({"content.xml": "<a>" * 30_000 + "</a>" * 30_000}), "unreadable"),
        ("a.odt", open_document("<office:text/>")[:-40], "unreadable"),
        ("a.epub", zipped({"META-INF/container.xml": "<container/>"}), "unreadable"),
        ("a.epub", book({"a": "x"}, ["a"]).replace(b"OEBPS/book.opf", b"OEBPS/b..k.opf"), "unreadable"),
        ("a.parquet", parquet({"text": ["x"]})[:-5], "unreadable"),
        ("a.parquet", b"PAR1", "unreadable"),
        ("a.xml", dump("")[:-3], "unreadable"),
        ("a.xml", ENTITIES + dump(article("T", "&b;")), "unreadable"),
        ("a.html", bytes(range(256)) * 4, "unreadable"),
        ("a.txt", bytes(range(256)) * 4, "not_text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_broken_file_is_named_and_ends_nothing(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    assert read(tmp_path / name, data) == [Broken(name, reason)]
    assert not list(tmp_path.parent.rglob("escaped.txt"))


@pytest.mark.parametrize("opened", ["<div>", "<b>", "<table><tr><td>", "<ul><li>"])
def test_deep_nesting_causes_no_deep_recursion(tmp_path: Path, opened: str) -> None:
    for name in ("a.html", "b.eml"):
        head = "Content-Type: text/html\n\n" if name.endswith("eml") else ""
        assert len(read(tmp_path / name, head + opened * 100_000 + "text")) == 1


@pytest.mark.parametrize(
    "text", ["[[" * 20_000, "{{" * 20_000, "{|\n" * 5_000, "<ref>" * 5_000, "''" * 20_000, "==" * 20_000]
)
def test_unclosed_wikitext_ends_soon(tmp_path: Path, text: str) -> None:
    results = read(tmp_path / "a.xml", dump(article("T", text) + article("Quay", TWO)))
    assert texts(results)[-1] == TWO


def test_endlessly_nested_mail_is_one_item(tmp_path: Path) -> None:
    message = b"Content-Type: message/rfc822\n\n" * 5_000 + ONE.encode()
    assert len(read(tmp_path / "a.eml", message)) == 1
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(3_000))
    assert len(read(tmp_path / "b.eml", parts + ONE.encode())) == 1


@pytest.mark.parametrize("kind", kinds.EXTENSIONS)
def test_an_empty_file_is_at_most_one_item(tmp_path: Path, kind: str) -> None:
    results = read(tmp_path / f"a{kind}", b"")
    assert len(results) <= 1
    assert not "".join(texts(results))
