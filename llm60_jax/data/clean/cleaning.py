"""Text cleaning: pure functions from text to text. `VERSION` is part of every corpus digest; raise it with any change.

Cleaned text has no control characters but the newline, single blanks only, and one blank line between paragraphs. The
steps stand by themselves because the exclusion rules come between them: `normalise`, `paragraphs`, `inline`.
"""

import functools
import html
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

VERSION = 3

# Written out by number and not asked from `unicodedata`, so that every Python version removes the same characters.
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters that are no white space
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"  # format characters
    "\ud800-\udfff"  # half surrogate pairs, as JSON escapes can hold
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use
    "]"
)
_NEWLINE = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028]")
_LINE_END = re.compile(r"[.!?:][\"'\u201d\u2019)\]_]*$")
_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*\s")
_WRAPPED_WIDTH = range(50, 91)  # characters in a line that an editor or a typist broke
_LONGEST_STANZA = 60  # lines

# What is taken out of prose, in this order: a group that is named `text` stays. Most paragraphs hold none of it, and
# looking for the first string in them is much faster than the pattern.
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
_HYPHEN_AND_BLANK = re.compile(r"\b([^\W\d_]{2,})- ([^\W\d_]{2,})\b")


def clean(text: str) -> str:
    """Paragraphs of plain text, one blank line between them. Pure.

    Lines of a hard-wrapped text are joined into their paragraphs; in any other text each line is a paragraph. Short
    lines that begin with capitals, verse, stay lines of one paragraph. Markup, citation markers, links and addresses
    are taken out.
    """
    return "\n\n".join(found for paragraph in paragraphs(normalise(text)) if (found := inline(paragraph)))


def normalise(text: str) -> str:
    """NFKC characters, lines that end in a newline alone, nothing invisible, mojibake undone. Idempotent.

    Lines keep their indentation and lose white space at their ends: what a line is, shows in how it stands there.
    """
    text = _NEWLINE.sub("\n", text).replace("\u2029", "\n\n").expandtabs(4)
    if not text.isascii():
        lines = text.split("\n")
        text = "\n".join(line if line.isascii() else _stable(line) for line in lines)
    return "\n".join(line.rstrip() for line in _INVISIBLE.sub("", text).split("\n"))


def _stable(line: str) -> str:
    """A line of which normalising changes nothing more: what is taken out can bring together what then looks like
    mojibake."""
    from ftfy import badness, fix_encoding  # a tenth of a second to import: only where text is cleaned

    before = ""
    while line != before:
        before = line
        if badness.is_bad(line):
            line = _NEWLINE.sub("\n", fix_encoding(line))
        # Invisible characters go first: they can stand between a letter and its accent, which NFKC then composes.
        line = unicodedata.normalize("NFKC", _INVISIBLE.sub("", line)).rstrip()
        line = line.replace("\u2581", "_")  # sentencepiece writes a blank as U+2581 and could not tell the two apart
        if "\n" in line:
            return "\n".join(map(_stable, line.split("\n")))
    return line


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a normalised text, single blanks only; a stanza of verse is one, and keeps its lines."""
    blocks = [
        list(block) for blank, block in itertools.groupby(text.split("\n"), key=lambda line: not line) if not blank
    ]
    width, words = _wrapped_width(blocks), functools.cache(lambda: _words(text))
    found: list[str] = []
    for raw in blocks:
        block = [" ".join(line.split()) for line in raw]
        if len(block) == 1:
            found += block
        elif _is_verse(block):
            found.append("\n".join(block))
        elif width:
            for part in _split_wrapped(raw, block, width):
                joined = _HYPHEN_AT_END.sub(lambda match: _join(match, words(), "-"), "\n".join(part))
                found.append(joined.replace("\n", " "))
        else:
            found += block
    for i, paragraph in enumerate(found):
        if any(part[-1:].isalpha() for part in paragraph.split("- ")[:-1]):
            found[i] = _HYPHEN_AND_BLANK.sub(lambda match: _join(match, words(), "- "), paragraph)
    return found


def inline(paragraph: str) -> str:
    """A paragraph without HTML and Markdown, citation markers, links and addresses; "" if no word is left."""
    before = ""
    while paragraph != before and _MARKED.search(paragraph):  # what stood around a link can be markup itself
        before = paragraph
        if "&" in paragraph:
            paragraph = html.unescape(paragraph)
        for sign, pattern in _INLINE:
            if sign in paragraph:
                paragraph = pattern.sub(r"\g<text>" if "text" in pattern.groupindex else "", paragraph)
        lines = (" ".join(line.split()) for line in paragraph.split("\n"))
        paragraph = "\n".join(line for line in lines if line)
    return paragraph if _WORD.search(paragraph) else ""


_MARKED = re.compile(r"[<&\[@*_`#]|://|www\.")
_WORD = re.compile(r"[^\W_]")


def _join(match: "re.Match[str]", words: Counter[str], between: str) -> str:
    """The two halves of a word that a hyphen and white space part, as the rest of the document writes it: one word,
    or with a hyphen. Where the document does not tell, a line's end is taken for a word's that was broken there unless
    both halves are words; inside a line nothing is changed."""
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
    """Whether the lines of a block are verse rather than one broken paragraph: short, and beginning with capitals."""
    if len(block) > _LONGEST_STANZA:
        return False
    short = sum(len(line) < _WRAPPED_WIDTH[0] for line in block[:-1])
    capitals = sum(not line.lstrip("\"'\u201c\u2018([_-\u2014")[:1].islower() for line in block)
    return 2 * short >= len(block) - 1 and 10 * capitals >= 7 * len(block)


def cut(text: str, limit: int = 20_000) -> list[str]:
    """Cuts text into pieces of at most `limit` characters; joined, they lose white space only.

    A piece ends at the last paragraph end within the limit, else at the last sentence end, else at the last blank,
    else at the limit. Linear in the length of the text.
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
    """Where to cut a window of limit + 1 characters: 1 <= point <= limit. White space around the point is dropped."""
    paragraph = window.rfind("\n\n")
    if paragraph > 0:
        return paragraph
    sentence = 0
    for match in _SENTENCE_END.finditer(window):
        sentence = match.end() - 1
    if sentence > 0:
        return sentence
    blank = max(window.rfind(" "), window.rfind("\n"))
    return blank if blank > 0 else limit


def _wrapped_width(blocks: list[list[str]]) -> int:
    """The width, in characters, that an editor or a typist broke lines at. 0 if the text is not hard-wrapped: most
    lines that are not the last of their block must have such a width."""
    inner = sorted(len(line.strip()) for block in blocks for line in block[:-1])
    if 2 * sum(length in _WRAPPED_WIDTH for length in inner) <= len(inner):
        return 0
    return inner[len(inner) * 9 // 10]


def _split_wrapped(raw: list[str], block: list[str], width: int) -> Iterator[list[str]]:
    """The paragraphs of a hard-wrapped block without blank lines between them: one begins at an indented line, and
    after a sentence whose line had room for the next word."""
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
