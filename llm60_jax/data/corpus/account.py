"""The ledger of a phase for a reader: rows of a table, JSON values, and an HTML page. Pure functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config import PackageSource, Phase
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.machine import pages

HEADINGS = ("source", "", "documents", "parts", "characters", "tokens", "share")
_TEMPLATE = Path(__file__).with_name("account.html")


class Row(NamedTuple):
    """What came in from a source, what was kept, or what one rule dropped.

    `tokens` belong to the phase's tokenizer. They are counted for kept text and else estimated, at the same number of
    characters a token.
    """

    source: str
    what: str
    documents: int
    parts: int
    characters: int
    tokens: int | None
    share: float  # of the source's characters

    def cells(self, first: bool) -> tuple[str, ...]:
        """Return the row as text; only the first row of a source names it."""
        about = "" if self.what == "kept" else "~"
        return (
            self.source if first else "",
            self.what,
            f"{self.documents:,}",
            f"{self.parts:,}" if self.parts else "",
            f"{self.characters:,}",
            "" if self.tokens is None else f"{about}{self.tokens:,}",
            f"{self.share:.2%}",
        )


def rows(ledger: Ledger, tokens: int | None = None) -> list[Row]:
    """Return the rows of one source: in, kept, and each reason to drop, the largest first.

    Args:
      tokens: number of kept tokens; None before the text is tokenized.
    """
    whole = max(1, ledger.characters_in)

    def row(what: str, documents: int, parts: int, characters: int) -> Row:
        if tokens is None or what == "kept":
            count = tokens
        else:
            count = round(characters * tokens / max(1, ledger.characters_kept))
        return Row(ledger.source, what, documents, parts, characters, count, characters / whole)

    dropped = {
        reason: (ledger.dropped.get(reason, 0), ledger.parts_dropped.get(reason, 0), characters)
        for reason in {*ledger.dropped, *ledger.characters_dropped}
        for characters in [ledger.characters_dropped.get(reason, 0)]
    }
    return [
        row("in", ledger.documents_in, 0, ledger.characters_in),
        row("kept", ledger.documents_kept, 0, ledger.characters_kept),
        *(row(reason, *counts) for reason, counts in sorted(dropped.items(), key=lambda item: (-item[1][2], item[0]))),
    ]


def notes(corpus: Corpus) -> list[str]:
    """Return what a reader must know beside the figures: suspicious losses, text left out, a problem."""
    warnings = corpus.warnings()
    return [*warnings, *corpus.notes, *filter(None, [corpus.problem])]


def table(corpus: Corpus, tokens: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return the lines of a phase's table, headings first.

    Args:
      tokens: kept tokens by the name of their source; if it is empty, the table has no such column.
    """
    lines = [
        row.cells(first=number == 0)
        for ledger in corpus.ledgers
        for number, row in enumerate(rows(ledger, tokens.get(ledger.source)))
    ]
    shown = [place for place, name in enumerate(HEADINGS) if tokens or name != "tokens"]
    return [tuple(line[place] for place in shown) for line in [HEADINGS, *lines]]


def tree(phase: Phase, corpus: Corpus, tokens: Mapping[str, int]) -> dict[str, Any]:
    """Return the totals of a phase over its sources, as JSON values.

    `documents_in` = `documents_kept` + the sum of `dropped`, by reason. `files` maps each file's path to its
    characters: those that came in, those that were kept, and those that each rule dropped, in whole documents and in
    parts. `left_out` counts kept documents that this run skips; `notes` say why. `tokens` is present once the text is
    tokenized.
    """
    dropped: dict[str, int] = {}
    files: dict[str, dict[str, Any]] = {}
    accounts = corpus.ledgers
    for source, ledger in zip(phase.sources, accounts, strict=True):
        for reason, count in ledger.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        if isinstance(source, PackageSource):
            root = Path(source.name)
        else:
            root = Path(source.path) if Path(source.path).is_dir() else Path(source.path).parent
        for name, file in ledger.files.items():
            files[(root / name).as_posix()] = {
                "characters_in": file.characters_in,
                "characters_kept": file.characters_kept,
                "dropped": file.dropped,
            }
    return {
        "documents_in": sum(ledger.documents_in for ledger in accounts),
        "documents_kept": sum(ledger.documents_kept for ledger in accounts),
        "dropped": dropped,
        "files": files,
        "left_out": len(corpus.left_out),
        "notes": notes(corpus),
        **({"tokens": sum(tokens.values())} if tokens else {}),
    }


def page(phases: Sequence[tuple[Corpus, Mapping[str, int]]]) -> str:
    """Return one static HTML page: each source's table, and samples of what each rule removed."""
    return pages.render(_TEMPLATE, headings=HEADINGS[1:], phases=[_phase(corpus, tokens) for corpus, tokens in phases])


def _phase(corpus: Corpus, tokens: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": corpus.phase,
        "documents": {split: facts["documents"] for split, facts in corpus.ledger["splits"].items()},
        "notes": notes(corpus),
        "sources": [_source(ledger, tokens.get(ledger.source)) for ledger in corpus.ledgers],
    }


def _source(ledger: Ledger, tokens: int | None) -> dict[str, Any]:
    reasons = sorted({*ledger.samples, *ledger.examples})
    return {
        "ledger": ledger,
        "rows": [(row.cells(first=False)[1:], max(0.0, min(100.0, 100 * row.share))) for row in rows(ledger, tokens)],
        "samples": [(reason, ledger.examples.get(reason, []), ledger.samples.get(reason, [])) for reason in reasons],
    }
