"""Text cleaning: pure functions from text to text.

Cleaned text has no control characters except the newline, no double spaces, and one blank line
between paragraphs. The steps `normalise`, `paragraphs` and `inline` are separate because the
exclusion rules run between them.
"""

import functools
import html
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

VERSION = 3  # part of every corpus digest: raise it with any change of the cleaned text

# Code points instead of `unicodedata` categories, so every Python version removes the same ones.
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters except white space
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"  # format characters
    "\ud800-\udfff"  # unpaired surrogates, which JSON escapes can hold
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use
    "]"
)
_NEWLINE = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028]")
_LINE_END = re.compile(r"[.!?:][\"'\u201d\u2019)\]_]*$")
_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*\s")
_WRAPPED_WIDTH = range(50, 91)  # characters in a hard-wrapped line
_MAX_STANZA_LINES = 60

# (sign, pattern): what cleaning removes from prose, in this order. A group named `text` stays.
# Few paragraphs contain any sign, and a search for the sign is much faster than the pattern.
_INLINE = (
    ("<", re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>\n]{0,300}>")),
    ("](", re.compile(r"!\[[^\[\]\n]{0,300}\]\([^()\s]{0,500}(?:\s\"[^\"\n]*\")?\)")),  # an image in Markdown
    ("](", re.compile(r"\[(?P<text>[^\[\]\n]{1,300})\]\([^()\s]{0,500}(?:\s\"[^\"\n]*\")?\)")),  # a link in Markdown
    ("[", re.compile(r"\s?\[(?:Illustration|Footnote|Sidenote|Transcriber's Note)\b[^\[\]]{0,2000}\]", re.IGNORECASE)),
    # [1], [2, 3], [4-6]
    ("[", re.compile(r"\s?\[(?:\d{1,4}(?:\s?[,;\u2013-]\s?\d{1,4})*|citation needed|note \d+|edit|sic\?)\]")),
    ("://", re.compile(r"\s?\(?\bhttps?://[^\s<>()]+[^\s<>().,;:!?'\"]\)?|\bhttps?://")),
    ("www.", re.compile(r"\s?\(?\bwww\.[^\s<>()]+[^\s<>().,;:!?'\"]\)?")),
    ("@", re.compile(r"\s?<?\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}\b>?")),  # an e-mail address
    *(
        (
            mark,
            re.compile(
                rf"(?<![\w{quoted}])(?P<marks>{quoted}{{1,3}})(?=\S)(?P<text>[^*`\n]{{1,500}}?)(?<=\S)(?P=marks)(?!\w)"
            ),
        )
        for mark, quoted in (("*", r"\*"), ("_", "_"), ("`", "`"))
    ),
    ("#", re.compile(r"^#{1,6}\s+", re.MULTILINE)),  # a heading in Markdown keeps its words
)
_HYPHEN_AT_END = re.compile(r"([^\W\d_]{2,})-\n([^\W\d_]{2,})")
_HYPHEN_AND_SPACE = re.compile(r"\b([^\W\d_]{2,})- ([^\W\d_]{2,})\b")
_MARKED = re.compile(r"[<&\[@*_`#]|://|www\.")
_WORD = re.compile(r"[^\W_]")


def clean(text: str) -> str:
    """Return paragraphs of plain text with one blank line between them.

    The lines of a hard-wrapped text are joined into paragraphs; in any other text each line is a
    paragraph. Verse (short lines that begin with capitals) keeps its lines inside one paragraph.
    Markup, citation markers, links and addresses are removed.
    """
    return "\n\n".join(prose for paragraph in paragraphs(normalise(text)) if (prose := inline(paragraph)))


def normalise(text: str) -> str:
    """Convert to NFKC and "\\n" line ends, drop invisible characters, undo mojibake. Idempotent.

    Lines lose trailing white space but keep their indentation, which the exclusion rules need.
    """
    text = _NEWLINE.sub("\n", text).replace("\u2029", "\n\n").expandtabs(4)
    if not text.isascii():
        lines = text.split("\n")
        text = "\n".join(line if line.isascii() else _normalise_line(line) for line in lines)
    return "\n".join(line.rstrip() for line in _INVISIBLE.sub("", text).split("\n"))


def _normalise_line(line: str) -> str:
    """Normalise a line until nothing changes: a removal can join characters that form mojibake."""
    from ftfy import badness, fix_encoding  # imported here: it takes a tenth of a second

    before = ""
    while line != before:
        before = line
        if badness.is_bad(line):
            line = _NEWLINE.sub("\n", fix_encoding(line))
        # Remove invisible characters first: NFKC then composes a letter and accent they separated.
        line = unicodedata.normalize("NFKC", _INVISIBLE.sub("", line)).rstrip()
        line = line.replace("\u2581", "_")  # sentencepiece itself uses U+2581 for a space
        if "\n" in line:
            return "\n".join(map(_normalise_line, line.split("\n")))
    return line


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a normalised text, without double spaces.

    A stanza of verse is one paragraph and keeps its lines.
    """
    blocks = [
        list(block) for blank, block in itertools.groupby(text.split("\n"), key=lambda line: not line) if not blank
    ]
    width, words = _wrapped_width(blocks), functools.cache(lambda: _words(text))
    texts: list[str] = []
    for raw in blocks:
        block = [" ".join(line.split()) for line in raw]
        if len(block) == 1:
            texts += block
        elif _is_verse(block):
            texts.append("\n".join(block))
        elif width:
            for part in _split_wrapped(raw, block, width):
                joined = _HYPHEN_AT_END.sub(lambda match: _join(match, words(), "-"), "\n".join(part))
                texts.append(joined.replace("\n", " "))
        else:
            texts += block
    for i, paragraph in enumerate(texts):
        if any(part[-1:].isalpha() for part in paragraph.split("- ")[:-1]):
            texts[i] = _HYPHEN_AND_SPACE.sub(lambda match: _join(match, words(), "- "), paragraph)
    return texts


def inline(paragraph: str) -> str:
    """Remove HTML, Markdown, citation markers, links and addresses; "" if no word is left."""
    before = ""
    while paragraph != before and _MARKED.search(paragraph):  # a removal can leave new markup
        before = paragraph
        if "&" in paragraph:
            paragraph = html.unescape(paragraph)
        for sign, pattern in _INLINE:
            if sign in paragraph:
                paragraph = pattern.sub(r"\g<text>" if "text" in pattern.groupindex else "", paragraph)
        lines = (" ".join(line.split()) for line in paragraph.split("\n"))
        paragraph = "\n".join(line for line in lines if line)
    return paragraph if _WORD.search(paragraph) else ""


def _join(match: "re.Match[str]", words: Counter[str], between: str) -> str:
    """Join two halves of a word that a hyphen and white space separate.

    The spelling elsewhere in the document decides between one word and a hyphen. Without such
    evidence, halves at a line end become one word unless both are words; inside a line nothing
    changes.

    Args:
      words: how often the document has each word, in lower case.
      between: what separates the halves: "-" (and a newline) or "- ".
    """
    first, second = match.group(1), match.group(2)
    whole, hyphened = words[(first + second).lower()], words[f"{first}-{second}".lower()]
    if whole > hyphened:
        return first + second
    if between == "- ":
        return match.group(0)
    both = words[first.lower()] > 1 and words[second.lower()] > 1
    return f"{first}-{second}" if hyphened or both else first + second


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower()))


def _is_verse(block: list[str]) -> bool:
    """Whether the lines of a block are verse: short lines that begin with capitals."""
    if len(block) > _MAX_STANZA_LINES:
        return False
    short = sum(len(line) < _WRAPPED_WIDTH[0] for line in block[:-1])
    capitals = sum(not line.lstrip("\"'\u201c\u2018([_-\u2014")[:1].islower() for line in block)
    return 2 * short >= len(block) - 1 and 10 * capitals >= 7 * len(block)


def cut(text: str, limit: int = 20_000) -> list[str]:
    """Cut text into pieces of at most `limit` characters. Only white space between them is lost.

    A piece ends at the last paragraph end within the limit, else at the last sentence end, else at
    the last space, else at the limit. Linear in the length of the text.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    return list(_pieces(text, limit))


def _pieces(text: str, limit: int) -> Iterator[str]:
    start, end = 0, len(text)
    while start < end:
        if text[start].isspace():
            start += 1
            continue
        stop = end if end - start <= limit else start + _cut_point(text[start : start + limit + 1], limit)
        yield text[start:stop].rstrip()
        start = stop


def _cut_point(window: str, limit: int) -> int:
    """Return where to cut a window of limit + 1 characters: 1 <= point <= limit."""
    paragraph = window.rfind("\n\n")
    if paragraph > 0:
        return paragraph
    sentence = 0
    for match in _SENTENCE_END.finditer(window):
        sentence = match.end() - 1
    if sentence > 0:
        return sentence
    space = max(window.rfind(" "), window.rfind("\n"))
    return space if space > 0 else limit


def _wrapped_width(blocks: list[list[str]]) -> int:
    """Return the width, in characters, at which a text is hard-wrapped; 0 if it is not.

    In a hard-wrapped text most lines, the last of each block aside, have such a width.
    """
    inner = sorted(len(line.strip()) for block in blocks for line in block[:-1])
    if 2 * sum(length in _WRAPPED_WIDTH for length in inner) <= len(inner):
        return 0
    return inner[len(inner) * 9 // 10]


def _split_wrapped(raw: list[str], block: list[str], width: int) -> Iterator[list[str]]:
    """Yield the paragraphs of a hard-wrapped block that has no blank lines between them.

    A paragraph begins at an indented line, and after a sentence that left room for a word.
    """
    margin = min(len(line) - len(line.lstrip()) for line in raw)
    part = block[:1]
    for before, line, indented in zip(block, block[1:], raw[1:], strict=False):
        room = len(before) + 1 + len(line.split(" ", 1)[0]) < width - 1
        ended = room and _LINE_END.search(before)
        if ended or (len(indented) - len(indented.lstrip()) > margin + 1 and not raw[0].startswith(" ")):
            yield part
            part = []
        part.append(line)
    yield part
