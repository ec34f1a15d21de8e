"""Take running heads, page numbers and line numbers out of text that was set on pages."""

import itertools
import re
from collections.abc import Iterator, Sequence

_EDGE_LINES = 2  # lines at the head and the foot of a page that can be a running head
_HEAD_CHARACTERS = 100
_LONG = 140  # characters; longer lines are paragraphs
_DIGITS = re.compile(r"\d+")
_ROMAN = re.compile(r"[\W_]*[ivxlc]{1,8}[\W_]*", re.IGNORECASE)
_OPEN = re.compile(r"(?:[^\W_]|[,;\xad\xac\u2010-\u2015-])$")  # the end of a line inside a sentence
_PAGE_NUMBER = re.compile(
    r"^ *(?:(?P<plain>\d{1,4})|[-\u2013\u2014~*|.]{1,3} ?\d{1,4} ?[-\u2013\u2014~*|.]{1,3}"
    r"|[\[{(<] ?(?:pg|page|p)?[. ]{0,2}\d{1,4} ?[\]})>]|(?:pg|page|p)[. ]{1,2}\d{1,4}(?: ?(?:of|/) ?\d{1,4})?) *$",
    re.IGNORECASE | re.MULTILINE,
)
_LEAST_NUMBERS = 3  # page numbers in ascending order that are no accident
_MAX_STEP = 3  # pages without a number between two with one
_LEAST_PAGE = 200  # characters between two page numbers
_MARGIN = re.compile(r"^(?P<line>.*[^\s\d]) {2,}(?P<number>\d{0,3}[05])$", re.MULTILINE)


def join_pages(text: str, numbered: bool = True) -> str:
    """Join pages that form feeds separate, without running heads and page numbers.

    A line is a running head if it is at the edge of several pages close together; the number in it
    may change. A sentence that goes on over the page stays one.
    """
    pages = [[line.rstrip() for line in page.split("\n")] for page in text.split("\x0c")]
    heads = _running_heads(pages) - (set() if numbered else {"#", "i"})
    for page in pages if heads else ():
        for edge in _edges(page):
            for i in edge:
                if _key(page[i]) not in heads:
                    break  # what is farther inside is text
                page[i] = ""
    joined = pages[0]
    for page in pages[1:]:
        _append(joined, page, bool(heads))
    return "\n".join(joined)


def _append(joined: list[str], page: list[str], headed: bool) -> None:
    """Add a page to the lines before it."""
    body = _trim(page)
    before = next((line for line in reversed(joined) if line), "")
    if not body or not before:
        joined += page
        return
    if is_cut(before, body[0]):
        while not joined[-1]:
            joined.pop()
        if len(before) > _LONG:  # one line a paragraph
            joined[-1] += f" {body.pop(0).lstrip()}"
        joined += body
    elif headed:
        while not joined[-1]:
            joined.pop()
        ended = not _OPEN.search(before) and 4 * len(before) < 3 * max(map(len, body))
        joined += ["", *body] if ended else body
    else:
        joined += page


def is_cut(before: str, after: str) -> bool:
    """Whether a sentence goes on from one line to the other."""
    return bool(_OPEN.search(before)) and after.lstrip(" \"'\u201c\u2018([_*")[:1].islower()


def drop_numbers(text: str) -> str:
    """Take out page numbers that stand alone on lines and ascend, and line numbers of verse.

    A number without a sign around it counts only where it interrupts sentences: chapters have
    numbers too.
    """
    cuts: list[re.Match[str]] = []
    for chain in _ascending(list(_PAGE_NUMBER.finditer(text))):
        plain = [match for match in chain if match["plain"]]
        if not plain or 4 * sum(_interrupts(text, match) for match in plain) >= len(plain):
            cuts += chain
    if cuts:
        parts, end = [], 0
        for match in cuts:
            parts += [text[end : match.start()], "\x0c"]
            end = match.end()
        text = join_pages("".join([*parts, text[end:]]), numbered=False)
    return _drop_margin(text)


def _ascending(matches: Sequence["re.Match[str]"]) -> Iterator[list["re.Match[str]"]]:
    """Yield runs of matches whose numbers ascend in small steps, with text between them."""
    run: list[re.Match[str]] = []
    last = 0
    for match in matches:
        number = int(_DIGITS.findall(match[0])[0])
        near = bool(run) and match.start() - run[-1].end() < _LEAST_PAGE
        if run and (near or not 0 < number - last <= _MAX_STEP):
            if len(run) >= _LEAST_NUMBERS:
                yield run
            run = []
        run.append(match)
        last = number
    if len(run) >= _LEAST_NUMBERS:
        yield run


def _interrupts(text: str, match: "re.Match[str]") -> bool:
    before = text[max(0, match.start() - 300) : match.start()].rstrip()
    after = text[match.end() : match.end() + 300].lstrip()
    return is_cut(before, after)


def _drop_margin(text: str) -> str:
    """Take out the numbers of every fifth or tenth line of verse."""
    matches = list(_MARGIN.finditer(text))
    numbered: set[int] = set()
    for before, match in itertools.pairwise(matches):
        between = int(match["number"]) - int(before["number"])
        if between in (5, 10) and match.start() - before.start() < 100 * between:
            lines = text[before.start() : match.start()].split("\n")
            if sum(bool(line.strip()) for line in lines) == between:
                numbered |= {before.start(), match.start()}
    if not numbered:
        return text
    return _MARGIN.sub(lambda match: match["line"] if match.start() in numbered else match[0], text)


def _running_heads(pages: Sequence[Sequence[str]]) -> set[str]:
    """Return the keys of lines that recur at the edges of pages."""
    places: dict[str, list[int]] = {}
    for number, page in enumerate(pages):
        for key in {_key(page[i]) for edge in _edges(page) for i in edge}:
            places.setdefault(key, []).append(number)
    heads = set()
    for key, seen in places.items():
        close = sum(b - a <= 2 for a, b in itertools.pairwise(seen))  # left and right pages may differ
        if key and (close >= 2 or (close == 1 and (key == "#" or len(seen) == len(pages)))):
            heads.add(key)
    return heads


def _edges(page: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the indices of the first and the last lines with text, from the edge inwards."""
    head: list[int] = []
    foot: list[int] = []
    for indices, edge in ((range(len(page)), head), (range(len(page) - 1, -1, -1), foot)):
        for i in indices:
            if len(edge) == _EDGE_LINES:
                break
            if page[i].strip():
                edge.append(i)
    return head, foot


def _key(line: str) -> str:
    """Return what stays the same of a running head; "" if the line is too long for one."""
    line = " ".join(line.split())
    if len(line) > _HEAD_CHARACTERS:
        return ""
    if _ROMAN.fullmatch(line):
        return "i"
    key = _DIGITS.sub("#", line).casefold()
    return "#" if not any(map(str.isalpha, key)) and "#" in key else key


def _trim(page: list[str]) -> list[str]:
    """Return a page without blank lines at its edges."""
    start, stop = 0, len(page)
    while start < stop and not page[start].strip():
        start += 1
    while stop > start and not page[stop - 1].strip():
        stop -= 1
    return page[start:stop]
