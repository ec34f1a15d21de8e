"""Write text with a trained model, and print each word as it comes."""

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import generate
from llm60_jax.checkpoint import Trained, open_
from llm60_jax.config import Sampling
from llm60_jax.config.schema import to_tree, validate
from llm60_jax.errors import InputError
from llm60_jax.generate import Choice, Request
from llm60_jax.machine import cli
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import printable

EXAMPLES = """examples:
  # continue a prompt
  python tools/generate.py runs/quickstart --prompt "The history of"
  # the model at the end of a phase, with other settings
  python tools/generate.py runs/quickstart/phases/grammar --prompt "It was" --seed 3 --tokens 200 --temperature 0.6
  # four texts, for scripts
  python tools/generate.py runs/quickstart --prompt "The people" --count 4 --json
  # interactive: one prompt a line, an empty line quits
  python tools/generate.py runs/quickstart

CHECKPOINT is a run directory (its newest checkpoint), the end of a phase, or a step:
runs/RUN/checkpoints/STEP. Settings default to the run's own, section [sampling]. The same seed
gives the same text.
"""
_SETTINGS = {
    "temperature": (float, "0 takes the likeliest token"),
    "top_k": (int, "draw from this number of likeliest tokens; 0 draws from all"),
    "top_p": (float, "draw from the likeliest tokens that hold this share of the probability"),
    "repetition_penalty": (float, "1 is none; 1.2 makes tokens of the text so far less likely"),
}


class _Writer(NamedTuple):
    """A model with its settings, ready to write."""

    trained: Trained
    choice: Choice
    interrupts: Interrupts

    def as_json(self, requests: list[Request]) -> dict[str, Any]:
        """Return all texts as one JSON object."""
        trained = self.trained
        written = generate.write(
            trained.model, trained.plain_params, trained.tokenizer, requests, self.choice, self.interrupts.check
        )
        pairs = zip(written.texts, requests, strict=True)
        return {
            "checkpoint": str(trained.folder),
            "step": trained.meta["step"],
            "choice": self.choice._asdict(),
            "texts": [{**text._asdict(), "seed": request.seed} for text, request in pairs],
            "tokens_per_second": written.tokens_per_second,
        }

    def stream(self, request: Request) -> None:
        """Print one text as it is written, and its speed on stderr."""
        trained, start, text = self.trained, time.monotonic(), ""
        model = trained.model, trained.plain_params, trained.tokenizer
        for piece in generate.stream(*model, request, self.choice):
            print(printable(piece), end="", flush=True)
            text += piece
            self.interrupts.check()
        count = len(trained.tokenizer.encode(text))
        seconds = time.monotonic() - start
        print(flush=True)
        print(f"[{count} tokens in {seconds:.1f} s, compiling included]", file=sys.stderr, flush=True)

    def converse(self, tokens: int, seed: int) -> None:
        """Continue one prompt a line, until an empty line."""
        print("Enter a prompt to continue it; an empty line quits.", flush=True)
        while True:
            try:
                with _ctrl_c_at_once():
                    prompt = input("> ")
            except EOFError:
                return
            if not prompt.strip():
                return
            self.stream(Request(prompt, tokens, seed))
            seed += 1


@contextlib.contextmanager
def _ctrl_c_at_once() -> Iterator[None]:
    """Let Ctrl-C end `input`, which never comes to a safe point while it waits."""
    descriptor = signal.set_wakeup_fd(-1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)


def _generate(options: argparse.Namespace, interrupts: Interrupts) -> None:
    for name, least in (("tokens", 1), ("count", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and not least <= value < 2**31:
            raise InputError(f"--{name}: {value}, but it must be {least} or more, and less than 2^31")
    trained = open_(options.checkpoint)
    choice = Choice.of(_settings(trained, options), trained.tokenizer.eos)
    writer = _Writer(trained, choice, interrupts)
    prompts = options.prompt
    if prompts is None and (options.json or not sys.stdin.isatty()):
        prompts = [line.rstrip("\n") for line in sys.stdin]
    tokens = options.tokens or trained.model.max_context
    requests = [
        Request(prompt, tokens, options.seed + number) for prompt in prompts or [] for number in range(options.count)
    ]
    if options.json:
        print(json.dumps(writer.as_json(requests)))
    elif prompts is None:
        writer.converse(tokens, options.seed)
    else:
        for request in requests:
            writer.stream(request)


def _settings(trained: Trained, options: argparse.Namespace) -> Sampling:
    """Return the run's sampling settings, overridden by the command line."""
    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    tree: dict[str, Any] = {**to_tree(trained.config.sampling), **given}
    return validate(Sampling, tree, "command line")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="how the text begins; may be repeated")
    parser.add_argument("--tokens", type=int, metavar="N", help="most tokens to write (default: a full context)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="texts for each prompt (default 1)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the first text, one more for each next (default 0)"
    )
    for name, (kind, meaning) in _SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=meaning)
    parser.add_argument("--json", action="store_true", help="print one JSON object, once all texts are written")
    return cli.run_tool("generate.py", parser, arguments, _generate)


if __name__ == "__main__":
    sys.exit(main())
