"""Measures what preparing and loading the text of a configuration costs on one core of this machine.

Cleaning with all rules and the search for duplicates, and tokenizing, in MB of raw text a second; the loader in tokens
a second. Where datatrove is installed, its filters of the same purpose run on the same documents, in turn with ours."""

import argparse
import functools
import importlib.util
import itertools
import json
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config
from llm60_jax.data.clean import cleaning, dedup
from llm60_jax.data.corpus import pieces
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.tokens import loader
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  python tools/bench_data.py configs/bench_data.toml
  python tools/bench_data.py configs/bench_data.toml --megabytes 8 --rounds 5 --json
  python tools/bench_data.py configs/bench_data.toml --set 'phase.grammar.sources=[{kind="folder", path="my/books"}]'

Run it while nothing else runs. The first call prepares the text, tokenizer and token shards, and keeps them.
"""
_DOCUMENT_CHARACTERS = 20_000  # longer documents are cut before the clock starts, for both sides alike
_PEER = ("datatrove", "spacy", "tokenizers", "xxhash<4")  # its core, and what its filters for English ask for
_BATCHES = 400  # of the loader, for each stage


def documents(config: Config, megabytes: float, seed: int = 0) -> list[sources.Document]:
    """An even sample of the first phase's raw documents, of so many MB."""
    found = []
    for source in config.phase[0].sources:
        for document in sources.read(source, sources.inputs(source), Ledger("")):
            for text in cleaning.cut(document.text, _DOCUMENT_CHARACTERS):
                found.append(document._replace(text=text, prompt=""))
    random.Random(seed).shuffle(found)
    taken, size = [], 0
    for document in found:
        if size >= megabytes * 1e6:
            break
        taken.append(document)
        size += len(document.text.encode("utf-8", errors="replace"))
    if not taken:
        raise InputError(f"phase.{config.phase[0].name}.sources: no text to measure with")
    return taken


def prepare_here(config: Config, texts: list[sources.Document]) -> None:
    """What a corpus does to its documents: clean, screen, cut, sketch, look for duplicates."""
    ledger, seen = Ledger(""), dedup.Seen()
    for document in texts:
        for piece in pieces.screen(document, config.phase[0].exclude, None, ledger).pieces:
            if not seen.contains(piece.sketch):
                seen.add(piece.sketch)


def datatrove_pipeline() -> Callable[[list[sources.Document]], None] | None:
    """datatrove's steps of the same purpose; None where they are not installed.

    Its filter for languages needs a model from the network and is left out: that flatters it.
    """
    if any(importlib.util.find_spec(name.partition("<")[0]) is None for name in _PEER):
        return None
    if int(metadata.version("xxhash").partition(".")[0]) >= 4:  # it takes strings no more
        return None
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.formatters import FTFYFormatter

    repair = FTFYFormatter()
    filters = [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]
    duplicates = MinhashDedupSignature(output_folder="unused")

    def run(texts: list[sources.Document]) -> None:
        for number, one in enumerate(texts):
            document = Document(text=repair.format(one.text), id=str(number))
            for step in filters:  # a document that one rejects goes through the others too, as ours goes by parts
                step.filter(document)
            duplicates.get_signature(duplicates.get_shingles(document.text))

    return run


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(config: Config, megabytes: float, rounds: int) -> dict[str, Any]:
    """All figures, as JSON values; of several rounds each the median."""
    texts = documents(config, megabytes)
    size = sum(len(document.text.encode("utf-8", errors="replace")) for document in texts) / 1e6
    prepared = ancestry.prepared(config, terminal.Tracker(Interrupts(), quiet=True))
    other = datatrove_pipeline()
    prepare_here(config, texts[:20])  # models and caches are loaded before the clock starts
    if other:
        other(texts[:20])
    ours, theirs, tokenizing = [], [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: prepare_here(config, texts)))
        if other:
            theirs.append(seconds(lambda: other(texts)))
        tokenizing.append(seconds(lambda: [prepared.tokenizer.encode(document.text) for document in texts]))
    return {
        "megabytes": size,
        "documents": len(texts),
        "rounds": rounds,
        "prepare_mb_per_second": size / statistics.median(ours),
        "datatrove_mb_per_second": size / statistics.median(theirs) if theirs else None,
        "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)) if theirs else None,
        "tokenize_mb_per_second": size / statistics.median(tokenizing),
        "loader": loader_speeds(config, prepared.shards[config.phase[0].name].train, rounds),
    }


def loader_speeds(config: Config, shard: Any, rounds: int) -> list[dict[str, Any]]:
    """Tokens a second of packed batches, through Grain, for each context of the first phase."""
    found = []
    for stage in plan.build(config).phase_stages(config.phase[0].name):
        steps = min(_BATCHES, stage.steps)
        speeds = []
        for _ in range(rounds):
            batches = itertools.islice(loader.batches(shard, stage, config.seed), steps)
            next(batches)  # the order of the epoch is made once
            speeds.append((steps - 1) * config.train.tokens_per_step / seconds(functools.partial(list, batches)))
        found.append({"context": stage.context, "tokens_per_second": statistics.median(speeds)})
    return found


def _do(config: Config, options: argparse.Namespace) -> None:
    found = measure(config, options.megabytes, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    rate = "{:.2f} MB/s".format
    rows = [("cleaning, rules, duplicates", rate(found["prepare_mb_per_second"]))]
    if found["ratio"]:
        rows.append(("datatrove, the same purpose", rate(found["datatrove_mb_per_second"])))
        rows.append(("ours is faster by", f"{found['ratio']:.2f}"))
    rows.append(("tokenizing", rate(found["tokenize_mb_per_second"])))
    for one in found["loader"]:
        rows.append((f"loader, context {one['context']}", f"{one['tokens_per_second']:,.0f} tokens/s"))
    about = (
        f"{found['megabytes']:.1f} MB of text in {found['documents']:,} documents, one core, {options.rounds} rounds"
    )
    terminal.say(terminal.columns((about, "median"), rows))
    if not found["ratio"]:
        terminal.say("datatrove is not here to compare with: pip install " + shlex.join(_PEER))


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--megabytes", type=float, default=4.0, metavar="N", help="of raw text (default 4)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each measurement (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.megabytes <= 0 or options.rounds < 1:
        parser.error("--megabytes must be above 0, --rounds 1 or more")
    return cli.guarded("bench_data.py", lambda: _do(config_module.load(options.config, options.set), options))


if __name__ == "__main__":
    sys.exit(main())
