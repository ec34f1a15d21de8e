"""Writes text with a trained model, word by word as it comes."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from llm60_jax import generate
from llm60_jax.checkpoint import Trained, open_
from llm60_jax.config import Sampling
from llm60_jax.config.schema import to_tree, validate
from llm60_jax.errors import InputError
from llm60_jax.generate import Choice, Request
from llm60_jax.machine import cli
from llm60_jax.machine.terminal import printable

EXAMPLES = """examples:
  python tools/generate.py runs/quickstart --prompt "The history of"
  python tools/generate.py runs/quickstart/phases/grammar --prompt "It was" --seed 3 --tokens 200 --temperature 0.6
  python tools/generate.py runs/quickstart --prompt "The people" --count 4 --json
  python tools/generate.py runs/quickstart                        interactive: a prompt a line, an empty line ends it

CHECKPOINT is a run directory (its newest checkpoint), the end of a phase, or a step: runs/RUN/checkpoints/STEP. What is
not given is as in the run's own configuration, section [sampling]. The same seed gives the same text.
"""
_SETTINGS = {
    "temperature": (float, "0 takes the likeliest token"),
    "top_k": (int, "draw among so many likeliest tokens; 0 is all"),
    "top_p": (float, "draw among the likeliest that hold this share of the probability"),
    "repetition_penalty": (float, "1 is none; 1.2 makes tokens of the text so far less likely"),
}


def _do(options: argparse.Namespace) -> None:
    for name, least in (("tokens", 1), ("count", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and not least <= value < 2**31:
            raise InputError(f"--{name}: {value}, and it must be at least {least}")
    trained = open_(options.checkpoint)
    settings = _settings(trained, options)
    choice = Choice.of(settings, trained.tokenizer.eos)
    prompts = options.prompt
    if prompts is None and (options.json or not sys.stdin.isatty()):
        prompts = [line.rstrip("\n") for line in sys.stdin]
    tokens = options.tokens or trained.config.model.max_context
    if options.json:
        wanted = [
            Request(prompt, tokens, options.seed + number)
            for prompt in prompts or []
            for number in range(options.count)
        ]
        print(json.dumps(_written(trained, wanted, choice)))
    elif prompts is not None:
        for prompt in prompts:
            for number in range(options.count):
                _stream(trained, Request(prompt, tokens, options.seed + number), choice)
    else:
        _converse(trained, tokens, options.seed, choice)


def _settings(trained: Trained, options: argparse.Namespace) -> Sampling:
    """The run's own, with what the command line says otherwise."""
    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    tree: dict[str, Any] = {**to_tree(trained.config.sampling), **given}
    return validate(Sampling, tree, "command line")


def _written(trained: Trained, wanted: list[Request], choice: Choice) -> dict[str, Any]:
    found = generate.write(trained.config.model, trained.plain_params, trained.tokenizer, wanted, choice)
    texts = [{**text._asdict(), "seed": one.seed} for text, one in zip(found.texts, wanted, strict=True)]
    step = trained.meta["step"]
    return {
        "checkpoint": str(trained.folder),
        "step": step,
        "choice": choice._asdict(),
        "texts": texts,
        "tokens_per_second": found.tokens_per_second,
    }


def _stream(trained: Trained, request: Request, choice: Choice) -> None:
    start, text = time.monotonic(), ""
    for piece in generate.stream(trained.config.model, trained.plain_params, trained.tokenizer, request, choice):
        print(printable(piece), end="", flush=True)
        text += piece
    count = len(trained.tokenizer.encode(text))
    seconds = time.monotonic() - start
    print(flush=True)
    print(f"[{count} tokens in {seconds:.1f} s, compiling included]", file=sys.stderr, flush=True)


def _converse(trained: Trained, tokens: int, seed: int, choice: Choice) -> None:
    """A prompt a line, until an empty one."""
    print("A prompt, to be gone on from; an empty line ends it.", flush=True)
    while True:
        try:
            prompt = input("> ")
        except EOFError:
            return
        if not prompt.strip():
            return
        _stream(trained, Request(prompt, tokens, seed), choice)
        seed += 1


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--prompt", action="append", help="what the text begins with; may be repeated")
    parser.add_argument("--tokens", type=int, help="the most that are written; without, as many as the context has")
    parser.add_argument("--count", type=int, default=1, help="texts for each prompt, with one seed after the other")
    parser.add_argument("--seed", type=int, default=0)
    for name, (kind, told) in _SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=told)
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing before it is whole")
    options = parser.parse_args(arguments)
    return cli.guarded("generate.py", lambda: _do(options))


if __name__ == "__main__":
    sys.exit(main())
