"""Take HTML, Markdown, notes and addresses out of plain text.

`unmark` runs on a whole text before the exclusion rules for lines, `strip_marks` on each paragraph
before those for paragraphs, `inline` on each paragraph that is kept. What is evidence for a rule
(addresses, handles, fences, rows of tables) stays until `inline`.
"""

import html
import itertools
import re
from collections.abc import Iterator

from llm60_jax.data.clean import clippings, pages
from llm60_jax.data.clean.characters import normalise

_FENCE = re.compile(r"^\s*(?:`{3,}|~{3,})[^`\n]*$")
_FENCES = ("```", "~~~")
_PASSES = 4  # over one text: markup can hold markup, but not without end

# Elements of HTML. Any other word between angle brackets may be a generic type or a nick.
_BREAKS = frozenset("br li tr dt dd option legend caption".split())
_BLOCKS = frozenset(
    "p div h1 h2 h3 h4 h5 h6 ul ol dl table thead tbody tfoot blockquote pre section article header footer nav aside "
    "main figure figcaption hr form center body html head title select fieldset details summary address "
    "noscript template iframe object video audio svg canvas".split()
)
_SPANS = frozenset(
    "a abbr acronym b bdi bdo big cite code col colgroup data del dfn em embed font i img input ins kbd label link "
    "map area mark meta meter nobr optgroup output param path picture progress q rp rt ruby s samp script small "
    "source span strike strong style sub sup td th textarea time tt u var wbr button base basefont g use track".split()
)
_TAG = re.compile(r"</?(?P<name>[a-zA-Z][\w:-]*)(?P<rest>[^<>]*)>")
_DECLARATION = re.compile(r"<(?:!(?:doctype|\[)|\?xml)[^<>]*>", re.IGNORECASE)
_CODE_BODY = {
    name: (re.compile(rf"<{name}(?=[\s>])[^<>]*>", re.IGNORECASE), re.compile(rf"</{name}\s*>", re.IGNORECASE))
    for name in ("script", "style")
} | {"comment": (re.compile("<!--"), re.compile("-->"))}
_ATTRIBUTES = re.compile(
    r"(?:\s+[a-z]{4,16}){0,2}(?:\s+[a-z_:@][\w:.@-]{0,40}\s{0,3}=\s{0,3}[\"'\w/#.%{-]|\s{0,9}/?$)", re.I
)
_QUOTED_ATTRIBUTE = re.compile(r"\s+[a-z_:@][\w:.@-]{0,40}\s{0,3}=\s{0,3}[\"']", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[a-zA-Z][a-zA-Z\d]{1,30});")
_NESTED_AMPERSAND = re.compile(r"&(?:amp;)+", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]")
_SCENE_BREAK = re.compile(r"[-~=*]{0,5} ?o[0O]o ?[-~=*]{0,5}")
_WORDS = re.compile(r"[^\W_]+")
_SOURCE_TAGS = 3  # fewer tags are no page of HTML

_AUTOLINK = re.compile(r"<(?P<text>(?:https?|ftp|mailto):[^<>\s]{1,2000}|[\w.+-]{1,64}@[\w.-]{1,200})>")
_TARGET = r"\((?:[^()\s]|\([^()\s]{0,200}\)){0,2000}(?:\s{1,3}(?:\"[^\"\n]{0,500}\"|'[^'\n]{0,500}'))?\s{0,3}\)"
_IMAGE = re.compile(rf"!\[[^\[\]\n]{{0,300}}\](?:{_TARGET}|\[[^\[\]\n]{{0,100}}\])")
_LINK = re.compile(rf"(?<!!)\[(?P<text>(?:[^\[\]\n]|\n(?!\s*\n)){{0,300}})\]{_TARGET}")
_REFERENCE = re.compile(r"^ {0,3}\[(?!\^)[^\[\]\n]{1,100}\]: {0,3}<?(?:https?://|www\.|mailto:|/|\./)\S*[^\n]*$", re.M)
_BY_REFERENCE = re.compile(r"\[(?P<text>[^\[\]\n]{1,300})\] ?\[[^\[\]\n]{0,100}\]")
_ASIDE = re.compile(
    r"[ \t]?\[(?:Illustration|Footnote|Sidenote|Transcriber's Note)\b(?:[^\[\]]|\[[^\[\]]{0,200}\]){0,5000}\]",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"(?<!\\)\\(?P<text>[!-/:-@\[\]^_`{-~])")
_COMMAND = re.compile(
    r"(?<![\w:])\\[a-zA-Z]{2,}|\\[\[(][^\\\n]{0,300}[\^_=+<>][^\\\n]{0,300}\\[\])]"
)  # formulas keep their backslashes
_NOTE_MARK = re.compile(
    r"(?:(?<=[^\W\d_]{3})|(?<=[.,;:!?\"'\u201d\u2019\]]))[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]{1,3}(?![^\W_])"
    r"|^[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]{1,3}(?=[ \"'\u201c\u2018]*[^\W\d_])[ ]?",
    re.MULTILINE,
)
_MEASURE = re.compile(r"\d ?[a-zA-Z/\u00b7 ]{1,30}$|\b(?:sin|cos|tan|log|sec|rad|deg|mol)$")
_SUPERSCRIPT = re.compile("[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]")


def _between(mark: str) -> "re.Pattern[str]":
    """Return the pattern of words between marks, within a paragraph."""
    line = rf"[^{mark}\n]{{1,3000}}"
    return re.compile(
        rf"(?<![\w{mark}\\])(?P<marks>{mark}{{1,3}})(?=\S)(?P<text>{line}(?:\n{line}){{0,60}})(?<=[^\s\\])(?P=marks)"
        rf"(?![\w{mark}])"
    )


_EMPHASIS = (("*", _between(r"\*")), ("_", _between("_")), ("`", _between("`")))

# (sign, pattern): what is left for `inline`, in this order. A group named `text` stays. Few
# paragraphs contain any sign, and a search for the sign is much faster than the pattern.
_CITATION = re.compile(
    r"\s?\[(?:\d{1,4}(?:\s?[,;\u2013-]\s?\d{1,4})*|citation needed|note \d+|edit|sic\?)\]"  # [1], [2, 3], [4-6]
)
_URL = re.compile(
    r"(?P<before>[ ]?)(?P<open>[(<\[]?)(?:\bhttps?://(?:www\.)?|\bwww\.)"
    r"(?P<host>[\w-]{1,63}(?:\.[\w-]{1,63}){0,5})?(?P<path>(?:[^\s<>()]|\([^\s<>()]{0,100}\))*)(?P<close>[)>\]]?)"
)
_ADDRESS = re.compile(r"\s?<?\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}\b>?")
_HEADING = re.compile(r"^#{1,6}\s+(?P<text>.*?)(?:\s#{1,6})?$", re.MULTILINE)
_STRAY = re.compile(r"(?<![\w_\\])_{1,2}(?=[\w\"'(\u201c\u2018])|(?<=[\w.,!?;:\"')\u201d\u2019\u2014-])_{1,2}(?![\w_])")
_ROW = re.compile(r"^\|.*\|$")
_RULE_ROW = re.compile(r"^\|[\s|:=+-]*\|$")
_MARKS = re.compile("[<*_`\\\\\u00b9\u00b2\u00b3\u2070\u2074-\u2079]|\\]\\(")
# Code inside a sentence may name an element: "the `<div>` is". Its brackets are hidden, that it stays.
_CODE_SPAN = re.compile(r"(?<!`)`[^`\n]{0,200}<[^`\n]{0,200}`(?!`)")
_HIDDEN = "\ufdd0"  # no character: no text has it
_MARKED = re.compile(r"[<&\[@*_`#|]|://|www\.")
_SENTENCE_ENDS = ".,;:!?'\"\u201d\u2019"


def unmark(text: str, *, keep_source: bool = False) -> str:
    """Take markup out of a normalised text, except in fenced code.

    Args:
      keep_source: leave blocks that are more HTML than words as they are, for the rule `code`.
    """
    text = pages.drop_numbers(clippings.strip(text))
    if "```" not in text and "~~~" not in text:
        return _unmark(text, keep_source)
    return "\n".join(part if fenced else _unmark(part, keep_source) for fenced, part in split_fences(text))


def split_fences(text: str) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is code, text), with the fences in the code. An open fence is no fence."""
    lines = text.split("\n")
    fences = [i for i, line in enumerate(lines) if _FENCE.match(line)]
    end = 0
    for start, stop in zip(fences[::2], fences[1::2], strict=False):
        if start > end:
            yield False, "\n".join(lines[end:start])
        yield True, "\n".join(lines[start : stop + 1])
        end = stop + 1
    if end < len(lines):
        yield False, "\n".join(lines[end:])


def _unmark(text: str, keep_source: bool) -> str:
    text = text.replace(_HIDDEN, "")
    for _ in range(_PASSES):
        before = text
        if "&" in text:
            text = _unescape(text)
        if "<" in text:
            if "`" in text:
                text = _CODE_SPAN.sub(lambda match: match[0].replace("<", _HIDDEN), text)
            text = _drop_html(text, keep_source)
        if "]: " in text and _REFERENCE.search(text):
            text = _BY_REFERENCE.sub(r"\g<text>", _REFERENCE.sub("", text))
        if "[" in text:
            text = _ASIDE.sub("", text)
        if text == before:
            break
    return text


def _unescape(text: str) -> str:
    """Replace entities. Those that lack their semicolon may be anything, as in "AT&T"."""
    replaced = _ENTITY.sub(lambda match: html.unescape(match[0]), _NESTED_AMPERSAND.sub("&", text))
    return text if replaced == text else normalise(replaced)


def _drop_html(text: str, keep_source: bool) -> str:
    """Take out scripts, comments and the tags of blocks. Those inside a line stay: they count in its width."""
    if keep_source and _is_source(text):
        return text
    for opening, closing in _CODE_BODY.values():
        text = _drop_between(text, opening, closing)
    if not keep_source:
        return _drop_tags(text)
    blocks = re.split(r"(\n{2,})", text)
    return "".join(block if "<" not in block or _is_source(block) else _drop_tags(block) for block in blocks)


def _drop_tags(text: str) -> str:
    return _TAG.sub(lambda match: _replace_tag(match) or match[0], _DECLARATION.sub("", text))


def _drop_between(text: str, opening: "re.Pattern[str]", closing: "re.Pattern[str]") -> str:
    """Take out what stands between two marks, with the marks. Linear in the length of the text."""
    parts, end = [], 0
    while (start := opening.search(text, end)) and (stop := closing.search(text, start.end())):
        parts.append(text[end : start.start()])
        end = stop.end()
    return "".join([*parts, text[end:]]) if end else text


def _replace_tag(match: "re.Match[str]") -> str:
    name, rest = match["name"].lower(), match["rest"]
    if "::" in name:  # std::optional<std::string>
        return match[0]
    closing = match[0].startswith("</")
    if closing:
        is_tag = not rest.strip()
    elif name in _SPANS or name in _BREAKS or name in _BLOCKS or ":" in name:
        generic = len(name) == 1 and match["name"].isupper() and not rest and _is_after_word(match)
        is_tag = bool(_ATTRIBUTES.match(rest)) and not generic
    else:
        is_tag = bool(_QUOTED_ATTRIBUTE.match(rest))
    if not is_tag:
        return match[0]
    if name == "li" and not closing:
        return "\n- "
    if name in ("td", "th") and closing:
        return " "
    return "\n" if name in _BREAKS else "\n\n" if name in _BLOCKS else ""


def _is_after_word(match: "re.Match[str]") -> bool:
    return match.start() > 0 and match.string[match.start() - 1].isalnum()


def _is_source(block: str) -> bool:
    """Whether a block is rather HTML than text that has tags."""
    tags = [match for match in _TAG.finditer(block) if _replace_tag(match) != match[0]]
    text = block
    for opening, closing in _CODE_BODY.values():
        text = _drop_between(text, opening, closing)
    words = len(_WORDS.findall(_TAG.sub(" ", text)))
    return len(tags) >= _SOURCE_TAGS and words < 2 * len(tags)


def strip_marks(paragraph: str) -> str:
    """Take tags, links, emphasis, escapes and note marks out of a paragraph, before the rules look.

    Its lines are joined by then: with its marks, a line has the width at which it was wrapped.
    """
    if paragraph.startswith(_FENCES) or not _MARKS.search(paragraph):
        return paragraph
    for _ in range(_PASSES):
        before = paragraph
        if "<" in paragraph:
            paragraph = _TAG.sub(_replace_tag, _AUTOLINK.sub(r"\g<text>", paragraph))
        if "](" in paragraph:
            paragraph = _LINK.sub(r"\g<text>", _IMAGE.sub("", paragraph))
        for mark, pattern in _EMPHASIS:
            if mark in paragraph:
                paragraph = pattern.sub(r"\g<text>", paragraph)
        if paragraph == before:
            break
    if "\\" in paragraph and not _COMMAND.search(paragraph):
        paragraph = _ESCAPE.sub(r"\g<text>", paragraph)
    if not paragraph.isascii() and _SUPERSCRIPT.search(paragraph):
        paragraph = _NOTE_MARK.sub(_replace_note_mark, paragraph)
    return _tidy(paragraph)


def _replace_note_mark(match: "re.Match[str]") -> str:
    """Return a superscript if it is a square or a cube, else nothing."""
    before = match.string[max(0, match.start() - 40) : match.start()]
    return match[0] if _MEASURE.search(before) else ""


def _tidy(paragraph: str) -> str:
    """Return lines without double spaces, and without blank lines."""
    lines = (" ".join(line.split()) for line in paragraph.split("\n"))
    return "\n".join(line for line in lines if line)


def inline(paragraph: str) -> str:
    """Remove what is left of markup, citation markers and addresses; "" if no word is left.

    An address inside a sentence leaves its host, without which the sentence would lack a word. A
    row of a table becomes words between commas. Code between fences stays as it is.
    """
    if paragraph.startswith(_FENCES):
        return _tidy("\n".join(line for line in paragraph.split("\n") if not _FENCE.match(line)))
    for _ in range(_PASSES):
        before = paragraph
        if not _MARKED.search(paragraph):
            break
        paragraph = _tidy(_inline(strip_marks(paragraph)))
        if paragraph == before:
            break
    if _SCENE_BREAK.fullmatch(paragraph) or not _WORD.search(paragraph):
        return ""
    return shown(paragraph)


def shown(text: str) -> str:
    """Return a text with the brackets that `unmark` hides."""
    return text.replace(_HIDDEN, "<")


def _inline(text: str) -> str:
    if "&" in text:
        text = _unescape(text)
    if "[" in text:
        text = _CITATION.sub("", _ASIDE.sub("", text))
    if "://" in text or "www." in text:
        text = _URL.sub(_replace_url, text)
    if "@" in text:
        text = _ADDRESS.sub("", text)
    if "_" in text:
        text = _STRAY.sub("", text)
    if "#" in text:
        text = _HEADING.sub(r"\g<text>", text)  # a heading keeps its words
    if text.startswith("|"):
        text = "\n".join(_cells(line) for line in text.split("\n"))
    return text


def _replace_url(match: "re.Match[str]") -> str:
    """Return the host where a sentence goes on around the address, else nothing."""
    tail = "".join(reversed(list(itertools.takewhile(_SENTENCE_ENDS.__contains__, reversed(match["path"])))))
    before = match.string[: match.start()].rstrip()[-1:]
    enclosed = bool(match["open"])
    closing = "" if enclosed else match["close"]
    word_before = before.isalnum() or before in (",", ";")
    if enclosed or not match["host"] or not word_before:
        return ("" if not word_before and not enclosed else tail) + closing
    return f"{match['before']}{match['host']}{tail}{closing}"


def _cells(row: str) -> str:
    """Return the cells of a row as words between commas."""
    row = row.strip()
    if _RULE_ROW.match(row):
        return ""
    if not _ROW.match(row) or len(row) < 3:
        return row
    return ", ".join(cell for part in row[1:-1].split("|") if (cell := part.strip()))
