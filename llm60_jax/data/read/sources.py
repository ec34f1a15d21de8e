"""Where text comes from: English prose inside installed pip packages, and the user's folders.

What cannot be read never ends a run: it is counted and named in the source's ledger (dropped as `not_text`,
`unreadable` or `too_large`, or kept and counted as `repaired`).
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from llm60_jax.config import FolderSource, HubSource, InstructionSource, PackageSource, Source
from llm60_jax.data.read import hub, instructions, kinds, packages, plain
from llm60_jax.data.read.items import Broken, Text
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import files

UNREADABLE = "unreadable"  # in the place of a digest


@dataclass(frozen=True)
class Document:
    """One text. `file` is the name of the file it comes from, relative to its folder or package."""

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
            return files.sha256_of(self.path)
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
    if isinstance(source, PackageSource | HubSource):
        return source.name
    return _shown(Path(source.path).resolve().name)


def folder(path: str) -> FolderSource:
    """A folder or file of text, read as it comes."""
    made: FolderSource = cast(Any, FolderSource)(kind="folder", path=path)
    return made


def licence_of(source: Source) -> str:
    """The licence of a source's text; "" if it is not known."""
    return packages.LICENCES[source.name] if isinstance(source, PackageSource) else source.licence


def inputs(source: Source) -> tuple[InputFile, ...]:
    """The files a source reads, sorted by name.

    Raises:
      InputError: package not installed, selection without a match, path missing or without text files, a library
        missing that reads one of them.
      MachineError: a folder cannot be listed.
    """
    if isinstance(source, PackageSource):
        found = packages.inputs(source)
    elif isinstance(source, HubSource):
        found = {path.name: path for path in hub.parts(source)}
    else:
        found = {_shown(name): path for name, path in _folder_inputs(source).items()}
        kinds.require(sorted(found))
    return tuple(InputFile(found[name], name) for name in sorted(found))


def others(source: Source) -> list[str]:
    """Names of the files that a folder holds and that are of no kind that is read; sorted."""
    if not isinstance(source, FolderSource) or not Path(source.path).is_dir():
        return []
    return sorted(_shown(name) for name in _named(source) if not kinds.kind_of(name))


def read(source: Source, selected: Iterable[InputFile], ledger: Ledger) -> Iterator[Document]:
    """Yields the documents of `selected` files (from `inputs`), counting each in `ledger.documents_in`.

    Raises:
      InputError: an installed package does not hold the text it should.
    """
    for file in selected:
        before = ledger.documents_in
        for item in _items(source, file):
            ledger.documents_in += 1
            if isinstance(item, Broken):
                ledger.drop(item.reason, item.name, file.name)
                continue
            if item.repaired:
                ledger.repair(item.name)
            yield Document(file.name, item.title, item.text, item.prompt)
        if ledger.documents_in == before:
            ledger.documents_in += 1
            ledger.drop("empty", file.name, file.name)


def _items(source: Source, file: InputFile) -> Iterator[Text | Broken]:
    if isinstance(source, PackageSource):
        return (Text(file.name, title, text) for title, text in packages.read(source.name, file.path))
    if isinstance(source, InstructionSource):
        return kinds.guarded(_answers(file), file.name)
    if isinstance(source, HubSource):
        return kinds.read(file.path, file.name, "text", "title")
    return kinds.read(file.path, file.name, source.text_field, source.title_field)


def _answers(file: InputFile) -> Iterator[Text | Broken]:
    """One document an answer. A line without a question and an answer to it is unreadable."""
    for found in plain.records(file.path, file.name):
        if isinstance(found, Broken):
            yield found
            continue
        name, record, repaired = found
        pairs = instructions.pairs(record)
        for prompt, response in pairs:
            yield Text(name, name, response, prompt, repaired)
        if not pairs:
            yield Broken(name, "unreadable")


# Folders


def _folder_inputs(source: FolderSource | InstructionSource) -> dict[str, Path]:
    root = Path(source.path)
    accepted = kinds.EXTENSIONS if isinstance(source, FolderSource) else kinds.LINES
    listed = ", ".join(accepted)
    if root.is_file():
        if kinds.kind_of(root.name) not in accepted:
            raise InputError(
                f"source path '{source.path}': not a text file of a kind that is read; accepted are {listed}"
            )
        return {root.name: root}
    if not root.is_dir():
        raise InputError(f"source path '{source.path}': no such file or folder; give a folder with {listed} files")
    names = _named(source)
    found = {name: root / name for name in names if kinds.kind_of(name) in accepted}
    if not found:
        unread = f" ({len(names)} files of other kinds)" if names else ""
        raise InputError(
            f"source path '{source.path}': the folder holds no text files{unread} that match '{source.pattern}'; "
            f"accepted are {listed}"
        )
    return found


def _named(source: FolderSource | InstructionSource) -> list[str]:
    """Relative names of the files that the source's pattern selects."""
    pattern = re.compile(_glob_to_regex(source.pattern))
    return [name for name in _walk(Path(source.path)) if pattern.fullmatch(name)]


def _walk(root: Path) -> Iterator[str]:
    """Relative names of the visible files below `root`. Links to folders are not followed: they can form loops."""
    for place, folders, names in os.walk(root, onerror=_refuse, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix()


def _refuse(error: OSError) -> None:
    raise MachineError(
        f"{error.filename}: cannot be listed: {error.strerror or error}; check the folder and its permissions"
    )


def _glob_to_regex(pattern: str) -> str:
    """A glob as a regular expression over relative names: `**/` any folders, `*` and `?` within one name."""
    rules = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(rules.get(part, re.escape(part)) for part in parts)


def _shown(name: str) -> str:
    """A name as valid text: the bytes of one that is not UTF-8 are written out."""
    return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
