"""Markdown's blocks to plain text: the tokens of the parser, written as `blocks` says."""

import functools
import html
import re
from dataclasses import dataclass, field
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.footnote import footnote_plugin

from llm60_jax.data.read import footnotes
from llm60_jax.data.read.markup import blocks, markdown_inline

_DEEPEST = 100  # nested blocks; the parser drops what lies deeper
_MAX_BRACKETS = 200  # in a block, or a tenth of its characters
_SIGN = re.compile(
    r"[\\`*_{\[<$%&~=^#\u23e9-\u23ff\u2600-\u27bf\U0001f4c5-\U0001f6ff]|:[a-z:]|\(\(|  \n"
)  # what a block without markup lacks
_MAX_NESTED = 2  # texts inside blocks of code, one in the other
_CALLOUT = re.compile(r"\[!([\w-]{1,40})(?:\|[^\]\n]{0,100})?\][+-]?[ \t]*([^\n]*)(?:\n|$)")
_TASK = re.compile(r"(?:\[[ xX/>-]\]|(?:TODO|DOING|DONE|CANCELL?ED)(?= ))(?:\s+|$)")  # of Obsidian, of Logseq
_ENTRY = re.compile(r"Date:\s.*(?:\n[A-Z][\w ]{0,30}:\s.*){0,10}\s*")  # what Day One writes above an entry
_BLOCK_NAME = re.compile(r"\s\^[A-Za-z0-9-]{1,60}$")  # of Obsidian
_PAGE = re.compile(r"[0-9a-f]{32}(?:%20|\w|_|-)*\.(?:md|csv|html)$")  # a page of Notion
_ASIDE = re.compile(r"<aside>\s*[^\w\s<>\"'(\[\u201c\u2018]{1,4}(?=\s)")  # the icon of a callout of Notion
_PRE = re.compile(r"<pre\b", re.IGNORECASE)
_CELL = re.compile(r"<t[dh]\b", re.IGNORECASE)
_ANY_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
# Fences that hold a query or a drawing, and such that hold prose.
_COMPUTED = frozenset(
    "dataview dataviewjs query tasks mermaid toc base button excalidraw leaflet tracker chart".split()
)
_PROSE = frozenset(
    "{note} {tip} {important} {warning} {caution} {hint} {seealso} {attention} {danger} {admonition} {epigraph} "
    "{margin} {sidebar} {topic} {pull-quote} {verse} verse poetry poem".split()
)
_OPTION = re.compile(r":[\w-]{1,40}:|(?:collapse|icon|color|title):")
_MATH = "math-block"  # how `markdown.prepared` marks a formula of several lines


@functools.cache
def _parser() -> MarkdownIt:
    """Return the parser of blocks."""
    md = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable(["table"])
    md.use(footnote_plugin, move_to_end=False).use(deflist_plugin)
    md.core.ruler.enableOnly(["normalize", "block"])
    return md


@functools.cache
def _inline_parser() -> MarkdownIt:
    """Return the parser of what stands inside a block."""
    md = MarkdownIt("commonmark").enable(["strikethrough"])
    md.use(footnote_plugin, move_to_end=False)
    markdown_inline.rules(md)
    return md


@dataclass
class _Place:
    """Where in the blocks the reading is."""

    lists: list[str] = field(default_factory=list)  # the kinds of the open lists
    marker: str = ""  # of an item that has no words yet
    quotes: int = 0  # open quotations
    cells: list[str] = field(default_factory=list)  # of the open row


class Reading:
    """Markdown on its way to plain text, part by part.

    Args:
      references: the definitions of links in all parts, as the parser keeps them.
    """

    def __init__(self, references: dict[str, Any]):
        self.title = ""  # the first heading of the first level
        self._references = references
        self._writer = self._text = blocks.Writer()
        self._notes: list[str] = []  # footnotes with words of the author

    def text(self) -> str:
        """Return all that was read; the footnotes follow at the end."""
        for note in self._notes:
            self._text.block(note)
        self._notes.clear()
        return self._text.text()

    def read(self, markdown: str, nested: int = 0) -> None:
        """Read a part that ends between blocks."""
        tokens = _parser().parse(markdown, {"references": self._references})
        if any(token.level > _DEEPEST - 4 for token in tokens):
            for block in markdown.split("\n\n"):
                self._paragraphs(block)
            return
        place = _Place()
        for before, token in zip([None, *tokens], tokens, strict=False):
            if token.type == "inline" and before is not None:
                self._content(token, before, place)
            elif token.type == "html_block":
                self._html(token.content)
            elif token.type in ("fence", "code_block"):
                place.marker = ""
                self._code(token, nested)
            else:
                self._container(token, place)

    def _container(self, token: Token, place: "_Place") -> None:
        """Enter or leave a list, a quotation, a footnote, a row of a table."""
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                place.lists.append(token.type)
            case "bullet_list_close" | "ordered_list_close":
                place.lists.pop()
            case "list_item_open":
                place.marker = "-" if place.lists[-1].startswith("bullet") else f"{token.info}."
            case "list_item_close":
                place.marker = ""
            case "blockquote_open":
                place.quotes += 1
            case "blockquote_close":
                place.quotes -= 1
            case "footnote_reference_open":
                self._writer = blocks.Writer()
            case "footnote_reference_close":
                self._note(self._writer.text())
                self._writer = self._text
            case "tr_open":
                place.cells.clear()
            case "tr_close":
                self._writer.row(blocks.row(place.cells))
            case _:
                pass

    def _content(self, token: Token, before: Token, place: "_Place") -> None:
        """Add the words of a heading, a cell, an item or a paragraph."""
        if before.type in ("td_open", "th_open"):
            place.cells.append(self._inline(token.content))
        elif place.marker:
            self._item(token.content, place.marker, len(place.lists) - 1)
            place.marker = ""
        elif before.type == "heading_open":
            self._heading(token.content, before.tag)
        else:
            self._paragraphs(self._without_callout(token.content) if place.quotes else token.content)

    def _inline(self, content: str) -> str:
        """Return the words of a block's content, with the marks of `blocks`."""
        # Thousands of brackets are no links, and the parser is slow with them.
        if not _SIGN.search(content) or content.count("[") > max(_MAX_BRACKETS, len(content) // 10):
            return content
        env: dict[str, Any] = {"references": self._references}
        tokens: list[Token] = []
        md = _inline_parser()
        md.inline.parse(content, md, env, tokens)
        for note in env.get("footnotes", {}).get("list", {}).values():
            if "tokens" in note:
                self._note(" ".join(blocks.paragraphs(markdown_inline.words(note["tokens"]))))
        return markdown_inline.words(tokens)

    def _note(self, text: str) -> None:
        if footnotes.says_something(text):
            self._notes.append(text)

    def _heading(self, content: str, tag: str) -> None:
        text = " ".join(blocks.paragraphs(self._inline(content))).replace("\n", " ")
        if tag == "h1":
            self.title = self.title or text
        self._writer.block(text)

    def _item(self, content: str, marker: str, depth: int) -> None:
        if match := _TASK.match(content):
            content = content[match.end() :]
        if not _is_reference(content):
            text = " ".join(blocks.paragraphs(self._inline(_without_tags(content))))
            self._writer.item(text, marker, depth)

    def _paragraphs(self, content: str) -> None:
        content = _without_tags(content)
        if _is_reference(content):
            return
        lines = content.split("\n")
        if len(lines) > 1 and all(line.lstrip().startswith("|") for line in lines):  # a line block of Pandoc
            content = "\\\n".join(line.strip().strip("|").strip() for line in lines)
        for text in blocks.paragraphs(self._inline(content)):
            self._writer.block(text)

    def _without_callout(self, content: str) -> str:
        """Return a quotation without the kind of a callout. Its title becomes a block."""
        match = _CALLOUT.match(content)
        if match is None:
            return content
        self._paragraphs(match[2])
        return content[match.end() :]

    def _html(self, content: str) -> None:
        """Add the words of a block of HTML: its markup off, Markdown inside it read."""
        while match := _PRE.search(content):
            end = content.find("</pre", match.end())
            if end < 0:
                break
            self._html_words(content[: match.start()])
            self._writer.block(blocks.fenced(html.unescape(_ANY_TAG.sub("", content[match.start() : end]))))
            content = content[end + len("</pre>") :]
        self._html_words(content)

    def _html_words(self, content: str) -> None:
        if _CELL.search(content):
            content = " ".join(content.split())  # a row is one line
        texts = blocks.paragraphs(self._inline(_ASIDE.sub("<aside>", content)))
        if texts and content.lstrip()[:3].lower() == "<h1":
            self.title = self.title or texts[0]
        for text in texts:
            if text.startswith("- "):
                self._writer.item(text[2:], "-", 0)
            elif text.startswith("| ") and text.endswith(" |"):
                self._writer.row(text)
            else:
                self._writer.block(text)

    def _code(self, token: Token, nested: int) -> None:
        """Add a block of code. Prose in it is read: a callout, or paragraphs that are indented."""
        language = token.info.split()[0].lower() if token.info.strip() else ""
        if language in _COMPUTED or language.startswith("{=") or _ENTRY.fullmatch(token.content):
            return
        if language == _MATH:
            self._writer.block(f"$$ {' '.join(token.content.split())} $$")
        elif nested < _MAX_NESTED and (language.startswith("ad-") or language in _PROSE):
            self._nested_prose(token.content, nested + 1)
        elif nested < _MAX_NESTED and token.type == "code_block" and blocks.is_prose(token.content):
            lines = [line.lstrip() for line in token.content.split("\n")]
            sentences = all(blocks.SENTENCE_END.search(line) for line in lines if line)
            self.read(("\n\n" if sentences else "\n").join(lines), nested + 1)
        else:
            self._writer.block(blocks.fenced(token.content))

    def _nested_prose(self, content: str, nested: int) -> None:
        """Read the text of a callout that is written as code; options stand before it."""
        title, lines = "", content.split("\n")
        while lines and _OPTION.match(lines[0]):
            title = lines[0].partition("title:")[2] or title
            del lines[0]
        self._paragraphs(title.strip())
        self.read("\n".join(lines), nested)


def _without_tags(content: str) -> str:
    """Return a block's content without a name for the block and without tags at its end."""
    content = _BLOCK_NAME.sub("", content)
    if "#" not in content:
        return content
    words = content.split(" ")
    while len(words) > 1 and is_tag(words[-1]):
        words.pop()
    return " ".join(words) if blocks.SENTENCE_END.search(words[-1]) else content


def is_tag(word: str) -> bool:
    """Whether a word is a tag of a note-taking program, such as #river or #river/diary."""
    return word.startswith("#") and len(word) > 1 and word[1] not in "#1234567890" and "#" not in word[1:-1]


def _is_reference(content: str) -> bool:
    """Whether a block is but a link to a heading of its page, or to a page of Notion."""
    match = re.fullmatch(r"\[[^\[\]]{0,500}\]\(([^()\s]{1,1000})\)", content.strip())
    return match is not None and (match[1].startswith("#") or _PAGE.search(match[1]) is not None)
