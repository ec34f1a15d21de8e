"""The account of a source's documents. Each document left out has a reason and is counted."""

import dataclasses
from typing import Any

from llm60_jax.data.read import items, unread

EXAMPLES = 20  # names and texts recorded for each reason
_EXAMPLE_CHARACTERS = 300


@dataclasses.dataclass
class File:
    """The characters of one file: read, kept after cleaning, dropped by reason."""

    characters_in: int = 0
    characters_kept: int = 0
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Ledger:
    """Counts for one source. A document is a file, or a line or record of one, readable or not.

    After the source is read, `documents_in == documents_kept + sum(dropped.values())`. Characters
    in and dropped are counted as decoded, characters kept after cleaning. The difference is what
    cleaning removes: markup and white space.
    """

    source: str
    documents_in: int = 0
    documents_kept: int = 0
    pieces_kept: int = 0  # long documents are cut, so there can be more pieces than documents
    characters_in: int = 0
    characters_kept: int = 0
    repaired: int = 0  # documents kept although their bytes were not valid in their encoding
    # Whole documents by reason, characters by reason (parts included), and parts by rule.
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    characters_dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    parts_dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    # Names of the first documents by reason, and beginnings of the first parts by rule.
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    samples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    files: dict[str, File] = dataclasses.field(default_factory=dict)
    licence: str = ""  # "" if it is not known

    @staticmethod
    def of(tree: dict[str, Any]) -> "Ledger":
        """Return the ledger that `to_tree` turned into JSON values."""
        return Ledger(**{**tree, "files": {name: File(**file) for name, file in tree["files"].items()}})

    def add(self, other: "Ledger") -> None:
        """Add the account of another part of the source."""
        for name in ("documents_in", "documents_kept", "pieces_kept", "characters_in", "characters_kept", "repaired"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("dropped", "characters_dropped", "parts_dropped"):
            _add(getattr(self, name), getattr(other, name))
        for name in ("examples", "samples"):
            lists: dict[str, list[str]] = getattr(self, name)
            for reason, texts in getattr(other, name).items():
                lists[reason] = [*lists.get(reason, []), *texts][:EXAMPLES]
        for name, other_file in other.files.items():
            file = self._file(name)
            file.characters_in += other_file.characters_in
            file.characters_kept += other_file.characters_kept
            _add(file.dropped, other_file.dropped)

    def read(self, file: str, characters: int) -> None:
        """Count a decoded document."""
        self.characters_in += characters
        self._file(file).characters_in += characters

    def keep(self, file: str, characters: int) -> None:
        """Count a piece of a document that is kept."""
        self.pieces_kept += 1
        self.characters_kept += characters
        self._file(file).characters_kept += characters

    def drop(self, reason: str, name: str, file: str) -> None:
        """Count a document that is dropped as a whole. Its file is listed, even if it is empty."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._file(file).dropped.setdefault(reason, 0)
        self._name(reason, name)

    def drop_part(self, rule: str, file: str, text: str) -> None:
        """Count a part of a document that is dropped."""
        self.parts_dropped[rule] = self.parts_dropped.get(rule, 0) + 1
        for counts in (self.characters_dropped, self._file(file).dropped):
            counts[rule] = counts.get(rule, 0) + len(text)
        samples = self.samples.setdefault(rule, [])
        if len(samples) < EXAMPLES:
            samples.append(text[:_EXAMPLE_CHARACTERS])

    def repair(self, name: str) -> None:
        """Count a document that is kept although its bytes were not valid."""
        self.repaired += 1
        self._name("repaired", name)

    def summary(self) -> str:
        """Return one line: documents in, kept, repaired, and dropped by reason with first names."""
        parts = [f"{self.source}: {self.documents_in:,} documents, {self.documents_kept:,} kept"]
        if self.repaired:
            parts.append(f"{self.repaired:,} repaired ({', '.join(self.examples['repaired'][:3])}, ...)")
        for reason, count in self.dropped.items():
            names = ", ".join(self.examples[reason][:3])
            parts.append(f"{count:,} dropped as {reason} ({names}, ...){self._hint(reason)}")
        characters = sum(self.characters_dropped.values())
        if characters:
            share = characters / max(1, self.characters_in)
            parts.append(f"{share:.1%} of the characters dropped by the exclusion rules")
        return ", ".join(parts)

    def _hint(self, reason: str) -> str:
        """Return what to do about a reason, with its mark; "" if there is nothing to say."""
        if reason == "other_kind":
            names = [name for name, file in self.files.items() if reason in file.dropped]
            return f": {'; '.join(unread.advice(names))}"
        return f": {items.HINTS[reason]}" if reason in items.HINTS else ""

    def to_tree(self) -> dict[str, Any]:
        """Return the ledger as JSON values."""
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
