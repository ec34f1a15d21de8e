"""Show which tokens count most and least in the loss of a phase that reweights its tokens."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from llm60_jax import config as config_module
from llm60_jax.config import Config, Phase
from llm60_jax.data.prepare import Prepared
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  # phase by phase, 25 tokens at either end
  python tools/token_weights.py configs/llm60.toml
  # one phase, 100 tokens
  python tools/token_weights.py configs/llm60.toml --phase vocabulary --top 100
  # try other weights
  python tools/token_weights.py configs/quickstart.toml --set 'phase.vocabulary.reweight={rarity=0.3}'
  # every token: piece, count, weight
  python tools/token_weights.py configs/llm60.toml --json

`inspect_data.py --weights` shows the same for one phase. Text and tokenizer are prepared first, as
launch.py does it.
"""
TOP = 25  # tokens shown at either end


def reweighted(config: Config, only: str | None) -> list[Phase]:
    """Return the phases that reweight their tokens, or the named one.

    Raises:
      InputError: no phase reweights, or the named one does not.
    """
    asked = config.phase if only is None else [cli.phase_of(config, only)]
    phases = [phase for phase in asked if phase.reweight is not None]
    if not phases:
        subject = "no phase reweights" if only is None else f"phase {only} does not reweight"
        raise InputError(f"{subject} its tokens; add for example --set 'phase.{asked[-1].name}.reweight={{}}'")
    return phases


def weights_of(prepared: Prepared, phase: Phase) -> list[dict[str, Any]]:
    """Return the tokens of a phase from the heaviest down: piece, token, count as a target,
    weight."""
    pieces = prepared.tokenizer.pieces()
    weights, counts = prepared.token_weights(phase), prepared.target_counts(phase.name)
    assert weights is not None
    order = np.lexsort((-counts, -weights))
    return [{"piece": pieces[i], "token": int(i), "count": int(counts[i]), "weight": float(weights[i])} for i in order]


def show(phase: str, tokens: list[dict[str, Any]], top: int) -> None:
    """Print the heaviest and the lightest tokens that the phase's text has."""
    met = [token for token in tokens if token["count"]]
    total = sum(token["count"] for token in met)
    mean = sum(token["count"] * token["weight"] for token in met) / max(total, 1)
    terminal.say(f"phase {phase}: {len(met):,} tokens occur {total:,} times, mean weight {mean:.6f}")
    for title, ends in (("weighs most", met[:top]), ("weighs least", met[-top:][::-1])):
        lines = [(token["piece"], f"{token['count']:,}", f"{token['weight']:.3f}") for token in ends]
        terminal.say(terminal.columns((title, "count", "weight"), lines) + "\n")


def _token_weights(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.top < 1:
        raise InputError(f"--top: {options.top}, but it must be 1 or more")
    config = config_module.load(options.config, options.set)
    phases = reweighted(config, options.phase)
    prepared = ancestry.prepared(config, terminal.Tracker(interrupts, on_stderr=options.json))
    tables = {phase.name: weights_of(prepared, phase) for phase in phases}
    if options.json:
        print(json.dumps(tables, ensure_ascii=False))
        return
    for name, tokens in tables.items():
        show(name, tokens, options.top)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help=f"tokens at either end (default {TOP})")
    parser.add_argument("--json", action="store_true", help="print every token as one JSON object")
    return cli.run_tool("token_weights.py", parser, arguments, _token_weights, cli.PREPARED)


if __name__ == "__main__":
    sys.exit(main())
