"""Cleans and screens the text of a configuration, and accounts for every document: what came in, what was kept, and
what each rule dropped."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.corpus import account, joining
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.prepare import prepare_text
from llm60_jax.machine import cli, files, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  python tools/prepare_data.py configs/quickstart.toml                   a table for each phase
  python tools/prepare_data.py configs/llm60.toml --phase grammar --samples 5    and what the rules dropped
  python tools/prepare_data.py configs/llm60.toml --html ledger.html     the same as a page to browse
  python tools/prepare_data.py configs/llm60.toml --tokens               and its tokens, as training needs them
  python tools/prepare_data.py configs/llm60.toml --json                 one JSON object, file by file

What is prepared is kept below data_dir and found again by training, and by the next call; an interrupted call goes on
where it stopped. `processes` of the configuration says how many work at once.
"""


def samples(found: Corpus, count: int) -> str:
    """How the first parts begin that each rule dropped."""
    return "\n".join(
        f"{ledger.source}, {rule}: {' '.join(text.split())[:100]}"
        for ledger in account.ledgers(found)
        for rule, texts in ledger.samples.items()
        for text in texts[:count]
    )


def prepared(config: Config, tokens: bool, track: Track) -> tuple[dict[str, Corpus], dict[str, dict[str, int]]]:
    """The corpora of all phases, and for each the tokens that are kept of every source: none unless asked for."""
    if not tokens:
        start = ancestry.start(config)
        found = prepare_text(config, track, start.meta["corpora"] if start else {})
        return found, {name: {} for name in found}
    data = ancestry.prepared(config, track)
    counted = {name: shards.source_tokens for name, shards in data.shards.items()}
    return data.corpora, counted


def _do(config: Config, options: argparse.Namespace) -> None:
    phases = config.phase if options.phase is None else [cli.phase_of(config, options.phase)]
    interrupts = Interrupts()
    interrupts.install()
    track = terminal.Tracker(interrupts, quiet=options.json)
    corpora, tokens = prepared(config, options.tokens, track)
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
        terminal.say(f"\n{options.html}: the same, with samples, to open in a browser")


def _show(found: Corpus, tokens: Mapping[str, int], count: int) -> None:
    splits = ", ".join(f"{split} {found.ledger['splits'][split]['documents']:,}" for split in joining.SPLITS)
    headings, *lines = account.table(found, tokens)
    table = terminal.columns(headings, lines)
    terminal.say(f"\nphase {found.phase}: documents after cutting: {splits}\n{table}")
    for note in (*found.notes, *filter(None, [found.problem])):
        terminal.say(f"note: {note}")
    if count and (shown := samples(found, count)):
        terminal.say(f"\n{shown}")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="show N of the parts each rule dropped")
    parser.add_argument("--tokens", action="store_true", help="learn the tokenizer and write the token shards, too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the ledger as a page, with samples")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.samples < 0:
        parser.error("--samples must be 0 or more")
    return cli.guarded("prepare_data.py", lambda: _do(config_module.load(options.config, options.set), options))


if __name__ == "__main__":
    sys.exit(main())
