"""Write a trained model as the files of other tools: Hugging Face, GGUF, ONNX, a PEFT adapter."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llm60_jax.errors import InputError
from llm60_jax.export import exporting
from llm60_jax.export.exporting import TARGETS, Exported
from llm60_jax.export.source import Options
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # a folder for transformers, mlx-lm and lm_eval
  python tools/export.py runs/quickstart --to huggingface --out exported/quickstart --licence cc-by-sa-4.0
  # the end of a phase, half the size, compared with transformers
  python tools/export.py runs/quickstart/phases/grammar --to huggingface --dtype bfloat16 --check --out exported/grammar
  # for llama.cpp and Ollama
  python tools/export.py runs/quickstart --to gguf --type q8_0 --name my-model --out exported/gguf
  # for onnxruntime, with a page that runs the model in a browser, without network
  npm install @huggingface/transformers@4.3
  python tools/export.py runs/mine --to onnx --with-page node_modules/@huggingface/transformers --out exported/page
  # the adapters of a LoRA phase, for PEFT
  python tools/export.py runs/lora/phases/fine_tune --to adapter --out exported/adapter

CHECKPOINT is a run directory (its newest checkpoint), the end of a phase, or a step:
runs/RUN/checkpoints/STEP. Run tools/check_privacy.py on it first: a model that was not judged does
not leave. The files are written aside, read back and compared before OUT exists. The model card,
README.md, says what the model was trained on and how to load it.
"""


def _export(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.to == "mlx":
        raise InputError("--to mlx: mlx-lm loads the folder of --to huggingface as it is")
    track = terminal.Tracker(interrupts, on_stderr=True)
    if options.with_page is not None and options.to != "onnx":
        raise InputError(f"--with-page does not belong to --to {options.to}; the page runs --to onnx")
    chosen = Options(_type(options), options.name, options.licence, options.with_page)
    exported = exporting.export(options.checkpoint, options.to, options.out, chosen, track)
    if options.json:
        print(json.dumps({**exported._asdict(), "folder": str(exported.folder), "to": options.to}))
    else:
        _tell(exported)


def _type(options: argparse.Namespace) -> str:
    """Return how numbers are stored. Raise InputError for an option of another format."""
    target = TARGETS[options.to]
    for name in ("dtype", "type"):
        value = getattr(options, name)
        if value is None:
            continue
        if target.option != f"--{name}":
            other = f"its option is {target.option}" if target.option else "it has one way to store numbers"
            raise InputError(f"--{name} does not belong to --to {options.to}; {other}")
        if value not in target.types:
            raise InputError(f"--{name}: {value!r} is none of {', '.join(target.types)}")
        return str(value)
    return target.types[0]


def _tell(exported: Exported) -> None:
    """Print what was written and compared, and what the user should know."""
    rows = [(name, f"{size / 1e6:,.2f} MB") for name, size in exported.files.items()]
    terminal.say(terminal.columns(("file", "size"), rows) + "\n")
    for line in exported.compared:
        terminal.say(line)
    for note in exported.notes:
        terminal.say(f"note: {note}")
    terminal.say(str(exported.folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--to", choices=[*TARGETS, "mlx"], required=True, help="the format; mlx is huggingface")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    parser.add_argument("--dtype", metavar="T", help="huggingface: float32 (default) or bfloat16")
    parser.add_argument("--type", metavar="T", help="gguf: f16 (default), q8_0, bf16 or f32")
    parser.add_argument("--licence", default="", metavar="ID", help="of the weights, such as apache-2.0")
    parser.add_argument("--name", default="", metavar="NAME", help="of the model (default: by its size)")
    parser.add_argument(
        "--with-page", type=Path, metavar="NPM", help="onnx: add a page that runs it in a browser; npm's folder of it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("export.py", parser, arguments, _export)


if __name__ == "__main__":
    sys.exit(main())
