"""Project Gutenberg's own text around books: headers, "small print" and licences of any year."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_NAMED = re.compile(r"project\s+gutenberg", re.IGNORECASE)
_SENTENCE_CHARACTERS = 40  # a shorter first line may be the end of a sentence that was cut
_FRAME_CHARACTERS = 25_000  # a header, or a licence, ends within this
_MARKS = re.compile(
    r"""^[ \t]*(?:
        (?P<start>
            \*{3}[ \t]*START[ ]OF[ ](?:THIS|THE)?[ ]?PROJECT[ ]GUTENBERG.*(?:\n(?!\n).*)?\*{3}  # since about 2001
            | \*{1,3}[ \t]*END[ *]*THE[ ]SMALL[ ]PRINT.*                                     # before
        )[ \t]*$
        | (?P<end>
            \*{0,3}[ \t]*(?:THE[ ])?END[ ]OF[ ](?:(?:THIS|THE)[ ])?PROJECT[ ]GUTENBERG.*
            | \*{0,3}[ \t]*(?:THE[ ])?END[ ]OF[ ](?:THIS[ ]|THE[ ])?(?:ETEXT|E-TEXT|EBOOK)\b.*
        )$
        | (?P<licence> START:[ ]FULL[ ]LICENSE.* | THE[ ]FULL[ ]PROJECT[ ]GUTENBERG.* )$
        | (?P<head>
            \*{3}START\*{2}THE[ ]SMALL[ ]PRINT.*
            | \**[ \t]*(?:THIS[ ]IS[ ])?(?:THE[ ])?PROJECT[ ]GUTENBERG(?:['\u2019]S)?[ ]
            (?:(?:E-?TEXT|E-?BOOK|ELECTRONIC[ ]TEXT|EDITION)S?\b.* | .+,[ ]BY\b.*)
        )$
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_LICENCE = re.compile(
    r"gutenberg|\be-?(?:text|book)s?\b|\belectronic works?\b|licen[cs]e|\bfoundation\b|copyright|trademark|small print"
    r"|\bdonat|volunteer|public domain|plain vanilla|warrant|\bdisclaim|\brefund\b|\bPGLAF\b|damages|newsletter"
    r"|\bfile should be named\b|distribut|updated edition|\bftp\b|\bascii\b|@|https?:|www\.",
    re.IGNORECASE,
)
_SURE = re.compile(
    r"gutenberg|\be-?(?:text|book)s?\b|\belectronic works?\b|small print|plain vanilla|\bPGLAF\b|public domain"
    r"|updated editions",
    re.IGNORECASE,
)
_BLANK = re.compile(r"\n{2,}")
_CREDITS = re.compile(
    r"""^[\W_]*(?:
        (?:this\s|the\s)?(?:e-?text|e-?book|file|electronic\s(?:text|edition|version)|html\sversion)\s(?:was\s|is\s)?
            (?:first\s)?(?:produced|prepared|transcribed|created|scanned|proofed|typed|converted|made|comes|by)\b
        | (?:produced|transcribed|scanned|digiti[sz]ed|proofread|proofed|typed)\b.{0,60}\bby\b
        | (?:prepared|transcribed)\sfrom\b.{0,80}\b(?:edition|by)\b | prepared\sby\b
        | (?:further|additional|some)\s(?:corrections|proofing|proofreading|editing)\b.{0,60}\bby\b
        | (?:images?|scans?)\b.{0,80}\b(?:available|courtesy|provided|generously)\b
        | (?:note:\s)?(?:project\sgutenberg|this\se-?(?:text|book))\s(?:also\s)?(?:has|is)\b
        | see\s\d{3,6}-h\.(?:htm|zip)
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CREDIT_CHARACTERS = 900  # longer paragraphs are text
_CREDIT_PARAGRAPHS = 6  # at either end of a book


class _Mark(NamedTuple):
    kind: str  # "head", "start", "end" or "licence"
    start: int
    stop: int


def strip(text: str) -> tuple[str, list[str]]:
    """Return a text without Project Gutenberg's headers and licences, and the removed parts.

    The text must be normalised (`cleaning.normalise`). It may be one book, several, or a part of
    them that begins or ends anywhere. A text that does not name Project Gutenberg is unchanged.
    Where the mark at an end is missing, that end stays for the rule `boilerplate`.
    """
    if not _NAMED.search(text):
        return text, []
    books: list[str] = []
    removed: list[str] = []
    end = 0
    for start, stop in [*_frames(text, list(_marks(text))), (len(text), len(text))]:
        book, credits = _strip_credits(text[end:start])
        books.append(book)
        if start == end and removed and not credits:
            removed[-1] += text[start:stop]  # one frame, with several marks
        else:
            removed += [*credits, text[start:stop]]
        end = stop
    removed = [part for part in removed if part.strip()]
    return ("\n\n".join(book.strip("\n") for book in books if book.strip()) if removed else text), removed


def _marks(text: str) -> Iterator[_Mark]:
    for match in _MARKS.finditer(text):
        assert match.lastgroup is not None
        yield _Mark(match.lastgroup, match.start(), match.end())


def _frames(text: str, marks: list[_Mark]) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each part that is no book, in order and apart."""
    end = 0
    first = next((mark for mark in marks if mark.kind != "licence"), None)
    limit = first.start if first else len(text)
    if (first is None or first.kind != "start") and _begins_in_licence(text[: min(3000, limit)], 2 if first else 4):
        end = _licence_stop(text, 0, limit)  # a part of a file begins in a licence
        yield 0, end
    for i, mark in enumerate(marks):
        if mark.start < end:
            continue
        if mark.kind in ("end", "licence"):
            following = _next_book(marks, mark.stop, len(text))
            stop = _end_stop(text, mark.stop, following)
            yield mark.start, stop
            end = stop
        elif mark.kind == "start":
            above = text[end : mark.start]
            is_header = len(above) < _FRAME_CHARACTERS and (
                _is_licence(above) or (not end and bool(_SURE.search(above)))
            )
            yield (end if is_header else mark.start), mark.stop
            end = mark.stop
        else:
            after = next((later for later in marks[i + 1 :] if later.kind != "head"), None)
            if after and after.kind == "start" and after.start - mark.start < _FRAME_CHARACTERS:
                yield mark.start, after.stop
                end = after.stop


def _next_book(marks: list[_Mark], start: int, default: int) -> int:
    """Return where the next header, or the end of a book without one, stands."""
    return next((mark.start for mark in marks if mark.start >= start and mark.kind != "licence"), default)


def _end_stop(text: str, start: int, following: int) -> int:
    """Return the end of what follows an end mark and is no book: licence, up to a header or another text.

    Where prose follows, the mark ended a part of a book, and nothing else goes.
    """
    after = text[start : min(following, start + 3000)]
    if len(after.strip()) < 200:
        return following
    return _licence_stop(text, start, following) if _is_licence(after[:500]) or _is_licence(after) else start


def _licence_stop(text: str, start: int, following: int) -> int:
    """Return the end of the last paragraph of licence: another text may stand below it."""
    limit = min(following, start + _FRAME_CHARACTERS)
    stop = begin = start
    for end, after in [
        *((match.start(), match.end()) for match in _BLANK.finditer(text, start, limit)),
        (limit, limit),
    ]:
        if _SURE.search(text, begin, end):
            stop = end
        begin = after
    return stop


def _is_licence(text: str) -> bool:
    """Whether a text has words of a licence in every few lines."""
    return bool(_SURE.search(text)) and len(_LICENCE.findall(text)) * 250 >= len(text)


def _begins_in_licence(text: str, least: int) -> bool:
    """Whether a text begins in the middle of a licence. An author may mention Project Gutenberg twice.

    Args:
      least: how many different words of a licence it must have.
    """
    words = {match.lower() for match in _LICENCE.findall(text)}
    first = next((part for part in _BLANK.split(text) if len(part) >= _SENTENCE_CHARACTERS), "")
    return len(words) >= least and bool(_LICENCE.search(first)) and _is_licence(text)


def _strip_credits(book: str) -> tuple[str, list[str]]:
    """Return a book without the volunteers' credits at its ends, and the credits."""
    if not book.strip():
        return book, []
    paragraphs = _BLANK.split(book)
    edges = {*range(min(_CREDIT_PARAGRAPHS, len(paragraphs)))}
    edges |= {*range(max(0, len(paragraphs) - _CREDIT_PARAGRAPHS), len(paragraphs))}
    credits = {i for i in edges if len(paragraphs[i]) <= _CREDIT_CHARACTERS and _CREDITS.match(paragraphs[i])}
    if not credits:
        return book, []
    return (
        "\n\n".join(part for i, part in enumerate(paragraphs) if i not in credits),
        [paragraphs[i] for i in sorted(credits)],
    )
