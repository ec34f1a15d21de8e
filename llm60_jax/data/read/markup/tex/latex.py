"""LaTeX and TeX: the prose of a source, without preamble, commands, figures and formulas."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read import encodings, items
from llm60_jax.data.read.items import Broken, Document, TooLarge
from llm60_jax.data.read.markup.tex import commands, paragraph
from llm60_jax.data.read.markup.tex.cursor import Cursor
from llm60_jax.data.read.markup.tex.macros import expanded
from llm60_jax.data.read.markup.tex.reading import Reading
from llm60_jax.data.read.markup.tex.tokens import CODE, PARAGRAPH, tokens_of

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f]")


def tex(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a source as one document, titled as its author titled it."""
    with path.open("rb") as file:
        data = file.read(items.LARGEST + 1)
    if len(data) > items.LARGEST:
        raise TooLarge
    decoded = encodings.decode(data)
    if decoded is None:
        yield Broken(name, "not_text")
        return
    title, text = prose(decoded[0])
    yield Document(name, title or name, text, repaired=decoded[1])


def prose(source: str) -> tuple[str, str]:
    """Return (title, text) of a source. A source without a preamble is read from its beginning."""
    source = _CONTROL.sub("", source.replace("\r\n", "\n").replace("\r", "\n"))
    tokens = expanded(tokens_of(source))
    start, stop = _body(tokens)
    title = _title(tokens)
    return title, _text(tokens[start:stop])


def _body(tokens: list[str]) -> tuple[int, int]:
    """Return the first and the last place of the text between \\begin and \\end{document}."""
    start, stop = 0, len(tokens)
    for i in range(len(tokens) - 3):
        if tokens[i] in ("\\begin", "\\end") and tokens[i + 1] == "{" and tokens[i + 2].strip() == "document":
            if tokens[i] == "\\begin" and not start:
                start = i + 4
            elif tokens[i] == "\\end":
                return start, i
    return start, stop


def _title(tokens: list[str]) -> str:
    """Return the argument of the first \\title, else ""."""
    cursor = Cursor(tokens)
    for i, token in enumerate(tokens):
        if token == "\\title":
            cursor.place = i + 1
            cursor.skip_options()
            if (start := cursor.opening()) >= 0:
                return " ".join(_text(tokens[start + 1 : cursor.pairs[start]]).split())
    return ""


def _text(tokens: list[str]) -> str:
    """Return the text that tokens make. Tokens that are read lose their beginnings."""
    reading = Reading(tokens)
    while reading.cursor.leave_groups():
        _read_token(reading)
    return reading.page.text()


def _read_token(reading: Reading) -> None:
    cursor, page, token = reading.cursor, reading.page, reading.cursor.token
    cursor.place += 1
    if token == PARAGRAPH:
        page.end_paragraph()
    elif token[0] == CODE:
        page.add_code(token[1:])
    elif token[0] == "\\" and len(token) > 1:
        commands.run(reading, token[1:])
    elif token in ("$", "$$"):
        commands.formula(reading, token)
    elif token not in ("{", "}"):
        page.add(" " if token in ("~", "&") else paragraph.typeset(token))
