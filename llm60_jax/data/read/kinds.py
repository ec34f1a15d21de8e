"""Which files are read, and by what."""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from llm60_jax.data.read import columns, items, mail, office, plain, web, wiki
from llm60_jax.data.read.items import Broken, Text
from llm60_jax.errors import Failure, InputError

VERSION = 1  # part of every corpus digest: raise it with any change of what a reader gives

# Read as plain text, a document each; what of it is no prose is for the exclusion rules to say.
_PLAIN = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".py", ".log")
LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")
_DUMPS = (".xml", ".xml.bz2", ".xml.gz")
_LOG = logging.getLogger("llm60_jax")
Reader = Callable[[Path, str], Iterator[Text | Broken]]
_WHOLE: dict[str, Reader] = {
    **dict.fromkeys(_PLAIN, plain.text),
    **dict.fromkeys((".html", ".htm", ".xhtml"), web.html),
    ".docx": office.docx,
    ".odt": office.odt,
    ".rtf": office.rtf,
    ".epub": office.epub,
    ".eml": mail.eml,
    ".mbox": mail.mbox,
    **dict.fromkeys(_DUMPS, wiki.dump),
}
# By columns or fields, which the source names.
_FIELDS = {**dict.fromkeys(LINES, plain.json_lines), ".parquet": columns.parquet}
EXTENSIONS = (*_WHOLE, *_FIELDS)

# Libraries that some kinds need (the extra `formats`): by the package that is installed.
_NEEDS = {
    "trafilatura": ("trafilatura", (".html", ".htm", ".xhtml", ".epub", ".eml", ".mbox")),
    "striprtf": ("striprtf", (".rtf",)),
    "mwparserfromhell": ("mwparserfromhell", _DUMPS),
    "pyarrow": ("pyarrow", (".parquet",)),
    "zstandard": ("zstandard", (".jsonl.zst",)),
}


def kind_of(name: str) -> str:
    """The longest extension of a file's name that is read; "" for none. Letter case plays no part."""
    lower = name.lower()
    return max((end for end in EXTENSIONS if lower.endswith(end)), key=len, default="")


def libraries(kinds: set[str]) -> dict[str, str]:
    """The versions of the libraries that read files of these kinds: a new one may read them differently."""
    return {
        package: metadata.version(package)
        for package, (module, needed_by) in _NEEDS.items()
        if kinds.intersection(needed_by) and importlib.util.find_spec(module)
    }


def require(names: list[str]) -> None:
    """Raises InputError if the library for one of the files is not installed."""
    missing = [(module, kinds) for module, kinds in _NEEDS.values() if importlib.util.find_spec(module) is None]
    for module, kinds in missing:
        for name in names:
            if kind_of(name) in kinds:
                raise InputError(f"{name}: reading it needs {module}: pip install '.[formats]'")


def read(path: Path, name: str, text_field: str, title_field: str) -> Iterator[Text | Broken]:
    """The documents of a file, and what of it cannot be read."""
    kind = kind_of(path.name)
    if kind in _FIELDS:
        return guarded(_FIELDS[kind](path, name, text_field, title_field), name)
    return guarded(_WHOLE[kind](path, name), name)


def guarded(documents: Iterator[Text | Broken], name: str) -> Iterator[Text | Broken]:
    """What a reader yields. Nothing that stands in a file ends a run: what came before it stays, the rest is broken."""
    try:
        yield from documents
    except (items.TooLarge, MemoryError):
        yield Broken(name, "too_large")
    except (Failure, ImportError):
        raise
    except Exception as error:  # parsers of foreign formats raise whatever their authors did not think of
        _LOG.info("%s: %s: %.200s", name, type(error).__name__, error)
        yield Broken(name, "unreadable")
