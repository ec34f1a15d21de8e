"""What mail programs, servers and lists add below a message, and signatures.

Known forms go one message at a time. In a mailbox, lines that end many messages of a sender go too.
The greeting and the name below a letter stay.
"""

import re
from collections import Counter
from collections.abc import Sequence

_ROUNDS = 8  # of looking for one below another
_BLOCKS = 8  # at a message's end that are looked at
_BLOCK_CHARACTERS = 4_000  # longer ones are no footer
_SIGNATURE_LINES = 10
_LINE_CHARACTERS = 90
_TAIL_LINES = 12  # of a footer that recurs; messages with more lines in common are one letter
_TAIL_CHARACTERS = 1_000
_MIN_REPEATS = 5  # distinct messages that end with the same lines
_MIN_REPEATS_SHARE = 0.3  # of the sender's messages
_MIN_CONTACT_REPEATS = 3  # of lines with a telephone number or an address, whatever their share

# "Sent from my iPhone" and the like, alone in a line. Names of programs in their own letter case.
_SENT_FROM = re.compile(
    r"\W{0,4}(?:[Ss]ent from (?i:my|a|the) "
    r"(?:(?i:new|personal|secure|work|apple|wireless|verizon|t-mobile|at&t|sprint)[ ,]{1,2}){0,3}"
    r"(?i:iphone|ipad|ipod|samsung|galaxy|android|blackberry|windows|huawei|honor|nokia|htc|lg|sony|xperia|motorola|moto|"
    r"pixel|oneplus|xiaomi|redmi|oppo|verizon|t-mobile|sprint|mobile|phone|smartphone|cell|cellphone|tablet|kindle|"
    r"mac|macbook|palm|treo|nexus|wireless|handheld|device|alcatel)\b(?! (?:box|booth|call))"
    r"|[Ss]ent (?:from|via|using|with|by) (?:the )?\[?(?:Outlook|Mail for Windows|Windows Mail|Mailbox|Yahoo|"
    r"Gmail|AOL|Proton|Samsung|BlackBerry|Nine|BlueMail|Spark|myMail|Hotmail|Mozilla|Thunderbird|Tuta|Airmail|Superhuman|Fastmail|Zoho|K-9|"
    r"Canary|Edison|Mailspring|Polymail|Newton|HEY|FairEmail|Android|iPhone|iPad|Rediffmail|GMX|Mobile)\b"
    r"|Get (?:Outlook|BlueMail|TypeApp|Mailbird|AOL|Yahoo|Edison|Spark|Boxer|Nine)\b.{0,30} (?:for|on)\b)"
    r"[^.!?\n]{0,100}(?:[<(\[]?https?://\S{1,300}(?: [^.!?\n]{1,40})?)?(?:[.!?]{1,3} .{0,120})?[.!?>)\]]{0,3}\s{0,9}"
)
_FOREIGN_SENT_FROM = re.compile(
    r"(?=.{0,60}\b(?:iPhone|iPad|Android|Samsung|Galaxy|BlackBerry|Outlook|Smartphone|Handy))"
    r"(?:Von mein\w{0,3} .{1,40} gesendet|Gesendet (?:von|mit)|Envoy\u00e9 (?:de|depuis)|Enviad[oa] (?:desde|do|de)|"
    r"Inviato da|(?:Verstuurd|Verzonden) (?:vanaf|met|van)|Sendt fra|Skickat fr\u00e5n)\b.{0,60}"
)
_EXCUSE = re.compile(
    r"(?:please )?excuse (?:any |the |my )?(?:typos|brevity)(?: (?:and|or) (?:any )?\w{1,15})?[.!]?\s{0,9}",
    re.IGNORECASE,
)
_LINES = (_SENT_FROM, _FOREIGN_SENT_FROM, _EXCUSE)
_RULE = re.compile(r"\s*[-_=*~#\u2013\u2014]{5,}\s*")

# One of the first and two in all make a legal notice.
_LEGAL_STRONG = (
    "intended recipient", "intended solely", "solely for the", "intended only for", "addressee", "notify the sender",
    "inform the sender", "advise the sender", "contact the sender", "strictly prohibited", "confidentiality notice",
    "disclaimer", "and any attachment", "and any file", "information contained in this", "information in this",
    "legally privileged", "be privileged",
)  # fmt: skip
_LEGAL = (
    "confidential", "privileged", "disclos", "unauthori", "delete", "received this", "in error", "virus", "liab",
    "views expressed", "opinions expressed", "monitored", "registered in", "registered office", "company number",
    "registration number", "consent", "dissemination", "distribution", "attachments", "damage",
)  # fmt: skip
_SUBJECT = re.compile(
    r"\b(?:e-?mails?|messages?|communications?|transmissions?|correspondence|notice)\b", re.IGNORECASE
)
_ALONE = re.compile(
    r"consider the environment before|before printing this e-?mail|^(?:please )?think before you print\b|"
    r"\bvirus[- ]free\b|"
    r"(?:scanned|checked) (?:for|by).{0,40}\b(?:virus|antivirus|avast|avg|mcafee|norton|kaspersky|malware|mailscanner)|"
    r"\bdo you yahoo!\?|\bget your free\b.{0,60}@|you received this (?:message|e-?mail) because|"
    r"you(?:'re| are) receiving this (?:message|e-?mail) because|you are currently subscribed to",
    re.IGNORECASE,
)  # fmt: skip
_LIST = re.compile(r"mailing list|listinfo|mailman|unsubscribe|for additional commands|list archives?", re.IGNORECASE)
_LIST_BEGIN = re.compile(
    r"(?:[-_=*~#]{2,80}\s{1,4})?(?:to (?:un)?subscribe|to (?:manage|change|update) your (?:subscription|preferences)|"
    r"to view this discussion|to (?:post|reply) to this (?:group|list)|unsubscribe\b|manage (?:your )?subscription|"
    r"for more options|for additional commands|list archives?)\b",
    re.IGNORECASE,
)
_LIST_ACTION = re.compile(r"\S@\S|https?://|\bwww\.|\b(?:click|visit|reply|send an?|follow)\b", re.IGNORECASE)

_PHONE = re.compile(r"(?<!\w)\+?[\d(][\d\s()./-]{5,24}\d(?!\w)")
_CONTACT = re.compile(
    r"(?:\W{0,3}(?:tel|telephone|phone|ph|mobile|mob|cell|fax|office|direct|work|home|[tmpfdoc])\b\W{0,4}.{0,12}\d[\d\s()./+-]{5,}"
    r"|\+?[\d(][\d\s()./-]{6,24}|(?:e-?mail\W{0,3})?\S{1,64}@\S{3,80})[\s|,;]*.{0,60}",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\S@\S|https?://|\bwww\.")


def without_footers(text: str) -> str:
    """Return a message's own words without signature and footers of known forms."""
    lines = [line for line in text.split("\n") if not any(form.fullmatch(line) for form in _LINES)]
    for _ in range(_ROUNDS):
        before = len(lines)
        _drop_blank_and_rules(lines)
        del lines[_signature(lines) :]
        _drop_blank_and_rules(lines)
        del lines[_notices(lines) :]
        _drop_blank_and_rules(lines)
        del lines[_contact_block(lines) :]
        if len(lines) == before:
            break
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _drop_blank_and_rules(lines: list[str]) -> None:
    while lines and (not lines[-1].strip() or _RULE.fullmatch(lines[-1])):
        lines.pop()


def _signature(lines: list[str]) -> int:
    """Return the line with "--" above a few short lines that end the message."""
    count = 0
    for number in range(len(lines) - 1, max(-1, len(lines) - 2 * _SIGNATURE_LINES), -1):
        line = lines[number]
        if line.rstrip() == "--":
            marked = line.startswith("-- ")  # only this form is the standard's
            return number if marked or not any(map(_is_sentence, lines[number + 1 :])) else len(lines)
        if line.lstrip().startswith(("P.S.", "PS:", "PS.", "P.P.S")) or len(line) > _LINE_CHARACTERS:
            break
        count += bool(line.strip())
        if count > _SIGNATURE_LINES:
            break
    return len(lines)


def _is_sentence(line: str) -> bool:
    return len(line.split()) >= 8 and line.rstrip(" \"'\u201d\u2019)").endswith((".", "!", "?", ","))


def _blocks(lines: list[str]) -> list[tuple[int, str]]:
    """Return the last blocks, (first line, text in one line), the last one first."""
    blocks: list[tuple[int, str]] = []
    end = len(lines)
    while end > 0 and len(blocks) < _BLOCKS:
        start = end
        size = 0
        while start > 0 and lines[start - 1].strip() and size <= _BLOCK_CHARACTERS:
            start -= 1
            size += len(lines[start])
        if size > _BLOCK_CHARACTERS:
            break
        if start < end:
            blocks.append((start, " ".join(" ".join(lines[start:end]).split())))
        end = min(start, end - 1)
    return blocks


def _notices(lines: list[str]) -> int:
    """Return the line where legal notices and the footers of lists begin."""
    begin = len(lines)
    doubtful = False  # blocks below that are part of a notice only if one stands above
    for start, block in _blocks(lines):
        lower = block.lower()
        ruled = bool(_RULE.fullmatch(lines[start])) or (start > 0 and bool(_RULE.fullmatch(lines[start - 1])))
        if _is_notice(block, lower) or _is_list_footer(block, ruled):
            begin, doubtful = start, False
        elif _RULE.fullmatch(block):
            continue
        elif any(word in lower for word in _LEGAL):
            doubtful = True
        else:
            break
        if doubtful and len(block) > _BLOCK_CHARACTERS // 2:
            break
    if begin == len(lines):  # a list's footer below a rule, in the same block as own words
        for number in range(len(lines) - 1, max(-1, len(lines) - _SIGNATURE_LINES), -1):
            if _RULE.fullmatch(lines[number]) and _LIST.search(" ".join(lines[number + 1 :])[:_BLOCK_CHARACTERS]):
                return number
    return begin


def _is_notice(block: str, lower: str) -> bool:
    if _ALONE.search(block):
        return True
    strong = sum(phrase in lower for phrase in _LEGAL_STRONG)
    return strong > 0 and strong + sum(word in lower for word in _LEGAL) >= 2 and bool(_SUBJECT.search(block))


def _is_list_footer(block: str, ruled: bool) -> bool:
    if not _LIST.search(block):
        return False
    return ruled or (bool(_LIST_BEGIN.match(block)) and bool(_LIST_ACTION.search(block)))


def _contact_block(lines: list[str]) -> int:
    """Return where a last block of a name, addresses and telephone numbers begins, after the name."""
    start = len(lines)
    while start > 0 and lines[start - 1].strip() and len(lines) - start <= _SIGNATURE_LINES:
        start -= 1
    block = lines[start:]
    if not 2 <= len(block) <= _SIGNATURE_LINES or any(
        len(line) > _LINE_CHARACTERS or _is_sentence(line) for line in block
    ):
        return len(lines)
    named = [word[:1].isupper() for word in re.findall(r"[^\W\d_][\w'\u2019.-]*", block[0])]
    contacts = [number for number, line in enumerate(block) if number and _CONTACT.fullmatch(line.strip())]
    if not contacts or not named or not all(named) or not is_greeting(block[0]):
        return len(lines)
    above = next((text for first, text in _blocks(lines[:start])), "")
    if not above:
        return len(lines)  # all of the message
    return start + (0 if is_greeting(above) else _greeting_lines(block))


def is_greeting(line: str) -> bool:
    """Return whether a line can be the end of a letter: "Best wishes," or a name."""
    return len(line) <= 40 and len(line.split()) <= 5 and not re.search(r"[\d@|/:]|\bwww\.", line)


def _greeting_lines(lines: Sequence[str]) -> int:
    """Return how many of the first lines are a greeting and a name."""
    count = 0
    while count < min(len(lines), 3) and lines[count].strip() and is_greeting(lines[count]):
        count += 1
        if count > 1 or not lines[count - 1].rstrip().endswith(","):
            break
    return count


# Lines that end many messages of a mailbox


def recurring(messages: Sequence[tuple[str, str]], known: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Return the ends that many of the messages share, and those known before.

    Args:
      messages: (sender, text) of each. A message that is there twice counts once.
      known: what this function returned for earlier messages of the mailbox.
    """
    counts: Counter[tuple[str, str]] = Counter()
    senders: Counter[str] = Counter()
    for sender, text in dict.fromkeys(messages):
        senders[sender] += 1
        counts.update((sender, tail) for _, tail in _tails(text))
    return known | {
        (sender, tail)
        for (sender, tail), count in counts.items()
        if count >= max(_MIN_REPEATS, _MIN_REPEATS_SHARE * senders[sender])
        or (count >= _MIN_CONTACT_REPEATS and (_ADDRESS.search(tail) or _PHONE.search(tail)))
    }


def without_recurring(sender: str, text: str, ends: frozenset[tuple[str, str]]) -> str:
    """Return a message without the longest end that recurs; a greeting and a name stay."""
    found = [number for number, tail in _tails(text) if (sender, tail) in ends]
    if not found or len(found) > _TAIL_LINES:
        return text
    lines = text.split("\n")
    start = first = found[-1]
    # Whole blocks of greetings and names, then what begins the first other block.
    while start < len(lines):
        stop = next((number for number in range(start, len(lines)) if not lines[number].strip()), len(lines))
        if all(map(is_greeting, lines[start:stop])) and stop - first <= 4:
            start = stop + 1
            continue
        if start == first:
            start += _greeting_lines(lines[start:stop])
        break
    return "\n".join(lines[:start]).rstrip("\n")


def _tails(text: str) -> list[tuple[int, str]]:
    """Return (first line, lines) of the message's ends, the shortest first."""
    lines = text.split("\n")
    tails: list[tuple[int, str]] = []
    tail = ""
    for number in range(len(lines) - 1, -1, -1):
        line = " ".join(lines[number].split())
        if len(tail) + len(line) > _TAIL_CHARACTERS or len(tails) > _TAIL_LINES:
            break
        if line:
            tail = f"{line}\n{tail}"
            tails.append((number, tail))
    return tails
