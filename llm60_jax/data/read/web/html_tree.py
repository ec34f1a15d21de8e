"""HTML and XHTML: the tree of a page, without what a browser does not show."""

import codecs
import functools
import html.entities
import re
from typing import Any

from llm60_jax.data.read import plain
from llm60_jax.data.read.items import Unreadable

_BANNER_NAME = re.compile(r"(?:cookies?|consent|gdpr|onetrust|cmp|cookiebar)(?:[-_]|$)", re.IGNORECASE)
_HIDDEN_STYLE = re.compile(
    r"(?:^|;)\s{0,9}(?:display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden)", re.IGNORECASE
)
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_XML_ENTITIES = ("amp", "AMP", "lt", "LT", "gt", "GT", "quot", "QUOT", "apos")
_CHARSET = re.compile(rb"(?:charset|encoding)\s{0,9}=\s{0,9}[\"']?([\w.:-]{1,40})", re.IGNORECASE)
# Codecs that pages are written in, except UTF-8; Python has others, which are no encodings of text.
_CODECS = tuple("ascii iso8859 iso2022 cp koi8 kz1048 mac big5 gb hz euc shift johab tis".split())
_LATIN = ("ascii", "iso8859-1")  # in fact Windows-1252
_DECLARATION = re.compile(r"^\s{0,99}<\?xml[^<>]{0,200}\?>")


def parsed(data: bytes) -> Any:
    """Parse a page, without what is hidden. Return None for an empty one."""
    import lxml.etree
    import lxml.html

    text = _DECLARATION.sub("", _decoded(data), count=1)
    if not text.strip():
        return None
    tree = _xhtml(text)
    if tree is None:
        try:
            tree = lxml.html.document_fromstring(text)
        except (lxml.etree.LxmlError, ValueError, AssertionError):
            raise Unreadable from None
    _remove_hidden(tree)
    return tree


def _decoded(data: bytes) -> str:
    """Decode a page. UTF-8 is evident; else what the page declares counts."""
    declared = _CHARSET.search(data[:4096])
    if declared is not None and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = declared.group(1).decode().lower()
        try:
            codec = codecs.lookup(name).name
            if codec.startswith(_CODECS):
                return _as_utf8(data) or data.decode("cp1252" if codec in _LATIN else codec, errors="replace")
        except (LookupError, ValueError):
            pass
    decoded = plain.decode(data)
    if decoded is None:
        raise Unreadable
    return decoded[0]


def _as_utf8(data: bytes) -> str:
    """Return bytes that are valid UTF-8 beyond ASCII as text; "" for others."""
    try:
        return "" if data.isascii() else data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""


def _xhtml(text: str) -> Any:
    """Parse XHTML as XML, which knows `<span/>` and `<title/>`; None for anything else."""
    import lxml.etree

    if "http://www.w3.org/1999/xhtml" not in text[:2048]:
        return None
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_pis=True)
    try:
        tree = lxml.etree.fromstring(_ENTITY.sub(_character, text), parser)
    except (lxml.etree.LxmlError, ValueError):
        return None
    return tree if tag_of(tree) == "html" else None


def _character(match: "re.Match[str]") -> str:
    """Return an entity of HTML as its characters, since XML does not know its name."""
    name = match.group(1)
    return match.group(0) if name in _XML_ENTITIES else html.entities.html5.get(name + ";", match.group(0))


def tag_of(element: Any) -> str:
    """Return an element's name without its namespace; "" for a comment."""
    tag = element.tag
    return _local_name(tag) if isinstance(tag, str) else ""


@functools.lru_cache(maxsize=1_000)
def _local_name(tag: str) -> str:
    return tag.rpartition("}")[2].lower()


def types_of(element: Any) -> set[str]:
    """Return an element's types in an e-book: the words of `epub:type`, and its role."""
    types = element.get("{http://www.idpf.org/2007/ops}type") or element.get("epub:type") or ""
    return {*types.split(), *(role.removeprefix("doc-") for role in (element.get("role") or "").split())}


def is_named(element: Any, pattern: "re.Pattern[str]") -> bool:
    """Whether a pattern matches one of an element's classes, or its id."""
    names = f"{element.get('class') or ''} {element.get('id') or ''}"
    return names != " " and (_matches if len(names) < 200 else _matches.__wrapped__)(pattern, names)


@functools.lru_cache(maxsize=10_000)
def _matches(pattern: "re.Pattern[str]", names: str) -> bool:
    return any(pattern.match(name) for name in names.split())


def _remove_hidden(tree: Any) -> None:
    """Remove what a browser does not show and banners about cookies, but never most of a page."""
    sizes = sizes_of(tree)
    for element in [element for element in tree.iter() if isinstance(element.tag, str)]:
        if 5 * sizes[element] <= 4 * sizes[tree] and _is_hidden(element, sizes[element]):
            element.clear(keep_tail=True)


def _is_hidden(element: Any, size: int) -> bool:
    if not element.attrib or tag_of(element) in ("html", "body"):
        return False
    if element.get("aria-hidden") == "true":
        # The first letter of a paragraph, set large, is part of a word.
        return size != 1 or not (element.tail or "")[:1].islower()
    return (
        element.get("hidden") is not None
        or _HIDDEN_STYLE.search(element.get("style") or "") is not None
        or is_named(element, _BANNER_NAME)
    )


def sizes_of(tree: Any) -> dict[Any, int]:
    """Return how many characters of text each element holds."""
    sizes: dict[Any, int] = {}
    for element in reversed(list(tree.iter())):
        sizes[element] = sizes.get(element, 0)
        tag = tag_of(element)
        if tag and tag not in ("script", "style"):
            sizes[element] += len((element.text or "").strip())
        parent = element.getparent() if element is not tree else None
        if parent is not None:
            sizes[parent] = sizes.get(parent, 0) + sizes[element] + len((element.tail or "").strip())
    return sizes
