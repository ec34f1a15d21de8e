"""Take out what note-taking programs put around notes: Kindle, Notion, Day One, Scrivener."""

import itertools
import re

_SEPARATOR = re.compile(r"^={8,}$", re.MULTILINE)
_CLIPPING = re.compile(
    r"^-\s?(?:your\s)?(?:highlight|note|bookmark|clip\w*)\b.{0,60}\b(?:loc(?:ation|\.)|page|pos\.|added)\b.{0,200}$",
    re.IGNORECASE,
)
_PROPERTY = re.compile(r"^(?P<key>[A-Z][\w /()-]{0,30}): ?\S.{0,200}$")
_KEYS = frozenset(
    "created,created time,created by,created at,last edited,last edited time,last edited by,updated,tags,tag,status,"
    "date,type,property,url,assign,assignee,owner,priority,category,id,author,due,due date,parent,project,area,"
    "archived,favorite,progress,related,source,participants,attendees".split(",")
)
# What Day One writes above an entry, and what Scrivener leaves of its own.
_ENTRY = re.compile(
    r"^\s{0,8}Date:\s{1,8}\S[^\n]{4,40} at \d{1,2}:\d\d:\d\d[^\n]{0,20}$"
    r"(?:\n\s{0,8}(?:Weather|Location|Tags|Photos?|Activity|Steps|Starred):[^\n]{0,200}$){0,7}",
    re.MULTILINE,
)
_PLACEHOLDER = re.compile(r"<\$\w[\w:]{0,60}>")
_STAMPS = ("created", "last edited", "updated")
_HEAD_BLOCKS = 3  # properties stand below the title


def strip(text: str) -> str:
    """Return a normalised text without the frames that note-taking programs write."""
    if "==========" in text:
        text = _strip_clippings(text)
    if "Date:" in text:
        text = _ENTRY.sub("", text)
    if "<$" in text:
        text = _PLACEHOLDER.sub("", text)
    return _strip_properties(text)


def _strip_clippings(text: str) -> str:
    """Keep what a reader marked or wrote. The title above each clipping goes with its place."""
    lines = text.split("\n")
    drop = {i for i, line in enumerate(lines) if _SEPARATOR.match(line)}
    clipped = [i for i in range(1, len(lines)) if _CLIPPING.match(lines[i])]
    if not clipped:
        return text
    for i in clipped:
        drop |= {i - 1, i}
    return "\n".join("" if i in drop else line for i, line in enumerate(lines))


def _strip_properties(text: str) -> str:
    """Drop a block of properties near the head: a date of Notion's among them, or mostly its keys."""
    if not any(stamp in text[:2000].lower() for stamp in (*_STAMPS, "tags:", "status:")):
        return text
    head, start = [], 0
    for match in itertools.islice(re.finditer(r"\n{2,}|\Z", text), _HEAD_BLOCKS):
        block = text[start : match.start()]
        head.append(block if not _is_properties(block) else block.split("\n")[0] if block.startswith("# ") else "")
        head.append(match[0])
        start = match.end()
    return "".join(head) + text[start:]


def _is_properties(block: str) -> bool:
    lines = block.split("\n")
    matches = [_PROPERTY.match(line) for line in lines[lines[0].startswith("# ") :]]
    if not matches or not all(matches):
        return False
    keys = [match["key"].lower().strip() for match in matches if match]
    known = sum(key in _KEYS for key in keys)
    return (len(keys) > 1 and 2 * known > len(keys)) or any(key.startswith(("created", "last edited")) for key in keys)
