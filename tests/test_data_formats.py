"""Readers of files: what each kind yields, and that a broken or hostile file ends nothing."""

import bz2
import codecs
import email.message
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llm60_jax.data.read import items, kinds, plain, web, wiki
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.errors import InputError

pytest.importorskip("trafilatura")
pyarrow = pytest.importorskip("pyarrow")
zstandard = pytest.importorskip("zstandard")
pytest.importorskip("mwparserfromhell")
pytest.importorskip("striprtf")

ONE = "The ferry left at nine, and nobody on the quay waved to it."
TWO = "In the evening the wind turned, and the lamps along the shore went out."


def read(path: Path, data: bytes | str, text_field: str = "text") -> list[Document | Broken]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(kinds.read(path, path.name, text_field, "title"))


def texts(results: list[Document | Broken]) -> list[str]:
    return [item.text for item in results if isinstance(item, Document)]


def zipped(files: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def word(body: str) -> bytes:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return zipped({"word/document.xml": f'<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'})


def open_document(body: str) -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    names = f'xmlns:office="{space}:office:1.0" xmlns:text="{space}:text:1.0" xmlns:dc="d"'
    return zipped(
        {"content.xml": f"<office:document-content {names}><office:body>{body}</office:body></office:document-content>"}
    )


# Every kind of file


def test_the_longest_extension_decides_in_any_letter_case() -> None:
    names = {"a.TXT": ".txt", "b.jsonl.GZ": ".jsonl.gz", "c.xml.bz2": ".xml.bz2", "d.gz": "", "e": "", "f.pdf": ""}
    assert {name: kinds.kind_of(name) for name in names} == names


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None if name == "striprtf" else object())
    kinds.require(["a.txt", "b.docx", "c.html"])
    with pytest.raises(InputError, match=r"c/d\.rtf: reading it needs striprtf: pip install '\.\[formats\]'"):
        kinds.require(["a.txt", "c/d.rtf"])


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


def book(chapters: dict[str, str], spine: list[str]) -> bytes:
    nav = ' properties="nav"'
    listed = "".join(
        f'<item id="{name}" href="text/{name}%20x.xhtml"{nav if name == "toc" else ""}/>' for name in chapters
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in spine)
    opf = (
        '<package xmlns="o"><metadata><dc:title xmlns:dc="d">The  Ferry</dc:title></metadata>'
        f"<manifest>{listed}</manifest><spine>{order}</spine></package>"
    )
    box = '<container xmlns="c"><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    files = {f"OEBPS/text/{name} x.xhtml": f"<html><body>{text}</body></html>" for name, text in chapters.items()}
    return zipped({"META-INF/container.xml": box, "OEBPS/book.opf": opf, **files})


def test_epub_yields_chapters_in_reading_order(tmp_path: Path) -> None:
    data = book({"b": f"<p>{TWO}</p>", "a": f"<h1>One</h1><p>{ONE}</p>", "toc": "<p>Contents</p>"}, ["toc", "a", "b"])
    assert read(tmp_path / "a.epub", data) == [Document("a.epub", "The Ferry", f"One\n\n{ONE}\n\n{TWO}")]


def letter(text: str, subject: str = "The ferry", page: str = "") -> bytes:
    message = email.message.EmailMessage()
    message["From"], message["Subject"] = "a@example.org", subject
    message.set_content(text)
    if page:
        message.add_alternative(page, subtype="html")
    message.add_attachment(b"attached", maintype="text", subtype="plain", filename="a.txt")
    return message.as_bytes()


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


LINES = "".join(json.dumps(record) + "\n" for record in ({"title": "T", "text": ONE}, {"text": TWO, "title": 5}))


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


def parquet(columns: dict[str, list[object]]) -> bytes:
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


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


def dump(pages: str) -> str:
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">{pages}</mediawiki>'


def article(title: str, text: str, extra: str = "<ns>0</ns>") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<page><title>{title}</title>{extra}<revision><comment>c</comment><text>{escaped}</text></revision></page>"


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


# Large, broken and hostile files


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


def test_utf_16_with_a_mark_is_read(tmp_path: Path) -> None:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert texts(read(tmp_path / "a.txt", mark + f"Café. {ONE}".encode(encoding))) == [f"Café. {ONE}"]
