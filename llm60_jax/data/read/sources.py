"""The documents of a source: of an installed pip package, a folder, a dataset from the hub.

An unreadable file never ends a run. The source's ledger counts and names it: dropped for one of the
reasons in `items.Reason`, or kept as `repaired`.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from llm60_jax.config import FolderSource, HubSource, InstructionSource, PackageSource, Source
from llm60_jax.data.read import folders, hub, instructions, kinds, packages, plain, unread
from llm60_jax.data.read.items import Broken, Document, Part
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import InputError
from llm60_jax.machine import files

UNREADABLE = "unreadable"  # instead of the digest of a file that cannot be read


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file of a source. `name` is relative to the folder or package: equal on all machines.

    `kind` comes from `kinds.kind_of_file`, once, when the source is listed: it may read the file.
    `part` is None for the whole file (see `cut`).
    """

    path: Path
    name: str
    kind: str
    part: Part | None = None

    def __str__(self) -> str:
        return self.name if self.part is None else f"{self.name}, bytes {self.part.start:,} to {self.part.stop:,}"

    def digest(self) -> str:
        """Return the SHA-256 of the file, or of its part, in hex; `UNREADABLE` if it cannot be read."""
        try:
            return files.sha256_of(self.path, *(self.part or ())[:2])
        except OSError:
            return UNREADABLE

    @property
    def size(self) -> int:
        """Bytes of the file or its part; 0 if the file cannot be read."""
        if self.part is not None:
            return self.part.stop - self.part.start
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def identity(self) -> tuple[int, int] | str:
        """What the file is on this disk: a link, hard or soft, is the file that it leads to."""
        try:
            return folders.identity(self.path)
        except OSError:
            return str(self.path)


class Listing(NamedTuple):
    """The content of a source."""

    files: tuple[InputFile, ...]  # sorted by name
    others: tuple[str, ...] = ()  # sorted names of files that no reader reads
    passed_over: Mapping[str, str] = {}  # what programs made in its folder, with the reason


def label(source: Source) -> str:
    """Return the name of a source: its package or dataset, or the last part of its path."""
    if isinstance(source, PackageSource | HubSource):
        return source.name
    return _printable(Path(source.path).resolve().name)


def folder(path: str) -> FolderSource:
    """Return a source for a folder or file, with default settings."""
    source: FolderSource = cast(Any, FolderSource)(kind="folder", path=path)
    return source


def licence_of(source: Source) -> str:
    """Return the licence of a source's text; "" if it is not known."""
    return packages.LICENCES[source.name] if isinstance(source, PackageSource) else source.licence


def listed(source: Source) -> Listing:
    """Return what a source holds.

    Raises:
      InputError: a package or a library that a file needs is not installed, a dataset is not
        downloaded, a selection matches nothing, or a path is missing or has no text files.
      MachineError: a folder cannot be listed.
    """
    if isinstance(source, PackageSource):
        found = [InputFile(path, name, kinds.kind_of_file(path)) for name, path in packages.inputs(source).items()]
        return Listing(_sorted(found))
    if isinstance(source, HubSource):
        return Listing(_sorted(InputFile(path, path.name, kinds.kind_of_file(path)) for path in hub.parts(source)))
    listing = _listed_folder(source)
    kinds.require({file.name: file.kind for file in listing.files})
    return listing


def inputs(source: Source) -> tuple[InputFile, ...]:
    """Return the files of a source, sorted by name. Raise as `listed`."""
    return listed(source).files


def others(source: Source) -> tuple[str, ...]:
    """Return the sorted names of the files in a folder that no reader reads. Raise as `listed`."""
    return listed(source).others


def read(source: Source, selected: Iterable[InputFile], ledger: Ledger) -> Iterator[Document]:
    """Yield the documents of `selected` files (from `inputs`), and count them in the ledger.

    Raises:
      InputError: an installed package lacks its text.
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
            yield item._replace(file=file.name)
        if ledger.documents_in == before:
            ledger.documents_in += 1
            ledger.drop("empty", file.name, file.name)


def cut(source: Source, file: InputFile, size: int) -> list[InputFile]:
    """Return a large file in parts of `size` bytes or more, each with whole documents.

    Reading the parts in their order yields what the file yields. A file of a kind that cannot be
    cut, or a smaller one, comes back whole.
    """
    if isinstance(source, PackageSource) or file.size <= size:
        return [file]
    text_field = source.text_field if isinstance(source, FolderSource) else "text"
    parts = kinds.cut(file.path, file.kind, text_field, size)
    return [dataclasses.replace(file, part=part) for part in parts] if len(parts) > 1 else [file]


def _items(source: Source, file: InputFile) -> Iterator[Document | Broken]:
    if isinstance(source, PackageSource):
        return (Document(file.name, title, text) for title, text in packages.read(source.name, file.path))
    if isinstance(source, InstructionSource):
        return kinds.guarded(_answers(file), file.name)
    if isinstance(source, HubSource):
        return kinds.read(file.path, file.name, kind=file.kind, part=file.part)
    fields = source.text_field, source.title_field
    return kinds.read(file.path, file.name, *fields, source.author, file.kind, file.part)


def _answers(file: InputFile) -> Iterator[Document | Broken]:
    """Yield one document per answer; a `Broken` for a line without a question and its answer."""
    for item in plain.records(file.path, file.name, file.part):
        if isinstance(item, Broken):
            yield item
            continue
        name, record, repaired = item
        pairs = instructions.pairs(record)
        for prompt, response in pairs:
            yield Document(name, name, response, prompt, repaired)
        if not pairs:
            yield Broken(name, "unreadable")


# Folders


def _listed_folder(source: FolderSource | InstructionSource) -> Listing:
    root = Path(source.path)
    accepted = kinds.EXTENSIONS if isinstance(source, FolderSource) else kinds.LINES
    extensions = ", ".join(accepted)
    if root.is_file():
        kind = kinds.kind_of_file(root)
        if kind not in accepted:
            raise InputError(
                f"source path '{source.path}': not a text file of a known kind ({unread.advice([root.name])[0]}); "
                f"accepted are {extensions}"
            )
        return Listing((InputFile(root, _printable(root.name), kind),))
    if not root.is_dir():
        raise InputError(f"source path '{source.path}': no such file or folder; give a folder with {extensions} files")
    if folders.is_run(root):
        raise InputError(f"source path '{source.path}': is a run directory; keep text and runs in folders of their own")
    content = folders.content(root)
    pattern = re.compile(_glob_to_regex(source.pattern))
    names = [name for name in content.names if pattern.fullmatch(name)]
    matching = [InputFile(root / name, _printable(name), kinds.kind_of_file(root / name)) for name in names]
    text = _sorted(file for file in matching if file.kind in accepted)
    if not text:
        unread_files = f" ({len(names)} files of other kinds: {'; '.join(unread.advice(names))})" if names else ""
        raise InputError(
            f"source path '{source.path}': the folder holds no text files{unread_files} that match '{source.pattern}'; "
            f"accepted are {extensions}{_aside(content.passed_over)}"
        )
    is_mixed = isinstance(source, FolderSource)  # beside instructions, other files are not meant
    return Listing(
        text, tuple(sorted(file.name for file in matching if not file.kind and is_mixed)), content.passed_over
    )


def _aside(passed_over: Mapping[str, str]) -> str:
    return f". Passed over: {'; '.join(folders.describe(passed_over))}" if passed_over else ""


def _sorted(found: Iterable[InputFile]) -> tuple[InputFile, ...]:
    return tuple(sorted(found, key=lambda file: file.name))


def _glob_to_regex(pattern: str) -> str:
    """Turn a glob into a regular expression: `**/` is any folders, `*` and `?` stay in a name."""
    regexes = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(regexes.get(part, re.escape(part)) for part in parts)


def _printable(name: str) -> str:
    """Return a file name as valid text: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
