"""Markdown inside a paragraph: what tools add to it, as rules of the parser, and its plain words."""

import re
from collections.abc import Callable, Sequence

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from llm60_jax.data.read.markup.blocks import BLOCK, BREAK, GAP

_LONGEST_SPAN = 2_000  # characters
# What stands between these goes: templates of Liquid, Hugo and others, attributes, comments, edits.
# The longer of two marks that begin alike comes first.
_SPANS = (
    ("{{", "}}"), ("{%", "%}"), ("{/*", "*/}"), ("{>>", "<<}"), ("{--", "--}"), ("{#", "}"), ("{:", "}"), ("{.", "}"),
    ("%%", "%%"), ("<%", "%>"), ("<$", ">"), ("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"), ("<!", ">"),
)  # fmt: skip
_SPAN_SIGNS = frozenset(mark[0] for mark, _ in _SPANS)
_NUMBERED = re.compile(r"^\d{8,14}(?:[ _-]+|$)")  # the name of a note in a Zettelkasten
_NOTION_NAME = re.compile(r"[ _-]?\b[0-9a-f]{32}\b(?:\.(?:md|csv|html))?")
_EXTENSION = re.compile(r"\.(?:md|markdown|canvas|org)$")
_TAG_NAME = re.compile(r"</?\s?([a-zA-Z][\w:.-]*)")
_BLOCK_TAGS = frozenset(
    "p div h1 h2 h3 h4 h5 h6 li dt dd blockquote section article header footer main aside figure figcaption hr table "
    "tr ul ol dl pre details summary center address".split()
)
# Elements whose words are not the author's prose.
_SILENT_TAGS = frozenset(
    "script style svg math iframe object noscript template button select audio video del s strike".split()
)
# Of Logseq and Roam.
_BLOCK_REFERENCE = re.compile(r"\(\((?:[0-9a-f]{8}-[0-9a-f-]{20,40}|(?=[a-z]{0,8}[^a-z()])[\w-]{9})\)\)")
_FIELD = re.compile(r"\([\w -]{1,40}:: [^()\n]{0,200}\)")  # of Dataview
_STRONG = re.compile(r"\*\*([^*\n]{1,500})\*\*")
_EMOJI_NAME = re.compile(r"(?<![\w:]):(?=[a-z])[a-z\d_+-]{2,40}:(?![\w:])")  # of GitHub and Slack
_BEAR_MARKED = re.compile(r"(?<![\w:])::(?=[^\s:])([^:\n]{1,300})::(?![\w:])")  # highlighted
_BEAR_FILE = re.compile(r"\[(?:image|file|assets):[^\[\]\n]{1,300}\.\w{2,5}\]")
# What Obsidian's plugin for tasks adds to one: dates, how often it recurs, its priority.
_TASK_FIELD = re.compile(
    "[\U0001f4c5\u2705\u23f3\U0001f6eb\u2795\u274c]\ufe0f? ?\\d{4}-\\d\\d-\\d\\d"
    "|\U0001f501\ufe0f? ?every [a-z\\d ]{1,40}$"
    "|[\u23eb\U0001f53c\U0001f53d\U0001f53a\u23ec]\ufe0f?(?= |$)"
)
_TAG = re.compile(r"(?<![\w&#/])#([^\W\d_][\w/-]{0,60})#?(?![\w/])")


def rules(md: MarkdownIt) -> None:
    """Add the rules of this module to a parser."""
    ruler = md.inline.ruler
    ruler.before("escape", "inserted", _matching("{", _INSERTED, _inner))
    ruler.before("escape", "replaced", _matching("{", _REPLACED, _inner))
    ruler.before("escape", "values", _matching("{", _ATTRIBUTES, _gone))
    ruler.before("escape", "span", _span)
    ruler.before("escape", "math", _matching("$", _MATH, _verbatim))
    ruler.before("backticks", "computed", _matching("`", _COMPUTED, _gone))
    ruler.before("strikethrough", "times", _matching("*", _TIMES, _verbatim))
    ruler.before("strikethrough", "subscript", _matching("~", _SUBSCRIPT, _inner))
    ruler.before("strikethrough", "highlight", _highlight)
    ruler.before("link", "note", _matching("[", _NOTE, _gone))
    ruler.before("link", "bear_file", _matching("[", _BEAR_FILE, _gone))
    ruler.before("link", "shortcode", _matching("[", _SHORTCODE, _gone))
    ruler.before("link", "citation", _matching("[", _CITATION, _gone))
    ruler.before("link", "field", _matching("[", _BRACKETED_FIELD, _gone))
    ruler.before("link", "wikilink", _matching("[", _WIKILINK, _wikilink))
    ruler.before("link", "attributes", _matching("[", _WITH_ATTRIBUTES, _inner))
    ruler.before("image", "embed", _matching("!", _EMBED, _gone))
    ruler.before("link", "computed_link", _matching("[", _COMPUTED_LINK, _inner))
    ruler.after("image", "loose_image", _matching("!", _LOOSE_LINK, _gone))
    ruler.after("image", "loose_link", _matching("[", _LOOSE_LINK, _inner))
    ruler.after("image", "undefined_image", _matching("!", _UNDEFINED, _gone))
    ruler.after("image", "undefined", _matching("[", _UNDEFINED, _inner))
    ruler.push("marked", _matching("^", _MARKED, _inner))
    ruler.push("superscript", _matching("^", _RAISED, _inner))
    ruler.push("component", _matching("<", _COMPONENT, _gone))


_MATH = re.compile(r"(?<![\\\w$])(?:\$\$[^$]{1,2000}\$\$|\$(?=\S)[^$\n`]{1,300}(?<=\S)\$(?![\w$]))")
_TIMES = re.compile(r"(?<=\d)\*(?=\d)")
# Edits as CriticMarkup writes them: what is added or marked, and old words with the new ones.
_INSERTED = re.compile(r"\{(?:\+\+|==)([^{}]{1,500}?)(?:\+\+|==)\}")
_REPLACED = re.compile(r"\{~~[^{}~]{0,500}~>([^{}]{0,500}?)~~\}")
_COMPUTED = re.compile(r"`(?:r [\w.]+\(|\$?= )[^`\n]{0,300}`")  # a value that R Markdown or Dataview computes
_SUBSCRIPT = re.compile(r"~([^\s~]{1,50})~(?!~)")
_MARKED = re.compile(r"\^\^([^^\n]{1,500})\^\^")  # of Roam
_RAISED = re.compile(r"\^([^\s^]{1,50})\^")
_CITATION = re.compile(r"\[(?:[^\[\]@\n]{0,100}[\s;])?-?@[\w{][^\[\]]{0,500}\](?![\[(])")  # of Pandoc
_NOTE = re.compile(r"\[\^[^\[\]\s]{1,200}\]")  # the mark of a footnote
_BRACKETED_FIELD = re.compile(r"\[[\w -]{1,40}:: [^\[\]\n]{0,200}\]")  # of Dataview
_EMBED = re.compile(r"!\[\[[^\[\]\n]{0,500}\]\]")
_WIKILINK = re.compile(r"\[\[([^\[\]\n]{1,500})\]\](?!\()")
_WITH_ATTRIBUTES = re.compile(r"\[([^\[\]\n]{0,500})\]\{(?:[.#:]|[\w-]{1,30}=)[^{}\n]{0,300}\}")
_ATTRIBUTES = re.compile(r"\{(?:-|[\w-]{1,30}=[^{}\n]{1,300})\}")  # {-}: a heading without a number
_SHORTCODE = re.compile(
    r"\[/?(?:caption|gallery|embed|audio|video|playlist|youtube|vimeo)\b(?!\])[^\[\]]{0,300}\]|\[/caption\]"
)
# A link whose address is none in Markdown, since it holds blanks or brackets.
_LOOSE_LINK = re.compile(
    r"!?\[([^\[\]]{0,500})\]\((?=[^()\s]{0,200}(?:[./#]|[ ][^()\n]{0,300}\.\w{2,5}\)))"
    r"[^()\n]{1,500}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\)"
)
# A link whose address Liquid or Hugo computes.
_COMPUTED_LINK = re.compile(r"(?<!!)\[([^\[\]]{1,500})\]\([^()\s]{0,200}\{[{%][^{}\n]{1,300}[%}]\}[^()\n]{0,200}\)")
_UNDEFINED = re.compile(r"!?\[(?=[^\[\]\n]{0,500}[^\W\d_])([^\[\]\n]{1,500})\]\[[^\[\]\n]{0,100}\]")
_COMPONENT = re.compile(r"</?[A-Z][\w.]{0,60}(?:\s[^<>]{0,1000})?/?>")  # of MDX

_Action = Callable[[StateInline, "re.Match[str]"], None]


def _matching(sign: str, pattern: "re.Pattern[str]", action: _Action) -> Callable[[StateInline, bool], bool]:
    """Return a rule of the parser: where `pattern` matches at `sign`, do `action` and go on."""

    def rule(state: StateInline, silent: bool) -> bool:
        if state.src[state.pos] != sign:
            return False
        match = pattern.match(state.src, state.pos, state.posMax)
        if match is None:
            return False
        if not silent:
            action(state, match)
        state.pos = match.end()
        return True

    return rule


def _gone(state: StateInline, match: "re.Match[str]") -> None:
    state.append_pending(GAP)


def _verbatim(state: StateInline, match: "re.Match[str]") -> None:
    state.append_pending(" ".join(match[0].split()))


def _inner(state: StateInline, match: "re.Match[str]") -> None:
    """Keep the words of the first group, which may hold markup itself."""
    end = state.posMax
    state.pos, state.posMax = match.start(1), match.end(1)
    state.level += 1
    state.md.inline.tokenize(state)
    state.level -= 1
    state.posMax = end


def _wikilink(state: StateInline, match: "re.Match[str]") -> None:
    """Keep the words that a wikilink shows."""
    target, bar, alias = match[1].partition("|")
    if bar and alias.strip():
        state.append_pending(alias.rstrip("\\").strip())
        return
    page, _, heading = target.rstrip("\\").partition("#")
    shown = page.strip() or heading.strip().lstrip("#^ ")
    if shown.upper().strip("_") == "TOC" or (not page.strip() and heading.startswith("^")):
        state.append_pending(GAP)
    else:
        shown = _EXTENSION.sub("", shown.rpartition("/")[2])
        state.append_pending(_NUMBERED.sub("", _NOTION_NAME.sub("", shown)) or GAP)


def _span(state: StateInline, silent: bool) -> bool:
    """Leave out what a tool other than Markdown reads."""
    source, start = state.src, state.pos
    if source[start] not in _SPAN_SIGNS:
        return False
    for opening, closing in _SPANS:
        if source.startswith(opening, start):
            after = start + len(opening)
            end = source.find(closing, after, min(after + _LONGEST_SPAN, state.posMax))
            if end < 0 and opening != "<!--":
                return False
            if not silent:
                state.append_pending(GAP)
            state.pos = after if end < 0 else end + len(closing)
            return True
    return False


def _highlight(state: StateInline, silent: bool) -> bool:
    """Leave out the marks of ==highlighted== words; a comparison such as `a == b` stays."""
    source, start = state.src, state.pos
    if not source.startswith("==", start) or source.startswith("===", start) or source[start - 1 : start] == "=":
        return False
    before, after = source[max(start - 1, 0) : start], source[start + 2 : start + 3]
    opens = not before.isalnum() and after.strip() and source.find("==", start + 2, start + _LONGEST_SPAN) > 0
    closes = before.strip() and not after.isalnum() and source.rfind("==", max(0, start - _LONGEST_SPAN), start) >= 0
    if not (opens or closes):
        return False
    state.pos = start + 2
    return True


def words(tokens: Sequence[Token]) -> str:
    """Return the words of inline tokens, with the marks of `blocks` and "\\n" at soft line ends.

    Images, struck words and the marks of footnotes are left out.
    """
    parts: list[str] = []
    silent: list[str] = []  # the open elements that are left out
    for token in tokens:
        if token.type == "html_inline":
            _html(token.content, parts, silent)
        elif token.type == "s_open":
            silent.append("~~")
        elif token.type == "s_close" and "~~" in silent:
            silent.remove("~~")
            parts.append(GAP)
        elif not silent:
            parts.append(_part(token))
    if silent and "~~" not in silent:  # an element that is never closed
        return words([token for token in tokens if token.type != "html_inline"])
    return "".join(parts)


def _part(token: Token) -> str:
    if token.type == "text":
        return _text(token.content)
    if token.type == "code_inline" and "<" in token.content and "`" not in token.content:
        return f"`{token.content}`"  # else `cleaning` takes it for a tag
    if token.type in ("text_special", "code_inline"):
        return token.content
    return {"softbreak": "\n", "hardbreak": BREAK, "image": GAP, "footnote_ref": GAP}.get(token.type, "")


def _text(text: str) -> str:
    """Return a text without references and fields of note-taking tools; a #tag loses its sign."""
    if "::" in text:
        text = _BEAR_MARKED.sub(r"\1", _FIELD.sub(GAP, text))
    if ":" in text:
        text = _EMOJI_NAME.sub(GAP, text)
    if not text.isascii():
        text = _TASK_FIELD.sub(GAP, text)
    if "((" in text:
        text = _BLOCK_REFERENCE.sub(GAP, text)
    if "#" in text:
        text = _TAG.sub(r"\1", text)
    if "**" in text:  # the parser wants a blank or a sign after the second mark
        text = _STRONG.sub(r"\1", text)
    return text


def _html(tag: str, parts: list[str], silent: list[str]) -> None:
    """Turn a tag into what it does to the text: a line end, the end of a block, or nothing."""
    match = _TAG_NAME.match(tag)
    name = match[1].lower() if match else ""
    if name in _SILENT_TAGS and not tag.endswith("/>"):
        if not tag.startswith("</"):
            silent.append(name)
        elif name in silent:
            silent.remove(name)
            parts.append(GAP)
    elif not silent:
        if name == "br":
            parts.append(BREAK)
        elif name in ("td", "th"):
            parts.append("" if tag.startswith("</") else " | ")
        elif tag.lower().startswith("</tr"):
            parts.append(f" |{BLOCK}")
        elif tag.lower().startswith("<li"):
            parts.append(f"{BLOCK}- ")
        elif name in _BLOCK_TAGS:
            parts.append(BLOCK)
        elif name == "img":
            parts.append(GAP)
