"""Documents of word processors, and e-books."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import ONE, TWO, book, open_document, read, texts, word, zipped

from llm60_jax.data.read import kinds
from llm60_jax.data.read.items import Broken, Document

pytest.importorskip("trafilatura")
pytest.importorskip("striprtf")

LONG = f"{ONE} {TWO}"
POEM = ["The lamp is lit, the wick is low,", "And who would sit where no winds blow?", "The oar is dry."]
WORD_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


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
    assert texts(read(tmp_path / "a.odt", open_document(body))) == [f"Night\n\n{ONE} And so.\n\n- {TWO}"]


def test_rtf_yields_paragraphs_and_a_wrong_file_is_unreadable(tmp_path: Path) -> None:
    data = r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 " + ONE + r"\par Caf\'e9.\par " + TWO + "}"
    assert texts(read(tmp_path / "a.rtf", data)) == [f"{ONE}\n\nCafé.\n\n{TWO}"]
    assert read(tmp_path / "b.rtf", "no rtf at all") == [Broken("b.rtf", "unreadable")]


def test_epub_yields_chapters_in_reading_order(tmp_path: Path) -> None:
    data = book({"b": f"<p>{TWO}</p>", "a": f"<h1>One</h1><p>{ONE}</p>", "toc": "<p>Contents</p>"}, ["toc", "a", "b"])
    assert read(tmp_path / "a.epub", data) == [Document("a.epub", "The Ferry", f"One\n\n{ONE}\n\n{TWO}")]


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{run(text)}</w:p>"


def item(text: str, level: int = 0, number: str = "1") -> str:
    return paragraph(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


def document(body: str) -> str:
    return f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'


def docx(folder: Path, body: str, **parts: str) -> str:
    """Return the text of a Word document with further parts: name -> content of its root element."""
    files = {f"word/{name}.xml": f'<w:{name} xmlns:w="{WORD}">{content}</w:{name}>' for name, content in parts.items()}
    (text,) = texts(read(folder / "a.docx", zipped({"word/document.xml": document(body), **files})))
    return text


def test_a_drop_cap_is_part_of_its_word(tmp_path: Path) -> None:
    cap = '<w:framePr w:dropCap="drop" w:lines="3"/>'
    assert docx(tmp_path, paragraph("T", cap) + paragraph("he river rose.")) == "The river rose."
    assert docx(tmp_path, paragraph("A", cap) + paragraph(" river rose.")) == "A river rose."


def test_the_strict_standard_is_read_alike(tmp_path: Path) -> None:
    strict = WORD_STRICT.join(document(item("bread") + paragraph(ONE)).split(WORD))
    assert texts(read(tmp_path / "a.docx", zipped({"word/document.xml": strict}))) == [f"- bread\n\n{ONE}"]


def test_the_text_may_lie_in_another_part(tmp_path: Path) -> None:
    relation = '<Relationship Type="http://x/officeDocument" Target="/word/document2.xml"/>'
    packed = zipped(
        {
            "_rels/.rels": f'<Relationships xmlns="r">{relation}</Relationships>',
            "word/document2.xml": document(paragraph(ONE)),
        }
    )
    for name in ("a.docx", "b.docm", "c.dotx"):
        assert texts(read(tmp_path / name, packed)) == [ONE]


def test_items_of_lists_have_marks_numbers_and_depth(tmp_path: Path) -> None:
    levels = "".join(
        f'<w:lvl w:ilvl="{level}"><w:start w:val="{start}"/><w:numFmt w:val="decimal"/></w:lvl>'
        for level, start in ((0, 3), (1, 1))
    )
    numbering = (
        f'<w:abstractNum w:abstractNumId="7">{levels}</w:abstractNum>'
        '<w:num w:numId="2"><w:abstractNumId w:val="7"/></w:num>'
    )
    bullets = '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'
    style = f'<w:style w:styleId="LB"><w:name w:val="List Bullet"/>{bullets}</w:style>'
    body = (
        item("bread") + item("rope", 1) + paragraph("oars", '<w:pStyle w:val="LB"/>') + paragraph(ONE)
        + item("first", 0, "2") + item("deep", 1, "2") + item("second", 0, "2") + item("deep", 1, "2")
        + item(TWO, 0, "0")
    )  # fmt: skip
    assert docx(tmp_path, body, numbering=numbering, styles=style) == (
        f"- bread\n  - rope\n- oars\n\n{ONE}\n\n3. first\n  1. deep\n4. second\n  1. deep\n\n{TWO}"
    )


def test_verse_keeps_its_lines_however_they_end(tmp_path: Path) -> None:
    broken = "<w:p>" + "<w:r><w:br/></w:r>".join(map(run, POEM)) + "</w:p>"
    assert docx(tmp_path, broken + paragraph(ONE)) == "\n".join(POEM) + f"\n\n{ONE}"
    poem = [*POEM[:2], "The oar is dry, the rope is long,"]
    lines = "".join(map(paragraph, poem))
    body = f"{paragraph(LONG)}<w:p/>{lines}<w:p/>{lines}<w:p/>{paragraph(LONG)}"
    assert docx(tmp_path, body) == "\n\n".join([LONG, "\n".join(poem), "\n".join(poem), LONG])
    speech = "".join(map(paragraph, ["\u201cNo.\u201d", "\u201cYes.\u201d", "He left."]))
    assert docx(tmp_path, speech) == "\u201cNo.\u201d\n\n\u201cYes.\u201d\n\nHe left."


def test_notes_with_a_sentence_stand_last(tmp_path: Path) -> None:
    body = f'<w:p>{run(ONE)}<w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:footnoteReference w:id="3"/></w:r></w:p>'
    notes = "".join(
        f'<w:footnote w:id="{i}">{paragraph(text)}</w:footnote>'
        for i, text in (
            (1, "Not referred to at all, this one."),
            (2, "She waved from the bridge."),
            (3, "Smith, p. 3."),
        )
    )
    assert docx(tmp_path, body + paragraph(TWO), footnotes=notes) == f"{ONE}\n\n{TWO}\n\nShe waved from the bridge."


def test_tables_are_rows_unless_they_place_text(tmp_path: Path) -> None:
    def table(*rows: list[str]) -> str:
        cells = ("".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows)
        return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"

    data = table([paragraph("a"), paragraph("b")], [paragraph("c") + paragraph("d"), "<w:p/>"])
    assert docx(tmp_path, data + paragraph(ONE)) == f"| a | b |\n| c d |  |\n\n{ONE}"
    assert docx(tmp_path, table([paragraph("a"), paragraph(LONG)])) == f"a\n\n{LONG}"


def test_what_is_no_text_of_the_author_goes(tmp_path: Path) -> None:
    box = "<w:r><mc:AlternateContent xmlns:mc='http://schemas.openxmlformats.org/markup-compatibility/2006'>"
    box += f"<mc:Choice><w:txbxContent>{paragraph('In a box.')}</w:txbxContent></mc:Choice>"
    box += f"<mc:Fallback><w:txbxContent>{paragraph('In a box.')}</w:txbxContent></mc:Fallback>"
    box += "</mc:AlternateContent></w:r>"
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>gone</w:t></w:r>"
    contents = paragraph("Chapter 1 ... 3", '<w:pStyle w:val="TOC1"/>')
    moved = f"<w:moveFrom>{run('gone')}</w:moveFrom><w:r><w:instrText>PAGE</w:instrText></w:r>"
    body = f"{contents}<w:p>{run(ONE)}{box}{hidden}{moved}</w:p>{paragraph(TWO)}"
    assert docx(tmp_path, body) == f"{ONE}\n\nIn a box.\n\n{TWO}"


def test_code_is_fenced_and_powers_stay(tmp_path: Path) -> None:
    code = "".join(paragraph(line, '<w:pStyle w:val="SourceCode"/>') for line in ("if x:", "", "    go()"))
    style = '<w:style w:styleId="SourceCode"><w:name w:val="Source Code"/></w:style>'
    power = f'<w:p>{run("20 m")}<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>2</w:t></w:r></w:p>'
    assert docx(tmp_path, code + power, styles=style) == "```\nif x:\n\n    go()\n```\n\n20 m\u00b2"


def test_odt_lists_verse_notes_and_tables(tmp_path: Path) -> None:
    style = '<text:list-style xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" style:name="L1">'
    style += '<text:list-level-style-number text:level="1"/></text:list-style>'
    deep = "<text:list><text:list-item><text:p>rope</text:p></text:list-item></text:list>"
    note = "<text:note><text:note-citation>1</text:note-citation><text:note-body>"
    note += "<text:p>She waved from the bridge.</text:p></text:note-body></text:note>"
    table = "<t:table xmlns:t='t'><t:table-row><t:table-cell><text:p>a</text:p></t:table-cell>"
    table += "<t:table-cell><text:p>b</text:p></t:table-cell></t:table-row></t:table>"
    body = (
        f"{style}<office:text><text:table-of-content><text:p>Contents</text:p></text:table-of-content>"
        f"<text:list><text:list-item><text:p>bread</text:p>{deep}</text:list-item></text:list>"
        f'<text:list text:style-name="L1"><text:list-item><text:p>first</text:p></text:list-item></text:list>'
        f"<text:p>{'<text:line-break/>'.join(POEM)}</text:p><text:p>{ONE}{note}<office:annotation><text:p>no</text:p>"
        f"</office:annotation></text:p>{table}</office:text>"
    )
    text = f"- bread\n  - rope\n1. first\n\n{chr(10).join(POEM)}\n\n{ONE}\n\n| a | b |\n\nShe waved from the bridge."
    assert texts(read(tmp_path / "a.odt", open_document(body))) == [text]
    space = "urn:oasis:names:tc:opendocument:xmlns"
    names = f'xmlns:office="{space}:office:1.0" xmlns:text="{space}:text:1.0"'
    flat = f"<office:document {names}><office:body>{body}</office:body></office:document>"
    assert texts(read(tmp_path / "a.fodt", flat)) == [text]


def test_rtf_keeps_verse_and_lists(tmp_path: Path) -> None:
    poem = "\\line ".join(POEM)
    items = "{\\listtext\\tab 3.\\tab}three\\par{\\pntext\\'b7\\tab}dot\\par "
    data = f"{{\\rtf1\\ansi {poem}\\par {items}{ONE}}}"
    assert texts(read(tmp_path / "a.rtf", data)) == ["\n".join(POEM) + f"\n\n3. three\n- dot\n\n{ONE}"]


def epub(folder: Path, parts: dict[str, str], package: str = "") -> str:
    """Return the text of an e-book. Parts: name -> content of its body."""
    box = '<container xmlns="c"><rootfiles><rootfile full-path="b.opf"/></rootfiles></container>'
    listed = "".join(f'<item id="{name}" href="{name}.xhtml"/>' for name in parts)
    spine = "".join(f'<itemref idref="{name}"/>' for name in parts)
    opf = f'<package xmlns="o"><metadata/><manifest>{listed}{package}</manifest><spine>{spine}</spine></package>'
    head = "<html xmlns='http://www.w3.org/1999/xhtml' xmlns:epub='http://www.idpf.org/2007/ops'>"
    pages = {f"{name}.xhtml": f"{head}<body>{body}</body></html>" for name, body in parts.items()}
    (text,) = texts(read(folder / "a.epub", zipped({"META-INF/container.xml": box, "b.opf": opf, **pages})))
    return text


def test_an_e_book_loses_its_frame_and_keeps_verse_lists_and_notes(tmp_path: Path) -> None:
    chapters = {
        "cover": "<p>Cover</p>",
        "one": f"<section epub:type='titlepage'><p>Title</p></section><p>{LONG * 5}</p><ul><li>bread</li></ul>",
        "two": f"<div epub:type='frontmatter'><section epub:type='imprint'><p>{ONE}</p></section></div>",
        "colophon": f"<p>{ONE}</p>",
        "three": f"<p><span>{'</span><br/><span>'.join(POEM)}</span></p>",
        "four": "<section epub:type='endnotes'><ol><li epub:type='endnote'><p>She waved from the bridge. "
        "<a role='doc-backlink' href='#x'>\u21a9</a></p></li><li><p>Smith, p. 3.</p></li></ol></section>",
    }
    assert epub(tmp_path, chapters) == (f"{LONG * 5}\n\n- bread\n\n{chr(10).join(POEM)}\n\nShe waved from the bridge.")


def test_an_e_book_whose_only_part_is_called_cover_is_read(tmp_path: Path) -> None:
    data = book({"cover": f"<p>{LONG}</p>"}, ["cover", "missing"])
    assert texts(read(tmp_path / "a.epub", data)) == [LONG]
    assert epub(tmp_path, {"cover": f"<p>{LONG}</p>"}) == LONG


def test_the_guide_and_the_landmarks_name_the_frame(tmp_path: Path) -> None:
    parts = {"a": "<p>All rights.</p>", "b": "<p>One</p>", "c": f"<p>{LONG}</p>"}
    guide = '</manifest><guide><reference type="copyright-page" href="a.xhtml"/></guide><manifest>'
    assert epub(tmp_path, parts, guide) == f"One\n\n{LONG}"
    nav = "<nav><a epub:type='copyright-page' href='a.xhtml'>x</a><a epub:type='bodymatter' href='b.xhtml'>x</a></nav>"
    listed = '<item id="n" href="toc.xhtml" properties="nav"/>'
    assert epub(tmp_path, {**parts, "toc": nav}, listed) == f"One\n\n{LONG}"


@pytest.mark.parametrize("name", ["a.docx", "a.docm", "a.odt", "a.fodt", "a.epub"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"<x", zipped({"x": "y"}), zipped({"word/document.xml": "<w"})])
def test_a_damaged_file_is_broken(tmp_path: Path, name: str, data: bytes) -> None:
    assert read(tmp_path / name, data) == [Broken(name, "unreadable")]


PIECES = ("<w:tab/>", "<w:br/>", "<w:t>word</w:t>", "<w:t> A </w:t>", "<w:cr/>", "<w:noBreakHyphen/>", "<w:t>b.</w:t>")


@given(runs=st.lists(st.lists(st.sampled_from(PIECES), max_size=6), max_size=6))
def test_a_word_document_keeps_all_its_letters(tmp_path_factory: pytest.TempPathFactory, runs: list[list[str]]) -> None:
    body = "".join(f"<w:p><w:r>{''.join(pieces)}</w:r></w:p>" for pieces in runs)
    path = tmp_path_factory.mktemp("word") / "a.docx"
    path.write_bytes(word(body))
    (item,) = kinds.read(path, "a.docx", "", "")
    assert isinstance(item, Document)
    letters = "".join(piece for pieces in runs for piece in pieces if piece.startswith("<w:t>"))
    assert sorted("".join(item.text.replace("-", "").split())) == sorted(
        "".join(letters.replace("<w:t>", "").replace("</w:t>", "").split())
    )


def test_an_e_book_with_two_editions_is_read_from_the_first(tmp_path: Path) -> None:
    pages, members = {}, {}
    for name, text in (("first", ONE), ("second", TWO)):
        pages[name] = (
            f'<package xmlns="o"><manifest><item id="a" href="{name}.xhtml"/></manifest>'
            '<spine><itemref idref="a"/></spine></package>'
        )
        members |= {f"{name}.opf": pages[name], f"{name}.xhtml": f"<html><body><p>{text}</p></body></html>"}
    box = "".join(f'<rootfile full-path="{name}.opf"/>' for name in pages)
    box = f'<container xmlns="c"><rootfiles>{box}</rootfiles></container>'
    assert texts(read(tmp_path / "a.epub", zipped({"META-INF/container.xml": box, **members}))) == [ONE]
