"""Exclusion rules for lines: each marks the lines of a normalised document to drop.

The rules for chats and forum threads are in `conversation_rules`.
"""

import itertools
import re
from collections.abc import Sequence

from llm60_jax.config import Exclude
from llm60_jax.data.clean.lines import ROMAN, Lines, Mask, blocks, groups, roman, runs, words

_BULLET = r"[-+*\u2022\u2023\u25aa\u25cf\u25e6\u00b7\u2043\u2713\u2714\u25a1\u25ba]"
_ITEM = re.compile(
    rf"""^(?P<indent>\s*)(?:{_BULLET} | (?:\u00a7\s?|\()?(?:\d{{1,3}}|(?P<letter>[a-zA-Z]|[ivxlIVXL]{{1,6}}))[.)\]]
        | \[[\sxX]\] | (?:step|item)\s\d+[:.)])\s+(?=\S*.{{0,3}}\w)""",
    re.VERBOSE | re.IGNORECASE,
)
_CHAPTER = re.compile(
    r"^\s*(?P<part>(?:chapter|part|book|section|letter|scene|act)\s+)?(?P<number>[ivxlc]{1,7}|\d{1,3})"
    r"(?P<dot>[.:)])?\s+\S.{0,75}$",
    re.IGNORECASE,
)
_ROW = re.compile(
    r"^\s*\S.{2,70}(?:\s{3,}|\s?(?:\. ?){3,})(?:\d{1,4}|[ivxlc]{1,7})\s*$"
    r"|^\s*\|.*\|\s*$|^[^,.\s][^,.]{0,40}(?:,[^,\s][^,.]{0,40}){2,}$",  # a row of a table; values between commas
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?,;:\u2026][\"'\u201d\u2019)\]]*$")


def list_(lines: Lines, limits: Exclude) -> Mask:
    """Mark runs of bulleted or numbered items shorter than prose, tables, tables of contents."""
    mask = runs(lines, _contents(lines), max(limits.list_items, 4))
    least = 1 if _is_changelog(lines) else limits.list_items
    items: list[tuple[int, int]] = []  # start and stop line of each item in the present run

    def close() -> None:
        if len(items) >= least:
            characters = sum(len(line) for start, stop in items for line in lines[start:stop])
            if characters <= limits.list_item_characters * len(items) and not _is_prose(lines, items):
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
        while i < len(lines) and not _ITEM.match(lines[i]):
            if not _goes_on(lines, i, indent):
                break
            i += 1
        stop = i
        while not lines[stop - 1].strip():
            stop -= 1
        items.append((start, stop))
    close()
    return mask


_VERSION = re.compile(r"^\W{0,5}(?:version\s)?v?\d{1,4}\.\d{1,4}(?:\.\d{1,6})?\b.{0,40}$", re.IGNORECASE)
_CHANGES = re.compile(
    r"^\W{0,5}(?:added|changed|fixed|removed|deprecated|security|bug ?fixes|fixes|features|improvements)\W{0,3}$",
    re.IGNORECASE,
)


def _is_changelog(lines: Lines) -> bool:
    """Whether lists stand below the numbers of versions and the kinds of changes. They may be short."""
    return sum(map(bool, map(_VERSION.match, lines))) > 1 and sum(map(bool, map(_CHANGES.match, lines))) > 1


_FULL_LINE = 45  # characters: a shorter line ends its item


def _goes_on(lines: Lines, i: int, indent: int) -> bool:
    """Whether the item above line `i` goes on in it.

    An item ends at the next blank line, unless the lines below it are indented deeper; and at a
    short line, if the next one begins a sentence.
    """
    line, before = lines[i], lines[i - 1]
    if not line.strip() or len(line) - len(line.lstrip()) > indent + 1:
        return True
    return bool(before.strip()) and (len(before) >= _FULL_LINE or not line.lstrip()[:1].isupper())


def _contents(lines: Lines) -> Mask:
    """Return which lines have the form of a table of contents or a row of a table.

    The first word of a sentence can look like a Roman numeral: "I", "Mix". Only numerals that grow
    from line to line are numbers. A line with a bare number is no sentence.
    """
    hits = [False] * len(lines)
    before, last = -1, 0  # the line of the last Roman numeral, and its value
    for i, line in enumerate(lines):
        match = _CHAPTER.match(line) if len(line) <= 120 else None
        if not match:
            if line.strip():
                hits[i] = bool(_ROW.match(line))
                before = -1
            continue
        number = match["number"]
        if match["part"] or match["dot"] or not _SENTENCE_END.search(line):
            hits[i] = number.isdigit() or bool(match["part"] and ROMAN.match(number))
        if hits[i] or not ROMAN.match(number):
            continue
        value = roman(number)
        if before >= 0 and value > last and (match["dot"] or not _SENTENCE_END.search(line)):
            hits[before] = hits[i] = True
        before, last = i, value
    return hits


_THESIS = re.compile(r"^\s*\(?(?:\d|[ivxl]+[.)]).*[.!?][\"'\u201d\u2019)]*$", re.IGNORECASE | re.DOTALL)
_THESIS_CHARACTERS = 120
_SPEECH = re.compile(r"[?!][\"'\u201d\u2019)]*(?:\s|$)|\b(?:said|asked|replied|cried|answered|whispered)\b")
_PERSON = re.compile(r"\b(?:I|[Yy]ou|[Ww]e|[Mm]e|[Mm]y|[Yy]our|[Uu]s)\b")


def _is_prose(lines: Lines, items: Sequence[tuple[int, int]]) -> bool:
    """Whether items are numbered paragraphs, paragraphs with initials, or speeches of a dialogue."""
    texts = ["\n".join(lines[start:stop]) for start, stop in items]
    matches = [_ITEM.match(text) for text in texts]
    letters = [match["letter"] for match in matches if match and match["letter"]]
    if len(letters) == len(texts):
        return not _is_counted(letters)
    ended = sum(bool(_SENTENCE_END.search(text)) for text in texts)
    if texts[0].lstrip().startswith("- ") and 10 * ended >= 9 * len(texts):
        spoken = sum(bool(_SPEECH.search(text)) for text in texts)
        asked = sum(text.endswith("?") for text in texts)
        addressed = sum(bool(_PERSON.search(text)) for text in texts)
        return 4 * spoken >= len(texts) > asked and 3 * addressed >= len(texts)
    apart = all(not lines[start - 1].strip() for start, _ in items[1:])
    long = sum(map(len, texts)) >= _THESIS_CHARACTERS * len(texts)
    return apart and long and all(map(_THESIS.match, texts))


def _is_counted(letters: Sequence[str]) -> bool:
    """Whether the letters before items count them: a, b, c or i, ii, iii, not A, B, A."""
    singles = [ord(letter.lower()) for letter in letters if len(letter) == 1]
    romans = [roman(letter) for letter in letters if ROMAN.match(letter)]
    grows = [all(a < b for a, b in itertools.pairwise(row)) for row in (singles, romans)]
    return (len(singles) == len(letters) and grows[0]) or (len(romans) == len(letters) and grows[1])


_QUESTION = re.compile(r"^[\s*#_>\d.)]{0,20}(?:Q\s?\d{0,3}\s?[.:)\]-]|Question\s?\d{0,3}:)")
_ANSWER = re.compile(r"^[\s*#_>]{0,20}(?:A\s?\d{0,3}\s?[.:)\]]|Answer\s?\d{0,3}:)")
_ASKED = re.compile(r"^\s*(?:#{1,6}\s|\*\*|\d{1,3}[.)]\s)?\S.{2,150}\?\W*$")
_FAQ_TITLE = re.compile(r"^\W*(?:.{0,30}\b)?(?:frequently asked questions|FAQs?)\b.{0,30}$", re.IGNORECASE)
_FAQ_WORDS = 250  # between two questions


def faq(lines: Lines, limits: Exclude) -> Mask:
    """Mark questions and answers, from the first question to the end of the last answer.

    Questions and answers carry marks ("Q:", "A:"), or questions stand alone below a title with
    "FAQ", or they begin most blocks and the answers do not speak of themselves.
    """
    asked = [bool(_QUESTION.match(line)) for line in lines]
    answers = sum(bool(_ANSWER.match(line)) for line in lines) if any(asked) else 0
    marked = any(asked) and 2 * answers >= sum(asked) and 2 * _questions(lines, asked) >= sum(asked)
    if not marked:
        asked = [False] * len(lines)
    title = next((i for i, line in enumerate(lines) if _is_faq_title(line)), None)
    if title is not None:
        for i in range(title + 1, len(lines)):
            if not lines[i - 1].strip() and lines[i].endswith(("?", "?**")) and _ASKED.match(lines[i]):
                asked[i] = True
    parts = list(blocks(lines))
    unmarked = [start for start, stop in parts if stop - start > 1 and _is_answered(lines[start:stop])]
    if (
        len(unmarked) > limits.faq_items
        and 2 * len(unmarked) > len(parts)
        and not _is_interview(lines, parts, unmarked)
    ):
        for i in unmarked:
            asked[i] = True
    mask = [False] * len(lines)
    for start, stop in groups(lines, asked, _FAQ_WORDS, words):
        if sum(asked[start:stop]) >= limits.faq_items:
            start = title if title is not None and not any(map(words, lines[title + 1 : start])) else start
            stop = next((i for i in range(stop + 1, len(lines)) if not lines[i].strip()), len(lines))
            mask[start:stop] = [True] * (stop - start)
    return mask


def _is_faq_title(line: str) -> bool:
    return len(line) < 80 and words(line) <= 8 and bool(_FAQ_TITLE.match(line)) and not _SENTENCE_END.search(line)


def _questions(lines: Lines, asked: Mask) -> int:
    """Count the lines marked as questions that have a question mark, or one in the next two lines."""
    return sum(ask and "?" in "".join(lines[i : i + 3]) for i, ask in enumerate(asked))


_ASKS = re.compile(
    r"(?:what|how|why|when|where|who|which|can|could|do|does|did|is|are|will|would|should|may|must|has|have)\b"
    r"[^\"\u201c\u201d]{3,110}\?$",
    re.IGNORECASE,
)
_SELF = re.compile(r"\b(?:I|[Mm]y|[Mm]e)\b")


def _is_answered(block: Lines) -> bool:
    """Whether the first line of a block is a question and its other lines are not."""
    return bool(_ASKS.match(block[0].strip())) and not any("?" in line for line in block[1:])


def _is_interview(lines: Lines, parts: Sequence[tuple[int, int]], asked: Sequence[int]) -> bool:
    """Whether half of the answers or more speak of the one who answers."""
    ends = dict(parts)
    return 2 * sum(any(map(_SELF.search, lines[i + 1 : ends[i]])) for i in asked) >= len(asked)


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
        | \$\s\S.* | >>>\s?[\w.]*(?:[\[(={'"\d].*)?[\w)\]}'"]?
        | >>>\s(?:import|from|for|def|class|print|with|if|while)\s.*
        | (?:sudo|apt(?:-get)?|pip|npm|git|cd|ls|curl|docker|make|chmod|mkdir)\s[-\w./].*
        | \w+\([^()]*\)\s?=\s?\S.* | [\w(),\s]+::\s?\w.* | do\s\w+\s?=.* | end\s(?:do|if|program|subroutine)\b.*
        | </?[a-zA-Z!][^<>]*>.* | (?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)\s.*
        | "[\w-]+"\s?:\s?.* | [a-z-]+\s?:\s?[\w"'#-][^.]*;$
        | \\(?:begin|end|documentclass|usepackage|newcommand|def)\b.*
    )$""",
    re.VERBOSE,
)
_SIGN = re.compile(  # one at least in each block of code
    r"[(){}\[\]=<>$_]|^\s*(?:import|from|sudo|apt(?:-get)?|pip|npm|git|cd|docker|make|chmod)\s"
)
_CODE_CHARACTERS = re.compile(r"[(){}\[\];=<>_#/\\|&*+$@^~`\"'.-]")
_FENCE = re.compile(r"^\s*(?P<mark>`{3,}|~{3,})\s?(?P<language>[^`~]{0,80})$")


def code(lines: Lines, limits: Exclude) -> Mask:
    """Mark blocks that are mostly statements of a programming language, and fenced blocks."""
    hits = [_is_code(line) for line in lines]
    mask = _fenced(lines, hits, limits)
    for start, stop in blocks(lines):
        if sum(bool(_MACHINE.match(line)) for line in lines[start:stop]) >= 2:
            mask[start:stop] = [True] * (stop - start)
        count = sum(hits[start:stop])
        if count and not any(map(_SIGN.search, lines[start:stop])):
            continue
        enough = count >= 2 or (stop - start == 1 and _is_strong(lines[start]))
        if enough and count >= limits.code_share * (stop - start):
            mask[start:stop] = [True] * (stop - start)
    return mask


# Two such lines mark a whole block: shell prompts, traces, diffs, SQL, assembly, logs.
_MACHINE = re.compile(
    r"""^\s*(?:
        (?:\$|[\w.-]+@[\w.-]+[:\s]?\S{0,30}[$#]|~\S{0,30}[$#])\s(?:sudo\s)?[a-z.][\w./-]*
        | >>>\s(?:[\w.]{1,60}\s?[=(\[]|(?:import|from|for|def|class|print)\s|["'\d\[{(]|\w{1,30}$)
        | Traceback\s\(most | File\s".+",\sline\s\d+ | [\w.]+(?:Error|Exception):\s | at\s[\w.$<>]+\(.*\)$
        | diff\s--git\s | @@\s-\d+ | (?:---|\+\+\+)\s[ab]/ | index\s[0-9a-f]{7,}\.\.
        | (?:(?:SELECT|(?:LEFT\s|RIGHT\s|INNER\s|OUTER\s)?JOIN|GROUP\sBY|ORDER\sBY|HAVING|INSERT\sINTO|VALUES
            |DELETE\sFROM|UPDATE\s\S{1,40}\sSET|CREATE\s(?:TABLE|INDEX|VIEW)|ALTER\sTABLE|DROP\sTABLE)\b[^!?]*
            |FROM\s\S{1,60}(?:\s(?:AS\s)?\w{1,20})?[,;]?|WHERE\s.{0,80}(?:[=<>]|\b(?:IN|LIKE|IS|BETWEEN)\b).*)$
        | (?:mov|lea|cmp|xor|ldr|jn?[ez]|jmp)\w{0,2}\s+[%$#\[\w]+\]?,\s?\S+$
        | \[?\d{4}-\d\d-\d\d[T\s]\d\d:\d\d:\d\d\S*\s+\[?(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL)\b
    )""",
    re.VERBOSE,
)


def _is_code(line: str) -> bool:
    """Whether a line has the form of a statement and, unless very short, signs that prose lacks."""
    if not _CODE.match(line):
        return False
    count, marks = words(line), len(_CODE_CHARACTERS.findall(line))
    return count <= 2 or 3 * marks >= count or (marks > 0 and line.startswith("    "))


def _is_strong(line: str) -> bool:
    """Whether a line alone is evidence enough: a statement with a sign for every two words."""
    marks = len(_CODE_CHARACTERS.findall(line))
    return _is_code(line) and marks >= 3 and 2 * marks >= len(line.split()) and not line.lstrip().startswith("#")


def _fenced(lines: Lines, hits: Mask, limits: Exclude) -> Mask:
    """Mark blocks between Markdown fences, fences included.

    Writers part scenes with tildes, so what is between those must look like code.
    """
    mask = [False] * len(lines)
    opened: tuple[int, str, str] | None = None  # line, mark and language of the first fence
    for i, line in enumerate(lines):
        match = _FENCE.match(line)
        if not match:
            continue
        if opened is None:
            opened = i, match["mark"], match["language"]
        elif match["mark"].startswith(opened[1]) and not match["language"]:
            start, fence, language = opened
            inside = sum(bool(line.strip()) for line in lines[start + 1 : i])
            if fence[0] == "`" or language or sum(hits[start + 1 : i]) > limits.code_share * inside:
                mask[start : i + 1] = [True] * (i + 1 - start)
                opened = None
            else:
                opened = i, fence, ""  # the end of one scene is the start of the next
    return mask


_TEX = re.compile(r"(?<![\\\w:/])\\[a-zA-Z]{2,}(?!\\)")
_FORMULA = re.compile(r"(?<![\\$\w])\$(?=[^\s$])[^$\n]{0,200}(?<!\s)\$(?!\d)|\\\[\s*$|\\begin\{(?:equation|align|math)")
_COMMAND_WORDS = 240  # words for each command, in the source of a book in TeX
_FORMULAS = 20  # fewer are left to the rule for paragraphs
_FORMULA_WORDS = 200  # words for each formula, in a book on mathematics


def tex(lines: Lines, limits: Exclude) -> Mask:
    """Mark all lines of a text on mathematics in TeX: commands and formulas are frequent.

    Commands alone can be those of an essay, which is about TeX or written in it.
    """
    formulas = sum(len(_FORMULA.findall(line)) for line in lines if "$" in line or "\\" in line)
    if formulas < 5:
        return [False] * len(lines)
    count = sum(map(words, lines))
    commands = sum(len(_TEX.findall(line)) for line in lines if "\\" in line)
    begun = sum(bool(_TEX.match(line.lstrip())) for line in lines)
    source = begun >= 3 and _COMMAND_WORDS * commands >= count
    mathematics = formulas >= _FORMULAS and _FORMULA_WORDS * formulas >= count
    return [source or mathematics] * len(lines)
