"""Exclusion rules for conversations of several people: chats and forum threads.

A single mark is no evidence: diaries have times, essays have quotations, letters have subjects.
A chat needs speakers who recur. A thread needs marks of two kinds, one of which recurs.
"""

import itertools
import re
import statistics
from collections import Counter
from typing import NamedTuple

from llm60_jax.config import Exclude
from llm60_jax.data.clean.lines import Lines, Mask, groups, words


class _Message(NamedTuple):
    """The mark of a chat message."""

    nick: str  # in lower case; "" for a line of the server
    minute: int | None = None  # of the day, where only the pace tells a chat from a diary
    header: bool = False  # the message stands in the lines below
    said: str = ""


_TIME = r"[\[(]?(?P<hour>\d{1,2})[:.](?P<minute>\d\d)(?:[:.]\d\d)?\s?(?:[AaPp]\.?[Mm]\.?)?[\])]?"
_NICK = r"[@+%&~]?[\w.|`^\[\]{}\\-]{1,30}"
_SERVER = re.compile(
    rf"""^\s*(?:{_TIME}\s*)?(?:===|\*\*\*|-!-|-->|<--|--\s\|)\s+\S+.{{0,80}}?\b(?:joined|left|quit|parted|kicked|banned
        |set\sthe\stopic|topic|(?:is\s)?now\sknown\sas|sets?\smode|mode|changed|netsplit)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_BRACKETED = re.compile(rf"^\s*(?:{_TIME}\s*[-\u2013|]?\s*<(?P<any>[^<>]{{1,40}})>|<(?P<nick>\s?{_NICK})>\s)")
_TIMED = re.compile(
    rf"^\s*{_TIME}\s*[-\u2013|]?\s*(?:\*\s?(?P<actor>\w{{1,30}})\b|(?P<nick>{_NICK}(?:\s[\w.|-]{{1,20}})?)\s?[:>|](?:\s|$))"
)
_HEADED = re.compile(  # [9:15] Last name, first name
    rf"^\s*{_TIME}\s+(?P<nick>[A-Z][\w.'-]{{0,20}}(?:,?\s[A-Z][\w.'-]{{0,20}}){{0,2}})\s*$"
)
_DATED = re.compile(  # [1/2/21, 9:15] Name: words
    r"""^\s*\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?\s\d{1,2}:\d\d(?::\d\d)?\s?(?:[AaPp][Mm])?\]?\s?(?:[-\u2013]\s)?
        (?P<nick>[^:\n]{1,40}):\s""",
    re.VERBOSE,
)
_HEADER = re.compile(  # Name - today at 9:15; Name, [1.2.21 9:15]; Name  9:15 AM
    rf"""^\s*(?P<nick>[a-z][\w.'-]{{0,20}}(?:\s[\w.'-]{{1,20}}){{0,2}}?)(?:
        \s{{1,4}}[\[(\u2013\u2014-]{{0,3}}\s?(?:(?:to|yester)day\sat\s)?
        |,\s\[\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}},?\s){_TIME}\s*$""",
    re.VERBOSE | re.IGNORECASE,
)
_STARTS = frozenset("0123456789[(<=*-")  # first characters of all forms but the header
_ENDS = frozenset("0123456789])mM.")
_SPEAKER = re.compile(r"^\s*(?P<nick>\w[\w.|'-]{0,23}(?:\s[\w.'-]{1,20})?):\s+(?P<said>\S.*)$")
_ROLE = re.compile(r"(?:user|assistant|system|human|bot|ai|agent|customer|operator|support|stranger)\s?\d{0,3}$")
_FIELDS = frozenset(  # what heads a line in diaries and notes: no nicks
    (
        "breakfast lunch dinner supper tea coffee snack meal weather mood sleep slept woke run walk swim work rest "
        "read reading writing wrote heard seen watched title author date time place location note notes todo done "
        "plan plans rating pros cons ingredients serves source sources tags tag status topic subject re monday "
        "tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun morning "
        "noon afternoon evening night today yesterday tomorrow january february march april may june july august "
        "september october november december jan feb mar apr jun jul aug sep sept oct nov dec day week month year "
        "update edit ps p.s question answer q a arrived departed arrival departure start stop begin end chapter "
        "part scene act "
    ).split()
)
_PACE = 30  # minutes between the messages of a chat, at the median


def chat(lines: Lines, limits: Exclude) -> Mask:
    """Mark chat messages, which begin with a time and a name or a name in brackets.

    The server's own lines between them go too. A name alone counts where most lines begin with one,
    if the messages are carelessly in lower case, or the names are those of a bot and its user: a
    play and an interview have capitals and full stops.
    """
    messages = [_message(line) for line in lines]
    for i, message in _speakers(lines):
        messages[i] = messages[i] or message
    counts = Counter(message.nick for message in messages if message)
    mask = [False] * len(lines)
    for start, stop in groups(lines, [message is not None for message in messages], gap=1):
        run = [message for message in messages[start:stop] if message]
        if len(run) >= limits.chat_lines and _is_chat(run, counts):
            if run[-1].header:
                stop = next((i for i in range(stop, len(lines)) if not lines[i].strip()), len(lines))
            mask[start:stop] = [True] * (stop - start)
    return mask


def _message(line: str) -> _Message | None:
    """Return the mark of a message that a line has."""
    text = line.strip()
    if text[:1] in _STARTS:
        if _SERVER.match(line):
            return _Message("")
        if match := _BRACKETED.match(line):
            return _Message((match["any"] or match["nick"]).strip().lower())
        if match := _DATED.match(line):
            return _Message(match["nick"].lower())
        match, header = _TIMED.match(line), False
        if not match and text[0] == "[":
            match, header = _HEADED.match(line), True
    elif text[-1:] in _ENDS and ":" in text[-14:] and len(text) <= 90:
        match, header = _HEADER.match(line), True
    else:
        return None
    if not match:
        return None
    nick = (match["nick"] or match["actor"]).lower()
    if nick.split()[0].rstrip(".,") in _FIELDS:
        return None
    return _Message(nick, 60 * int(match["hour"]) + int(match["minute"]), header, line[match.end() :])


def _speakers(lines: Lines) -> list[tuple[int, _Message]]:
    """Return the lines that begin with a name and a colon, if they are messages."""
    spoken: list[tuple[int, str, str]] = []
    for i, line in enumerate(lines):
        if ":" in line[:60] and (match := _SPEAKER.match(line)):
            nick = match["nick"].lower()
            if nick.split()[0] not in _FIELDS:
                spoken.append((i, nick, match["said"]))
    if not spoken or 2 * len(spoken) <= sum(bool(line.strip()) for line in lines):
        return []
    careless = sum(said[0].islower() and said[-1].isalnum() for _, _, said in spoken)
    roles = {nick for _, nick, _ in spoken if _ROLE.match(nick)}
    if 3 * careless <= len(spoken) and len(roles) < 2:
        return []
    return [(i, _Message(nick)) for i, nick, _ in spoken]


def _is_chat(run: list[_Message], counts: Counter[str]) -> bool:
    """Whether messages in a row are a conversation: their speakers recur, at the pace of a chat.

    Args:
      run: messages in a row.
      counts: how often each speaker has a message in the document.
    """
    if sum(not message.nick for message in run) >= 2:
        return True
    nicks = {message.nick for message in run if message.nick}
    if not any(counts[nick] > 1 for nick in nicks):
        return False
    minutes = [message.minute for message in run if message.minute is not None]
    if len(nicks) < 2 and not (minutes and max(counts[nick] for nick in nicks) > 2):
        return False
    said = [message.said for message in run if message.said]
    if said and _is_transcript(said):
        return False
    pauses = [(later - earlier) % 1440 for earlier, later in itertools.pairwise(minutes)]
    return not pauses or statistics.median(pauses) <= _PACE


_TRANSCRIPT_WORDS = 9  # of a speech, on average
_SENTENCES = re.compile(r"[\W_]{0,3}[A-Z0-9].*[.!?\u2026][\"'\u201d\u2019)\]]{0,3}\s*$")


def _is_transcript(said: list[str]) -> bool:
    """Whether messages are those of an interview with times: long, in capitals and full stops."""
    careful = sum(bool(_SENTENCES.match(text.strip())) for text in said)
    return 5 * careful >= 4 * len(said) and sum(map(words, said)) >= _TRANSCRIPT_WORDS * len(said)


_MARK = re.compile(
    r"""^[\s|*#_>]*(?:
        (?P<author>
            (?:originally\s)?post(?:ed\s)?by:?\s(?P<poster>\S{1,30})(?:\s\S{1,30})?(?:\s*$|(?=.{0,80}\d).{0,160}$)
            | posted\son\s.{0,40}\d.{0,80}$ | /?u/(?P<redditor>\w{3,30})\b.{0,100}$
            | submitted\s.{0,40}\bby\s(?P<submitter>\S{1,30}).{0,40}$
            | (?P<user>(?:\S{1,24}\s){0,3})[·•|,-]?\s?\d{1,3}\s?(?:s|sec|min|minute|h|hr|hour|d|day|w|week|mo|month|y|yr
                |year)s?\sago\s*(?:[·•|(].{0,100})?$
            | [a-z]{3,9}\.?\s\d{1,2},?\s\d{4}(?:\sat|,)?\s\d{1,2}:\d\d.{0,20}$
            | (?:asked|answered|viewed|modified)\s(?:[a-z]{3}\s)?\d.{0,40}$
        )
        | (?P<wrote>(?:on\s.{5,60}\s)?\S{1,24}(?:\s\S{1,24})?\swrote:.{0,200}$ | (?:\S{1,24}\s){1,2}says:\s*$
            | originally\sposted\b | \[quote\b)
        | (?P<number>(?:reply|post|comment)\s?\#\d.{0,80}$ | \#\d{1,6}(?:\s.{0,30}\d\d:\d\d.{0,4})?\s*$)
        | (?P<points>[\d.,]{1,9}k?\s(?:points?|likes?|up-?votes?|replies|comments?|answers?|people\sfound\b.{0,30})
            :?\s*(?:[·•|(].{0,100})?$)
        | (?P<profile>(?:posts|reputation|karma|threads|messages|likes):\s?[\d.,]{1,9}k?\s*$
            | (?:joined|registered|join\sdate|member\ssince):\s.{0,16}\b(?:19|20)\d\d\s*$)
        | (?P<button>
            (?:(?:reply|quote|report|share|like|up-?vote|down-?vote|permalink|edit|flag|view\sprofile|save|hide
                |give\saward|parent|next|prev|embed|context)\b[\s|·•,\d()]{0,40}(?:\d{1,9}\s?[a-z]{1,3}\s{0,5})?){2,12}$
            | view\s\d+\smore\s(?:repl|comment|answer) | log\sin\sto\s(?:comment|reply|post) | \[(?:deleted|removed)\]
            | (?:reply|quote|report|permalink|up-?vote|improve\sthis\s(?:question|answer))\s*$
            | thread\s(?:starter|closed|locked)\b)
        | (?P<signature>(?:-{1,3}|\u2014)?\s?sent\sfrom\b.{0,40}$ | last\sedited\sby\b.{0,80}$)
        | (?P<subject>re:\s.{1,80}$ | location:\s.{1,40}$)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_POST_WORDS = 200  # posts are rarely longer
_MOST_WORDS_BELOW = 120  # of the last post, below its mark
_NAME_WORDS = 4
# What only posts have. Essays have "Montaigne says:", letters a subject.
_SURE = frozenset(("author", "number", "points", "profile", "button"))
_BUTTONS = re.compile(r"\|.{0,100}\b(?:reply|quote|report|permalink|parent)\b", re.IGNORECASE)


def forum(lines: Lines, limits: Exclude) -> Mask:
    """Mark threads: from the first to the last mark of a post, where such marks are close together.

    Marks are authors with dates, buttons, points, numbers, profiles, quotations, signatures.
    """
    marks = [_MARK.match(line) if line and len(line) <= 300 else None for line in lines]
    hits = [match is not None and match["subject"] is None for match in marks]
    mask = [False] * len(lines)
    if sum(hits) < 2:
        return mask
    for start, stop in groups(lines, hits, _POST_WORDS, words):
        if _is_thread([match for match in marks[start:stop] if match and match["subject"] is None], limits):
            start, stop = _whole(lines, marks, start, stop)
            mask[start:stop] = [True] * (stop - start)
    return mask


def _is_thread(marks: "list[re.Match[str]]", limits: Exclude) -> bool:
    """Whether marks close together are those of a thread: of two kinds, and of several people."""
    kinds = Counter(kind for match in marks for kind, text in match.groupdict().items() if text and kind in _KINDS)
    kinds["button"] += sum(bool(match["author"] and _BUTTONS.search(match.string)) for match in marks)
    kinds = +kinds
    if len(kinds) < 2 or max((kinds[kind] for kind in _SURE), default=0) < limits.forum_marks:
        return False
    names = [
        match["poster"] or match["redditor"] or match["submitter"] or match["user"]
        for match in marks
        if match["author"]
    ]
    named = [name.lower().split()[0] for name in names if name and name.strip()]
    if len(named) > 1 and len(set(named)) == 1:  # a blog
        return False
    return len(set(named)) > 1 or sum(kinds[kind] for kind in ("button", "number", "profile")) > 1


_KINDS = _SURE | {"wrote", "signature"}


def _whole(lines: Lines, marks: "list[re.Match[str] | None]", start: int, stop: int) -> tuple[int, int]:
    """Widen a thread by the names and subjects above it, and by the rest of its last post."""
    above = start
    while above > 0:
        above -= 1
        match = marks[above]
        if match and match["subject"]:
            start = above
        elif lines[above].strip():
            if above + 1 != start or words(lines[above]) > _NAME_WORDS:
                break
            start = above
    below = 0
    while stop < len(lines) and lines[stop].strip():
        below += words(lines[stop])
        if below > _MOST_WORDS_BELOW:
            break
        stop += 1
    return start, stop
