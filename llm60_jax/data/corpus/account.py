"""The ledger of a phase for a reader: rows for a table, JSON values, and a page to browse. Pure functions."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config import PackageSource, Phase
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.read.ledger import Ledger

HEADINGS = ("source", "", "documents", "parts", "characters", "tokens", "share")


class Row(NamedTuple):
    """What came in from a source, what was kept, or what one rule dropped of it. `tokens` are those of the phase's
    tokenizer: counted where text is kept, else as many as there would be at the same characters a token."""

    source: str
    what: str
    documents: int
    parts: int
    characters: int
    tokens: int | None
    share: float  # of the source's characters

    def cells(self, first: bool) -> tuple[str, ...]:
        """As text; the source stands in its first row only."""
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
    """The rows of one source: in, kept, and each reason, the one that took most first.

    Args:
      tokens: of what is kept; None if it is not tokenized.
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


def ledgers(found: Corpus) -> list[Ledger]:
    """The accounts of a corpus's sources, in their order."""
    return [Ledger.of(entry) for entry in found.ledger["sources"]]


def table(found: Corpus, tokens: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The lines of a phase's table, its headings first. `tokens` are those kept of each source, by its name; without
    any there is no such column."""
    lines = [
        row.cells(first=number == 0)
        for ledger in ledgers(found)
        for number, row in enumerate(rows(ledger, tokens.get(ledger.source)))
    ]
    shown = [place for place, name in enumerate(HEADINGS) if tokens or name != "tokens"]
    return [tuple(line[place] for place in shown) for line in [HEADINGS, *lines]]


def tree(phase: Phase, found: Corpus, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The account of a phase over its sources, as JSON values.

    `documents_in` = `documents_kept` + the sum of `dropped`, by reason. `files` has for each file, by its path, the
    characters that came in, that were kept, and that each rule dropped, whole documents and parts of them. `left_out`
    counts what is kept, but passed over in this run (`notes` say why); `tokens` is there once the text is tokenized.
    """
    dropped: dict[str, int] = {}
    files: dict[str, dict[str, Any]] = {}
    accounts = ledgers(found)
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
        "left_out": len(found.left_out),
        "notes": [*found.notes, *filter(None, [found.problem])],
        **({"tokens": sum(tokens.values())} if tokens else {}),
    }


def page(phases: Sequence[tuple[Corpus, Mapping[str, int]]]) -> str:
    """One static HTML page: for each phase and source the table, and below it samples of what each rule took out."""
    parts = [_phase(found, tokens) for found, tokens in phases]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ledger</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>Where the text went</h1>
<p>Documents in = kept + dropped by reason. Parts are what a rule took out of documents that were otherwise kept, and
pieces of long ones. Tokens with ~ are estimates, from the characters a token of what is kept.</p>
{"".join(parts)}</body></html>
"""


def _phase(found: Corpus, tokens: Mapping[str, int]) -> str:
    sizes = ", ".join(f"{facts['documents']:,} for {split}" for split, facts in found.ledger["splits"].items())
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in (*found.notes, found.problem) if note)
    sources = "".join(_source(ledger, tokens.get(ledger.source)) for ledger in ledgers(found))
    return f"<h2>Phase {html.escape(found.phase)}</h2><p>Documents after cutting: {sizes}.</p>{notes}{sources}"


def _source(ledger: Ledger, tokens: int | None) -> str:
    head = "".join(f"<th>{name}</th>" for name in HEADINGS[1:])
    body = "".join(_row(row) for row in rows(ledger, tokens))
    licence = f" <small>{html.escape(ledger.licence)}</small>" if ledger.licence else ""
    reasons = sorted({*ledger.samples, *ledger.examples})
    samples = "".join(_samples(reason, ledger) for reason in reasons)
    title = f"<h3>{html.escape(ledger.source)}{licence}</h3>"
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{samples}"


def _row(row: Row) -> str:
    width = max(0.0, min(100.0, 100 * row.share))
    cells = [html.escape(cell) for cell in row.cells(first=False)[1:]]
    bar = f'<td class="bar" style="--share:{width:.2f}%">{cells[-1]}</td>'
    return f"<tr><th>{cells[0]}</th>{''.join(f'<td>{cell}</td>' for cell in cells[1:-1])}{bar}</tr>"


def _samples(reason: str, ledger: Ledger) -> str:
    names, texts = ledger.examples.get(reason, []), ledger.samples.get(reason, [])
    listed = f"<p>{html.escape(', '.join(names))}</p>" if names else ""
    quoted = "".join(f"<pre>{html.escape(text)}</pre>" for text in texts)
    about = "kept, though bytes were not valid" if reason == "repaired" else "what went"
    return f"<details><summary>{html.escape(reason)}: {about}, for example</summary>{listed}{quoted}</details>"


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{padding:.2rem .6rem;text-align:right}
th:first-child{text-align:left;font-weight:600}thead th{color:#666;font-weight:400}tr+tr{border-top:1px solid #eee}
.bar{background:linear-gradient(to right,#cfe3ff var(--share),transparent var(--share))}
small{color:#666;font-weight:400}.note{background:#fff6d6;padding:.5rem}summary{cursor:pointer}
pre{white-space:pre-wrap;background:#f6f6f6;padding:.5rem;margin:.3rem 0;max-height:12rem;overflow:auto}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}tr+tr{border-color:#333}pre{background:#242424}
.bar{background:linear-gradient(to right,#234a7d var(--share),transparent var(--share))}.note{background:#4a4010}}
"""
