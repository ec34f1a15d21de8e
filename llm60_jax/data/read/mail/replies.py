"""A person's own words in a message: quoted and forwarded mail off, answers between it stay.

Quoted lines begin with ">". The line of a mail program above them ("On Sunday Tom wrote:") goes
only together with them, as prose can hold such a line too. Some programs copy the other message
without marks: there its header ends the own words. Work and memory are linear in the text.
"""

import bisect
import re
from typing import NamedTuple

_HEADER_LINES = 4  # over which mail programs wrap the line above a quotation
_HEADER_CHARACTERS = 400
_BLANK_LINES = 3  # between that line and the quotation
_FIELD_LINES = 20  # of a header that is copied into the text

_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_OPENING = re.compile(r"-{0,4} ?(?:On|At|In article|In message|In reply to)\b")
_DATE_OPENING = re.compile(rf"-{{0,4}} ?(?:On|At) (?:{_DAY}|{_MONTH})\b", re.IGNORECASE)
_WROTE = re.compile(r"\b(?:wrote|writes)(?: ?:| ?-{2,8}:?| (?:on|at) .{0,80}\d.{0,40}:)$")
_QUOTING = re.compile(r"(?:Quoting|Thus spake) \S.{0,200}:$")
_STARRED = re.compile(r"\* \S.{0,150} [\[(]\d{4}-\d\d?-\d\d?[^\])]{0,40}[\])] ?:$")  # mutt
_DATED = re.compile(r"\d{4}[-/]\d\d?[-/]\d\d?\b.{0,100}@[^\s@]{1,100}>:?$")  # old Gmail
# Mail programs in other languages, of people who write English.
_FOREIGN = re.compile(
    r"\b(?:schrieb|schreef|geschreven|skrev|a \u00e9crit|escribi\u00f3|escreveu|ha scritto|napisa\u0142|kirjoitti)\b",
    re.I,
)
_TIME = re.compile(r"\b\d{1,2}[:.h]\d\d\b")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b|\b\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}\b")
_SENTENCE_END = re.compile(r"[a-z]{4}[.?!] ")
_ARTICLES = frozenset("a an the my his her its our your their this that".split())
# Words in lower case that mail programs and names have.
_SMALL = frozenset(
    "at on in of by via and or wrote writes am pm a.m p.m article message reply to de den der van von da di du la le "
    "el al bin you".split()
)
_PREFIX = re.compile(r"\s{0,3}([A-Za-z]{0,10}[>|]) ?")  # "TM> ", "| " instead of ">"

_FIELD = re.compile(r"\s{0,3}[*_]{0,2}([^\W\d_][\w -]{0,20}?)[*_]{0,2}\s?:(.*)$")
_FIELDS = {
    name: field
    for field, names in {
        "from": "from von de van da fra fr\u00e5n",
        "sent": "sent date gesendet datum enviado envoy\u00e9 verzonden inviato data sendt skickat fecha",
        "to": "to cc bcc an para \u00e0 aan a til till kopie",
        "subject": "subject betreff asunto assunto objet onderwerp oggetto emne \u00e4mne",
        "other": "reply-to importance attachments organization organisation message-id wichtigkeit",
    }.items()
    for name in names.split()
}
_DECORATION = " \t-\u2010\u2011\u2012\u2013\u2014=_*~.:>"
_FORWARDED = (
    "original message", "original appointment", "original email", "original e-mail", "forwarded message",
    "forwarded email", "forwarded by ", "forwarded from ", "begin forwarded", "begin original", "start of forwarded",
    "start forwarded", "message from ", "urspr\u00fcngliche nachricht", "weitergeleitete nachricht", "mensaje original",
    "mensagem original", "message d'origine", "message transf\u00e9r\u00e9", "oorspronkelijk bericht",
    "messaggio originale", "originalmeddelande", "opprinnelig melding", "original meddelelse",
)  # fmt: skip
_END_OF_FORWARDED = ("end forwarded", "end of forwarded", "end original", "end of original", "end message")
_HIDDEN = re.compile(
    r"\s*(?:\[(?:quoted text hidden|cid:[^\]]{0,200}|image: [^\]]{0,200})\]|show quoted text)\s*", re.I
)
_LINK_TARGET = re.compile(r"(?<=\S)<(?:https?|mailto|tel):[^<>\s]{1,2000}>")  # Outlook: "the mill<http://...>"
_RULE = re.compile(r"\s*[-_=*~]{5,}\s*")
_SIGNED = re.compile(r"-----BEGIN PGP SIGNED MESSAGE-----[ \t]{0,9}\n(?:[A-Za-z-]{1,30}: .{0,80}\n){0,5}[ \t]{0,9}\n")
_ARMOUR = re.compile(r"-----BEGIN PGP (SIGNATURE|MESSAGE|PUBLIC KEY BLOCK)-----")


class _Header(NamedTuple):
    """The line that a mail program writes above a quotation."""

    end: int  # the line after it
    sure: bool  # even without marked lines below it, no person writes such a line


def own_words(text: str) -> str:
    """Return the text without quoted and forwarded messages. A blank line replaces each."""
    lines = _without_armour(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    last = max((number for number, line in enumerate(lines) if line.strip()), default=-1)
    ends = [number for number, line in enumerate(lines) if _is_mark(line, _END_OF_FORWARDED)]
    kept: list[str] = []
    prefix, begun, position = ">", False, 0  # how quoted lines begin; whether own words stand above
    while position < len(lines):
        line = lines[position]
        if is_quoted(line) or line.lstrip().startswith(prefix):
            position += 1
            _separate(kept)
            continue
        if not line.strip():
            position += 1
            kept.append("")
            continue
        header = _header(lines, position)
        copied = 0 if header else _forwarded(lines, position) or _copied_header(lines, position)
        end = header.end if header else copied
        if end == 0:
            pass
        elif mark := _quotation_prefix(lines, end):
            prefix = mark
        elif copied and _is_mark(line, _FORWARDED) and (after := bisect.bisect_left(ends, copied)) < len(ends):
            end = ends[after] + 1
        elif header and not header.sure:
            end = 0
        elif end <= last and (begun or copied):
            break  # the rest is the other message, without marks
        if end:
            position = end
            _separate(kept)
            continue
        if not _HIDDEN.fullmatch(line):
            kept.append(_LINK_TARGET.sub("", line))
            begun = True
        position += 1
    return _tidy(kept)


def is_quoted(line: str) -> bool:
    """Return whether a mail program marked the line as quoted."""
    return line.lstrip().startswith(">")


def is_header(line: str) -> bool:
    """Return whether the line is one that a mail program writes above a quotation."""
    return _header([line], 0) is not None


def _separate(kept: list[str]) -> None:
    """Put a blank line in the place of what is left out."""
    if kept and kept[-1].strip():
        kept.append("")


def _tidy(lines: list[str]) -> str:
    """Join lines: no blank ones or rules at the ends, no two blank ones in a row."""
    while lines and (not lines[-1].strip() or _RULE.fullmatch(lines[-1])):
        lines.pop()
    text = "\n".join(line if line.strip() else "" for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


# Lines above quotations


def _header(lines: list[str], start: int) -> _Header | None:
    """Return the line of a mail program that begins here, perhaps wrapped; None for any other."""
    first = lines[start].strip()
    if not first or len(first) > _HEADER_CHARACTERS:
        return None
    longest = _HEADER_LINES if _OPENING.match(first) else 2
    joined = ""
    for end in range(start + 1, min(start + longest, len(lines)) + 1):
        line = lines[end - 1].strip()
        joined = f"{joined} {line}".strip()
        if not line or is_quoted(line) or len(joined) > _HEADER_CHARACTERS:
            return None
        if line.endswith((":", "-", ">")) and (sure := _sure(joined)) is not None:
            # "Anna" and "Tom wrote:" are two lines: take the shortest.
            inner = (lines[number:end] for number in range(start + 1, end))
            if any(_begins_header(part, longest > 2) for part in inner):
                return None
            return _Header(end, sure)
    return None


def _begins_header(lines: list[str], opening: bool) -> bool:
    """Return whether all the lines are one of a mail program, if need be one that begins "On"."""
    line = " ".join(part.strip() for part in lines)
    return (not opening or bool(_OPENING.match(line))) and _sure(line) is not None


def _sure(line: str) -> bool | None:
    """Return whether no person writes such a line; None if it is not one of a mail program."""
    if _QUOTING.match(line) or _STARRED.match(line) or _DATED.match(line):
        return "@" in line
    address = bool(re.search(r"\S@\S", line))
    time, year = bool(_TIME.search(line)), bool(_YEAR.search(line))
    odd, prose = _plain_words(line)
    if _SENTENCE_END.search(line):
        return None
    if not _WROTE.search(line):
        # In any language it holds a date and a time or an address.
        foreign = bool(_FOREIGN.search(line))
        dated = (address and (time or year)) or (time and year) or (foreign and year)
        if not line.endswith(":") or not dated or odd > 5 or (prose and not foreign):
            return None
        return address and (foreign or line.endswith((">:", "):")))
    if not address and (prose or odd > (2 if time or year else 0)):
        return None
    if _OPENING.match(line):
        if not (address or re.search(r"\d", line) or _DATE_OPENING.match(line)):
            return None
    elif not (address or line[0] in "\"'<([" or line[0].isupper() or line[0].isdigit() or line == "you wrote:"):
        return None
    return address or (time and year and not odd)


def _plain_words(line: str) -> tuple[int, bool]:
    """Return how many words are neither names, dates nor addresses, and whether it is prose.

    Prose has an article before such a word: "the schoolmaster wrote:".
    """
    odd, prose, before = 0, False, ""
    for word in line.split():
        core = word.strip("\"'.,:;()<>[]")
        if core[:1].islower() and core not in _SMALL and core not in _ARTICLES and not re.search(r"[\d@]", core):
            odd += 1
            prose = prose or before in _ARTICLES
        before = core.lower()
    return odd, prose


def _quotation_prefix(lines: list[str], start: int) -> str:
    """Return how the quoted lines that begin here are marked; "" if the next line is not quoted."""
    for line in lines[start : start + _BLANK_LINES + 1]:
        if line.strip():
            match = _PREFIX.match(line)
            return match[1] if match else ""
    return ""


# Messages copied into the text


def _is_mark(line: str, phrases: tuple[str, ...]) -> bool:
    """Return whether a line is a phrase between dashes."""
    if len(line) > 200:
        return False
    core = line.strip(_DECORATION).lower()
    if not core.startswith(phrases):
        return False
    decorated = line.strip()[:2].strip(_DECORATION) == ""
    return decorated or core in ("begin forwarded message", "end forwarded message")


def _forwarded(lines: list[str], start: int) -> int:
    """Return the line after a mark such as "-----Original Message-----" and its header; else 0."""
    if not _is_mark(lines[start], _FORWARDED):
        return 0
    position = _next_text(lines, start + 1)
    if position < len(lines):
        header = _header(lines, position)
        position = (header.end if header else 0) or _copied_header(lines, position) or start + 1
    return position


def _next_text(lines: list[str], start: int) -> int:
    """Return the next line that is not blank; `start` if there is none near."""
    near = range(start, min(start + _BLANK_LINES + 1, len(lines)))
    return next((number for number in near if lines[number].strip()), start)


def _copied_header(lines: list[str], start: int) -> int:
    """Return the line after "From: ... Sent: ... Subject: ..."; 0 if none begins here."""
    first = _field(lines[start])
    if not first or first[0] not in ("from", "sent", "subject"):
        return 0
    if first[0] == "from" and _fields_in_one_line(lines[start]):
        return start + 1
    fields: dict[str, str] = {}
    end = start
    blank = False
    for number in range(start, min(start + _FIELD_LINES, len(lines))):
        field = _field(lines[number])
        if field:
            if field[0] in fields and field[0] not in ("to", "other"):
                break
            fields[field[0]] = field[1]
            end = number + 1
        elif lines[number].strip():
            if blank:
                break
            end = number + 1  # a field that is wrapped
        elif blank:
            break
        blank = not lines[number].strip()
    dated = bool(re.search(r"\d", fields.get("sent", "")))
    known = "subject" in fields or "@" in fields.get("from", "")
    return end if "from" in fields and known and (dated or len(fields) >= 4) else 0


def _field(line: str) -> tuple[str, str] | None:
    """Return (kind, value) of a header's line."""
    match = _FIELD.match(line[:_HEADER_CHARACTERS])
    kind = _FIELDS.get(match[1].lower()) if match else None
    return (kind, match[2]) if match and kind else None


def _fields_in_one_line(line: str) -> bool:
    """Return whether a line holds From, Sent or Date, and Subject or To, in this order."""
    sent = max(line.find(mark, 1, _HEADER_CHARACTERS) for mark in ("Sent:", "Date:", "Sent*:", "Date*:"))
    return sent > 0 and any(line.find(mark, sent, 2 * _HEADER_CHARACTERS) > 0 for mark in ("Subject:", "To:", "To*:"))


def _without_armour(text: str) -> str:
    """Remove what PGP puts around a signed message, and its signatures, keys and secrets."""
    if "-----BEGIN PGP" not in text:
        return text
    if signed := _SIGNED.search(text):
        text = text[: signed.start()] + text[signed.end() :].replace("\n- -", "\n-")
    parts = []
    position = 0
    for match in _ARMOUR.finditer(text):
        if match.start() >= position:
            parts.append(text[position : match.start()])
            end = f"-----END PGP {match[1]}-----"
            stop = text.find(end, match.end())
            position = len(text) if stop < 0 else stop + len(end)
    return "".join(parts) + text[position:]
