"""The kinds of files that can be read, and their readers."""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from llm60_jax.data.read import columns, items, json_files, plain, sniffing, unread
from llm60_jax.data.read.items import Broken, Document, Part
from llm60_jax.data.read.mail import mailboxes
from llm60_jax.data.read.markup import asciidoc, fountain, markdown, org, rst
from llm60_jax.data.read.markup.tex import latex
from llm60_jax.data.read.office import epub, opendocument, pdf, rtf, word
from llm60_jax.data.read.web import feeds, notes, webpage, wiki
from llm60_jax.errors import Failure, InputError
from llm60_jax.machine import shipped

VERSION = 3  # part of every corpus digest: raise it with any change of what a reader yields

# Read as plain text, one document per file. The exclusion rules drop what is not prose.
_PLAIN = (".txt", ".text", ".py", ".log")
_MARKDOWN = (".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd")
LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")
_DUMPS = (".xml", ".xml.bz2", ".xml.gz")
_LOG = logging.getLogger("llm60_jax")
Reader = Callable[[Path, str], Iterator[Document | Broken]]
_WHOLE: dict[str, Reader] = {
    **dict.fromkeys(_PLAIN, plain.text),
    **dict.fromkeys(_MARKDOWN, markdown.read),
    **dict.fromkeys((".adoc", ".asciidoc", ".asc"), asciidoc.read),
    ".fountain": fountain.read,
    ".org": org.read,
    ".rst": rst.read,
    **dict.fromkeys((".html", ".htm", ".xhtml"), webpage.html),
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), word.docx),
    **dict.fromkeys((".odt", ".ott"), opendocument.odt),
    ".fodt": opendocument.fodt,
    ".rtf": rtf.rtf,
    ".epub": epub.epub,
    **dict.fromkeys((".tex", ".ltx", ".latex"), latex.tex),
    ".pdf": pdf.pdf,
    ".enex": notes.enex,
    ".fb2": notes.fb2,
    ".opml": notes.opml,
    **dict.fromkeys((".rss", ".atom"), feeds.feed),
    **dict.fromkeys(_DUMPS, wiki.dump),
}
# Readers that take the names of a text field and a title field.
_BY_FIELD = {
    **dict.fromkeys(LINES, json_files.json_lines),
    **dict.fromkeys((".json", ".ipynb"), json_files.json_file),
    ".parquet": columns.parquet,
}
# Kinds that are cut between lines. Compressed lines are not among them: nobody can begin in their middle.
_CUT_IN_LINES = (".jsonl", ".ndjson")
# Readers that take the addresses of an author.
_MAIL = {".eml": mailboxes.eml, ".emlx": mailboxes.emlx, ".mbox": mailboxes.mbox}
EXTENSIONS = (*_WHOLE, *_BY_FIELD, *_MAIL)
# Names that say "text" and no more: the content may be a web page or mail.
_ANY_TEXT = frozenset((".txt", ".text"))
# Names that a strong mark in the content overrules: a PDF named .docx.
_MARKED = frozenset((".docx", ".odt", ".epub", ".rtf", ".pdf", *_PLAIN, ".tex", ".ltx", ".latex"))

# Libraries of the extra `formats`, and core ones: package -> (module, the kinds that need it).
_NEEDS = {
    "trafilatura": (
        "trafilatura",
        (".html", ".htm", ".xhtml", ".epub", ".eml", ".emlx", ".mbox", ".enex", ".rss", ".atom"),
    ),
    "pdfminer.six": ("pdfminer", (".pdf",)),
    "markdown-it-py": ("markdown_it", _MARKDOWN),
    "mdit-py-plugins": ("mdit_py_plugins", _MARKDOWN),
    "striprtf": ("striprtf", (".rtf",)),
    "mwparserfromhell": ("mwparserfromhell", _DUMPS),
    "pyarrow": ("pyarrow", (".parquet",)),
    "zstandard": ("zstandard", (".jsonl.zst",)),
}


def kind_of(name: str) -> str:
    """Return the longest known extension of a file name, in any letter case; "" for none."""
    lower = name.lower()
    return max((end for end in EXTENSIONS if lower.endswith(end)), key=len, default="")


def kind_of_file(path: Path) -> str:
    """Return the kind of a file: by its name, or by its content where the name does not decide.

    Files without an extension and with an unknown one are plain text if they hold text. "" for all
    that is not read.
    """
    if unread.is_lock(path.name):
        return ""
    kind = kind_of(path.name)
    if kind == ".xml":  # a dump of a wiki, or the export of a blog
        found = sniffing.written(sniffing.first_bytes(path))
        return found if found in (".rss", ".atom") else kind
    if kind and kind not in _MARKED:
        return kind
    if not kind and unread.is_passed_over(path.name):
        return ""
    head = sniffing.first_bytes(path)
    if not head:
        return kind
    if marked := sniffing.binary(head, path):
        return marked
    if not kind:
        return sniffing.written(head)
    if kind in _ANY_TEXT:
        found = sniffing.written(head)
        return found if found in (".html", ".mbox", ".eml") else kind
    return kind


def libraries(kinds: set[str]) -> dict[str, str]:
    """Return the versions of the libraries that read these kinds, since they decide the text."""
    return {
        package: metadata.version(package)
        for package, (module, needed_by) in _NEEDS.items()
        if kinds.intersection(needed_by) and importlib.util.find_spec(module)
    }


def require(kinds_of_files: Mapping[str, str]) -> None:
    """Raise InputError if one of the files needs a library that is not installed.

    Args:
      kinds_of_files: name -> kind.
    """
    missing = [(module, kinds) for module, kinds in _NEEDS.values() if importlib.util.find_spec(module) is None]
    for module, kinds in missing:
        for name, kind in kinds_of_files.items():
            if kind in kinds:
                raise InputError(f"{name}: reading it needs {module}: {shipped.extra('formats')}")


def read(
    path: Path,
    name: str,
    text_field: str = "text",
    title_field: str = "title",
    author: Sequence[str] = (),
    kind: str | None = None,
    part: Part | None = None,
) -> Iterator[Document | Broken]:
    """Yield the documents of a file, and a `Broken` for each part that cannot be read.

    Args:
      text_field, title_field: of records.
      author: addresses whose mail counts; () for everybody's.
      kind: of `kind_of_file`, if it is known.
      part: one of `cut`; None for the whole file.
    """
    kind = kind_of_file(path) if kind is None else kind
    of_it = {} if part is None else {"part": part}
    if kind in _BY_FIELD:
        return guarded(_BY_FIELD[kind](path, name, text_field, title_field, **of_it), name)
    if kind in _MAIL:
        return guarded(_MAIL[kind](path, name, tuple(author)), name)
    return guarded(_WHOLE[kind](path, name, **of_it), name)


def cut(path: Path, kind: str, text_field: str, size: int) -> list[Part]:
    """Return the parts of a file, of `size` bytes or more: one reads alike whether it is cut or whole.

    Return [] if the kind of the file, its encoding or its damage allows no cut.
    """
    try:
        if kind == ".parquet":
            return columns.row_parts(path, text_field, size)
        if kind in _PLAIN and path.stat().st_size > items.LARGEST and not plain.is_wide(path):
            return plain.text_parts(path)
        if kind in _CUT_IN_LINES and not plain.is_wide(path):
            return plain.line_parts(path, size)
    except Exception as error:  # parsers can raise anything on a damaged file; whoever reads it names it
        _LOG.info("%s: not cut: %s: %.200s", path, type(error).__name__, error)
    return []


def guarded(documents: Iterator[Document | Broken], name: str) -> Iterator[Document | Broken]:
    """Yield a reader's items. If it fails, the rest of the file is one `Broken`."""
    try:
        yield from documents
    except (items.TooLarge, MemoryError):
        yield Broken(name, "too_large")
    except (Failure, ImportError):
        raise
    except Exception as error:  # parsers can raise anything on a damaged file
        _LOG.info("%s: %s: %.200s", name, type(error).__name__, error)
        yield Broken(name, "unreadable")
