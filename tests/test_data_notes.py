"""Evernote, FictionBook and outlines."""

from pathlib import Path

import pytest
from sample_files import ONE, TWO, read, texts

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document

pytest.importorskip("trafilatura")

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE en-export SYSTEM "http://xml.evernote.com/pub/evernote-export4.dtd">\n'


def note(title: str, body: str) -> str:
    content = f'<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE en-note SYSTEM "http://xml.evernote.com/pub/enml2.dtd"><en-note>{body}</en-note>'
    return f"<note><title>{title}</title><content><![CDATA[{content}]]></content></note>"


def enex(*notes: str) -> str:
    return f'{HEAD}<en-export export-date="20240101T000000Z">{"".join(notes)}</en-export>'


def test_each_note_of_evernote_is_a_document(tmp_path: Path) -> None:
    picture = '<resource><data encoding="base64">QUJDREVGRw==</data><mime>image/png</mime></resource></note>'
    data = enex(
        note(
            "The  ferry &amp; the quay",
            f"<div>{ONE}</div><div><br/></div><div>{TWO} Caf\u00e9.</div><en-media hash='1'/>",
        ).replace("</note>", picture),
        note(
            "",
            f'<p>{ONE}</p><en-crypt cipher="AES" hint="x">QUJDREVGRw==</en-crypt><en-todo checked="true"/><p>{TWO}</p>',
        ),
    )
    assert read(tmp_path / "a.enex", data) == [
        Document("a.enex:1", "The ferry & the quay", f"{ONE}\n\n{TWO} Caf\u00e9."),
        Document("a.enex:2", "a.enex:2", f"{ONE}\n\n{TWO}"),
    ]


def test_what_is_wrong_with_an_export_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = note("A", f"<div>{ONE}</div>")
    results = read(tmp_path / "a.enex", enex(whole, whole)[:-60])
    assert texts(results) == [ONE]
    assert results[-1] == Broken("a.enex", "unreadable")
    entities = (
        '<!DOCTYPE m [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><en-export><note><title>&b;</title></note></en-export>'
    )
    assert read(tmp_path / "a.enex", entities) == [Broken("a.enex", "unreadable")]
    monkeypatch.setattr(items, "LARGEST", 500)
    assert read(tmp_path / "a.enex", enex(note("A", "x" * 900), whole)) == [
        Broken("a.enex:1", "too_large"),
        Document("a.enex:2", "A", ONE),
    ]


@pytest.mark.parametrize("mark", ["<div>", "<en-crypt>", "<en-crypt ", "<b><i>", "&lt;"])
def test_long_runs_of_a_mark_end_soon(tmp_path: Path, mark: str) -> None:
    read(tmp_path / "a.enex", enex(note("A", mark * 50_000)))
    read(tmp_path / "b.fb2", f"<FictionBook>{mark * 50_000}")
    read(tmp_path / "c.opml", "<opml><body>" + "<outline text='a'>" * 50_000)


BOOK = f"""<?xml version="1.0" encoding="utf-8"?>
<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0" xmlns:l="http://www.w3.org/1999/xlink">
<description><title-info><book-title>The Ferry</book-title>
<annotation><p>Not read.</p></annotation></title-info></description>
<body><title><p>The Ferry</p></title><section><title><p>One</p></title>
<p>{ONE}<a l:href="#n1" type="note">[1]</a></p><empty-line/>
<poem><stanza><v>The river <emphasis>rose</emphasis></v><v>And took the mill,</v></stanza>
<stanza><v>The boat was green.</v></stanza></poem>
<p>{TWO}</p></section></body>
<body name="notes"><section id="n1"><title><p>1</p></title>
<p>He said so twice to anyone who asked.</p><p>Berg, 1911.</p></section></body>
<binary id="a.png" content-type="image/png">QUJDREVGRw==</binary></FictionBook>"""


def test_a_fiction_book_is_read(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "a.fb2", BOOK)
    assert isinstance(item, Document)
    assert item.title == "The Ferry"
    assert item.text.split("\n\n") == [
        "The Ferry",
        "One",
        ONE,
        "The river rose\nAnd took the mill,",
        "The boat was green.",
        TWO,
        "He said so twice to anyone who asked.",
    ]


def test_an_outline_is_read(tmp_path: Path) -> None:
    body = f"<outline text='The quay'><outline text='{ONE}' _note='{TWO}'/></outline><outline text='Feed' xmlUrl='http://a.org'/>"
    data = f"<opml version='2.0'><head><title>T</title></head><body>{body}</body></opml>"
    assert read(tmp_path / "a.opml", data) == [Document("a.opml", "T", f"- The quay\n  - {ONE}\n\n{TWO}")]
