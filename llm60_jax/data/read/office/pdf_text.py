"""The lines of printed pages as paragraphs. Pure functions."""

import itertools
import re
import statistics
from collections import Counter
from typing import NamedTuple

from llm60_jax.data.read import footnotes
from llm60_jax.data.read.office import pdf_heads
from llm60_jax.data.read.office.pdf_columns import Line, Page
from llm60_jax.data.read.office.pdf_pages import INITIAL

_MOST_LINES = 1_000  # of a page whose columns are looked at
_ENDS = re.compile(r"[.!?:][\"'\u201d\u2019)\]]{0,3}$")
_LONGEST_WORD = 60  # characters
_HYPHEN = re.compile(r"([^\W\d_]+)[-\u2010\u00ac\u00ad]$")
_ITEM = re.compile(r"(?:[\u2022\u2023\u25aa\u25cf\u25e6\u2013*-]|\(?(?:\d{1,3}|[a-z])[.)])\s")
_BULLET = re.compile(r"[\u2022\u2023\u25aa\u25cf\u25e6]\s?")
_NOTE = re.compile(r"(?:\d{1,3}|[*\u2020\u2021])[.)]?\s?(?=\S)")
_LONE_MARK = re.compile(r"[\d*\u2020\u2021]{1,3}$")  # of a note, above the line
_SMALL = 0.8  # of the size of the text
_NARROWEST = 9  # sizes of letters; shorter lines are those of addresses and the like
_MOST_ENDED = 0.6  # of the lines before paragraphs end a sentence
_GAP_EVERY = 15  # lines
_FEWEST_SAMPLES = 8  # lines that end inside a sentence
_PROSE_SLACK = 0.12  # of the column; the usual line of prose ends nearer to the edge, of verse does not
_EVEN = 0.02  # of the column; lines that are set as full as they can be do not end earlier
_UNEVEN_EVERY = 30  # lines inside sentences
_LEAST_RAGGED, _MOST_RAGGED = 0.15, 0.3  # of the column
_WORDS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def prose(pages: list[Page]) -> str:
    """Return the paragraphs of pages. Notes below the text stand at the end, if they are sentences."""
    pages = pdf_heads.without_running_lines([page for page in pages if page])
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page:
            sizes[line.size] += len(line.text)
    if not sizes:
        return ""
    size = _median(sizes)
    notes: list[str] = []
    flow: list[Page] = []
    for page in pages:
        marks = {line for line in page if line.size < _SMALL * size and _LONE_MARK.match(line.text)}
        body, below = _split_notes([line for line in page if line not in marks], size)
        flow.append(_with_columns(body))
        notes += below
    lines = _with_initials([line for page in flow for line in page], size)
    words = _words(lines)
    blocks = _blocks(lines, _setting(lines), words)
    return "\n\n".join([*blocks, *(_joined(note, words) for note in _sentences(notes))])


def _median(counts: "Counter[float]") -> float:
    """Return the value that half of the counts lie below."""
    half, total = sum(counts.values()) / 2, 0
    for value in sorted(counts):
        total += counts[value]
        if total >= half:
            return value
    return 0.0


# Notes and columns


def _split_notes(page: Page, size: float) -> tuple[Page, list[str]]:
    """Return a page without the notes below its text, and their lines."""
    body = [line.y0 for line in page if line.size > 0.93 * size]
    if not body:
        return page, []
    lowest = min(body)
    small = [line for line in page if line.y1 < lowest + 2 and line.size <= 0.93 * size]
    small.sort(key=lambda line: -line.y0)
    if not small or not _NOTE.match(small[0].text):
        return page, []
    gone = set(small)
    return [line for line in page if line not in gone], [line.text for line in small]


def _sentences(lines: list[str]) -> list[list[str]]:
    """Return the lines of each note that holds a sentence, without its mark."""
    notes: list[list[str]] = []
    for line in lines:
        match = _NOTE.match(line)
        if match or not notes:
            notes.append([line[match.end() :] if match else line])
        else:
            notes[-1].append(line)
    return [note for note in notes if footnotes.says_something(" ".join(note))]


def _with_columns(page: Page) -> Page:
    """Set the edges of the column that each line stands in."""
    if len(page) > _MOST_LINES:
        return [line._replace(left=line.x0, right=line.x1) for line in page]
    result = []
    for line in page:
        middle = (line.x0 + line.x1) / 2
        column = [
            other
            for other in page
            if other is line or other.x0 <= middle <= other.x1 or line.x0 <= (other.x0 + other.x1) / 2 <= line.x1
        ]
        rights = sorted((other.x1 for other in column), reverse=True)
        right = rights[len(rights) // 20]
        # A justified quotation has an edge of its own inside the column.
        beside = [other.x1 for other in column if abs(other.x0 - line.x0) < 0.7 * line.size]
        edge = max(beside)
        if len(beside) > 2 and 2 * sum(x1 > edge - 0.5 * line.size for x1 in beside) > len(beside):
            right = min(right, edge)
        result.append(line._replace(left=min(other.x0 for other in column), right=right))
    return result


def _with_initials(lines: Page, size: float) -> Page:
    """Join the large initial of a chapter with its word."""
    words = Counter(_WORDS.findall("\n".join(line.text for line in lines).lower()))
    result: Page = []
    for line in lines:
        before = result[-1] if result else None
        if before and len(before.text) == 1 and before.text.isalpha() and before.size > 1.6 * size >= line.size:
            line = result.pop()._replace(text=f"{before.text}{INITIAL}{line.text}", size=line.size, right=line.right)
        if INITIAL in line.text:
            letter, _, rest = line.text.partition(INITIAL)
            first = _WORDS.match(rest.lower())
            # "I went" has a blank after its initial, "It went" has none.
            alone = letter in "AIO" and first and words[first.group()] > words[letter.lower() + first.group()]
            line = line._replace(text=f"{letter} {rest}" if alone else letter + rest)
        result.append(line)
    return result


# How the text is set


class Setting(NamedTuple):
    """How a document shows its paragraphs. Distances are in sizes of letters."""

    leading: float  # the usual distance from one line to the next
    indent: float  # of first lines; 0 if they have none
    marked: bool  # indents or gaps show where paragraphs begin
    ragged: float  # how far before the right edge a line ends for want of room, as a share of its column


def _setting(lines: Page) -> Setting:
    pairs = [
        (above, below)
        for above, below in itertools.pairwise(lines)
        if above.size and 0 < above.y0 - below.y0 < 6 * above.size and abs(above.size - below.size) < 1
    ]
    steps = [(above.y0 - below.y0) / above.size for above, below in pairs]
    steps = [step for step in steps if step < 4]
    leading = statistics.median(steps) if steps else 1.2
    indent = _first_indent(lines, pairs)
    gaps = [bool(_ENDS.search(above.text)) for above, below in pairs if _is_gap(above, below, leading)]
    has_gaps = len(gaps) > 2 and _GAP_EVERY * len(gaps) > len(lines) and sum(gaps) > _MOST_ENDED * len(gaps)
    return Setting(leading, indent, bool(indent) or has_gaps, _raggedness(pairs))


def _is_gap(above: Line, below: Line, leading: float) -> bool:
    return above.y0 - below.y0 > 1.3 * leading * above.size


def _first_indent(lines: Page, pairs: list[tuple[Line, Line]]) -> float:
    """Return the usual indent of first lines; 0 if indented lines continue a sentence, as hanging ones do."""
    indented = sum(0.7 * line.size < line.x0 - line.left < 5 * line.size for line in lines)
    if 40 * indented <= len(lines):
        return 0.0
    ended: dict[float, list[bool]] = {}
    for above, below in pairs:
        amount = (below.x0 - below.left) / max(1.0, below.size)
        if 0.7 < amount < 5 and below.x0 > above.x0 + 0.5:
            ended.setdefault(round(2 * amount) / 2, []).append(bool(_ENDS.search(above.text)))
    firsts = {amount: len(ends) for amount, ends in ended.items() if sum(ends) > _MOST_ENDED * len(ends)}
    return max(firsts, key=lambda amount: firsts[amount], default=0.0)


def _raggedness(pairs: list[tuple[Line, Line]]) -> float:
    """Return how far before the edge lines end inside sentences, as a share of the column.

    Lines that are broken at a number of characters end early by chance. Verse tells nothing.
    """
    early = sorted(
        max(0.0, _slack(above, below)) / (above.right - above.left)
        for above, below in pairs
        if above.right > above.left and below.text[:1].islower() and not _ENDS.search(above.text)
    )
    if len(early) < _FEWEST_SAMPLES or early[len(early) // 2] > _PROSE_SLACK:
        return 0.0
    uneven = sum(share > _EVEN for share in early)
    if uneven < 3 or _UNEVEN_EVERY * uneven < len(early):
        return 0.0
    return min(_MOST_RAGGED, max(_LEAST_RAGGED, 1.5 * early[-1 - len(early) // 50]))


def _slack(above: Line, below: Line) -> float:
    """Return the space that would be left at the end of a line if the next word stood there."""
    first = below.text.split(" ", 1)[0]
    width = (below.x1 - below.x0) * (len(first) + 1) / max(1, len(below.text))
    return above.right - above.x1 - width


# Paragraphs


def _blocks(lines: Page, setting: Setting, words: "Counter[str]") -> list[str]:
    blocks: list[str] = []
    present: list[list[str]] = []  # the lines of a block, each with the lines that it was broken into
    for i, line in enumerate(lines):
        between = _between(lines[i - 1], line, setting) if i else "\n\n"
        if between == "\n" and len(present[-1]) > 1 and _ENDS.search(lines[i - 1].text):
            between = "\n\n"  # the short last line of a paragraph
        if between == "\n\n" and present:
            blocks.append(_block(present, words))
            present = []
        if between == " " and present:
            present[-1].append(line.text)
        else:
            present.append([line.text])
    if present:
        blocks.append(_block(present, words))
    blocks = [_BULLET.sub("- ", block) if _BULLET.match(block) else block for block in blocks]
    return [block for block in blocks if block.strip()]


def _block(lines: list[list[str]], words: "Counter[str]") -> str:
    return "\n".join(filter(None, (_joined(parts, words).strip() for parts in lines)))


def _between(above: Line, below: Line, setting: Setting) -> str:
    """Return what separates two lines: a blank in a paragraph, a line break, or a blank line."""
    first = below.text.split(" ", 1)[0]
    ended = bool(_ENDS.search(above.text))
    slack, narrow = _slack(above, below), 0.3 * above.size
    packed = slack < narrow
    loose = max(narrow, setting.ragged * (above.right - above.left))
    wide = above.x1 - above.x0 > max(_NARROWEST * above.size, 0.4 * (above.right - above.left))
    full = slack < loose and wide and (packed or setting.marked or not ended)
    hyphened = bool(_HYPHEN.search(above.text[-_LONGEST_WORD:])) and first[:1].islower()
    alike = abs(above.size - below.size) <= 0.12 * above.size
    if alike and (hyphened or (full and first[:1].islower() and not ended)):
        return " "
    if not alike:
        return "\n\n"
    indent = _is_first(above, below, setting, ended)
    step = above.y0 - below.y0
    if not 0 < step < 6 * above.size:  # the next column or page
        at_edge = below.x0 - below.left < 8 * below.size  # the head of a chapter is not
        if indent or (ended and not (setting.indent and full and at_edge)):
            return "\n\n"
        return " " if full or first[:1].islower() else "\n\n"
    if _is_gap(above, below, setting.leading) or indent:
        return "\n\n"
    if _ITEM.match(below.text) and (_ITEM.match(above.text) or not full or (ended and not packed)):
        return "\n"
    return " " if full else "\n"


def _is_first(above: Line, below: Line, setting: Setting, ended: bool) -> bool:
    """Whether its indent shows that a line begins a paragraph."""
    indent = below.x0 - below.left
    if not setting.indent or not 0.7 * below.size < indent < 8 * below.size:
        return False
    usual = abs(indent - setting.indent * below.size) < 0.5 * below.size
    if below.x0 > above.x0 + 0.5:
        return usual or not _ITEM.match(above.text)
    # Two paragraphs of one line, as in talk.
    return usual and ended and abs(below.x0 - above.x0) <= 0.5


def _words(lines: Page) -> "Counter[str]":
    """Count the words of lines, without the halves of divided ones."""
    words: Counter[str] = Counter()
    divided = False
    for line in lines:
        found = _WORDS.findall(line.text.lower())
        words.update(found[divided:])
        divided = bool(_HYPHEN.search(line.text[-_LONGEST_WORD:]))
        if divided and len(found) > 1:
            words[found[-1]] -= 1
    return words


def _joined(lines: list[str], words: "Counter[str]") -> str:
    """Join the lines of a paragraph. A word that was divided is written as elsewhere."""
    parts = lines[:1]
    for line in lines[1:]:
        match, after = _HYPHEN.search(parts[-1][-_LONGEST_WORD:]), _WORDS.match(line)
        if not match or not after or not line[0].islower():
            parts += (" ", line)
            continue
        first, second = match[1].lower(), after.group().split("-")[0].lower()
        whole, apart = words[first + second], words[f"{first}-{second}"]
        both = words[first] > 1 and words[second] > 1
        keeps = parts[-1][-1] == "-" and whole <= apart and (apart > 0 or both)
        parts[-1] = parts[-1] if keeps else parts[-1][:-1]
        parts.append(line)
    return "".join(parts).replace("\u00ad", "")
