"""The text of a paragraph of TeX: quotation marks, formulas, and what a dropped command leaves."""

import re

# Marks in the text of a paragraph until it is whole; none of them can stand in a source.
GONE = "\x01"  # something without words was here
LINE = "\x02"  # a line break that is meant
REFERENCE = "\x03"  # a reference that cannot be resolved
HOLE = "\x04"  # a displayed formula was here: its sentence is not whole

_KINDS = (
    r"(?:sec(?:tion|\.)?s?|chap(?:ter|\.)?s?|fig(?:ure|\.)?s?|tab(?:le|\.)?s?"
    r"|eq(?:uation|n|\.)?s?|app(?:endix|\.)?|part|pages?|pp?\.|\u00a7)"
)
_TIDY = (
    (re.compile(rf"(?:\b(?:in|of|see|from|at|on|by)[ ~]{{1,3}})?\b{_KINDS}[ ~]{{0,3}}{REFERENCE}", re.I), GONE),
    (re.compile(REFERENCE), GONE),
    (re.compile(rf"\s?[(\[](?:see also|see|cf\.?|e\.g\.,?)?[ ~,;]{{0,5}}{GONE}[ ~,;{GONE}]{{0,40}}[)\]]", re.I), ""),
    (re.compile(rf"[ ~\n,;]{{0,5}}{GONE}[{GONE} ~]{{0,20}}(?=[.!?])"), ""),
    (re.compile(rf"[ ~\n]{{0,5}}{GONE}[{GONE} ~]{{0,20}}(?=[.,;:!?)\]\u2019\u201d])"), ""),
    (re.compile(GONE), ""),
)
_SENTENCE = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)]{0,3}\s+(?=[\"'\u201c\u2018(]{0,2}[A-Z0-9\x04])")
_SIMPLE_MATH = re.compile(
    r"[\w\s.,;:!?'%+\-=<>/()\[\]|\u00b0\u00b2\u00b3\u00d7\u00b1\u2212\u2192\u2264\u2265\u2026-]{1,60}$"
)
_MATH = (
    (re.compile(r"\\(?:text|mathrm|mathit|mathbf|textit|mbox|textrm|operatorname)\s?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\^\{?\\(?:circ|degree)\b\}?"), "\u00b0"),
    (re.compile(r"\^\{?(th|st|nd|rd)\}?(?![a-z])"), r"\1"),
    (re.compile(r"(?<=[\w)])\^\{?2\}?(?!\d)"), "\u00b2"),
    (re.compile(r"(?<=[\w)])\^\{?3\}?(?!\d)"), "\u00b3"),
    (re.compile(r"\\times\b"), "\u00d7"),
    (re.compile(r"\\pm\b"), "\u00b1"),
    (re.compile(r"\\(?:rightarrow|to)\b"), "\u2192"),
    (re.compile(r"\\(?:leq?)\b"), "\u2264"),
    (re.compile(r"\\(?:geq?)\b"), "\u2265"),
    (re.compile(r"\\(?:[lcd]?dots)\b"), "..."),
    (re.compile(r"\\[,;:! ]|~|\\q?quad\b"), " "),
    (re.compile(r"\\([%$&#_])"), r"\1"),
)
_LONGEST_SIMPLE = 200  # characters of a formula that may turn out simple


def typeset(text: str) -> str:
    """Return text with the quotation marks and dashes that TeX makes of its own."""
    if "`" in text or "'" in text:
        text = text.replace("``", "\u201c").replace("''", "\u201d").replace("`", "\u2018").replace("'", "\u2019")
    return text.replace("---", "\u2014").replace("--", "\u2013") if "--" in text else text


def whole(text: str) -> str:
    """Return the lines of a paragraph without empty brackets and unwhole sentences."""
    if GONE in text or REFERENCE in text:
        for pattern, replacement in _TIDY:
            text = pattern.sub(replacement, text)
    lines = [" ".join(line.split()) for line in text.split(LINE)]
    text = "\n".join(line for line in lines if line)
    if HOLE in text:
        text = _without_holes(text)
    return text if any(map(str.isalnum, text)) else ""


def _without_holes(text: str) -> str:
    """Drop the sentences that a displayed formula was a part of."""
    sentences: list[str] = []
    for sentence in _SENTENCE.split(text):
        if HOLE not in sentence:
            sentences.append(sentence)
            continue
        before, _, after = sentence.partition(HOLE)
        # Between two whole sentences a formula leaves no hole.
        if before.rstrip()[-1:] in (".", "!", "?"):
            sentences.append(before)
        last = after.rpartition(HOLE)[2].strip()
        if last[:1].isupper() and (not before.strip() or before.rstrip()[-1:] in ".!?"):
            sentences.append(last)
    return " ".join(" ".join(sentences).replace(HOLE, " ").split(" "))


def simple(source: str) -> str | None:
    """Return a formula as plain text, if it is as simple as a number or a letter; else None."""
    if len(source) > _LONGEST_SIMPLE:
        return None
    for pattern, replacement in _MATH:
        source = pattern.sub(replacement, source)
    text = " ".join(re.sub(r"\{([\w\s.,]*)\}", r"\1", source).split())
    if not text:
        return ""
    return text if _SIMPLE_MATH.match(text) and "_" not in text and "^" not in text else None
