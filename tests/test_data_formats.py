"""Readers of files: what each kind yields."""

import bz2
import codecs
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_files import LINES, ONE, TWO, article, book, dump, letter, open_document, parquet, read, texts, word

from llm60_jax.data.read import kinds, web, wiki
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
    with pytest.raises(InputError, match=r"c/d\.rtf: reading it needs striprtf: pip install '\.\[formats\]'"):
        kinds.require({"a.txt": ".txt", "c/d.rtf": ".rtf"})


def test_html_yields_the_article_without_menus(tmp_path: Path) -> None:
    page = f"""<!DOCTYPE html><html><head><title>A  Crossing</title><script>var x = 1;</script></head><body>
    <nav><a href="/">Home</a> <a href="/about">About us</a></nav>
    <article><h1>A Crossing</h1><p>{ONE}
    It was cold.</p><p>{TWO}</p><table><tr><td>1</td><td>2</td></tr></table></article>
    <footer>Cookies</footer></body></html>"""
    (item,) = read(tmp_path / "a.html", page)
    assert isinstance(item, Document)
    assert item.title == "A Crossing"
    paragraphs = item.text.split("\n\n")
    assert f"{ONE} It was cold." in paragraphs
    assert TWO in paragraphs
    assert "var x" not in item.text
    assert "About us" not in item.text


def test_a_page_that_is_mostly_text_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_article", lambda data: "")
    body = "".join(f"<div>{ONE}<br/>{TWO}</div>" for _ in range(3))
    assert texts(read(tmp_path / "a.htm", f"<body>{body}<style>p {{}}</style></body>")) == [
        "\n\n".join([f"{ONE} {TWO}"] * 3)
    ]


def test_html_is_read_in_its_declared_encoding(tmp_path: Path) -> None:
    page = f"<html><head><meta charset='iso-8859-1'></head><body><p>Café. {ONE}</p><p>{TWO}</p></body></html>"
    for data in (
        page.encode("iso-8859-1"),
        page.replace("iso-8859-1", "utf-8").encode(),
        page.replace("charset", "x").encode(),
    ):
        assert "Café." in texts(read(tmp_path / "a.html", data))[0]


def test_docx_yields_paragraphs_in_order_without_deleted_text(tmp_path: Path) -> None:
    def run(text: str) -> str:
        return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'

    deleted = f"<w:del><w:r><w:delText>gone</w:delText>{run('gone')}</w:r></w:del>"
    body = (
        f"<w:p>{run(ONE[:20])}{run(ONE[20:])}</w:p><w:p>{deleted}</w:p>"
        f"<w:p>{run('Left')}<w:r><w:tab/></w:r>{run('right')}</w:p><w:p>{run(TWO)}</w:p>"
    )
    assert texts(read(tmp_path / "a.docx", word(body))) == [f"{ONE}\n\nLeft right\n\n{TWO}"]


def test_odt_yields_paragraphs_and_headings_without_notes(tmp_path: Path) -> None:
    body = (
        f"<office:text><text:tracked-changes><text:p>old</text:p></text:tracked-changes><text:h>Night</text:h><text:p>{ONE[:9]}"
        f"<text:span>{ONE[9:]}</text:span><text:note><text:p>a note</text:p></text:note> And<text:s/>so.</text:p>"
        f"<text:list><text:list-item><text:p>{TWO}</text:p></text:list-item></text:list></office:text>"
    )
    assert texts(read(tmp_path / "a.odt", open_document(body))) == [f"Night\n\n{ONE} And so.\n\n{TWO}"]


def test_rtf_yields_paragraphs_and_a_wrong_file_is_unreadable(tmp_path: Path) -> None:
    data = r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 " + ONE + r"\par Caf\'e9.\par " + TWO + "}"
    assert texts(read(tmp_path / "a.rtf", data)) == [f"{ONE}\n\nCafé.\n\n{TWO}"]
    assert read(tmp_path / "b.rtf", "no rtf at all") == [Broken("b.rtf", "unreadable")]


def test_epub_yields_chapters_in_reading_order(tmp_path: Path) -> None:
    data = book({"b": f"<p>{TWO}</p>", "a": f"<h1>One</h1><p>{ONE}</p>", "toc": "<p>Contents</p>"}, ["toc", "a", "b"])
    assert read(tmp_path / "a.epub", data) == [Document("a.epub", "The Ferry", f"One\n\n{ONE}\n\n{TWO}")]


def test_mail_yields_the_message_without_quoted_text(tmp_path: Path) -> None:
    answer = f"{ONE}\n\nYours,\nAnn\n\nOn Monday, Bob wrote:\n> What happened?\n> Tell me.\n"
    (item,) = read(tmp_path / "a.eml", letter(answer, "Das Café 渡し", f"<p>{ONE}</p>"))
    assert item == Document("a.eml", "Das Café 渡し", f"{ONE}\n\nYours,\nAnn\n\n")
    signed = f"{ONE}\n> quoted\n{TWO}\n-- \nAnn Ferry, Captain\n"
    assert texts(read(tmp_path / "b.eml", letter(signed))) == [f"{ONE}\n{TWO}\n"]
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


ARTICLE = f"""{{{{Infobox|name={{{{nested|x}}}}}}}}
'''The Ferry''' is a [[boat|small ''boat'']].<ref name="a">A note.</ref> {ONE}<!-- hidden
[[not text]] -->
[[File:Ferry.jpg|thumb|A picture of it]]

{{| class="wikitable"
|-
| a ||
{{|
| inner
|}}
|}}
== History ==
{TWO} It has <math>x^2</math>{{{{convert|3|m}}}} oars &amp; a bell.
* one
* two
=== See also ===
[[Other]]
==== Deeper ====
gone too
== Crew ==
The crew was small.

== References ==
{{{{reflist}}}}
[[Category:Boats]]
[[de:Fähre]]
"""


def test_wikitext_becomes_prose() -> None:
    assert wiki.prose(ARTICLE).split("\n\n") == [
        f"The Ferry is a small boat. {ONE}",
        f"{TWO} It has oars & a bell.",
        "- one\n- two",
        "The crew was small.",
    ]


@pytest.mark.parametrize(
    "pack", [bytes, bz2.compress, lambda data: bz2.compress(data[:200]) + bz2.compress(data[200:])]
)
def test_a_dump_yields_its_articles(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    pages = (
        article("Ferry", ARTICLE) + article("Talk:Ferry", ONE, "<ns>1</ns>") + article("Old", "#REDIRECT [[Ferry]]")
        + article("Older", ONE, '<ns>0</ns><redirect title="Ferry"/>') + article("Quay", TWO)
    )  # fmt: skip
    name = "a.xml" if pack is bytes else "a.xml.bz2"
    results = read(tmp_path / name, pack(dump(pages).encode()))
    assert results == [Document(f"{name}:1", "Ferry", wiki.prose(ARTICLE)), Document(f"{name}:2", "Quay", TWO)]


def test_utf_16_with_a_mark_is_read(tmp_path: Path) -> None:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert texts(read(tmp_path / "a.txt", mark + f"Café. {ONE}".encode(encoding))) == [f"Café. {ONE}"]
