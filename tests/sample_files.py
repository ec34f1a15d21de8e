"""Sample files of every kind, and how the tests read them."""

import email.message
import io
import json
import zipfile
from pathlib import Path

from llm60_jax.data.read import kinds
from llm60_jax.data.read.items import Broken, Document

ONE = "The ferry left at nine, and nobody on the quay waved to it."
TWO = "In the evening the wind turned, and the lamps along the shore went out."
LINES = "".join(json.dumps(record) + "\n" for record in ({"title": "T", "text": ONE}, {"text": TWO, "title": 5}))


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


def letter(text: str, subject: str = "The ferry", page: str = "") -> bytes:
    message = email.message.EmailMessage()
    message["From"], message["Subject"] = "a@example.org", subject
    message.set_content(text)
    if page:
        message.add_alternative(page, subtype="html")
    message.add_attachment(b"attached", maintype="text", subtype="plain", filename="a.txt")
    return message.as_bytes()


def parquet(columns: dict[str, list[object]]) -> bytes:
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def dump(pages: str) -> str:
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">{pages}</mediawiki>'


def article(title: str, text: str, extra: str = "<ns>0</ns>") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<page><title>{title}</title>{extra}<revision><comment>c</comment><text>{escaped}</text></revision></page>"
