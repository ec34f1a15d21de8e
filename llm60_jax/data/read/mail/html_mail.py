"""Mail in HTML: its text, with quotations marked as in plain text.

Mail programs mark the messages that they quote by elements, classes and ids. `text` puts a line ">"
in the place of each and leaves the rest to `replies`, which knows the lines above quotations.
"""

import re
from typing import Any

from llm60_jax.data.read.items import Unreadable
from llm60_jax.data.read.mail import replies
from llm60_jax.data.read.web import webpage

# Marks of one character that pass through `webpage.blocks`.
_BREAK, _CUT, _OPEN, _CLOSE = "\ue000", "\ue001", "\ue002", "\ue003"
_MARKS = re.compile(f"[{_BREAK}-{_CLOSE}]")
_BREAKS = re.compile(f"[ \t\xa0]{{0,20}}{_BREAK}[ \t\xa0]{{0,20}}")
_DECLARATION = re.compile(r"\s{0,99}<\?xml[^>]{0,500}\?>")

_LAYOUT = frozenset("table tbody thead tfoot tr td th".split())
_BLOCKS = frozenset("p div ul ol h1 h2 h3 h4 blockquote table center pre".split())
# Names of classes and ids, without the "x_" that Outlook puts before those of others.
_QUOTED = frozenset(
    "yahoo_quoted yahoo-quoted moz-forward-container isforwardcontent isreplycontent olk_src_body_section "
    "mail-editor-reference-message-container ms-outlook-mobile-reference-message outlookmessageheader".split()
)
_QUOTED_BELOW = frozenset("divrplyfwdmsg appendonsend stopspelling".split())  # the rest of the page
_ABOVE = frozenset("moz-cite-prefix gmail_attr reply-intro".split())  # above a quotation
_SIGNATURES = frozenset(
    "gmail_signature moz-signature protonmail_signature_block ms-outlook-mobile-signature signature".split()
)
_QUOTE_NAME = re.compile(r"\bcite\b|_quote|-quote|quoted")
_SIGNATURE_CHARACTERS = 500  # a longer one holds own words, typed into its element


def text(page: str) -> str:
    """Return the text of a message in HTML; a line ">" replaces each quotation."""
    import lxml.html

    tree = _parsed(page)
    if tree is None:
        return ""
    _mark(tree)
    _unfold_tables(tree)
    marked = webpage.blocks(lxml.html.tostring(tree))  # ASCII, so that no declared encoding misleads
    return _MARKS.sub("", _without_block_quotations(_BREAKS.sub("\n", marked.split(_CUT)[0])))


def _parsed(page: str) -> Any:
    import lxml.etree
    import lxml.html

    page = _MARKS.sub("", _DECLARATION.sub("", page.replace("\0", ""), count=1))
    if not page.strip():
        return None
    try:
        return lxml.html.document_fromstring(page)
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        raise Unreadable from None


def _mark(tree: Any) -> None:
    """Replace quotations, signatures and line breaks by marks."""
    for element in list(tree.iter()):
        if not isinstance(element.tag, str):
            continue
        if element.text and _MARKS.search(element.text):  # from references such as &#xe000;
            element.text = _MARKS.sub("", element.text)
        if element.tail and _MARKS.search(element.tail):
            element.tail = _MARKS.sub("", element.tail)
        if element.tag == "br":
            _replace(element, "span", _BREAK)
            continue
        names = _names(element)
        style = re.sub(r"\s", "", element.get("style", "")[:500].lower())
        if names & _QUOTED_BELOW:
            _replace(element, "p", _CUT)
        elif names & _QUOTED or (element.tag == "blockquote" and _is_cited(element, names, style)):
            _replace(element, "p", ">")
        elif element.tag == "blockquote":
            _enclose(element)
        elif element.tag == "meta":
            _replace(element, "meta", "")  # it can declare another encoding
        elif _is_left_out(element, names, style):
            _replace(element, "p", "")


def _is_left_out(element: Any, names: set[str], style: str) -> bool:
    if "display:none" in style:
        return True
    return bool(names & _ABOVE and _is_above_quotation(element)) or bool(names & _SIGNATURES and _is_short(element))


def _names(element: Any) -> set[str]:
    words = f"{element.get('class', '')[:500]} {element.get('id', '')[:100]}".lower().split()
    return {re.sub(r"^(?:x_){1,20}", "", word) for word in words}


def _is_cited(element: Any, names: set[str], style: str) -> bool:
    """Return whether a mail program made this blockquote; those for indenting have no border."""
    if element.get("type", "").lower() == "cite" or element.get("cite", "").lower().startswith(("mid:", "cid:")):
        return True
    border = "border-left:" in style and not re.search(r"border-left:(?:none|0)", style)
    return border or bool(_QUOTE_NAME.search(" ".join(names)))


def _is_above_quotation(element: Any) -> bool:
    """Return whether the next element but line breaks is a quotation."""
    for following, _ in zip(element.itersiblings(), range(5), strict=False):
        if following.tag == "blockquote":
            return True
        if following.tag != "br" or (following.tail or "").strip():
            return False
    return False


def _is_short(element: Any) -> bool:
    size = 0
    for part in element.itertext():
        size += len(part)
        if size > _SIGNATURE_CHARACTERS:
            return False
    return True


def _replace(element: Any, tag: str, mark: str) -> None:
    tail = element.tail
    element.clear()
    element.tag, element.text, element.tail = tag, mark, tail


def _enclose(element: Any) -> None:
    """Put marks around a blockquote, which may be the author's or a mail program's."""
    import lxml.etree

    first, last = lxml.etree.Element("p"), lxml.etree.Element("p")
    first.text, first.tail, last.text = _OPEN, element.text, _CLOSE
    element.text = None
    element.insert(0, first)
    element.append(last)


def _without_block_quotations(marked: str) -> str:
    """Replace what stands in a blockquote below the line of a mail program."""
    kept: list[str] = []
    depth = dropped = 0  # of blockquotes; the depth at which dropping began
    for block in marked.split("\n\n"):
        depth += block.count(_OPEN)
        if _OPEN in block and not dropped and _is_below_header(kept):
            dropped = depth
            kept.append(">")
        if not dropped:
            kept.append(block)
        depth -= block.count(_CLOSE)
        if depth < dropped:
            dropped = 0
    return "\n\n".join(kept)


def _is_below_header(blocks: list[str]) -> bool:
    above = next((block for block in reversed(blocks[-5:]) if _MARKS.sub("", block).strip()), "")
    return replies.is_header(" ".join(_MARKS.sub("", above).split()))


def _unfold_tables(tree: Any) -> None:
    """Turn tables that only place things on the page into blocks."""
    import lxml.etree

    tables: list[list[Any]] = []  # the elements of each open table
    data: list[bool] = []  # whether it holds rows of several cells, all of them plain
    for event, element in lxml.etree.iterwalk(tree, events=("start", "end")):
        tag = element.tag
        if tag == "table" and event == "start":
            if data:
                data[-1] = False
            tables.append([])
            data.append(True)
        if not tables:
            continue
        if event == "start":
            if tag in _LAYOUT:
                tables[-1].append(element)
            elif tag in _BLOCKS:
                data[-1] = False
        elif tag == "table":
            elements = tables.pop()
            wide = any(part.tag == "tr" and len(part) > 1 for part in elements)
            if not (data.pop() and wide):
                for part in elements:
                    part.tag = "div"
