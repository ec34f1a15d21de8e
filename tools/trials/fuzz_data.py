"""Prepare made-up corpora of broken files, and check that every document is accounted for and
nothing breaks."""

import argparse
import functools
import json
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import fuzz_corpora
from trial import TooSlow, limited

from llm60_jax import config as config_module
from llm60_jax.config import Exclude, Phase, to_tree
from llm60_jax.data.corpus import account, corpus, joining
from llm60_jax.errors import Failure, InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import Track, silent
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # 500 corpora
  python tools/fuzz_data.py
  # by the rules of a configuration
  python tools/fuzz_data.py configs/own.toml
  # corpus 137 again, its files kept in broken/
  python tools/fuzz_data.py --corpora 1 --first 137 --keep broken

Every document must be counted and every file named, without tracebacks, hangs or unbounded memory.
A failure names the number of its corpus; the number makes the same corpus again.
"""
SECONDS = 60  # limit for one corpus
MEGABYTES = 1500  # limit for the growth of the process over all corpora


# --- One corpus ------------------------------------------------------------------------------------------------------


def check(folder: Path, data_dir: Path, exclude: Exclude) -> None:
    """Prepare a folder as a phase with some rules, and check its ledger. Raises AssertionError, or
    whatever broke."""
    phase: Phase = cast(Any, Phase)(
        name="fuzz",
        tokens=1,
        context=((0.0, 8),),
        freeze=((0.0, 0),),
        learning_rate=(1e-3, 1e-4),
        sources=(corpus.sources.folder(str(folder)),),
        exclude=exclude,
    )
    made = corpus.prepare(phase, data_dir, silent)
    (ledger,) = made.ledgers
    dropped = sum(ledger.dropped.values())
    balance = f"{ledger.documents_in} in, {ledger.documents_kept} kept, {ledger.dropped}"
    assert ledger.documents_in == ledger.documents_kept + dropped, balance
    listed = [*ledger.files, *(name for names in ledger.examples.values() for name in names)]
    for file in corpus.sources.inputs(phase.sources[0]):
        assert any(name.startswith(file.name) for name in listed), f"{file.name!r} is not in the ledger: {listed}"
    account.page([(made, {})])
    json.dumps(account.tree(phase, made, {}))
    for split in joining.SPLITS:
        for record in made.read(split):
            assert record["text"].strip(), record
            record["text"].encode("utf-8")


def fuzz(
    first: int, count: int, exclude: Exclude, keep: Path | None, unfinished: Unfinished, track: Track
) -> list[str]:
    """Make and check `count` corpora. Return a text for each failure."""
    broken = []
    for number in track(range(first, first + count), "corpora", count):
        broken += unfinished.part(str(number), functools.partial(failures, number, exclude, keep))
    return broken


def failures(number: int, exclude: Exclude, keep: Path | None) -> list[str]:
    """Make and check one corpus. Return a text for each failure."""
    broken = []
    with tempfile.TemporaryDirectory(prefix="llm60_jax-fuzz-") as home:
        folder = Path(home, "text")
        fuzz_corpora.make(folder, number)
        if keep is not None:
            shutil.copytree(folder, keep / str(number), symlinks=True, dirs_exist_ok=True, ignore=_fifos)
        try:
            with limited(SECONDS):
                check(folder, Path(home, "data"), exclude)
        except Failure as failure:
            broken.append(f"corpus {number}: refused: {failure}")
        except (Exception, TooSlow):
            broken.append(f"corpus {number}: {traceback.format_exc()}")
        if list(Path(home).rglob("escaped.txt")) or Path("/escaped.txt").exists():
            broken.append(f"corpus {number}: an archive wrote outside of itself")
    return broken


def _fifos(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_fifo()]


def _fuzz(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.corpora < 1 or options.first < 0:
        raise InputError(f"--corpora {options.corpora}, --first {options.first}: they must be at least 1 and 0")
    config = config_module.load(options.config, options.set)
    phase = cli.phase_of(config, options.phase) if options.phase else config.phase[0]
    before, start = _megabytes(), time.monotonic()
    identity = [to_tree(config), phase.name, options.first, options.corpora, str(options.keep)]
    with Unfinished(config.data_dir, "fuzz_data", identity, Path(__file__).parent, anew=options.anew) as unfinished:
        track = terminal.Tracker(interrupts)
        broken = fuzz(options.first, options.corpora, phase.exclude, options.keep, unfinished, track)
    grown = _megabytes() - before
    for text in broken:
        terminal.say(text)
    terminal.say(
        f"{options.corpora} corpora from {options.first} on in {time.monotonic() - start:.0f} s: {len(broken)} broke; "
        f"the process grew by {grown:.0f} MB"
    )
    if broken or grown > MEGABYTES:
        raise Failure(f"{len(broken)} corpora broke; memory grew by {grown:.0f} MB, allowed are {MEGABYTES} MB")


def _megabytes() -> float:
    """Return the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES, default="quickstart")
    parser.add_argument("--phase", metavar="NAME", help="whose rules (default: the first phase)")
    parser.add_argument("--corpora", type=int, default=500, metavar="N", help="number of corpora (default 500)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first corpus (default 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of each corpus in this folder")
    cli.add_anew(parser)
    return cli.run_tool("fuzz_data.py", parser, arguments, _fuzz)


if __name__ == "__main__":
    sys.exit(main())
