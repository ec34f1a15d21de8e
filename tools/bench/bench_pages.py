"""Measure how much of a folder of web pages the reader keeps: the words of the article, and others."""

import argparse
import statistics
import sys
from collections import Counter
from pathlib import Path

from llm60_jax.data.read import items
from llm60_jax.data.read.web import webpage

EXAMPLES = """examples:
  # pages NAME.html with the article's text in NAME.txt
  python tools/bench/bench_pages.py my/pages
  # folders with source.html and expected.html, as the tests of Mozilla's Readability have them
  python tools/bench/bench_pages.py readability/test/test-pages --worst 10
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="name the N worst pages")
    arguments = parser.parse_args()
    rows = [row for page, gold in pairs(arguments.folder) if (row := measured(page, gold)) is not None]
    if not rows:
        sys.exit(f"{arguments.folder}: no NAME.html with NAME.txt, and no source.html with expected.html")
    precision, recall = statistics.fmean(row[1] for row in rows), statistics.fmean(row[2] for row in rows)
    print(f"{len(rows)} pages: precision {precision:.3f}, recall {recall:.3f} (words of the article, mean of pages)")
    for name, *shares in sorted(rows, key=lambda row: min(row[1:]))[: arguments.worst]:
        print(f"  {name}: precision {shares[0]:.2f}, recall {shares[1]:.2f}")


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
    return Counter("".join(c if c.isalnum() else " " for c in text.lower()).split())


if __name__ == "__main__":
    main()
