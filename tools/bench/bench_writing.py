"""Measure what the cleaning keeps of people's own writing, kind by kind, over files that it writes
itself."""

import argparse
import contextlib
import dataclasses
import functools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import writing
from writing import truth
from writing.truth import Kept, Sample

from llm60_jax import config as config_module
from llm60_jax.config import Exclude, FolderSource, Phase, to_tree
from llm60_jax.data.corpus import corpus, pieces
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import Track, silent
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # all kinds, by the rules of the quickstart's fine_tune phase
  python tools/bench_writing.py
  # by the rules of another configuration
  python tools/bench_writing.py configs/own.toml
  # two kinds, by all rules; the files stay in a folder
  python tools/bench_writing.py --kinds latex mail-gmail --rules all --keep /tmp/writing
  # what is kept of a folder of real files, by extension, and what each rule takes
  python tools/bench_writing.py --folder my/notes

own is the share of the author's characters that is kept, junk the characters kept that are not the
author's, for each 1,000 of the author's. whole is the share of paragraphs that are one paragraph
again with the same words. lost counts documents of which nothing is left. The last columns name
what took most, and how much of all it took. Of a folder of real files nobody knows what is junk.
"""
RULES = ("phase", "all")


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out of one kind."""

    kept: Kept
    losses: Counter[str]  # the author's characters by what took them
    dropped: dict[str, int]  # documents by reason
    refusal: str  # why the folder was not read at all; "" if it was

    @property
    def cause(self) -> str:
        """What took most of the author's characters; "" if nothing is lost."""
        return max(self.losses, key=lambda cause: self.losses[cause], default="")


@dataclasses.dataclass
class Screened:
    """The documents of a source after the rules, before the search for duplicates."""

    texts: list[str]
    parts: dict[str, list[str]]  # dropped texts by rule
    ledger: Ledger


class _Record(Ledger):
    """A ledger that keeps the dropped texts, not only their sizes."""

    def drop_part(self, rule: str, file: str, text: str) -> None:
        super().drop_part(rule, file, text)
        self.parts.setdefault(rule, []).append(text)

    def __init__(self) -> None:
        super().__init__("")
        self.parts: dict[str, list[str]] = {}


def limits(rules: str, phase: Phase) -> Exclude:
    """Return the rules of a phase of one's own writing, or all rules."""
    return Exclude() if rules == "all" else phase.exclude


def screen(source: FolderSource, exclude: Exclude, track: Track = silent) -> Screened:
    """Read, clean and screen the files of a source."""
    ledger = _Record()
    for name in sources.others(source):
        ledger.documents_in += 1
        ledger.drop("other_kind", name, name)
    texts: list[str] = []
    files = sources.inputs(source)
    for file in track(files, f"{sources.label(source)}: reading", len(files)):
        for document in sources.read(source, [file], ledger):
            screened = pieces.screen(document, exclude, None, ledger)
            for piece in screened.pieces:
                ledger.keep(document.file, len(piece.text))
                texts.append(piece.text)
            if screened.pieces:
                ledger.documents_kept += 1
            else:
                ledger.drop(screened.reason, document.name, document.file)
    return Screened(texts, ledger.parts, ledger)


def prepared(
    phase: Phase, folders: dict[str, FolderSource], exclude: Exclude, track: Track = silent
) -> dict[str, list[str]]:
    """Return the texts of the corpus of all sources, by the name of their folder."""
    phase = dataclasses.replace(cast(Any, phase), sources=tuple(folders.values()), exclude=exclude)
    texts: dict[str, list[str]] = {name: [] for name in folders}
    with tempfile.TemporaryDirectory(prefix="llm60_jax-bench-") as folder:
        result = corpus.prepare(phase, Path(folder), track)
        for split in corpus.SPLITS:
            for record in result.read(split):
                texts[record["source"]].append(record["text"])
    return texts


def measure(
    folder: Path,
    samples: dict[str, Sample],
    rules: str,
    phase: Phase,
    unfinished: Unfinished,
    track: Track = silent,
) -> dict[str, Result]:
    """Return what came out of each kind, whose files `writing.write` wrote below `folder`.

    A screened kind is kept, and so is the corpus of all.
    """
    exclude, uncounted = limits(rules, phase), truth.NO_PROSE if rules == "all" else ()
    screened: dict[str, dict[str, Any]] = {}
    refusals: dict[str, str] = {}

    def screening(kind: str) -> dict[str, Any] | str:
        try:
            result = screen(sources.folder(str(folder / kind)), exclude)
        except InputError as error:
            return str(error)
        return {"texts": result.texts, "parts": result.parts, "dropped": result.ledger.dropped}

    for kind in track(samples, "kinds of files", len(samples)):
        result = unfinished.part(kind, functools.partial(screening, kind))
        if isinstance(result, str):
            refusals[kind] = result
        else:
            screened[kind] = result
    places = {kind: sources.folder(str(folder / kind)) for kind in screened}
    kept = unfinished.part("the corpus", lambda: prepared(phase, places, exclude, track)) if screened else {}
    results = {}
    for kind, sample in samples.items():
        texts = kept.get(kind, [])
        measured = truth.measure(sample.documents, texts, uncounted)
        dropped, causes = dict[str, int](), dict[str, list[str]]()
        if kind in screened:
            dropped = screened[kind]["dropped"]
            causes = {**screened[kind]["parts"], "duplicate": screened[kind]["texts"]}
            # A small corpus is cut anywhere to hold parts of it out, so paragraphs are judged before.
            whole = truth.measure(sample.documents, screened[kind]["texts"], uncounted).whole
            measured = dataclasses.replace(measured, whole=whole)
        results[kind] = Result(
            measured,
            truth.losses(sample.documents, texts, causes, uncounted),
            dropped,
            refusals.get(kind, ""),
        )
    return results


def total(results: Sequence[Result]) -> Result:
    """Return the sums over all kinds."""
    sums = {field.name: sum(getattr(r.kept, field.name) for r in results) for field in dataclasses.fields(Kept)}
    losses: Counter[str] = sum((result.losses for result in results), Counter())
    dropped: Counter[str] = sum((Counter(result.dropped) for result in results), Counter())
    return Result(Kept(**sums), losses, dict(dropped), "")


def by_extension(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Return files, characters in and kept, and characters dropped by rule, for each extension."""
    rows: dict[str, dict[str, Any]] = {}
    for name, file in ledger.files.items():
        row = rows.setdefault(Path(name).suffix.lower() or "(none)", {"files": 0, "in": 0, "kept": 0, "dropped": {}})
        row["files"] += 1
        row["in"] += file.characters_in
        row["kept"] += file.characters_kept
        for rule, characters in file.dropped.items():
            row["dropped"][rule] = row["dropped"].get(rule, 0) + characters
    return rows


# --- Command line ----------------------------------------------------------------------------------------------------


def _bench(options: argparse.Namespace, interrupts: Interrupts) -> None:
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    config = config_module.load(options.config, options.set)
    phase = cli.phase_of(config, options.phase)
    if options.folder is not None:
        ledger = screen(sources.folder(str(options.folder)), limits(options.rules, phase), track).ledger
        rows = by_extension(ledger)
        if options.json:
            print(json.dumps({"extensions": rows, "documents_dropped": ledger.dropped}))
        else:
            _show_folder(rows, ledger)
        return
    if options.documents < 1:
        raise InputError(f"--documents: {options.documents}, but it must be 1 or more")
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llm60_jax-writing-")))
        samples = writing.write(folder, options.documents, options.seed, options.kinds)
        identity = [to_tree(config), options.phase, options.rules, options.documents, options.seed, list(samples)]
        unfinished = stack.enter_context(
            Unfinished(config.data_dir, "bench_writing", identity, Path(__file__).parent, anew=options.anew)
        )
        results = measure(folder, samples, options.rules, phase, unfinished, track)
    if options.json:
        print(json.dumps({"kinds": {kind: _tree(r) for kind, r in results.items()}, "total": _tree(_sum(results))}))
    else:
        _show(results, options.rules)


def _sum(results: dict[str, Result]) -> Result:
    return total(list(results.values()))


def _tree(result: Result) -> dict[str, Any]:
    shares = {
        "own": result.kept.share,
        "junk_per_thousand": result.kept.junk_per_thousand,
        "whole": result.kept.whole_share,
    }
    return {**shares, **dataclasses.asdict(result)}


def _show(results: dict[str, Result], rules: str) -> None:
    rows = [_row(kind, result) for kind, result in results.items()]
    rows.append(_row(f"all {len(results)} kinds", _sum(results)))
    terminal.say(terminal.columns((f"rules: {rules}", "own", "junk", "whole", "lost", "most by", "share"), rows))
    if any(result.refusal for result in results.values()):
        terminal.say("not read: the whole folder is refused; --json says why")


def _row(name: str, result: Result) -> tuple[str, ...]:
    kept, cause = result.kept, result.cause
    taken = f"{result.losses[cause] / kept.own:.1%}" if cause else ""
    if result.refusal:
        cause = "not read"
    lost = f"{kept.lost} of {kept.documents}"
    return name, f"{kept.share:.1%}", f"{kept.junk_per_thousand:.1f}", f"{kept.whole_share:.0%}", lost, cause, taken


def _show_folder(rows: dict[str, dict[str, Any]], ledger: Ledger) -> None:
    table = []
    for extension, row in sorted(rows.items(), key=lambda item: -item[1]["in"]):
        most = sorted(row["dropped"].items(), key=lambda item: -item[1])[:3]
        rules = ", ".join(f"{rule} {characters / max(1, row['in']):.1%}" for rule, characters in most if characters)
        share = f"{row['kept'] / max(1, row['in']):.1%}"
        table.append((extension, f"{row['files']:,}", f"{row['in']:,}", share, rules))
    terminal.say(terminal.columns(("extension", "files", "characters", "kept", "most dropped by"), table))
    size = max(1, ledger.characters_in)
    by_rule = sorted(ledger.characters_dropped.items(), key=lambda item: -item[1])
    taken = [(rule, f"{count:,}", f"{count / size:.2%}", f"{ledger.dropped.get(rule, 0):,}") for rule, count in by_rule]
    others = [(reason, "", "", f"{n:,}") for reason, n in ledger.dropped.items() if reason not in dict(by_rule)]
    share = f"{ledger.characters_kept / size:.2%}"
    kept = ("kept", f"{ledger.characters_kept:,}", share, f"{ledger.documents_kept:,}")
    terminal.say(terminal.columns(("rule", "characters", "share", "documents"), [kept, *taken, *others]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES, default="quickstart")
    parser.add_argument("--phase", default="fine_tune", metavar="NAME", help="whose rules (default fine_tune)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--kinds", nargs="+", default=(), choices=tuple(writing.KINDS), metavar="KIND", help="these kinds (default all)"
    )
    what.add_argument("--folder", type=Path, metavar="PATH", help="measure a folder of real files instead")
    parser.add_argument("--rules", choices=RULES, default="phase", help="those of the phase, or all (default phase)")
    parser.add_argument("--documents", type=int, default=4, metavar="N", help="documents of each kind (default 4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the texts (default 0)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files there and leave them")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("bench_writing.py", parser, arguments, _bench)


if __name__ == "__main__":
    sys.exit(main())
