"""The account of one source's documents. Nothing is left out without a reason and a count."""

import dataclasses
from typing import Any

EXAMPLES = 20  # names kept for each reason


@dataclasses.dataclass
class Ledger:
    """Counts for one source. A document is what the source yields or would have yielded: a file, or a JSON line.

    `documents_in == documents_kept + sum(dropped.values())` holds once the source is read to its end.
    Characters are counted as decoded (in) and after cleaning (kept).
    """

    source: str
    documents_in: int = 0
    documents_kept: int = 0
    pieces_kept: int = 0  # long documents are cut, so there can be more pieces than documents
    pieces_duplicate: int = 0
    characters_in: int = 0
    characters_kept: int = 0
    repaired: int = 0  # documents whose bytes were not valid in their encoding, kept as well as possible
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)  # reason -> documents
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # reason -> first names

    def drop(self, reason: str, name: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._name(reason, name)

    def repair(self, name: str) -> None:
        self.repaired += 1
        self._name("repaired", name)

    def summary(self) -> str:
        """One line: documents in, kept, repaired, and dropped by reason with the first names of each."""
        parts = [f"{self.source}: {self.documents_in:,} documents, {self.documents_kept:,} kept"]
        if self.repaired:
            parts.append(f"{self.repaired:,} repaired ({', '.join(self.examples['repaired'][:3])}, ...)")
        for reason, count in self.dropped.items():
            parts.append(f"{count:,} dropped as {reason} ({', '.join(self.examples[reason][:3])}, ...)")
        return ", ".join(parts)

    def to_tree(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def _name(self, reason: str, name: str) -> None:
        names = self.examples.setdefault(reason, [])
        if len(names) < EXAMPLES:
            names.append(name)
