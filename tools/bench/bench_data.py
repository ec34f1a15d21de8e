"""Time how fast one core of this machine prepares, tokenizes and loads the text of a
configuration."""

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
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, to_tree
from llm60_jax.data.clean import cleaning, dedup
from llm60_jax.data.corpus import pieces
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.tokens import loader
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, files, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  # 4 MB of text
  python tools/bench_data.py configs/bench_data.toml
  # more text and rounds, for scripts
  python tools/bench_data.py configs/bench_data.toml --megabytes 8 --rounds 5 --json
  # your own text
  python tools/bench_data.py configs/bench_data.toml --set 'phase.grammar.sources=[{kind="folder", path="my/books"}]'

Cleaning (all rules and near-duplicates) and tokenizing are in MB of raw text a second, the loader
in tokens a second. If datatrove is installed, its filters of the same purpose run on the same
documents, in turn with ours. Run it while nothing else runs. The first call prepares text,
tokenizer and token shards, and keeps them.
"""
_DOCUMENT_CHARACTERS = 20_000  # longer documents are cut before the clock starts, on both sides
_PEER = ("datatrove", "spacy", "tokenizers", "xxhash<4")  # datatrove, and what its filters need
_MOST_BATCHES = 400  # that the loader makes for one stage


def documents(config: Config, megabytes: float, seed: int = 0) -> list[sources.Document]:
    """Return a random sample of the first phase's raw documents, of at least `megabytes`."""
    pool = []
    for source in config.phase[0].sources:
        for document in sources.read(source, sources.inputs(source), Ledger("")):
            for text in cleaning.cut(document.text, _DOCUMENT_CHARACTERS):
                pool.append(sources.Document(document.file, document.title, text))
    random.Random(seed).shuffle(pool)
    taken, size = [], 0
    for document in pool:
        if size >= megabytes * 1e6:
            break
        taken.append(document)
        size += len(document.text.encode("utf-8", errors="replace"))
    if not taken:
        raise InputError(f"phase.{config.phase[0].name}.sources: no text to measure with")
    return taken


def prepare_here(config: Config, texts: list[sources.Document]) -> None:
    """Do what a corpus does to its documents: clean, screen, cut, sketch, look for duplicates."""
    ledger, seen = Ledger(""), dedup.Seen()
    for document in texts:
        for piece in pieces.screen(document, config.phase[0].exclude, None, ledger).pieces:
            if not seen.contains(piece.sketch):
                seen.add(piece.sketch)


def datatrove_pipeline() -> Callable[[list[sources.Document]], None] | None:
    """Return datatrove's steps of the same purpose as one function; None if they are not installed.

    Its language filter needs a model from the network and is left out, which makes datatrove look
    faster.
    """
    if any(importlib.util.find_spec(name.partition("<")[0]) is None for name in _PEER):
        return None
    if int(metadata.version("xxhash").partition(".")[0]) >= 4:  # takes bytes only; datatrove passes strings
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
        for number, text in enumerate(texts):
            document = Document(text=repair.format(text.text), id=str(number))
            for step in filters:  # rejected documents too, because ours goes by parts
                step.filter(document)
            duplicates.get_signature(duplicates.get_shingles(document.text))

    return run


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(
    config: Config, texts: list[sources.Document], rounds: int, unfinished: Unfinished, track: Track
) -> dict[str, Any]:
    """Return all figures as JSON values, each the median of the rounds. A finished round is kept."""
    size = sum(len(document.text.encode("utf-8", errors="replace")) for document in texts) / 1e6
    prepared = ancestry.prepared(config, track)
    peer = datatrove_pipeline()
    prepare_here(config, texts[:20])  # loads models and caches before the clock starts
    if peer:
        peer(texts[:20])

    def one_round() -> list[float | None]:
        ours = seconds(lambda: prepare_here(config, texts))
        theirs = seconds(lambda: peer(texts)) if peer else None
        return [ours, theirs, seconds(lambda: [prepared.tokenizer.encode(document.text) for document in texts])]

    done = [unfinished.part(f"round {n + 1}", one_round) for n in track(range(rounds), "rounds", rounds)]
    ours, theirs, tokenizing = map(list, zip(*done, strict=True))
    shard = prepared.shards[config.phase[0].name].train
    return {
        "megabytes": size,
        "documents": len(texts),
        "rounds": rounds,
        "prepare_mb_per_second": size / statistics.median(ours),
        "datatrove_mb_per_second": size / statistics.median(theirs) if peer else None,
        "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)) if peer else None,
        "tokenize_mb_per_second": size / statistics.median(tokenizing),
        "loader": unfinished.part("loader", lambda: loader_speeds(config, shard, rounds, track)),
    }


def loader_speeds(config: Config, shard: Any, rounds: int, track: Track) -> list[dict[str, Any]]:
    """Return the tokens a second of packed batches, through Grain, for each stage of the first
    phase."""
    rows = []
    stages = plan.build(config).phase_stages(config.phase[0].name)
    for stage in track(stages, "loading, stages", len(stages)):
        steps = min(_MOST_BATCHES, stage.steps)
        speeds = []
        for _ in range(rounds):
            batches = itertools.islice(loader.batches(shard, stage, config.seed), steps)
            next(batches)  # makes the order of the epoch, once
            speeds.append((steps - 1) * config.train.tokens_per_step / seconds(functools.partial(list, batches)))
        rows.append({"context": stage.context, "tokens_per_second": statistics.median(speeds)})
    return rows


def _bench(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if not options.megabytes > 0:
        raise InputError(f"--megabytes: {options.megabytes:g}, but it must be above 0")
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    config = config_module.load(options.config, options.set)
    texts, track = documents(config, options.megabytes), terminal.Tracker(interrupts, on_stderr=options.json)
    identity = [to_tree(config), files.digest_of([document.text for document in texts]), options.rounds]
    with Unfinished(config.data_dir, "bench_data", identity, Path(__file__).parent, anew=options.anew) as unfinished:
        figures = measure(config, texts, options.rounds, unfinished, track)
    if options.json:
        print(json.dumps(figures))
    else:
        _show(figures)


def _show(figures: dict[str, Any]) -> None:
    rate = "{:.2f} MB/s".format
    rows = [("cleaning, rules, duplicates", rate(figures["prepare_mb_per_second"]))]
    if figures["ratio"]:
        rows.append(("datatrove, the same purpose", rate(figures["datatrove_mb_per_second"])))
        rows.append(("ours is faster by", f"{figures['ratio']:.2f}"))
    rows.append(("tokenizing", rate(figures["tokenize_mb_per_second"])))
    for row in figures["loader"]:
        rows.append((f"loader, context {row['context']}", f"{row['tokens_per_second']:,.0f} tokens/s"))
    size = f"{figures['megabytes']:.1f} MB of text in {figures['documents']:,} documents"
    terminal.say(terminal.columns((f"{size}, one core, {figures['rounds']} rounds", "median"), rows))
    if not figures["ratio"]:
        terminal.say("datatrove is not here to compare with: pip install " + shlex.join(_PEER))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--megabytes", type=float, default=4.0, metavar="N", help="MB of raw text (default 4)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of each measurement (default 3)")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("bench_data.py", parser, arguments, _bench)


if __name__ == "__main__":
    sys.exit(main())
