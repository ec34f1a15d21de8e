"""The text that a TeX source makes: its blocks, and its footnotes after their section."""

import re

from llm60_jax.data.read import footnotes, layout
from llm60_jax.data.read.layout import FENCE, Block
from llm60_jax.data.read.markup.tex import paragraph

_DEEPEST = 20  # levels of a list that show in its indentation


class Page:
    """Blocks that grow from the words of the present paragraph."""

    def __init__(self) -> None:
        self.marker = ""  # of the item that begins
        self.depth = 0  # lists that are open
        self._words: list[str] = []  # of the present paragraph
        self._outside: list[list[str]] = []  # paragraphs that a note interrupts
        self._blocks: list[Block] = []
        self._notes: list[str] = []

    @property
    def in_note(self) -> bool:
        """Whether a footnote is open."""
        return bool(self._outside)

    def text(self) -> str:
        """Return the text: blocks with blank lines between them, items of a list without."""
        self.end_section()
        return layout.joined(self._blocks).strip()

    def add(self, words: str) -> None:
        """Add words, or a mark of `paragraph`, to the present paragraph."""
        self._words.append(words)

    def latest(self, count: int) -> str:
        """Return what was added by the last `count` calls of `add` in this paragraph."""
        return "".join(self._words[-count:])

    def ends_in_a_word(self) -> bool:
        """Whether the present paragraph ends in a letter or a digit."""
        return "".join(self._words).rstrip()[-1:].isalnum()

    def end_paragraph(self) -> None:
        """End the present paragraph or item. A note has but one."""
        if self.in_note:
            self.add(" ")
            return
        text = paragraph.whole("".join(self._words))
        self._words = []
        if self.marker and text:
            indent = "  " * (min(self.depth, _DEEPEST) - 1)
            self._blocks.append(Block(f"{indent}{self.marker}{text}", "item"))
            self.marker = ""
        elif text:
            self._blocks.append(Block(text))

    def end_section(self) -> None:
        """End the paragraph; the notes of the section follow it."""
        self.end_paragraph()
        self._blocks += map(Block, self._notes)
        self._notes = []

    def begin_note(self) -> None:
        """Set the present paragraph aside for a note."""
        self._outside.append(self._words)
        self._words = []

    def end_note(self) -> None:
        """Go on with the paragraph. A note that holds a sentence is kept, a bare citation goes."""
        text = paragraph.whole("".join(self._words))
        self._words = [*self._outside.pop(), paragraph.GONE]
        if footnotes.says_something(text):
            self._notes.append(text)

    def drop_note(self) -> None:
        """Go on with the paragraph: there was no note."""
        self._words = self._outside.pop()

    def add_code(self, code: str) -> None:
        """Add a block of code. In a note there is none."""
        if self.in_note:
            return
        self.end_paragraph()
        lines = [line.rstrip() for line in code.split("\n")]
        body = re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip("\n")
        if body.strip():
            self._blocks.append(Block(f"{FENCE}\n{body}\n{FENCE}"))
