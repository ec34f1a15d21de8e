"""Exclusion rules for lines: each marks the lines of a normalised document to drop."""

import itertools
import re
from collections.abc import Iterator, Sequence

from llm60_jax.config import Exclude

Lines = Sequence[str]
Mask = list[bool]  # for each line, whether to drop it

_CHAT = re.compile(
    r"""^\s*(?:
        [\[(]?\d{1,2}[:.]\d\d(?:[:.]\d\d)?\s?(?:[AaPp]\.?[Mm]\.?)?[\])]?\s*[-\u2013|]?\s*   # a time, then
            (?:<[^<>]{1,40}>|\*\s?\S|[-=*]{2,3}|[@+%&~]?[\w.|`^\[\]{}\\-]{1,30}(?:\s[\w.|-]{1,20})?\s?[:>|])
        | <[@+%&~\s]?[\w.|`^\[\]{}\\-]{1,30}>\s                                             # <nick> words
        | (?:===|\*\*\*|-!-|-->|<--)\s+\S+.{0,80}?\b(?:joined|left|quit|parted|kicked|banned|set\sthe\stopic|topic|
            (?:is\s)?now\sknown\sas|sets?\smode|mode|changed|netsplit)\b
        | \[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?\s\d{1,2}:\d\d(?::\d\d)?\s?(?:[AaPp][Mm])?\]?\s?(?:[-\u2013]\s)?
            [^:\n]{1,40}:\s                                                         # [1/2/21, 9:15] Name: words
        | [\w.\s-]{1,30}\s[\[(\u2013\u2014-]+\s?(?:(?:to|yester)day\sat\s)?\d{1,2}:\d\d\s?(?:[AaPp][Mm])?[\])]?\s*$
        | [\w.'-]{1,20}(?:\s[\w.'-]{1,20})?,\s\[\d{1,2}[./-]\d{1,2}[./-]\d{2,4},?\s\d{1,2}:\d\d  # Name, [1.2.21 9:15]
        | (?!\w*day\b|(?:jan|feb|mar|apr|may|june?|july?|aug|sep|oct|nov|dec)\w*\b)           # Name 9:41 AM
            [a-z][\w.'-]*(?:\s[\w.'-]+){0,2}\s{1,4}\d{1,2}:\d\d\s?(?:[ap]\.?m\.?)?\s*$
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_LOWER_CASE_SPEAKER = re.compile(r"^\s*[a-z0-9_.|-]{2,24}:\s\S")
_SPEAKER = re.compile(r"^\s*[A-Za-z][\w.|'-]{0,20}(?:\s[\w.'-]{1,20})?:\s+(?P<said>\S.*)$")
_ROLE = re.compile(
    r"^\s*(?:user|assistant|system|human|bot|ai|agent|customer|operator|support|stranger)\s?\d{0,3}:", re.I
)


def chat(lines: Lines, limits: Exclude) -> Mask:
    """Mark chat messages, which begin with a time and a name or a name in brackets.

    The server's own lines between them go too. A name alone counts where most lines begin with one,
    if the names or the messages are carelessly in lower case: a play has capitals and full stops.
    """
    hits = [bool(_CHAT.match(line)) for line in lines]
    speakers = [bool(_LOWER_CASE_SPEAKER.match(line) or _ROLE.match(line)) for line in lines]
    said = [(match["said"] if (match := _SPEAKER.match(line)) else "") for line in lines]
    careless = [text[:1].islower() and text[-1:].isalnum() for text in said]
    if 3 * sum(careless) > sum(map(bool, said)):
        speakers = [a or bool(text) for a, text in zip(speakers, said, strict=True)]
    if 2 * sum(speakers) > sum(bool(line.strip()) for line in lines):
        hits = [a or b for a, b in zip(hits, speakers, strict=True)]
    return _runs(lines, hits, limits.chat_lines, gap=1)


_FORUM = re.compile(
    r"""^[\s|*#_]*(?:
        (?:originally\s)?posted\s(?:by|on)\b | (?:posts?|joined|location|reputation|karma|member\ssince|threads?):\s?\S
        | (?:re|fwd?|aw):\s | >\s?\S | (?:on\s.{5,60}\s)?\S{1,24}(?:\s\S{1,24})?\swrote:\s*$
        | (?:\S{1,24}\s){1,2}says:\s*$ | [a-z]{3,9}\.?\s\d{1,2},?\s\d{4}\sat\s\d{1,2}:\d\d\b
        | (?:-{1,3}|\u2014)\s?sent\sfrom\b | sent\sfrom\smy\b | (?:reply|post|comment)\s?\#?\d+\b
        | \#\d+(?:\s.{0,30}\d\d:\d\d.{0,4})?\s*$
        | (?:\S{1,24}\s){0,3}[·•|,-]?\s?\d+\s?(?:s|sec|min|minute|h|hr|hour|d|day|w|week|mo|month|y|yr|year)s?
            \sago\b.{0,30}$
        | \d+\s(?:points?|likes?|up-?votes?|replies|comments?|people\sfound)\b
        | (?:(?:reply|quote|report|share|like|up-?vote|down-?vote|permalink|edit|flag|view\sprofile|save|hide
            |give\saward)\b[\s|·•,\d()]*(?:\d+\s?[a-z]{1,3}\s*)?){2,}$
        | view\s\d+\smore\s(?:repl|comment) | log\sin\sto\s(?:comment|reply)
        | (?:reply|permalink|upvote)\s*$ | \[(?:deleted|removed|quote)\b | /?u/\w{3,} | submitted\sby\b
        | (?:asked|answered|viewed|modified)\s(?:[a-z]{3}\s)?\d.{0,40}$ | improve\sthis\s(?:question|answer)\s*$
        | last\sedited\sby\b | (?:edit|update)\s?\d?:\s | tl;?dr\b | solved!?\s*$ | bump\b
        | thread\s(?:starter|closed|locked)\b | (?:thanks|thx)\sin\sadvance\b | op\sis\b
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_POST_LINES = 15  # posts are rarely longer


def forum(lines: Lines, limits: Exclude) -> Mask:
    """Mark threads: from the first to the last mark of a post, where such marks are close together.

    Marks are authors, dates, quotations, signatures.
    """
    hits = [bool(line) and bool(_FORUM.match(line)) for line in lines]
    mask = [False] * len(lines)
    for start, stop in _groups(lines, hits, gap=_POST_LINES):
        if sum(hits[start:stop]) >= limits.forum_marks:
            stop = next((i for i in range(stop, len(lines)) if not lines[i].strip()), len(lines))
            mask[start:stop] = [True] * (stop - start)
    return mask


_ITEM = re.compile(
    r"""^(?P<indent>\s*)(?:[-+*\u2022\u2023\u25aa\u25cf\u25e6\u00b7\u2043\u2713\u2714\u25a1\u25ba]
        | (?:\u00a7\s?|\()?(?:\d{1,3}|[a-zA-Z]|[ivxlIVXL]{1,6})[.)\]] | \[[\sxX]\] | (?:step|item)\s\d+[:.)])\s+
        (?=\S*.{0,3}\w)""",
    re.VERBOSE | re.IGNORECASE,
)
_CONTENTS = re.compile(
    r"^\s*(?:(?:chapter|part|book|section|letter|scene|act)\s+)?(?:[ivxlc]{1,7}|\d{1,3})[.:)]?\s+\S.{0,75}$"
    r"|^\s*\S.{2,70}(?:\s{3,}|\s?(?:\. ?){3,})(?:\d{1,4}|[ivxlc]{1,7})\s*$"
    r"|^\s*\|.*\|\s*$|^[^,.\s][^,.]{0,40}(?:,[^,\s][^,.]{0,40}){2,}$",  # a row of a table; values between commas
    re.IGNORECASE,
)


def list_(lines: Lines, limits: Exclude) -> Mask:
    """Mark runs of bulleted or numbered items shorter than prose, tables, tables of contents."""
    mask = _runs(lines, [bool(_CONTENTS.match(line)) for line in lines], max(limits.list_items, 4))
    items: list[tuple[int, int]] = []  # start and stop line of each item in the present run

    def close() -> None:
        if len(items) >= limits.list_items:
            characters = sum(len(line) for start, stop in items for line in lines[start:stop])
            if characters <= limits.list_item_characters * len(items) and not _is_numbered_prose(lines, items):
                mask[items[0][0] : items[-1][1]] = [True] * (items[-1][1] - items[0][0])
        items.clear()

    i = 0
    while i < len(lines):
        match = _ITEM.match(lines[i])
        if not match:
            if lines[i].strip():
                close()
            i += 1
            continue
        start, indent = i, len(match["indent"])
        i += 1
        # An item ends at the next blank line, unless the lines below it are indented deeper.
        while i < len(lines) and not _ITEM.match(lines[i]):
            deeper = len(lines[i]) - len(lines[i].lstrip()) > indent + 1
            if lines[i].strip() and not lines[i - 1].strip() and not deeper:
                break
            i += 1
        stop = i
        while not lines[stop - 1].strip():
            stop -= 1
        items.append((start, stop))
    close()
    return mask


_THESIS = re.compile(r"^\s*\(?(?:\d|[ivxl]+[.)]).*[.!?][\"'\u201d\u2019)]*$", re.IGNORECASE | re.DOTALL)
_THESIS_CHARACTERS = 120


def _is_numbered_prose(lines: Lines, items: Sequence[tuple[int, int]]) -> bool:
    """Whether items are numbered paragraphs of prose: long sentences, blank lines between them."""
    texts = ["\n".join(lines[start:stop]) for start, stop in items]
    apart = all(not lines[start - 1].strip() for start, _ in items[1:])
    long = sum(map(len, texts)) >= _THESIS_CHARACTERS * len(texts)
    return apart and long and all(map(_THESIS.match, texts))


_QUESTION = re.compile(r"^[\s*#_>\d.)]*(?:Q\s?\d{0,3}\s?[.:)\]-]|Question\s?\d{0,3}:|FAQs?\b)")
_ANSWER = re.compile(r"^[\s*#_>]*(?:A\s?\d{0,3}\s?[.:)\]]|Answer\s?\d{0,3}:)")
_ASKED = re.compile(r"^\s*(?:#{1,6}\s.{3,150}\?|\*\*.{3,150}\?\*\*|\d{1,3}[.)]\s.{3,150}\?)\W*$")
_FAQ_TITLE = re.compile(r"\bfrequently asked questions\b|\bFAQs?\b", re.IGNORECASE)


def faq(lines: Lines, limits: Exclude) -> Mask:
    """Mark questions and answers, from the first question to the end of the last answer.

    Questions carry a mark ("Q:"), are headings below a title with "FAQ", or begin most blocks.
    """
    titled = any(_FAQ_TITLE.search(line) and len(line) < 80 for line in lines)
    asked = [bool(_QUESTION.match(line)) or (titled and bool(_ASKED.match(line))) for line in lines]
    answered = any(_ANSWER.match(line) for line in lines)
    blocks = list(_blocks(lines))
    unmarked = {start for start, stop in blocks if stop - start > 1 and _is_answered(lines[start:stop])}
    if len(unmarked) > limits.faq_items and 2 * len(unmarked) > len(blocks):
        answered, asked = True, [i in unmarked for i in range(len(lines))]
    if sum(asked) < limits.faq_items or not (answered or titled):
        return [False] * len(lines)
    first = asked.index(True)
    last = len(lines) - 1 - asked[::-1].index(True)
    stop = next((i for i in range(last + 2, len(lines)) if not lines[i].strip()), len(lines))
    return [first <= i < stop for i in range(len(lines))]


_ASKS = re.compile(
    r"(?:what|how|why|when|where|who|which|can|could|do|does|did|is|are|will|would|should|may|must|has|have)\b"
    r"[^\"\u201c\u201d]{3,110}\?$",
    re.IGNORECASE,
)


def _is_answered(block: Lines) -> bool:
    """Whether the first line of a block is a question and its other lines are not."""
    return bool(_ASKS.match(block[0].strip())) and not any("?" in line for line in block[1:])


_CODE = re.compile(
    r"""^\s*(?:
        (?:async\s)?def\s\w+\(.* | class\s\w+\s?(?:\(.*\))?\s?[:{].* | import\s[\w.*{},\s]+(?:\sas\s\w+|\sfrom\s.+)?;?$
        | from\s[\w.]+\simport\s.+ | \#\s?(?:include|define|ifdef|ifndef|endif|pragma)\b.* | \#!/.*
        | @\w+(?:\(.*\))?$ | (?:public|private|protected|static|final|const|let|var|func|fn|function|struct|enum
            |interface|namespace|using|typedef|template|package|impl|pub)\s.*[({;=<>].*
        | (?:if|for|while|switch|catch|elif|unless|until)\s?\(.*\)\s?[{:]?$
        | (?:if|for|while|with|elif)\s[^.]*[\w)\]'"]:$
        | (?:else|try|finally|do|begin|end|loop|default|repeat)\s?[:{;]?$ | \}?\s?(?:else|catch|finally)\b.*\{$
        | (?:return|raise|throw|yield|await|assert|print|echo|printf|break|continue|pass|del)\b
            (?:\s?[\w.("'\[{-].*)?[;)\]\w]$
        | [\w.\[\]"'>$@*&-]+\s?(?:[-+*/|&:%]?=|<-|:=)\s?\S.* | [\w.]+\([^()]*(?:\([^()]*\)[^()]*)*\)\s?[;:,{]?$
        | .*[{}]\s*(?://.*|/\*.*)? | (?=.*[=(\[{<>])[^.!?"\u201c\u201d]*;\s*(?://.*)?
        | [\])}]+[;,)]* | (?://|/\*|\*/|\#|"{3}|'{3})\s?.*
        | \$\s\S.* | >>>\s?.* | (?:sudo|apt(?:-get)?|pip|npm|git|cd|ls|curl|docker|make|chmod|mkdir)\s[-\w./].*
        | \w+\([^()]*\)\s?=\s?\S.* | [\w(),\s]+::\s?\w.* | do\s\w+\s?=.* | end\s(?:do|if|program|subroutine)\b.*
        | </?[a-zA-Z!][^<>]*>.* | (?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)\s.*
        | "[\w-]+"\s?:\s?.* | [\w-]+\s?:\s?[\w"'#-][^.]*;$ | \\(?:begin|end|documentclass|usepackage|newcommand|def)\b.*
    )$""",
    re.VERBOSE,
)
_CODE_CHARACTERS = re.compile(r"[(){}\[\];=<>_#/\\|&*+$@^~`\"'.-]")
_FENCE = re.compile(r"^\s*(?:`{3,}|~{3,})")


def code(lines: Lines, limits: Exclude) -> Mask:
    """Mark blocks that are mostly statements of a programming language, and fenced blocks."""
    mask = _fenced(lines)
    hits = [_is_code(line) for line in lines]
    for start, stop in _blocks(lines):
        if sum(bool(_MACHINE.match(line)) for line in lines[start:stop]) >= 2:
            mask[start:stop] = [True] * (stop - start)
        count = sum(hits[start:stop])
        enough = count >= 2 or (stop - start == 1 and _is_strong(lines[start]))
        if enough and count >= limits.code_share * (stop - start):
            mask[start:stop] = [True] * (stop - start)
    return mask


# Two such lines mark a whole block: shell prompts, traces, diffs, SQL, assembly, logs.
_MACHINE = re.compile(
    r"""^\s*(?:
        (?:\$|[\w.-]+@[\w.-]+[:\s]?\S{0,30}[$#]|~\S{0,30}[$#])\s(?:sudo\s)?[a-z.][\w./-]* | >>>\s
        | Traceback\s\(most | File\s".+",\sline\s\d+ | [\w.]+(?:Error|Exception):\s | at\s[\w.$<>]+\(.*\)$
        | diff\s--git\s | @@\s-\d+ | (?:---|\+\+\+)\s[ab]/ | index\s[0-9a-f]{7,}\.\.
        | (?:SELECT|FROM|WHERE|(?:LEFT\s|RIGHT\s|INNER\s|OUTER\s)?JOIN|GROUP\sBY|ORDER\sBY|HAVING|INSERT\sINTO|VALUES
            |UPDATE|DELETE\sFROM|CREATE\s(?:TABLE|INDEX|VIEW)|ALTER\sTABLE|DROP\sTABLE)\b[^.!?]*$
        | (?:mov|lea|cmp|xor|ldr|jn?[ez]|jmp)\w{0,2}\s+[%$#\[\w]+\]?,\s?\S+$
        | \[?\d{4}-\d\d-\d\d[T\s]\d\d:\d\d:\d\d\S*\s+\[?(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL)\b
    )""",
    re.VERBOSE,
)


def _is_code(line: str) -> bool:
    """Whether a line has the form of a statement and, unless very short, signs that prose lacks."""
    if not _CODE.match(line):
        return False
    words, marks = len(line.split()), len(_CODE_CHARACTERS.findall(line))
    return words <= 2 or 3 * marks >= words or (marks > 0 and line.startswith("    "))


def _is_strong(line: str) -> bool:
    """Whether a line alone is evidence enough: a statement with a sign for every two words."""
    marks = len(_CODE_CHARACTERS.findall(line))
    return _is_code(line) and marks >= 3 and 2 * marks >= len(line.split()) and not line.lstrip().startswith("#")


def _fenced(lines: Lines) -> Mask:
    """Mark blocks between Markdown fences, fences included."""
    fences = [i for i, line in enumerate(lines) if _FENCE.match(line)]
    mask = [False] * len(lines)
    for start, stop in zip(fences[::2], fences[1::2], strict=False):
        mask[start : stop + 1] = [True] * (stop + 1 - start)
    return mask


_TEX = re.compile(r"(?<!\\)\\[a-zA-Z]{2,}")


def tex(lines: Lines, limits: Exclude) -> Mask:
    """Mark all lines of a TeX source file: one in twenty lines or more has a command."""
    commands = sum(bool("\\" in line and _TEX.search(line)) for line in lines)
    return [commands >= 5 and 20 * commands >= sum(map(bool, lines))] * len(lines)


def _blocks(lines: Lines) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each run of lines that are not blank."""
    for blank, block in itertools.groupby(range(len(lines)), key=lambda i: not lines[i].strip()):
        if not blank:
            numbers = list(block)
            yield numbers[0], numbers[-1] + 1


def _groups(lines: Lines, hits: Mask, gap: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each group of hits with at most `gap` other lines between neighbours.

    Blank lines do not count.
    """
    start = stop = None
    between = 0
    for i, hit in enumerate(hits):
        if hit:
            if start is not None and between > gap:
                assert stop is not None
                yield start, stop
                start = None
            start = i if start is None else start
            stop, between = i + 1, 0
        elif lines[i].strip():
            between += 1
    if start is not None and stop is not None:
        yield start, stop


def _runs(lines: Lines, hits: Mask, least: int, gap: int = 0) -> Mask:
    """Mark groups of at least `least` hits, the lines between the hits included."""
    mask = [False] * len(lines)
    for start, stop in _groups(lines, hits, gap):
        if sum(hits[start:stop]) >= least:
            mask[start:stop] = [True] * (stop - start)
    return mask
