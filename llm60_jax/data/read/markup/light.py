"""What the readers of Org, AsciiDoc and reStructuredText share: lines in, blocks of text out."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from llm60_jax.data.read import footnotes, plain
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup import blocks
from llm60_jax.data.read.markup.blocks import BREAK

_ARMOUR = "-----BEGIN PGP"  # an encrypted or signed file can have the extension of AsciiDoc


def read(path: Path, name: str, convert: Callable[[list[str]], "Page"]) -> Iterator[Document | Broken]:
    """Yield a file as plain text. Its title is its own, else the name of the file."""
    for number, item in enumerate(plain.text(path, name)):
        if isinstance(item, Broken) or item.text.startswith(_ARMOUR):
            yield Broken(item.name, item.reason if isinstance(item, Broken) else "not_text")
            continue
        text = blocks.unmarked(item.text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(8)
        page = convert(text.split("\n"))
        yield item._replace(title=(page.title if number == 0 else "") or item.title, text=page.text())


class Page:
    """A text that is read line by line.

    Args:
      inline: returns the words of a block, with the marks of `blocks`. It may add notes.
    """

    def __init__(self, inline: Callable[[str, "Page"], str]):
        self.title = ""
        self._inline = inline
        self._writer = blocks.Writer()
        self._notes: list[str] = []
        self._lines: list[str] = []  # of the present paragraph or item
        self._marker = ""  # of the present item
        self._indents: list[int] = []  # of the open lists
        self._counts: dict[int, int] = {}  # the last number that an item got, by the depth of its list
        self._ends: dict[str, int] = {}  # where the next line of a pattern is

    @property
    def inside(self) -> bool:
        """Whether a paragraph or an item is open."""
        return bool(self._lines)

    @property
    def in_item(self) -> bool:
        """Whether an item of a list is open."""
        return bool(self._marker)

    def text(self) -> str:
        """Return all that was read; the footnotes follow at the end."""
        self.end()
        for note in self._notes:
            self._writer.block(note)
        self._notes.clear()
        return self._writer.text()

    def line(self, line: str, asked: bool = False) -> None:
        """Add a line to the present paragraph. `asked`: its end is meant."""
        self._lines.append(line.strip() + (BREAK if asked else ""))

    def outside(self, line: str) -> None:
        """End the lists that a line is not indented enough for."""
        while self._indents and indent(line) <= self._indents[-1]:
            self.end()
            self._indents.pop()

    def end(self) -> None:
        """End the present paragraph or item."""
        content, marker = "\n".join(self._lines), self._marker
        self._lines.clear()
        self._marker = ""
        if not content.strip():
            return
        texts = blocks.paragraphs(self._inline(content, self))
        if marker:
            self._writer.item(" ".join(texts), marker, len(self._indents) - 1)
            return
        for text in texts:
            self._writer.block(text)

    def item(self, text: str, marker: str, column: int) -> None:
        """Begin an item of a list. The marker "#." stands for the next number."""
        self.end()
        while self._indents and self._indents[-1] > column:
            self._indents.pop()
        if not self._indents or self._indents[-1] < column:
            self._indents.append(column)
            self._counts[len(self._indents)] = 0
        depth = len(self._indents)
        self._counts[depth] = self._counts[depth] + 1 if marker == "#." else 0
        self._marker = f"{self._counts[depth]}." if marker == "#." else marker
        self.line(text)

    def until(self, lines: list[str], start: int, closing: "re.Pattern[str]") -> int:
        """Return the first line of the page, from `start` on, that matches; -1 if there is none.

        A line is looked for once: a page may open thousands of blocks and close none.
        """
        end = self._ends.get(closing.pattern, -1)
        if end < start:
            end = next((at for at in range(start, len(lines)) if closing.match(lines[at])), len(lines))
            self._ends[closing.pattern] = end
        return end if end < len(lines) else -1

    def heading(self, text: str) -> None:
        """Add a heading. The first one is the title unless the page has one."""
        self.close()
        heading = " ".join(blocks.paragraphs(self._inline(text, self))).replace("\n", " ")
        self.title = self.title or heading
        self._writer.block(heading)

    def close(self) -> None:
        """End the present block and all lists."""
        self.end()
        self._indents.clear()

    def code(self, lines: list[str], literal: bool = True) -> None:
        """Add lines of code, or of prose if they are not `literal` and look like it."""
        self.end()
        text = "\n".join(lines)
        if not literal and blocks.is_prose(text):
            for line in lines:
                self.line(line)
                if not line.strip():
                    self.end()
            self.end()
        else:
            self._writer.block(blocks.fenced(text))

    def row(self, cells: list[str]) -> None:
        """Add a row of a table."""
        self.end()
        self._writer.row(blocks.row([self._inline(cell, self) for cell in cells]))

    def note(self, text: str) -> None:
        """Keep a footnote if it holds words of the author."""
        note = " ".join(blocks.paragraphs(self._inline(text, self)))
        if footnotes.says_something(note):
            self._notes.append(note)


def indent(line: str) -> int:
    """Return how many blanks a line begins with."""
    return len(line) - len(line.lstrip(" "))
