"""Cut a text into blocks, and blocks into headings, lists, tables and runs of text."""

import re
from collections import Counter
from collections.abc import Iterator

from llm60_jax.data.clean.pages import is_cut

LINE_END = re.compile(r"[.!?:][\"'\u201d\u2019)\]_]*$")
SENTENCE_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]_*]*$")
NARROW = 25  # characters; lists have such lines
SHORT = 50  # lines of verse are mostly shorter, lines of prose mostly longer
WIDE = 150  # a longer line is a paragraph

_HEADING = re.compile(r"^#{1,6} +\S")
_RULE = re.compile(r"^[^\w\s](?:[^\w\n]|_)+$|^_{3,}$")  # no word: underlines, scene breaks
_ROW = re.compile(r"^\s*\|.*\|$")
_ITEM = re.compile(
    r"^(?P<indent> *)(?:(?P<bullet>[-*+\u2022\u2023\u25aa\u25cf\u25e6\u00b7\u2043])|\(?(?P<number>\d{1,3})[.)])"
    r" +(?=\S)"
)
_STRUCTURE = frozenset("#-*+\u2022\u2023\u25aa\u25cf\u25e6\u00b7\u2043|(=~_0123456789")  # how such lines begin

Block = list[str]  # consecutive lines with their indentation


def split(text: str) -> list[tuple[bool, Block]]:
    """Return (whether its breaks are meant, lines) of each part of a text. Double spacing goes."""
    return [part for block in _close_up(_blocks(text)) for part in _parts(block)]


def _blocks(text: str) -> list[tuple[int, Block]]:
    """Return (blank lines before it, lines) of each run of lines that are not blank."""
    blocks: list[tuple[int, Block]] = []
    gap, block = 0, None
    for line in text.split("\n"):
        if not line or line.isspace():
            gap, block = gap + 1, None
        elif block is None:
            block = [line]
            blocks.append((gap, block))
            gap = 0
        else:
            block.append(line)
    return blocks


def _close_up(blocks: list[tuple[int, Block]]) -> Iterator[Block]:
    """Yield blocks, without the blank lines of double spacing."""
    start = 0
    while start < len(blocks):
        stop = start
        while stop < len(blocks) and len(blocks[stop][1]) == 1:
            stop += 1
        if stop - start > 3 and _is_double_spaced(blocks[start:stop]):
            lines: Block = []
            for gap, block in blocks[start:stop]:
                if gap > 1 and lines:
                    yield lines
                    lines = []
                lines.extend(block)
            yield lines
        else:
            for _, block in blocks[start:stop]:
                yield block
        if stop < len(blocks):
            yield blocks[stop][1]
            stop += 1
        start = stop


def _is_double_spaced(run: list[tuple[int, Block]]) -> bool:
    """Whether blocks of one line each are the lines of prose: of one width, cut inside sentences."""
    lines = [block[0] for _, block in run]
    widest = max(map(len, lines))
    if not NARROW < widest <= WIDE:
        return False
    pairs = [(a, b) for a, b, (gap, _) in zip(lines, lines[1:], run[1:], strict=False) if gap == 1]
    cut = [len(a) for a, b in pairs if is_cut(a, b)]
    full = sum(10 * length >= 6 * widest for length in cut)
    return len(cut) >= 2 and 5 * len(cut) >= 2 * len(pairs) and 5 * full >= 4 * len(cut)


def _parts(block: Block) -> list[tuple[bool, Block]]:
    """Return (whether its breaks are meant, lines) of each heading, list, table and run of text in a block."""
    if all(line.lstrip()[:1] not in _STRUCTURE for line in block):
        return [(False, block)]
    bullets = Counter(match["bullet"] for line in block if (match := _ITEM.match(line)) and match["bullet"])
    parts: list[tuple[bool, Block]] = []
    kind = ""
    for i, line in enumerate(block):
        item = _ITEM.match(line)
        if _RULE.match(line.strip()) and not _ROW.match(line):
            kind = ""  # below a heading, between scenes
        elif _HEADING.match(line) or (i + 1 < len(block) and kind == "" and _is_underline(block[i + 1])):
            parts.append((True, [line]))
            kind = ""
        elif _ROW.match(line):
            if kind != "row":
                parts.append((True, []))
            parts[-1][1].append(line)
            kind = "row"
        elif item and (kind != "text" or _begins_item(item, block[i - 1], bullets)):
            if kind != "item":
                parts.append((True, []))
            parts[-1][1].append(line)
            kind = "item"
        elif kind == "item" and _continues_item(block[i - 1], line):
            parts[-1][1][-1] += f" {line.strip()}"
        else:
            if kind != "text":
                parts.append((False, []))
            parts[-1][1].append(line)
            kind = "text"
    return parts


def _is_underline(line: str) -> bool:
    return len(line) >= 3 and line[0] in "=-~" and not line.strip(line[0])


def _begins_item(item: "re.Match[str]", before: str, bullets: Counter[str]) -> bool:
    """Whether a line below text begins a list: prose may have a dash or a number there."""
    return bool(LINE_END.search(before)) and (item["number"] == "1" or bullets[item["bullet"]] > 1 or before[-1] == ":")


def _continues_item(before: str, line: str) -> bool:
    """Whether a line goes on with the item above: it is indented, or begins inside a sentence."""
    match = _ITEM.match(before)
    indent = len(match["indent"]) if match else 0
    return (
        len(line) - len(line.lstrip()) > indent
        or is_cut(before, line)
        or (not SENTENCE_END.search(before) and len(before) >= SHORT)
    )
