"""Learns the tokenizer of a configuration, or finds it, and reports how it fits the text of every phase: tokens for a
word, what is spelt by bytes, pieces that are never used."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.tokens import fertility
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record.workdir import WorkDir
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  python tools/train_tokenizer.py configs/quickstart.toml
  python tools/train_tokenizer.py configs/quickstart.toml --set tokenizer.model_type=unigram --workdir runs/unigram
  python tools/train_tokenizer.py configs/llm60.toml --json

Text is prepared if it is not yet; every tokenizer is kept in a folder of its own below data_dir/tokenizers. One that
differs from what a run in the run directory was trained with is refused: its checkpoints would mean nothing with it.
"""


def report(config: Config, track: terminal.Tracker) -> dict[str, Any]:
    """The tokenizer and how it fits, as JSON values."""
    workdir = WorkDir(Path(config.workdir))
    workdir.check_identity(config)
    prepared = ancestry.prepared(config, track, workdir.check_digests)
    words = prepared.tokenizer
    fits = fertility.fits(prepared.corpora, words, track)
    learnt_from = config.tokenizer.phases if config.tokenizer else []
    return {
        "tokenizer": {
            "path": str(words.path),
            "sha256": words.sha256,
            "model_type": config.tokenizer.model_type if config.tokenizer else None,
            "vocab_size": words.vocab_size,
            "learnt_from": list(learnt_from),
        },
        "phases": {name: {split: fit.to_tree() for split, fit in found.items()} for name, found in fits.items()},
        "unused": fertility.unused((shards.train for shards in prepared.shards.values()), words),
    }


def _do(config: Config, options: argparse.Namespace) -> None:
    interrupts = Interrupts()
    interrupts.install()
    found = report(config, terminal.Tracker(interrupts, quiet=options.json))
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    about, unused = found["tokenizer"], found["unused"]
    origin = f"learnt from {', '.join(about['learnt_from'])}" if about["learnt_from"] else "brought by the checkpoint"
    terminal.say(f"\n{about['path']}: {about['vocab_size']:,} tokens, {origin}, SHA-256 {about['sha256'][:16]}")
    headings = ("phase", "split", "words", "tokens", "tokens a word", "bytes a token", "whole words", "coverage")
    rows = [
        (
            name,
            split,
            f"{fit['words']:,}",
            f"{fit['tokens']:,}",
            f"{fit['fertility']:.3f}",
            f"{fit['bytes_per_token']:.2f}",
            f"{fit['whole_word_share']:.1%}",
            f"{fit['coverage']:.4%}",
        )
        for name, splits in found["phases"].items()
        for split, fit in splits.items()
    ]
    terminal.say(terminal.columns(headings, rows))
    examples = " ".join(map(repr, unused["examples"][:8]))
    terminal.say(
        f"{unused['unused']:,} of {unused['pieces']:,} pieces ({unused['share']:.1%}) occur in no phase's training text"
        + (f", such as {examples}" if examples else "")
    )


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--workdir", metavar="DIR", help="the run directory, instead of the configuration's")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    return cli.guarded(
        "train_tokenizer.py",
        lambda: _do(config_module.load(options.config, options.set, options.workdir), options),
    )


if __name__ == "__main__":
    sys.exit(main())
