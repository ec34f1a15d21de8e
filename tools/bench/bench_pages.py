"""Measure how much of a folder of web pages the reader keeps: the words of the article, and others."""

import argparse
import functools
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from llm60_jax.data.read import items
from llm60_jax.data.read.web import webpage
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, files, terminal
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # pages NAME.html with the article's text in NAME.txt
  python tools/bench/bench_pages.py my/pages
  # folders with source.html and expected.html, as the tests of Mozilla's Readability have them
  python tools/bench/bench_pages.py readability/test/test-pages --worst 10
"""


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return (page, article) of each page that has its article beside it."""
    found = [(page, page.with_suffix(".txt")) for page in sorted(folder.rglob("*.htm*"))]
    found += [(page, page.with_name("expected.html")) for page in sorted(folder.rglob("source.html"))]
    return [(page, gold) for page, gold in found if gold.is_file()]


def measured(page: Path, gold: Path) -> tuple[str, float, float] | None:
    """Return (name, precision, recall) of a page; None if it cannot be read."""
    try:
        article = webpage.blocks(gold.read_bytes()) if gold.suffix == ".html" else gold.read_text(encoding="utf-8")
        (document,) = webpage.html(page, page.name)
    except (items.Unreadable, items.TooLarge):
        return None
    kept, wanted = words(document.text), words(article)
    common = sum((kept & wanted).values())
    name = page.parent.name if page.name == "source.html" else page.name
    return name, common / max(1, sum(kept.values())), common / max(1, sum(wanted.values()))


def words(text: str) -> Counter[str]:
    """Count the words of a text, without case and marks."""
    return Counter("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _bench(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.worst < 0:
        raise InputError(f"--worst: {options.worst}, but it must be 0 or more")
    pages, track = pairs(options.folder), terminal.Tracker(interrupts)
    identity = [[str(path), files.sha256_of(path)] for pair in pages for path in pair]
    with Unfinished("data", "bench_pages", identity, Path(__file__).parent, anew=options.anew) as unfinished:
        rows = [
            unfinished.part(str(page), functools.partial(measured, page, gold))
            for page, gold in track(pages, "pages", len(pages))
        ]
    rows = [row for row in rows if row is not None]
    if not rows:
        raise InputError(f"{options.folder}: no NAME.html with NAME.txt, and no source.html with expected.html")
    precision, recall = statistics.fmean(row[1] for row in rows), statistics.fmean(row[2] for row in rows)
    terminal.say(
        f"{len(rows)} pages: precision {precision:.3f}, recall {recall:.3f} (words of the article, mean of pages)"
    )
    for name, *shares in sorted(rows, key=lambda row: min(row[1:]))[: options.worst]:
        terminal.say(f"  {name}: precision {shares[0]:.2f}, recall {shares[1]:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of pages with their articles")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="name the N worst pages (default 5)")
    cli.add_anew(parser)
    return cli.run_tool("bench_pages.py", parser, arguments, _bench)


if __name__ == "__main__":
    sys.exit(main())
