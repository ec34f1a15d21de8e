"""The tokens of a TeX source, and what belongs together: brackets, environments, labels."""

import re
from bisect import bisect_left

from llm60_jax.data.read.markup.tex import tables

PARAGRAPH = "\n\n"
CODE = "\x05"  # begins the token of a block of code
_RAW_BEGIN = re.compile(
    rf"\\begin\{{({'|'.join(tables.RAW)})(\*?)\}}(?:\[[^\]\n]{{0,300}}\])?(?:\{{[\w+ -]{{0,30}}\}})?"
)
_VERB = re.compile(r"\\(?:verb\*?|lstinline|mintinline\{\w{0,20}\})(?:([^\w\s*{])(.{0,500}?)\1|\{([^{}\n]{0,500})\})")
# An address may hold "%", which begins no comment there. A link keeps its words alone.
_ADDRESS = re.compile(r"\\(?:(?:url|path|nolinkurl)\{([^{}\n]{0,2000})\}|href\{[^{}\n]{0,2000}\})")
_TOKEN = re.compile(
    r"%[^\n]*(?:\n[ \t]*)?"  # a comment takes the line's end with it
    r"|\\[a-zA-Z@]+\*?|\\[\s\S]?"
    r"|\n[ \t]*\n\s*"
    r"|\$\$?|[{}\[\]~&]"
    r"|[^\\%{}\[\]~&$\n]+|\n"
)
_FALSE = re.compile(r"\\iffalse\b")


def tokens_of(source: str) -> list[str]:
    """Split a source into tokens: commands, brackets, blank lines, text. Comments are left out."""
    tokens: list[str] = []
    place, unclosed = 0, set()
    while place < len(source):
        if source.startswith("\\", place):
            raw = _RAW_BEGIN.match(source, place)
            if raw and raw[1] + raw[2] not in unclosed:
                stop = source.find(f"\\end{{{raw[1]}{raw[2]}}}", raw.end())
                if stop < 0:
                    unclosed.add(raw[1] + raw[2])
                else:
                    if raw[1] not in tables.GONE:
                        tokens.append(CODE + source[raw.end() : stop])
                    place = source.index("}", stop) + 1
                    continue
            if verb := _VERB.match(source, place):
                code = verb[2] if verb[3] is None else verb[3]
                tokens += [code] if code else []
                place = verb.end()
                continue
            if address := _ADDRESS.match(source, place):
                tokens += [address[1]] if address[1] else []
                place = address.end()
                continue
            if "\\iffalse" not in unclosed and _FALSE.match(source, place):
                stop = source.find("\\fi", place + 8)
                if stop < 0:
                    unclosed.add("\\iffalse")
                else:
                    place = stop + 3
                    continue
        match = _TOKEN.match(source, place)
        assert match
        token = match.group()
        place = match.end()
        if token.startswith("%"):
            continue
        tokens.append(PARAGRAPH if token.startswith("\n") and token.count("\n") > 1 else token)
    return tokens


def closings(tokens: list[str]) -> dict[int, int]:
    """Return the place of the closing bracket of each "{" and "["."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token in ("{", "["):
            opened.append(i)
        elif token == "}":
            while opened and tokens[opened[-1]] == "[":
                opened.pop()
            if opened:
                pairs[opened.pop()] = i
        elif token == "]" and opened and tokens[opened[-1]] == "[":
            pairs[opened.pop()] = i
    return pairs


def skip_blanks(tokens: list[str], i: int) -> int:
    """Return the place of the next token that is not white space inside a paragraph."""
    while i < len(tokens) and tokens[i] != PARAGRAPH and tokens[i].isspace():
        i += 1
    return i


class Places:
    """Where tokens of some kinds stand, to find the next one quickly."""

    def __init__(self, tokens: list[str], kinds: tuple[str, ...]):
        self._places: dict[str, list[int]] = {kind: [] for kind in kinds}
        for i, token in enumerate(tokens):
            if token in self._places:
                self._places[token].append(i)

    def after(self, kind: str, i: int) -> int:
        """Return the first place of a token at or after `i`; -1 if there is none."""
        places = self._places[kind]
        at = bisect_left(places, i)
        return places[at] if at < len(places) else -1


def environments(tokens: list[str]) -> dict[int, int]:
    """Return the place after \\end{name} for the bracket of each \\begin{name}."""
    opened: dict[str, list[int]] = {}
    ends: dict[int, int] = {}
    for i, token in enumerate(tokens):
        if token in ("\\begin", "\\end") and tokens[i + 1 : i + 2] == ["{"] and tokens[i + 3 : i + 4] == ["}"]:
            name = tokens[i + 2].strip()
            if token == "\\begin":
                opened.setdefault(name, []).append(i + 1)
            elif opened.get(name):
                ends[opened[name].pop()] = i + 4
    return ends


def labels_of(tokens: list[str], pairs: dict[int, int]) -> dict[str, tuple[str, str]]:
    """Return label -> (number, kind): those of sections, figures, tables and equations."""
    labels: dict[str, tuple[str, str]] = {}
    sections: dict[int, int] = {}
    counts = dict.fromkeys(tables.COUNTED.values(), 0)
    present = outer = ("", "")
    for i, token in enumerate(tokens):
        level = tables.HEADINGS.get(token[1:], 9) if token[0] == "\\" else 9
        if 1 <= level <= 4:
            sections = {key: count for key, count in sections.items() if key <= level}
            sections[level] = sections.get(level, 0) + 1
            number = ".".join(str(sections.get(key, 0)) for key in range(min(sections), level + 1))
            present = (number, "chapter" if level == 1 else "section")
        elif token in ("\\begin", "\\end") and (name := "".join(tokens[i + 2 : i + 3]).strip()) in tables.COUNTED:
            kind = tables.COUNTED[name]
            if token == "\\begin":
                counts[kind] += 1
                outer, present = present, (str(counts[kind]), kind)
            else:
                present = outer
        elif token == "\\label" and i + 1 in pairs and present[0]:
            labels["".join(tokens[i + 2 : pairs[i + 1]]).strip()] = present
    return labels
