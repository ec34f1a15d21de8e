"""Shows the loss weights of a phase that reweights its tokens: which tokens count most, and which least."""

import argparse
import json
import sys
from typing import Any

import numpy as np

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import Track, silent
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import ancestry

EXAMPLES = """examples:
  python tools/token_weights.py configs/llm60.toml                       phase by phase, 25 tokens at either end
  python tools/token_weights.py configs/llm60.toml --phase vocabulary --top 100
  python tools/token_weights.py configs/quickstart.toml --set 'phase.vocabulary.reweight={rarity=0.3}'
  python tools/token_weights.py configs/llm60.toml --json                every token: piece, count, weight

Text and tokenizer are prepared if they are not yet, as launch.py would.
"""


def weights_of(config: Config, only: str | None, track: Track = silent) -> dict[str, list[dict[str, Any]]]:
    """For each phase that reweights, its tokens from the most weighted down: piece, count as a target, weight.

    Raises:
      InputError: no phase reweights, or the one named does not.
    """
    asked = config.phase if only is None else [cli.phase_of(config, only)]
    phases = [phase for phase in asked if phase.reweight is not None]
    if not phases:
        none = "no phase reweights" if only is None else f"phase {only} does not reweight"
        raise InputError(f"{none} its tokens; add for example --set 'phase.{asked[-1].name}.reweight={{}}'")
    prepared = ancestry.prepared(config, track)
    pieces = prepared.tokenizer.pieces()
    found = {}
    for phase in phases:
        weights, counts = prepared.token_weights(phase), prepared.target_counts(phase.name)
        assert weights is not None
        order = np.lexsort((-counts, -weights))
        found[phase.name] = [
            {"piece": pieces[i], "token": int(i), "count": int(counts[i]), "weight": float(weights[i])} for i in order
        ]
    return found


def _show(config: Config, options: argparse.Namespace) -> None:
    track = terminal.Tracker(Interrupts(), quiet=options.json)
    found = weights_of(config, options.phase, track)
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for phase, tokens in found.items():
        met = [token for token in tokens if token["count"]]
        total = sum(token["count"] for token in met)
        mean = sum(token["count"] * token["weight"] for token in met) / max(total, 1)
        terminal.say(f"phase {phase}: {len(met):,} tokens met {total:,} times, mean weight {mean:.6f}")
        for title, some in (("weighs most", met[: options.top]), ("weighs least", met[-options.top :][::-1])):
            lines = [(token["piece"], f"{token['count']:,}", f"{token['weight']:.3f}") for token in some]
            terminal.say(terminal.columns((title, "count", "weight"), lines) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument("--top", type=int, default=25, metavar="N", help="tokens shown at either end (default 25)")
    parser.add_argument("--json", action="store_true", help="print every token as one JSON object")
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error("--top must be 1 or more")
    return cli.guarded("token_weights.py", lambda: _show(config_module.load(options.config, options.set), options))


if __name__ == "__main__":
    sys.exit(main())
