"""LaTeX and TeX: the prose of a source, without preamble, commands, figures and displayed formulas."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llm60_jax.data.read import encodings, footnotes, items
from llm60_jax.data.read.items import Broken, Document, TooLarge
from llm60_jax.data.read.markup import latex_tables as tables
from llm60_jax.data.read.markup import latex_text
from llm60_jax.data.read.markup.latex_macros import expanded
from llm60_jax.data.read.markup.latex_tokens import (
    CODE,
    PARAGRAPH,
    Places,
    closings,
    environments,
    labels_of,
    skip_blanks,
    tokens_of,
)

_DEEPEST = 20  # levels of a list that show in its indentation
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
_KEY_NAME = re.compile(r"[a-z]+:([A-Za-z]{3,})|([A-Za-z]{3,})")
_BEFORE_A_NAME = re.compile(r"(?<![(\[])\b(?:in|by|see|of|from|to|with|than|like|following|and)[ ~]$", re.IGNORECASE)
_DIMENSION = re.compile(r"\s*[-+]?[\d.]*\s*(?:pt|cm|mm|em|ex|in|pc|bp|sp|\\\w+)\s*$|\s*[-+]?\d*\.?\d+\s*$|\s*$")
_PLAIN_SETTING = re.compile(
    r"\s*=?\s*[-+]?[\d.]+\s?(?:true)?(?:pt|cm|mm|em|ex|in|pc|bp|sp)\b(?:\s(?:plus|minus)\s?\S+)*"
)
_PLAIN_SETTINGS = frozenset(
    "vskip hskip kern parindent parskip hsize vsize baselineskip leftskip rightskip topskip hoffset voffset "
    "textwidth textheight oddsidemargin evensidemargin topmargin lineskip raise lower moveleft moveright "
    "hangindent hangafter".split()
)
_KEY = re.compile(r"[\w.-]*[:_=][\w:.=-]*$|[a-z]+\d+$")


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
    return title, _Reader(tokens[start:stop]).text()


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
    pairs = closings(tokens)
    for i, token in enumerate(tokens):
        if token == "\\title":
            start = skip_blanks(tokens, i + 1)
            if start in pairs and tokens[start] == "[":
                start = skip_blanks(tokens, pairs[start] + 1)
            if start in pairs:
                return " ".join(_Reader(tokens[start + 1 : pairs[start]]).text().split())
    return ""


class _Frame(NamedTuple):
    """What happens when the reader reaches the end of a group."""

    stop: int
    at_end: Callable[[], None]


class _Environment:
    """An environment that the reader is in."""

    def __init__(self, name: str, kind: str = ""):
        self.name, self.kind = name, kind  # of a list: "-", "1" or ":"
        self.number = 0


class _Reader:
    """Reads tokens once, from the first to the last, without recursion."""

    def __init__(self, tokens: list[str]):
        self._tokens, self._i = tokens, 0
        self._pairs = closings(tokens)
        self._places = Places(tokens, (PARAGRAPH, "$", "$$", "\\)", "\\]"))
        self._ends = environments(tokens)
        self._labels = labels_of(tokens, self._pairs)
        self._frames: list[_Frame] = []
        self._environments: list[_Environment] = []
        self._lists: list[_Environment] = []  # those of them that are lists
        self._out: list[str] = []  # of the present paragraph
        self._kept: list[list[str]] = []  # paragraphs that a note interrupts
        self._marker = ""  # of the item that begins
        self._blocks: list[tuple[bool, str]] = []  # (whether it is an item, text)
        self._notes: list[str] = []
        self._quotes = 0  # that are open

    def text(self) -> str:
        """Return the text: blocks with blank lines between them, items of a list without."""
        while self._i < len(self._tokens):
            self._step()
        while self._frames:
            self._frames.pop().at_end()
        self._end_section()
        parts: list[str] = []
        before = False
        for is_item, block in self._blocks:
            parts += ["\n" if is_item and before else "\n\n", block]
            before = is_item
        return "".join(parts).strip()

    def _step(self) -> None:
        while self._frames and self._frames[-1].stop <= self._i:
            self._frames.pop().at_end()
        token = self._tokens[self._i]
        if token == PARAGRAPH:
            self._i += 1
            self._end_paragraph()
        elif token[0] == CODE:
            self._i += 1
            self._add_code(token[1:])
        elif token[0] == "\\" and len(token) > 1:
            self._command(token[1:])
        elif token in ("$", "$$"):
            self._math(token, token, display=token == "$$")
        else:
            self._i += 1
            if token not in ("{", "}"):
                self._out.append(" " if token in ("~", "&") else latex_text.typeset(token))

    def _command(self, name: str) -> None:
        self._i += 1
        bare = name.rstrip("*")
        if name in tables.ACCENTS:
            self._accent(name)
        elif name in ("(", "["):
            self._math("\\" + name, "\\)" if name == "(" else "\\]", display=name == "[")
        elif name == "\\":
            self._line_break()
        elif not name[0].isalpha() and name[0] != "@":
            self._out.append(tables.CHARACTERS.get(name, name if name in "%&$#_{}" else ""))
        elif name in tables.LETTERS:
            self._out.append(tables.LETTERS[name])
            self._skip_blanks()
        elif name in tables.SYMBOLS:
            self._out.append(tables.SYMBOLS[name])
        elif name == "begin":
            self._begin()
        elif name == "end":
            self._end()
        elif name == "item":
            self._item()
        elif name in ("newline", "linebreak", "break", "verseline"):
            self._line_break()
        elif bare in tables.HEADINGS:
            self._heading(bare)
        elif bare in ("paragraph", "subparagraph"):  # a heading that its paragraph goes on from
            self._end_paragraph()
            self._option()
        elif bare in tables.NOTES:
            self._note()
        elif bare in tables.QUOTES:
            self._quote(bare)
        elif bare == "title":
            self._option()
            self._drop()
        elif bare == "lettrine":
            self._option()
            self._join_groups()
        elif bare in tables.CITES or bare in tables.NAMED_CITES:
            self._cite(bare in tables.NAMED_CITES)
        elif bare in tables.REFERENCES or bare in tables.NAMED_REFERENCES or bare in tables.PAGE_REFERENCES:
            self._reference(bare)
        else:
            self._other(bare)

    def _other(self, name: str) -> None:
        """Read a command without a text of its own. Of an unknown one the arguments stay."""
        if name in _PLAIN_SETTINGS and self._i < len(self._tokens):
            self._skip_blanks()
            if self._i < len(self._tokens) and (match := _PLAIN_SETTING.match(self._tokens[self._i])):
                self._tokens[self._i] = self._tokens[self._i][match.end() :] or " "
        if name in tables.BREAKS:
            self._end_paragraph()
        form = tables.ARGUMENTS.get(name)
        if form is None:
            if self._i < len(self._tokens) and self._tokens[self._i] == "[":
                self._option()
            if not (self._i in self._pairs and self._tokens[self._i] == "{"):
                self._skip_blanks()
            while self._i in self._pairs and self._tokens[self._i] == "{" and self._is_no_text():
                self._drop()
            return
        for letter in form:
            self._option()
            if letter == "d":
                self._drop()

    def _is_no_text(self) -> bool:
        """Whether the next argument is a length, a number or the key of a label."""
        inside = "".join(self._tokens[self._i + 1 : min(self._pairs[self._i], self._i + 20)])
        return bool(_DIMENSION.match(inside) or _KEY.match(inside))

    # Arguments

    def _skip_blanks(self) -> None:
        """Skip the white space after a command, as TeX does."""
        self._i = skip_blanks(self._tokens, self._i)
        if self._i < len(self._tokens) and self._tokens[self._i][0] == " ":
            self._tokens[self._i] = self._tokens[self._i].lstrip(" ")

    def _option(self) -> None:
        """Skip arguments in brackets."""
        while (start := skip_blanks(self._tokens, self._i)) in self._pairs and self._tokens[start] == "[":
            self._i = self._pairs[start] + 1

    def _group(self) -> int:
        """Return the place of the bracket of the next argument; -1 if there is none."""
        start = skip_blanks(self._tokens, self._i)
        return start if start in self._pairs and self._tokens[start] == "{" else -1

    def _drop(self) -> str:
        """Skip an argument and return its source."""
        start = self._group()
        if start < 0:
            return ""
        self._i = self._pairs[start] + 1
        self._out.append(latex_text.GONE)
        return "".join(self._tokens[start + 1 : self._pairs[start]])

    def _enter(self, at_end: Callable[[], None]) -> bool:
        """Begin to read an argument; `at_end` is called after it. Return whether there is one."""
        start = self._group()
        if start < 0:
            return False
        stop = self._pairs[start]
        # An argument of a damaged source may reach beyond the one that it stands in.
        if self._frames and self._frames[-1].stop < stop:
            return False
        self._frames.append(_Frame(stop, at_end))
        self._i = start + 1
        return True

    # Parts of a paragraph

    def _accent(self, name: str) -> None:
        self._skip_blanks()
        if self._i < len(self._tokens) and self._tokens[self._i] == "{":
            self._i += 1
        if self._i >= len(self._tokens):
            return
        token = self._tokens[self._i]
        letter = tables.LETTERS.get(token[1:], "") if token[0] == "\\" else token[0]
        if not letter.isalpha():
            return
        self._out.append(unicodedata.normalize("NFC", letter + tables.ACCENTS[name]))
        if token[0] == "\\" or len(token) == 1:
            self._i += 1
        else:
            self._tokens[self._i] = token[1:]

    def _line_break(self) -> None:
        self._out.append(latex_text.LINE)
        start = skip_blanks(self._tokens, self._i)
        if start in self._pairs and self._tokens[start] == "[":
            inside = "".join(self._tokens[start + 1 : self._pairs[start]][:5])
            if _DIMENSION.match(inside):
                self._i = self._pairs[start] + 1

    def _quote(self, name: str) -> None:
        if name == "foreignquote":
            self._drop()
        self._option()
        if self._group() < 0:
            return
        first, last = ("\u2018", "\u2019") if self._quotes % 2 else ("\u201c", "\u201d")
        self._out.append(first)
        self._quotes += 1

        def end() -> None:
            self._quotes -= 1
            self._out.append(last)

        if not self._enter(end):
            end()

    def _join_groups(self) -> None:
        """Read two arguments as one word: a drop cap and the rest."""
        first = self._group()
        if first >= 0 and tokens_are_short(self._tokens[first + 1 : self._pairs[first]]):
            self._out.append("".join(self._tokens[first + 1 : self._pairs[first]]))
            self._i = self._pairs[first] + 1
            self._skip_blanks()

    def _cite(self, named: bool) -> None:
        """Drop a citation. Where it is a part of the sentence, the name in its key stands for it."""
        self._option()
        key = self._drop()
        before = "".join(self._out[-3:-1])
        if named or _BEFORE_A_NAME.search(before[-20:]):
            names = [match[1] or match[2] for part in key.split(",") if (match := _KEY_NAME.match(part.strip()))]
            if names:
                self._out[-1] = " and ".join(name[0].upper() + name[1:] for name in names[:3])

    def _reference(self, name: str) -> None:
        key = self._drop()
        if self._out and self._out[-1] == latex_text.GONE:
            self._out.pop()
        number, kind = self._labels.get(key.strip(), ("", ""))
        if not number or name in tables.PAGE_REFERENCES:
            self._out.append(latex_text.REFERENCE)
        elif name in tables.NAMED_REFERENCES:
            self._out.append(f"{kind} {number}")
        else:
            self._out.append(f"({number})" if name == "eqref" else number)

    def _math(self, opened: str, closed: str, display: bool) -> None:
        """Keep a simple formula as text, another inline formula as it is; drop a displayed one."""
        start = self._i if opened[0] == "\\" else self._i + 1
        stop, paragraph = self._places.after(closed, start), self._places.after(PARAGRAPH, start)
        if stop < 0 or (0 <= paragraph < stop and not display):
            self._i = start  # a lone mark
            self._out.append("$" if opened == "$" else "")
            return
        self._i = stop + 1
        source = " ".join("".join(self._tokens[start:stop]).split())
        if (text := latex_text.simple(source)) is not None:
            self._out.append(f" {text} " if display else text)
        elif display:
            self._out.append(latex_text.HOLE)
        else:
            self._out.append(f"${source}$")

    # Blocks

    def _end_paragraph(self) -> None:
        if self._kept:  # a note is one paragraph
            self._out.append(" ")
            return
        text = latex_text.whole("".join(self._out))
        self._out = []
        indent = "  " * (min(len(self._lists), _DEEPEST) - 1)
        if self._marker and text:
            self._blocks.append((True, f"{indent}{self._marker}{text}"))
            self._marker = ""
        elif text:
            self._blocks.append((False, text))

    def _end_section(self) -> None:
        self._end_paragraph()
        self._blocks += ((False, note) for note in self._notes)
        self._notes = []

    def _heading(self, name: str) -> None:
        if self._kept:
            return
        if tables.HEADINGS[name] <= 2:
            self._end_section()
        else:
            self._end_paragraph()
        self._marker = ""
        self._option()
        self._enter(self._end_paragraph)

    def _note(self) -> None:
        self._option()
        self._kept.append(self._out)
        self._out = []
        if not self._enter(self._end_note):
            self._out = self._kept.pop()

    def _end_note(self) -> None:
        """Keep a note that holds a sentence; a bare citation goes."""
        text = latex_text.whole("".join(self._out))
        self._out = [*self._kept.pop(), latex_text.GONE]
        if footnotes.says_something(text):
            self._notes.append(text)

    def _item(self) -> None:
        self._end_paragraph()
        if not self._lists:
            return
        environment = self._lists[-1]
        environment.number += 1
        self._marker = f"{environment.number}. " if environment.kind == "1" else "- "
        start = skip_blanks(self._tokens, self._i)
        if start in self._pairs and self._tokens[start] == "[":
            stop = self._pairs[start]
            if environment.kind == ":" and not (self._frames and self._frames[-1].stop < stop):
                self._frames.append(_Frame(stop, self._end_term))
                self._i = start + 1
            else:
                self._i = stop + 1

    def _end_term(self) -> None:
        self._i += 1
        self._out.append(": " if "".join(self._out).rstrip()[-1:].isalnum() else " ")

    def _begin(self) -> None:
        name_at = self._group()
        if name_at < 0:
            return
        begin = name_at - 1
        name = "".join(self._tokens[name_at + 1 : self._pairs[name_at]]).strip()
        bare = name.rstrip("*")
        self._i = self._pairs[name_at] + 1
        if bare in tables.GONE:
            stop = self._ends.get(name_at, -1)
            if stop >= 0:
                self._i = stop
                if bare in tables.DISPLAYS:
                    self._out.append(latex_text.HOLE)
                elif not self._out or begin == 0:
                    return
            return
        if not self._kept:
            self._end_paragraph()
        self._environments.append(_Environment(name, tables.LISTS.get(bare, "")))
        if self._environments[-1].kind:
            self._lists.append(self._environments[-1])
        self._option()
        for _ in range(tables.ENVIRONMENT_ARGUMENTS.get(bare, 0)):
            self._drop()

    def _end(self) -> None:
        name = self._drop().strip()
        self._out = self._out[:-1] if self._out[-1:] == [latex_text.GONE] else self._out
        if any(environment.name == name for environment in self._environments[-50:]):
            if not self._kept:
                self._end_paragraph()
            while (left := self._environments.pop()).name != name or left.kind:
                if left.kind:
                    self._lists.pop()
                if left.name == name:
                    break
            self._marker = ""

    def _add_code(self, code: str) -> None:
        if not self._kept:
            self._end_paragraph()
            lines = [line.rstrip() for line in code.split("\n")]
            body = re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip("\n")
            if body.strip():
                self._blocks.append((False, f"```\n{body}\n```"))


def tokens_are_short(tokens: list[str]) -> bool:
    """Whether an argument is a letter or two."""
    return len("".join(tokens)) <= 3 and "".join(tokens).isalnum()
