"""Rich Text Format."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read import encodings, items, layout, plain
from llm60_jax.data.read.items import Broken, Document, TooLarge, Unreadable
from llm60_jax.data.read.layout import Block

_LINE = re.compile(r"\\line(?![a-z])\s?")
_LINE_END = "\u2028"  # stands for \line until the text is out of its codes
# What older programs show as the mark of an item: {\listtext\tab 3.\tab}
_MARK = re.compile(r"\{\\(?:\*\\)?(?:listtext|pntext)(?![a-z])([^{}]{0,300})\}")
_ITEM = re.compile(r"(?:- |\d{1,4}\. )")


def rtf(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield the text of a document."""
    from striprtf.striprtf import rtf_to_text

    data = path.read_bytes()[: items.LARGEST + 1]
    if len(data) > items.LARGEST:
        raise TooLarge
    if not data.lstrip().startswith(b"{\\rtf"):
        raise Unreadable
    decoded = plain.decode(data)
    if decoded is None:
        yield Broken(name, "not_text")
        return
    source = _LINE.sub(_LINE_END, _MARK.sub(_item, decoded[0]))
    text = rtf_to_text(source, encoding=encodings.of_rtf(source), errors="replace").replace("\xa0", " ")
    yield Document(name, name, layout.joined(_blocks(text)), repaired=decoded[1])


def _item(match: "re.Match[str]") -> str:
    number = re.search(r"(?<![\\a-z'\d])(\d{1,4})[.)]", match.group(1))
    return " " + layout.item_mark(0, int(number.group(1)) if number else 0)


def _blocks(text: str) -> Iterator[Block]:
    for line in text.split("\n"):
        for part in layout.paragraphs(line.split(_LINE_END)):
            yield Block(part, "item", group=1) if _ITEM.match(part) else Block(part)
