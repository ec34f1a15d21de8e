"""Show what a phase trains on: random documents, and packed rows as the model sees them."""

import argparse
import json
import random
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import token_weights

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase
from llm60_jax.data.corpus.corpus import Corpus, Split
from llm60_jax.data.prepare import Prepared
from llm60_jax.data.tokens import loader
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Stage
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  # three documents and two rows of a phase
  python tools/inspect_data.py configs/quickstart.toml --phase vocabulary
  # one row of its fifth stage
  python tools/inspect_data.py configs/quickstart.toml --phase fine_tune --stage 5 --rows 1 --documents 0
  # other documents, from the validation split
  python tools/inspect_data.py configs/quickstart.toml --phase grammar --documents 20 --seed 7 --split validation
  # the loss weights of its tokens, if the phase reweights them
  python tools/inspect_data.py configs/quickstart.toml --phase vocabulary --weights
  # for scripts, texts in full
  python tools/inspect_data.py configs/quickstart.toml --phase grammar --json

A row shows where its documents begin and end, which tokens are not learnt, and the loss weights of
its tokens. Text and tokenizer are prepared first, as launch.py does it. The same seed shows the
same documents and rows.
"""
_SHOWN = 1_500  # characters of a document
_HEAVIEST = 6  # tokens shown at either end of a row's weights


def documents(corpus: Corpus, split: Split, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return random documents of a split."""
    names = sorted(corpus.ids(split))
    chosen = set(rng.sample(names, min(count, len(names))))
    return [record for record in corpus.read(split) if record["id"] in chosen] if chosen else []


def rows(data: Prepared, phase: Phase, stage: Stage, seed: int, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return random packed rows of a stage, decoded piece by piece."""
    source = loader.rows_of(data.shards[phase.name].train, stage, seed, phase.rows)
    weights = data.token_weights(phase)
    drawn = sorted(rng.sample(range(len(source)), min(count, len(source))))
    return [{"row": number, **_decoded(source[number], data, weights)} for number in drawn]


def _decoded(row: dict[str, np.ndarray], data: Prepared, weights: np.ndarray | None) -> dict[str, Any]:
    words = data.tokenizer
    pieces = []
    for segment in np.unique(row["segments"]):
        place = row["segments"] == segment
        ids = row["tokens"][place]
        pieces.append(
            {
                "kind": "text" if segment else "padding",
                "tokens": len(ids),
                "begins": bool(ids[0] == words.bos),
                "ends": bool(ids[-1] == words.eos),
                "not_learnt": int((row["weights"][place] == 0).sum()),
                "text": words.decode(ids.tolist()) if segment else "",
            }
        )
    return {"pieces": pieces, "weights": None if weights is None else _weighed(row, data, weights)}


def _weighed(row: dict[str, np.ndarray], data: Prepared, weights: np.ndarray) -> dict[str, Any]:
    """Return the mean weight of a row's targets, and the targets that weigh most and least."""
    spelt = data.tokenizer.pieces()
    targets = row["targets"][row["weights"] > 0]
    order = sorted(set(targets.tolist()), key=lambda token: (-weights[token], token))
    named = [(spelt[token] or f"token {token}", float(weights[token])) for token in order]
    return {
        "mean": float(weights[targets].mean()) if len(targets) else 0.0,
        "most": named[:_HEAVIEST],
        "least": named[-_HEAVIEST:],
    }


def numbers(config: Config, data: Prepared, phase: Phase) -> dict[str, Any]:
    """Return the sizes of a phase's text, and for each stage the share of positions that train
    nothing."""
    shard = data.shards[phase.name].train
    stages = plan.build(config).phase_stages(phase.name)
    return {
        "documents": shard.documents,
        "tokens": shard.token_count,
        "epochs": loader.epochs(shard, phase.tokens),
        "sources": data.shards[phase.name].source_tokens,
        "stages": [
            {"stage": stage.index + 1, "context": stage.context}
            | loader.waste(shard, stage, config.seed, phase.rows)._asdict()
            for stage in stages
        ],
    }


def _inspect(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.documents < 0 or options.rows < 0:
        raise InputError(f"--documents {options.documents}, --rows {options.rows}: both must be 0 or more")
    config = config_module.load(options.config, options.set)
    phase = cli.phase_of(config, options.phase)
    if options.weights:
        token_weights.reweighted(config, phase.name)
    data = ancestry.prepared(config, terminal.Tracker(interrupts, on_stderr=options.json))
    config, phase = data.config, cli.phase_of(data.config, options.phase)
    stages = plan.build(config).phase_stages(phase.name)
    if not 1 <= options.stage <= len(stages):
        raise InputError(f"--stage: phase {phase.name} has stages 1 to {len(stages)}, not {options.stage}")
    rng = random.Random(options.seed)
    facts = {
        "phase": phase.name,
        **numbers(config, data, phase),
        "shown": documents(data.corpora[phase.name], options.split, options.documents, rng),
        "rows": rows(data, phase, stages[options.stage - 1], config.seed, options.rows, rng),
        **({"token_weights": token_weights.weights_of(data, phase)} if options.weights else {}),
    }
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        _show(facts, options.stage)


def _show(facts: dict[str, Any], stage_number: int) -> None:
    terminal.say(
        f"\nphase {facts['phase']}: {facts['documents']:,} documents, {facts['tokens']:,} tokens to train on, "
        f"{facts['epochs']:.2f} epochs"
    )
    counts = [(name, f"{tokens:,}") for name, tokens in facts["sources"].items()]
    terminal.say(terminal.columns(("source", "tokens, validation included"), counts))
    shares = [
        (str(stage["stage"]), str(stage["context"]), f"{stage['padding']:.3%}", f"{stage['unlearnt']:.3%}")
        for stage in facts["stages"]
    ]
    terminal.say(terminal.columns(("stage", "context", "padding", "borders and questions"), shares))
    if "token_weights" in facts:
        token_weights.show(facts["phase"], facts["token_weights"], token_weights.TOP)
    for record in facts["shown"]:
        terminal.say(
            f"\n--- {record['source']}: {record['title']} ({len(record['text']):,} characters) {record['id'][:12]}"
        )
        if "prompt" in record:
            terminal.say(f"[question, not learnt] {_cut(record['prompt']).strip()}")
        terminal.say(_cut(record["text"]))
    for row in facts["rows"]:
        terminal.say(f"\n=== stage {stage_number}, row {row['row']}")
        for piece in row["pieces"]:
            terminal.say(_piece(piece))
        if row["weights"]:
            most, least = (
                ", ".join(f"{name} {weight:.2f}" for name, weight in row["weights"][end]) for end in ("most", "least")
            )
            terminal.say(f"    weights: mean {row['weights']['mean']:.3f}; most {most}; least {least}")


def _piece(piece: dict[str, Any]) -> str:
    if piece["kind"] == "padding":
        return f"    [padding: {piece['tokens']} tokens]"
    begin = "[BOS] " if piece["begins"] else "[... "
    end = " [EOS]" if piece["ends"] else " ...]"
    body = textwrap.fill(f"{begin}{piece['text']}{end}", 110, initial_indent="    ", subsequent_indent="    ")
    return f"  {piece['tokens']} tokens, {piece['not_learnt']} not learnt:\n{body}"


def _cut(text: str) -> str:
    more = f"\n    [{len(text) - _SHOWN:,} more characters]" if len(text) > _SHOWN else ""
    lines = text[:_SHOWN].split("\n")
    return "\n".join(textwrap.fill(line, 110, initial_indent="    ", subsequent_indent="    ") for line in lines) + more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", required=True, help="the phase to look at")
    parser.add_argument("--documents", type=int, default=3, metavar="N", help="random documents to show (default 3)")
    parser.add_argument("--split", choices=["train", "validation"], default="train", help="split of the documents")
    parser.add_argument("--rows", type=int, default=2, metavar="N", help="random packed rows to show (default 2)")
    parser.add_argument("--stage", type=int, default=1, metavar="N", help="stage of the rows, from 1 (default 1)")
    parser.add_argument("--weights", action="store_true", help="show the loss weights of the phase's tokens")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random choice (default 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, texts in full")
    return cli.run_tool("inspect_data.py", parser, arguments, _inspect, cli.PREPARED)


if __name__ == "__main__":
    sys.exit(main())
