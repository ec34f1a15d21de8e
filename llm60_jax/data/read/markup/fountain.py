"""Screenplays in Fountain: scenes, speakers and speeches without their marks."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read import plain
from llm60_jax.data.read.items import Broken, Document

_KEY = re.compile(r"[A-Za-z][A-Za-z ]{0,30}:")  # of the title page
_FIRST_KEY = re.compile(r"(?:title|credit|authors?|source|notes|draft date|date|contact|copyright):", re.IGNORECASE)
_TITLE = re.compile(r"title:\s*(.*(?:\n(?:\t| {3}).*){0,5})", re.IGNORECASE)
_CUT = ("/*", "*/")
_NOTE = re.compile(r"\[\[(?:[^\[\]]|\](?!\])){0,5000}\]\]")
_FORCED = re.compile(r"[!@~]\s{0,8}|\.(?=\w)|#{1,6}\s{0,8}|>\s{0,8}")
_UNSEEN = re.compile(r"(?:={3,}|=(?!=).*)$")  # a page break, a synopsis
_END = re.compile(r"\s*(?:\^|<|#[\w.-]{1,12}#)$")  # dual dialogue, centred text, the number of a scene


def read(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a screenplay as plain text. The title page is left out, but for its title."""
    for number, item in enumerate(plain.text(path, name)):
        if isinstance(item, Broken):
            yield item
            continue
        title, text = convert(item.text, first=number == 0)
        yield item._replace(title=title or item.title, text=text)


def convert(text: str, first: bool = True) -> tuple[str, str]:
    """Return the title, "" if there is none, and the plain text.

    Args:
      first: whether the file begins with this text.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    title = ""
    if first and _FIRST_KEY.match(text):
        page, _, rest = text.partition("\n\n")
        if all(_KEY.match(line) or line[:1].isspace() for line in page.split("\n")):
            match = _TITLE.search(page)
            title, text = " ".join(match[1].strip(" *_").split()) if match else "", rest
    text = _NOTE.sub("", _without_cuts(text))
    lines = (_line(line) for line in text.split("\n"))
    return title, re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _without_cuts(text: str) -> str:
    """Return a text without the scenes that the author took out. A cut that never ends is none."""
    parts, end = [], 0
    while (start := text.find(_CUT[0], end)) >= 0 and (stop := text.find(_CUT[1], start + 2)) >= 0:
        parts.append(text[end:start])
        end = stop + 2
    return "".join([*parts, text[end:]])


def _line(line: str) -> str:
    line = line.strip()
    if _UNSEEN.match(line):
        return ""
    match = _FORCED.match(line)
    return _END.sub("", line[match.end() :] if match else line)
