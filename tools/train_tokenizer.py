"""Learn the tokenizer of a configuration, or load it, and report how it fits the text of every
phase."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.tokens import fertility
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record.workdir import WorkDir
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  # the tokenizer of a configuration
  python tools/train_tokenizer.py configs/quickstart.toml
  # another kind, for a run of its own
  python tools/train_tokenizer.py configs/quickstart.toml --set tokenizer.model_type=unigram --workdir runs/unigram
  # for scripts
  python tools/train_tokenizer.py configs/llm60.toml --json

The report shows tokens a word, the share of text spelt by bytes, and pieces that no text uses. Text
is prepared first. Each tokenizer has a folder of its own below data_dir/tokenizers. The tool
refuses a tokenizer that differs from the one that a run in the run directory was trained with: it
would make that run's checkpoints useless.
"""


def report(config: Config, track: Track) -> dict[str, Any]:
    """Return the tokenizer and how it fits, as JSON values."""
    workdir = WorkDir(Path(config.workdir))
    workdir.check_identity(config)
    prepared = ancestry.prepared(config, track, workdir.check_digests)
    tokenizer = prepared.tokenizer
    fits = fertility.fits(prepared.corpora, tokenizer, track)
    learnt_from = config.tokenizer.phases if config.tokenizer else []
    return {
        "tokenizer": {
            "path": str(tokenizer.path),
            "sha256": tokenizer.sha256,
            "model_type": config.tokenizer.model_type if config.tokenizer else None,
            "vocab_size": tokenizer.vocab_size,
            "learnt_from": list(learnt_from),
        },
        "phases": {name: {split: fit.to_tree() for split, fit in splits.items()} for name, splits in fits.items()},
        "unused": fertility.unused((shards.train for shards in prepared.shards.values()), tokenizer),
    }


def _train_tokenizer(options: argparse.Namespace, interrupts: Interrupts) -> None:
    config = config_module.load(options.config, options.set, options.workdir)
    facts = report(config, terminal.Tracker(interrupts, on_stderr=options.json))
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    about, unused = facts["tokenizer"], facts["unused"]
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
        for name, splits in facts["phases"].items()
        for split, fit in splits.items()
    ]
    terminal.say(terminal.columns(headings, rows))
    examples = " ".join(map(repr, unused["examples"][:8]))
    terminal.say(
        f"{unused['unused']:,} of {unused['pieces']:,} pieces ({unused['share']:.1%}) occur in no phase's training text"
        + (f", such as {examples}" if examples else "")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--workdir", metavar="DIR", help="the run directory, instead of the configuration's")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("train_tokenizer.py", parser, arguments, _train_tokenizer, cli.PREPARED)


if __name__ == "__main__":
    sys.exit(main())
