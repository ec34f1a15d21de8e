"""What stands around the text of a Markdown file: front matter, properties, trailers of note programs."""

import json
import re

_LONGEST_MATTER = 2_000  # lines
_KEY = re.compile(r"[\"']?[\w.$@/-][\w .$@/()-]{0,60}[\"']?\s*[:=](?:\s|$)")
_YAML_LINE = re.compile(r"(?:\s|[-#\]}\[{]|\.\.\.$)")  # goes on with the value of a key
_TITLE = re.compile(r"^[\"']?title[\"']?\s*[:=][ \t]*(.*(?:\n[ \t]+\S.*){0,5})", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.){0,1000})\"|'((?:[^']|''){0,1000})'", re.DOTALL)
_PROPERTY = re.compile(r"(?:[-*] )?\**([A-Za-z][\w &/-]{0,30})\**:\**(?:\s+(.{0,500}))?$")
_PROPERTIES = frozenset(
    "aliases, alias, author, authors, categories, category, cover, created, created by, created time, "
    "date, date created, date modified, due, due date, id, keywords, lang, language, last edited by, "
    "last edited time, last updated, layout, links, modified, owner, parent, permalink, priority, "
    "project, published, publish, related, slug, source, status, subtitle, tag, tags, template, "
    "title, type, uid, up, updated, url".split(", ")
)
_MOST_NOTION_PROPERTIES = 12
_TRAILER = re.compile(r"id: [0-9a-f]{32}\n(?:.*\n){0,60}?type_: \d|---\nAnnotations: \d")
_LONGEST_TRAILER = 200  # lines


def without_front_matter(lines: list[str]) -> tuple[str, list[str]]:
    """Return the title that front matter names, and the lines after it."""
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    mark = lines[start].rstrip() if start < len(lines) else ""
    if mark in ("---", "+++"):
        end = _end_of_matter(lines, start + 1, (mark, "...") if mark == "---" else (mark,))
        return (_title("\n".join(lines[start + 1 : end])), lines[end:]) if end else ("", lines)
    if mark.startswith("{"):
        return _json_matter(lines[start:])
    if mark.startswith("% "):  # the title block of Pandoc
        end = start
        while end < len(lines) and lines[end].startswith(("%", " ")) and lines[end].strip():
            end += 1
        return " ".join(mark[1:].split()), lines[end:]
    return "", lines


def _end_of_matter(lines: list[str], start: int, marks: tuple[str, ...]) -> int:
    """Return the line after front matter, 0 if it is none.

    Front matter that is never closed ends at the first line that is no key or value.

    Args:
      start: its first line, after the opening mark.
    """
    matter = lines[start : start + _LONGEST_MATTER]
    close = next((number for number, line in enumerate(matter) if line.rstrip() in marks), None)
    if close is not None and not "".join(matter[:close]).strip():
        return start + close + 1
    if not matter or not _KEY.match(matter[0]):
        return 0
    inside = matter[:close]
    unclear = [line for line in inside if line.strip() and not (_KEY.match(line) or _YAML_LINE.match(line))]
    if close is not None and (not unclear or all(map(str.strip, inside))):
        return start + close + 1
    end = next((at for at, line in enumerate(matter) if not line.strip() or line in unclear), len(matter))
    keys = [line.partition(":")[0].strip("\"' ").lower() for line in matter[:end] if _KEY.match(line)]
    return start + end if len(keys) > 1 or _PROPERTIES.intersection(keys) else 0


def _json_matter(lines: list[str]) -> tuple[str, list[str]]:
    text = "\n".join(lines[:_LONGEST_MATTER])
    try:
        record, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return "", lines
    if not isinstance(record, dict) or text[end : end + 1] not in ("", "\n"):
        return "", lines
    title = record.get("title")
    return title if isinstance(title, str) else "", lines[text.count("\n", 0, end) + 1 :]


def _title(matter: str) -> str:
    """Return the title in front matter: the value of its key, without quotes."""
    match = _TITLE.search(matter)
    if match is None:
        return ""
    value = match[1].strip()
    first, _, rest = value.partition("\n")
    if first.strip() in (">", "|", ">-", "|-", ">+", "|+"):
        return " ".join(rest.split())
    if quoted := _QUOTED.match(value):
        return " ".join((quoted[1] or quoted[2] or "").replace('\\"', '"').replace("''", "'").split())
    return " ".join(first.partition(" #")[0].split())


def without_properties(lines: list[str], notion: bool) -> list[str]:
    """Return lines without properties (`Tags: river`) at their start or right below the title."""
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    first = start
    if start < len(lines) and lines[start].startswith("# "):
        first = next((at for at in range(start + 1, len(lines)) if lines[at].strip()), len(lines))
    end = first
    known = 0
    while end < len(lines) and lines[end].strip() and (match := _PROPERTY.match(lines[end].strip())):
        known += match[1].strip().lower() in _PROPERTIES
        end += 1
    whole = end == len(lines) or lines[end].strip() in ("", "---")
    if (
        whole
        and (2 * known >= end - first if not notion else end - first <= _MOST_NOTION_PROPERTIES)
        and (known or (notion and end > first))
    ):
        return lines[:first] + lines[end + (lines[end : end + 1] == ["---"]) :]
    return lines


def without_trailer(lines: list[str]) -> list[str]:
    """Return lines without what Joplin and iA Writer write below a note."""
    if not lines:
        return lines
    start = len("\n".join(lines).rstrip().split("\n"))
    while start > 0 and lines[start - 1].strip() and len(lines) - start < _LONGEST_TRAILER:
        start -= 1
    trailer = "\n".join(lines[start:])
    return lines[:start] if _TRAILER.match(trailer) else lines
