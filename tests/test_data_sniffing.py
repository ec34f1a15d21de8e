"""Encodings by evidence, kinds by content, and what is said of files that are not read."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import ONE, TWO, book, letter, read, texts, word, zipped
from sample_pdf import pdf, printed

from llm60_jax.config import FolderSource
from llm60_jax.data.corpus import units
from llm60_jax.data.read import encodings, kinds, sources, unread
from llm60_jax.data.read.items import Document
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import InputError

SENTENCES = (
    "\u201cIt\u2019s late,\u201d she said\u2014the caf\u00e9 is shut.",
    "He\u2019d gone home\u2026 and paid \u00a35 for it.",
    "Zo\u00eb and Ren\u00e9e met Fran\u00e7ois; \u201cna\u00efve,\u201d said Bj\u00f6rn.",
    "It was 30\u00b0 \u2013 too hot for Se\u00f1or N\u00fa\u00f1ez.",
    "Caf\u00e9",
    "The Bront\u00ebs\u2019 house.",
    "\u00c9mile ate cr\u00e8me br\u00fbl\u00e9e.",
    "\u201cWait!\u201d \u2014 \u201cNo.\u201d",
    "\u2018Don\u2019t go,\u2019 he said.",
    "M\u00fcller\u2019s sm\u00f6rg\u00e5sbord cost \u00a312.",
)
PLAIN = {"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2014": "--", "\u2013": "-", "\u2026": "..."}


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize(
    "codec", ["utf-8", "cp1252", "mac_roman", "cp850", "cp437", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_the_encoding_is_judged_by_its_evidence(codec: str, sentence: str) -> None:
    if codec in ("cp850", "cp437"):
        sentence = "".join(PLAIN.get(character, character) for character in sentence)
    for text in (sentence, f"{sentence} {ONE}", f"{ONE} {TWO}\n\n{sentence}\n\n{ONE}" * 3):
        data = text.encode(codec)
        assert encodings.decode(data) == (text, not (codec.startswith("utf") or data.isascii()))


@given(st.text(max_size=200))
def test_utf_8_is_never_taken_for_anything_else(text: str) -> None:
    if not encodings.wide(text.encode()):
        assert encodings.decode(text.encode()) == (text.removeprefix("\ufeff"), False)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0xFF) | st.sampled_from("\u2019\u2014"), min_size=2))
def test_utf_16_without_a_mark_is_read_where_most_letters_are_latin(text: str) -> None:
    if sum(character < "\u0100" for character in text) > 0.6 * len(text):
        assert encodings.decode(text.encode("utf-16-le")) == (text, False)
        assert encodings.decode(text.encode("utf-16-be")) == (text, False)


def test_utf_16_without_a_mark_is_read_from_files(tmp_path: Path) -> None:
    assert texts(read(tmp_path / "a.txt", f"Caf\u00e9. {ONE}".encode("utf-16-le"))) == [f"Caf\u00e9. {ONE}"]
    assert texts(read(tmp_path / "a.jsonl", '{"text": "caf\u00e9"}\n{"text": "b"}\n'.encode("utf-16-be"))) == [
        "caf\u00e9",
        "b",
    ]


def test_numbers_of_two_bytes_are_no_text() -> None:
    numbers = random.Random(0)
    data = b"".join(numbers.randrange(200).to_bytes(2, "little") for _ in range(1000))
    assert encodings.decode(data) is None


@pytest.mark.parametrize(
    ("head", "code"),
    [(r"\ansi\ansicpg1252", "e9"), (r"\mac", "8e"), (r"\pc", "82"), (r"\pca", "82"), (r"\ansi\ansicpg850", "82")],
)
def test_rtf_is_read_in_its_character_set(tmp_path: Path, head: str, code: str) -> None:
    pytest.importorskip("striprtf")
    data = rf"{{\rtf1{head}{{\fonttbl\f0\fswiss Helvetica;}}\f0 The caf\'{code} is shut.}}"
    assert texts(read(tmp_path / "a.rtf", data)) == ["The caf\u00e9 is shut."]


PAGE = f"<!-- saved --><!DOCTYPE html>\n<html><head><title>T</title></head><body><p>{ONE}</p><p>{TWO}</p></body></html>"
MBOX = b"From a@example.org Mon Jan  1 00:00:00 2024\n" + letter(ONE)
DELIVERED = b"Received: by x\nMessage-ID: <1@x>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n" + letter(ONE)
TEX = "% a remark\n\\documentclass{article}\n\\begin{document}\n" + ONE + "\n\\end{document}"
RTF = r"{\rtf1\ansi " + ONE + "}"
ENEX = "<?xml version='1.0'?><!DOCTYPE en-export SYSTEM 'x'><en-export><note><title>T</title></note></en-export>"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ONE, ".txt"),
        ("\ufeff" + ONE, ".txt"),
        (ONE.encode("utf-16"), ".txt"),
        ("Caf\u00e9".encode("mac_roman"), ".txt"),
        (PAGE, ".html"),
        ("<?xml version='1.0'?>\n<html><p>a</p></html>", ".html"),
        (MBOX, ".mbox"),
        (DELIVERED, ".eml"),
        (TEX, ".tex"),
        (RTF, ".rtf"),
        (pdf([]), ".pdf"),
        (word("<w:p/>"), ".docx"),
        (book({"a": "x"}, ["a"]), ""),
        (zipped({"mimetype": "application/epub+zip"}), ".epub"),
        (zipped({"mimetype": "application/vnd.oasis.opendocument.text"}), ".odt"),
        (zipped({"a.txt": "a"}), ""),
        (b"PK\x03\x04 broken", ""),
        ('[{"text": "a"}]', ".json"),
        ('{"text": "a"}\n{"text": "b"}\n', ".jsonl"),
        (ENEX, ".enex"),
        ("<?xml version='1.0'?><opml/>", ".opml"),
        ("<mediawiki/>", ".xml"),
        ("<?xml version='1.0'?><svg/>", ""),
        (b"\x89PNG\r\n\x1a\n", ""),
        (bytes(range(256)), ""),
        ("", ""),
        ("  \n", ""),
        ("<3 you", ".txt"),
        ("From here on it rained.", ".txt"),
        ("Dear Tom: it rained.\n\nFrom: me", ".txt"),
        ("[laughs] No.", ".txt"),
        ("{no json}", ".txt"),
    ],
)
@pytest.mark.parametrize("name", ["Sent", "chapter.draft", "old.doc"])
def test_files_whose_name_does_not_say_their_kind_are_sniffed(
    tmp_path: Path, name: str, data: bytes | str, kind: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    assert kinds.kind_of_file(path) == kind


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", PAGE, ".html"),
        ("a.txt", MBOX, ".mbox"),
        ("a.txt", DELIVERED, ".eml"),
        ("a.txt", RTF, ".rtf"),
        ("a.tex", pdf([]), ".pdf"),
        ("a.docx", RTF, ".rtf"),
        ("a.rtf", word("<w:p/>"), ".docx"),
        ("a.md", PAGE, ".md"),
        ("a.txt", '{"a": 1}', ".txt"),
        ("a.txt", f"She wrote <html> on the board. {ONE}", ".txt"),
        ("a.py", PAGE, ".py"),
        ("a.csv", ONE, ""),
        ("a.js", ONE, ""),
        ("notes.txt~", ONE, ""),
        ("#notes.txt#", ONE, ""),
        ("a.jpg", ONE, ""),
        ("a.epub", pdf([]), ".pdf"),
        ("gone.txt", None, ".txt"),
        ("gone", None, ""),
    ],
)
def test_strong_marks_overrule_a_name_and_data_is_never_sniffed(
    tmp_path: Path, name: str, data: bytes | str | None, kind: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    assert kinds.kind_of_file(path) == kind


def test_a_saved_page_named_txt_is_read_as_a_page(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    (item,) = read(tmp_path / "a.txt", PAGE)
    assert isinstance(item, Document)
    assert item.text == f"{ONE}\n\n{TWO}"


def test_a_mailbox_without_an_extension_is_read(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "Inbox", MBOX)
    assert isinstance(item, Document)
    assert (item.name, item.text.strip()) == ("Inbox:1", ONE)


def test_the_identity_of_a_unit_names_the_libraries_of_sniffed_files(tmp_path: Path) -> None:
    pytest.importorskip("pdfminer")
    (tmp_path / "a.txt").write_text(ONE)
    (tmp_path / "b").write_bytes(pdf(printed([ONE])))
    files = sources.inputs(FolderSource(kind="folder", path=str(tmp_path)))
    assert [file.name for file in files] == ["a.txt", "b"]
    assert units.readers_identity([(files[0], "")])[1] == {}
    assert list(units.readers_identity([(files[1], "")])[1]) == ["pdfminer.six"]


def test_advice_counts_kinds_and_says_what_to_do() -> None:
    names = ["a.pages", "b/c.PAGES", "d.mobi", "e.azw3", "f.azw3", "g.jpg", "h.xyz", "i", "j.txt~", "k.doc"]
    assert unread.advice(names) == [
        "2 .pages: export as .docx in Pages",
        "2 .azw3, 1 .mobi: convert to .epub with Calibre",
        "1 .jpg: an image: run OCR if it shows a page",
        "1 .xyz, 1 without extension: not text: convert to .docx, .pdf or .txt",
        "1 ~: a copy that an editor or a mail program keeps",
        "1 .doc: save as .docx",
    ]
    assert not (unread.CONVERTED | unread.PASSED_OVER) & set(kinds.EXTENSIONS)


def test_the_ledger_and_the_error_say_what_was_not_read(tmp_path: Path) -> None:
    ledger = Ledger("mine")
    for name in ("a.pages", "b.pages", "c.mobi"):
        ledger.drop("other_kind", name, name)
    ledger.drop("chat_export", "d.json", "d.json")
    summary = ledger.summary()
    assert "3 dropped as other_kind" in summary
    assert "2 .pages: export as .docx in Pages; 1 .mobi: convert to .epub with Calibre" in summary
    assert "1 dropped as chat_export (d.json, ...): they are chat, which is not learnt" in summary
    (tmp_path / "a.pages").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"1 files of other kinds: 1 \.pages: export as \.docx in Pages"):
        sources.inputs(FolderSource(kind="folder", path=str(tmp_path)))


@given(st.binary(max_size=300))
def test_any_bytes_have_a_kind(data: bytes) -> None:
    from llm60_jax.data.read import sniffing

    assert sniffing.written(data) in (
        "",
        ".txt",
        ".html",
        ".mbox",
        ".eml",
        ".json",
        ".jsonl",
        ".tex",
        ".xml",
        ".enex",
        ".fb2",
        ".opml",
    )


@pytest.mark.parametrize("mark", ["<!--", "<?xml ", "A:\n", "From ", " ", "\\begin{", "<", "[", '{"', "<!DOCTYPE "])
def test_sniffing_ends_soon(mark: str) -> None:
    from llm60_jax.data.read import sniffing

    sniffing.written((mark * 4096).encode()[:4096])
