"""The account of one source's documents. Nothing is left out without a reason and a count."""

import dataclasses
from typing import Any

EXAMPLES = 20  # names, and texts, kept for each reason
_EXAMPLE_CHARACTERS = 300


@dataclasses.dataclass
class File:
    """The characters of one file: read, kept after cleaning, and dropped by reason."""

    characters_in: int = 0
    characters_kept: int = 0
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Ledger:
    """Counts for one source. A document is what the source yields or would have yielded: a file, or a JSON line.

    `documents_in == documents_kept + sum(dropped.values())` holds once the source is read to its end.
    Characters are counted as decoded (in, dropped) and after cleaning (kept); what cleaning itself takes out, markup
    and superfluous white space, is the difference.
    """

    source: str
    documents_in: int = 0
    documents_kept: int = 0
    pieces_kept: int = 0  # long documents are cut, so there can be more pieces than documents
    characters_in: int = 0
    characters_kept: int = 0
    repaired: int = 0  # documents whose bytes were not valid in their encoding, kept as well as possible
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # reason -> whole documents
    characters_dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # reason -> characters, parts included
    parts_dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # rule -> parts of documents
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # reason -> first names
    samples: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # rule -> how the first parts begin
    files: dict[str, File] = dataclasses.field(default_factory=dict)
    licence: str = ""  # as far as it is known

    @staticmethod
    def of(tree: dict[str, Any]) -> "Ledger":
        """Undoes `to_tree`."""
        return Ledger(**{**tree, "files": {name: File(**file) for name, file in tree["files"].items()}})

    def add(self, other: "Ledger") -> None:
        """Adds the account of another part of the source."""
        for name in ("documents_in", "documents_kept", "pieces_kept", "characters_in", "characters_kept", "repaired"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("dropped", "characters_dropped", "parts_dropped"):
            _add(getattr(self, name), getattr(other, name))
        for name in ("examples", "samples"):
            own: dict[str, list[str]] = getattr(self, name)
            for reason, texts in getattr(other, name).items():
                own[reason] = [*own.get(reason, []), *texts][:EXAMPLES]
        for name, file in other.files.items():
            own_file = self._file(name)
            own_file.characters_in += file.characters_in
            own_file.characters_kept += file.characters_kept
            _add(own_file.dropped, file.dropped)

    def read(self, file: str, characters: int) -> None:
        """A document was decoded."""
        self.characters_in += characters
        self._file(file).characters_in += characters

    def keep(self, file: str, characters: int) -> None:
        """A piece of a document is kept."""
        self.pieces_kept += 1
        self.characters_kept += characters
        self._file(file).characters_kept += characters

    def drop(self, reason: str, name: str, file: str) -> None:
        """A document goes as a whole; so that every file is named, also where it held nothing."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._file(file).dropped.setdefault(reason, 0)
        self._name(reason, name)

    def drop_part(self, rule: str, file: str, text: str) -> None:
        """A part of a document goes."""
        self.parts_dropped[rule] = self.parts_dropped.get(rule, 0) + 1
        for counts in (self.characters_dropped, self._file(file).dropped):
            counts[rule] = counts.get(rule, 0) + len(text)
        some = self.samples.setdefault(rule, [])
        if len(some) < EXAMPLES:
            some.append(text[:_EXAMPLE_CHARACTERS])

    def repair(self, name: str) -> None:
        """A document is kept although its bytes were not valid."""
        self.repaired += 1
        self._name("repaired", name)

    def summary(self) -> str:
        """One line: documents in, kept, repaired, and dropped by reason with the first names of each."""
        parts = [f"{self.source}: {self.documents_in:,} documents, {self.documents_kept:,} kept"]
        if self.repaired:
            parts.append(f"{self.repaired:,} repaired ({', '.join(self.examples['repaired'][:3])}, ...)")
        for reason, count in self.dropped.items():
            parts.append(f"{count:,} dropped as {reason} ({', '.join(self.examples[reason][:3])}, ...)")
        gone = sum(self.characters_dropped.values())
        if gone:
            parts.append(f"{gone / max(1, self.characters_in):.1%} of the characters dropped by the exclusion rules")
        return ", ".join(parts)

    def to_tree(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    def _file(self, name: str) -> File:
        return self.files.setdefault(name, File())

    def _name(self, reason: str, name: str) -> None:
        names = self.examples.setdefault(reason, [])
        if len(names) < EXAMPLES:
            names.append(name)


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for reason, count in more.items():
        counts[reason] = counts.get(reason, 0) + count
