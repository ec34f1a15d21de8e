"""Prepare the text of a configuration, and account for every document: what came in, what each rule
dropped."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.corpus import account, joining
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.prepare import prepare_text
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, files, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  # a table for each phase
  python tools/prepare_data.py configs/quickstart.toml
  # one phase, with the five largest parts that each rule dropped
  python tools/prepare_data.py configs/llm60.toml --phase grammar --samples 5
  # the same as a page to browse
  python tools/prepare_data.py configs/llm60.toml --html ledger.html
  # learn the tokenizer and write the token shards, too
  python tools/prepare_data.py configs/llm60.toml --tokens
  # for scripts, file by file
  python tools/prepare_data.py configs/llm60.toml --json

Prepared text stays below data_dir, where training and later calls find it. An interrupted call
resumes where it stopped. The field `processes` says how many processes work at once.
"""


def samples(corpus: Corpus, count: int) -> str:
    """Return the largest parts that each rule dropped: their sizes, files, beginnings and ends."""
    return "\n".join(
        f"{ledger.source}, {rule}, {part.characters:,} characters in one piece, {part.file}: "
        + " ".join(part.text.split())
        for ledger in corpus.ledgers
        for rule, parts in ledger.samples.items()
        for part in parts[:count]
    )


def prepared(config: Config, tokens: bool, track: Track) -> tuple[dict[str, Corpus], dict[str, dict[str, int]]]:
    """Return the corpora of all phases, and for each phase the tokens by source, empty without
    `tokens`."""
    if not tokens:
        start = ancestry.start(config)
        corpora = prepare_text(config, track, start.meta["corpora"] if start else {})
        return corpora, {name: {} for name in corpora}
    data = ancestry.prepared(config, track)
    return data.corpora, {name: shards.source_tokens for name, shards in data.shards.items()}


def _prepare(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.samples < 0:
        raise InputError(f"--samples: {options.samples}, but it must be 0 or more")
    config = config_module.load(options.config, options.set)
    phases = config.phase if options.phase is None else [cli.phase_of(config, options.phase)]
    corpora, tokens = prepared(config, options.tokens, terminal.Tracker(interrupts, on_stderr=options.json))
    if options.html:
        page = account.page([(corpora[phase.name], tokens[phase.name]) for phase in phases])
        files.write_text(options.html, page)
    if options.json:
        trees = {phase.name: account.tree(phase, corpora[phase.name], tokens[phase.name]) for phase in phases}
        print(json.dumps({"phases": trees}))
        return
    for phase in phases:
        _show(corpora[phase.name], tokens[phase.name], options.samples)
    if options.html:
        terminal.say(f"\n{options.html}: the same with samples; open it in a browser")


def _show(corpus: Corpus, tokens: Mapping[str, int], count: int) -> None:
    splits = ", ".join(f"{split} {corpus.ledger['splits'][split]['documents']:,}" for split in joining.SPLITS)
    headings, *lines = account.table(corpus, tokens)
    table = terminal.columns(headings, lines)
    terminal.say(f"\nphase {corpus.phase}: documents after cutting: {splits}\n{table}")
    for note in account.notes(corpus):
        terminal.say(f"note: {note}")
    if count and (shown := samples(corpus, count)):
        terminal.say(f"\n{shown}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument(
        "--samples", type=int, default=0, metavar="N", help="show the N largest parts that each rule dropped"
    )
    parser.add_argument("--tokens", action="store_true", help="learn the tokenizer and write the token shards, too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the ledger as a page, with samples")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("prepare_data.py", parser, arguments, _prepare, cli.PREPARED)


if __name__ == "__main__":
    sys.exit(main())
