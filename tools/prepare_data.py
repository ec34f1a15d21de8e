"""Cleans and screens the text of a configuration, and accounts for every document: what came in, what was kept, and
what each rule dropped."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax import ancestry, console
from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.corpus import Corpus
from llm60_jax.data.ledger import Ledger
from llm60_jax.data.prepare import prepare_text
from llm60_jax.data.progress import Track, silent
from llm60_jax.interrupts import Interrupts
from llm60_jax.phase import PackageSource, Phase

EXAMPLES = """examples:
  python tools/prepare_data.py configs/quickstart.toml                   a table for each phase
  python tools/prepare_data.py configs/llm60.toml --phase grammar --samples 5    and what the rules dropped
  python tools/prepare_data.py configs/llm60.toml --json                 one JSON object, file by file

What is prepared is kept below data_dir/processed and found again by training, and by the next call.
"""


def account(phase: Phase, found: Corpus) -> dict[str, Any]:
    """The account of a phase over its sources, as JSON values.

    `documents_in` = `documents_kept` + the sum of `dropped`, by reason. `files` has for each file, by its path, the
    characters that came in, that were kept, and that each rule dropped, whole documents and parts of them.
    """
    ledgers = [Ledger.of(tree) for tree in found.ledger["sources"]]
    dropped: dict[str, int] = {}
    files: dict[str, dict[str, Any]] = {}
    for source, ledger in zip(phase.sources, ledgers, strict=True):
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
        "documents_in": sum(ledger.documents_in for ledger in ledgers),
        "documents_kept": sum(ledger.documents_kept for ledger in ledgers),
        "dropped": dropped,
        "files": files,
    }


def table(found: Corpus) -> str:
    """A row for each source and rule: documents and parts of documents dropped, and the characters that they held."""
    rows = []
    for tree in found.ledger["sources"]:
        ledger = Ledger.of(tree)
        whole, percent = max(1, ledger.characters_in), "{:.2%}".format
        rows.append((ledger.source, "in", f"{ledger.documents_in:,}", "", f"{ledger.characters_in:,}", ""))
        kept = (f"{ledger.documents_kept:,}", "", f"{ledger.characters_kept:,}")
        rows.append(("", "kept", *kept, percent(ledger.characters_kept / whole)))
        reasons = sorted({*ledger.dropped, *ledger.characters_dropped})
        for reason in sorted(reasons, key=lambda name: -ledger.characters_dropped.get(name, 0)):
            characters = ledger.characters_dropped.get(reason, 0)
            documents, parts = ledger.dropped.get(reason, 0), ledger.parts_dropped.get(reason, 0)
            rows.append(("", reason, f"{documents:,}", f"{parts:,}", f"{characters:,}", percent(characters / whole)))
    return console.columns(("source", "", "documents", "parts", "characters", "share"), rows)


def samples(found: Corpus, count: int) -> str:
    """How the first parts begin that each rule dropped."""
    lines = []
    for tree in found.ledger["sources"]:
        for rule, texts in Ledger.of(tree).samples.items():
            lines += [f"{tree['source']}, {rule}: {' '.join(text.split())[:100]}" for text in texts[:count]]
    return "\n".join(lines)


def _do(config: Config, options: argparse.Namespace) -> None:
    phases = config.phase if options.phase is None else [config.phase_named(options.phase)]
    start = ancestry.start(config)
    track: Track = silent if options.json else console.Tracker(Interrupts())
    corpora = prepare_text(config, track, start.meta["corpora"] if start else {})
    if options.json:
        print(json.dumps({"phases": {phase.name: account(phase, corpora[phase.name]) for phase in phases}}))
        return
    for phase in phases:
        found = corpora[phase.name]
        splits = ", ".join(f"{split} {facts['documents']:,}" for split, facts in found.ledger["splits"].items())
        console.say(f"\nphase {phase.name}: documents after cutting: {splits}\n{table(found)}")
        for note in (*found.notes, *filter(None, [found.problem])):
            console.say(f"note: {note}")
        if options.samples and (shown := samples(found, options.samples)):
            console.say(f"\n{shown}")


def main(arguments: list[str] | None = None) -> int:
    parser = console.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="show N of the parts each rule dropped")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.samples < 0:
        parser.error("--samples must be 0 or more")
    return console.guarded("prepare_data.py", lambda: _do(config_module.load(options.config, options.set), options))


if __name__ == "__main__":
    sys.exit(main())
