"""Made-up corpora of broken files: whole files of every kind, and damage to them."""

import bz2
import email.message
import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

WORDS = "the of and a river house found under old light morning walked she he it was in to café naïve 1945".split()


def prose(rng: random.Random, sentences: int = 12) -> str:
    return " ".join(" ".join(rng.choices(WORDS, k=rng.randint(5, 15))).capitalize() + "." for _ in range(sentences))


# --- Whole files -----------------------------------------------------------------------------------------------------


def page(rng: random.Random) -> str:
    paragraphs = "".join(f"<p>{prose(rng, 4)}</p>\n" for _ in range(rng.randint(1, 6)))
    return f"<!DOCTYPE html><html><head><title>T</title></head><body><h1>T</h1>{paragraphs}</body></html>"


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def docx(rng: random.Random) -> bytes:
    body = "".join(f"<w:p><w:r><w:t>{prose(rng, 4)}</w:t></w:r></w:p>" for _ in range(3))
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return zipped({"word/document.xml": f'<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'.encode()})


def odt(rng: random.Random) -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    body = "".join(f"<text:p>{prose(rng, 4)}</text:p>" for _ in range(3))
    names = f'xmlns:office="{space}:office:1.0" xmlns:text="{space}:text:1.0"'
    tree = f"<office:document-content {names}><office:body><office:text>{body}</office:text></office:body>"
    return zipped({"content.xml": f"{tree}</office:document-content>".encode()})


def epub(rng: random.Random) -> bytes:
    box = '<container><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>'
    items = '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
    book = f'<package>{items}<spine><itemref idref="a"/></spine></package>'
    return zipped({"META-INF/container.xml": box.encode(), "c.opf": book.encode(), "a.xhtml": page(rng).encode()})


def mail(rng: random.Random) -> bytes:
    message = email.message.EmailMessage()
    message["Subject"], message["From"] = "Letter", "a@example.org"
    message.set_content(prose(rng))
    if rng.random() < 0.5:
        message.add_alternative(page(rng), subtype="html")
    return message.as_bytes()


def mailbox(rng: random.Random) -> bytes:
    return b"".join(b"From a@example.org Mon Jan  1 00:00:00 2024\n" + mail(rng) + b"\n" for _ in range(3))


def lines(rng: random.Random) -> bytes:
    return "".join(json.dumps({"title": "T", "text": prose(rng)}) + "\n" for _ in range(rng.randint(1, 8))).encode()


def table(rng: random.Random) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": [prose(rng) for _ in range(5)]}), out)
    return out.getvalue()


def dump(rng: random.Random) -> bytes:
    pages = "".join(
        f"<page><title>P{i}</title><ns>0</ns><revision><text>{{{{box|a}}}} '''P''' {prose(rng)} [[Category:X]]</text>"
        "</revision></page>"
        for i in range(3)
    )
    return f"<mediawiki>{pages}</mediawiki>".encode()


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    ".txt": lambda rng: prose(rng, 30).encode(),
    ".md": lambda rng: f"# T\n\n{prose(rng)}\n\n- a\n- b\n- c\n".encode(),
    ".html": lambda rng: page(rng).encode(),
    ".docx": docx,
    ".odt": odt,
    ".rtf": lambda rng: b"{\\rtf1\\ansi " + prose(rng).encode("ascii", "ignore") + b"\\par}",
    ".epub": epub,
    ".eml": mail,
    ".emlx": lambda rng: b"%d\n" % len(data := mail(rng)) + data + b"<?xml version='1.0'?><plist/>",
    ".mbox": mailbox,
    ".jsonl": lines,
    ".jsonl.gz": lambda rng: gzip.compress(lines(rng)),
    ".jsonl.zst": lambda rng: zstd(lines(rng)),
    ".parquet": table,
    ".xml.bz2": lambda rng: bz2.compress(dump(rng)),
    ".xml": dump,
    ".pdf": lambda rng: b"%PDF-1.4",
}


# --- Damage ----------------------------------------------------------------------------------------------------------


def truncated(rng: random.Random, data: bytes, kind: str) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flipped(rng: random.Random, data: bytes, kind: str) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def with_nulls(rng: random.Random, data: bytes, kind: str) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes(rng.randint(1, 10_000)) + data[at:]


def other_encoding(rng: random.Random, data: bytes, kind: str) -> bytes:
    text = data.decode("utf-8", errors="replace")
    return text.encode(rng.choice(["utf-16", "utf-16-be", "cp1252", "shift-jis", "utf-7", "cp037"]), errors="replace")


def noise(rng: random.Random, data: bytes, kind: str) -> bytes:
    return rng.randbytes(rng.randint(0, 5_000))


def other_kind(rng: random.Random, data: bytes, kind: str) -> bytes:
    return KINDS[rng.choice(list(KINDS))](rng)


def one_long_line(rng: random.Random, data: bytes, kind: str) -> bytes:
    size = rng.choice([1_000_000, 5_000_000])
    long = (rng.choice(["a", "word ", "[", "\\u0000", "é"]) * size)[:size]
    whole = json.dumps({"text": long}) if rng.random() < 0.5 else long
    return squeezed((whole + "\n").encode() + data, kind)


def nested(rng: random.Random, data: bytes, kind: str) -> bytes:
    opened, closed = rng.choice([("[", "]"), ("{", "}"), ("<div>", "</div>"), ("{{", "}}"), ("[[", "]]"), ("> ", "")])
    depth = rng.choice([1_000, 30_000])
    whole = opened * depth + "text" + closed * depth
    if kind in (".docx", ".odt", ".epub"):
        name = {".docx": "word/document.xml", ".odt": "content.xml", ".epub": "a.xhtml"}[kind]
        return zipped({name: whole.encode()})
    if kind in (".xml", ".xml.bz2"):
        whole = (
            f"<mediawiki><page><title>T</title><ns>0</ns><revision><text>{whole}</text></revision></page></mediawiki>"
        )
    return squeezed(whole.encode(), kind)


def bomb(rng: random.Random, data: bytes, kind: str) -> bytes:
    zeros = bytes(rng.choice([20_000_000, 100_000_000]))
    if kind in (".docx", ".odt", ".epub"):
        name = {".docx": "word/document.xml", ".odt": "content.xml", ".epub": "META-INF/container.xml"}[kind]
        return zipped({name: zeros, "../../../escaped.txt": b"out", "/escaped.txt": b"out"})
    if kind == ".xml":
        entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
        return f'<!DOCTYPE m [<!ENTITY e0 "lol">{entities}]><mediawiki>&e11;</mediawiki>'.encode()
    return squeezed(zeros, kind)


def squeezed(data: bytes, kind: str) -> bytes:
    """Compress data as the kind of file asks for."""
    if kind.endswith(".gz"):
        return gzip.compress(data, 1)
    if kind.endswith(".zst"):
        return zstd(data)
    return bz2.compress(data, 1) if kind.endswith(".bz2") else data


DAMAGES = (truncated, flipped, with_nulls, other_encoding, noise, other_kind, one_long_line, nested, bomb)
NAMES = ["a", "ü", "a b", "new\nline", "\x1b[31mred", "-rf", "a" * 200, "\udcff", "%s", "..a", "CON"]


def make(folder: Path, number: int) -> None:
    """Write corpus `number` into a folder: whole and broken files, odd names, links that form
    loops."""
    rng = random.Random(number)
    folder.mkdir(parents=True)
    for index in range(rng.randint(1, 6)):
        kind = rng.choice(list(KINDS))
        data = KINDS[kind](rng)
        if rng.random() < 0.75:
            data = rng.choice(DAMAGES)(rng, data, kind) if data else data
        if rng.random() < 0.05:
            data = b""
        name = f"{rng.choice(NAMES)}{index}{kind if rng.random() < 0.9 else kind.upper()}"
        path = folder / "sub" / name if rng.random() < 0.2 else folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        if rng.random() < 0.05:
            path.chmod(0)
    (folder / "plain.txt").write_text(prose(rng))
    if rng.random() < 0.3:
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        (folder / "loop.txt").symlink_to("loop.txt")
        (folder / "gone.txt").symlink_to("nowhere.txt")
        (folder / "folder.txt").mkdir()
        os.mkfifo(folder / "pipe.txt")
