"""Write a trained model as the files of other tools: Hugging Face, GGUF, ONNX, a PEFT adapter."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax import generate
from llm60_jax.checkpoint import Trained
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import agreement, exporting, huggingface
from llm60_jax.export.exporting import TARGETS, Exported
from llm60_jax.export.source import Options, Source
from llm60_jax.generate import Choice, Request
from llm60_jax.machine import cli, shipped, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # a folder for transformers, mlx-lm and lm_eval
  python tools/export.py runs/quickstart --to huggingface --out exported/quickstart --licence cc-by-sa-4.0
  # the end of a phase, half the size, compared with transformers; it needs its own privacy check
  python tools/check_privacy.py runs/quickstart/phases/grammar
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
_TOLERANCE = 1e-4  # between two programs' float32, as a share of the largest logit, or of 1


def _export(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.with_page is not None and options.to != "onnx":
        raise InputError(f"--with-page does not belong to --to {options.to}; the page runs --to onnx")
    chosen = Options(_type(options), options.name, options.licence, options.with_page)
    check = [_transformers(options.to)] if options.check else []
    track = terminal.Tracker(interrupts, on_stderr=True)
    exported = exporting.export(options.checkpoint, options.to, options.out, chosen, track, check)
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


def _transformers(target: str) -> Callable[[Source, Path], list[str]]:
    """Return a check of a written folder by transformers.

    Raise InputError if the format is another one, or transformers is not installed.
    """
    if target != "huggingface":
        raise InputError(f"--check does not belong to --to {target}; transformers reads --to huggingface")
    try:
        import torch
        import transformers
    except ImportError as error:
        package = (error.name or "transformers").partition(".")[0]
        raise InputError(f"--check needs the package {package}: {shipped.extra('export-test')}") from None

    def check(source: Source, folder: Path) -> list[str]:
        transformers.utils.logging.disable_progress_bar()
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).float()
            words = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            with torch.inference_mode():
                logits = _compare_logits(source, folder, lambda ids_BT: model(torch.tensor(ids_BT)).logits.numpy())
                lines = [logits, _texts(source, model, words)]
        except (ValueError, OSError, ImportError) as error:
            reason = " ".join(str(error).replace(str(folder), "the folder").split())[:300]
            raise DamageError(
                f"--check: transformers {transformers.__version__} cannot use the files: {reason}; nothing is written. "
                "Leave out --check, or install another version"
            ) from error
        return [f"transformers {transformers.__version__}: {line}" for line in lines]

    return check


def _compare_logits(source: Source, folder: Path, theirs: Callable[[np.ndarray], np.ndarray]) -> str:
    """Compare the logits of a fixed text with ours, from the same file. Raise DamageError if they differ."""
    model = source.trained.model
    ids_BT = agreement.tokens(source.trained)
    params = huggingface.rebuilt(model, huggingface.read(folder / huggingface.NAME, source.type))
    own_BTV = agreement.logits(agreement.plain(model), params, ids_BT)
    their_BTV = theirs(ids_BT.astype(np.int64))
    difference = float(np.abs(own_BTV - their_BTV).max())
    share = float((own_BTV.argmax(-1) == their_BTV.argmax(-1)).mean())
    text = (
        f"logits of {ids_BT.size} tokens differ by at most {difference:.2g}, {share:.1%} have the same likeliest token"
    )
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(own_BTV).max())):
        raise DamageError(f"--check: {text}; nothing is written")
    return text


def _texts(source: Source, model: Any, words: Any) -> str:
    """Continue the run's prompts by the likeliest tokens, and say how many texts are the checkpoint's.

    Raise DamageError if a text of a float32 file differs, and not because two tokens are equally likely.
    """
    import transformers

    trained, texts = source.trained, []
    ours = _greedy(trained)
    for written in ours:
        prompt = words(written.prompt, return_tensors="pt")
        settings = transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=written.tokens,
            # What is not set here would come from the model's own generation_config.json.
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            repetition_penalty=1.0,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
        begin = prompt["input_ids"].shape[1]
        ids_BT = model.generate(**prompt, generation_config=settings)
        # An empty text, and one that begins with a newline, has no space in front.
        texts.append(words.decode(ids_BT[0], skip_special_tokens=True).removeprefix(" "))
        if source.type == "float32" and texts[-1] != written.text and not _is_tie(trained, ids_BT[0].tolist(), begin):
            raise DamageError(
                f"--check: transformers continues {written.prompt!r} as {texts[-1]!r}, but the checkpoint as "
                f"{written.text!r}; nothing is written"
            )
    equal = sum(text == written.text for text, written in zip(texts, ours, strict=True))
    return f"{equal} of {len(ours)} greedy texts are equal"


def _is_tie(trained: Trained, ids: list[int], begin: int) -> bool:
    """Whether the two likeliest logits are equal but for rounding where a program first wrote another token.

    If it wrote none, ours came by rounding, and any place may be the one.

    Args:
      ids: BOS, a prompt, and what the program wrote after it.
      begin: how many of them are BOS and the prompt.
    """
    ids_BT = np.array([ids], np.int32)
    logits_TV = agreement.logits(trained.model, trained.plain_params, ids_BT)[0, begin - 1 : -1]
    bound = _TOLERANCE * max(1.0, float(np.abs(logits_TV).max()))
    written_T = ids_BT[0, begin:]
    second_T, first_T = np.partition(logits_TV, -2, axis=-1)[:, -2:].T
    is_tied_T = first_T - second_T <= bound
    is_other_T = np.take_along_axis(logits_TV, written_T[:, None], 1)[:, 0] < first_T
    places = np.flatnonzero(is_other_T)
    return bool(is_tied_T[places[0]] if len(places) else is_tied_T.any())


def _greedy(trained: Trained) -> list[generate.WrittenText]:
    """Return the likeliest texts of the run's prompts, as far as they fit into the context."""
    config, tokenizer = trained.config, trained.tokenizer
    room = config.model.max_context - 1
    prompts = [prompt for prompt in config.sampling.prompts if len(tokenizer.encode(prompt)) < room // 2]
    requests = [Request(prompt, min(config.sampling.tokens, room // 2), 0) for prompt in prompts]
    choice = Choice(tokenizer.eos, temperature=0.0)
    return generate.write(trained.model, trained.plain_params, tokenizer, requests, choice).texts if requests else []


def _tell(exported: Exported) -> None:
    """Print what was written and compared, and what the user should know."""
    rows = [(name, f"{size:,}") for name, size in exported.files.items()]
    rows.append(("all", f"{sum(exported.files.values()):,}"))
    terminal.say(terminal.columns(("file", "bytes"), rows) + "\n")
    for line in exported.compared:
        terminal.say(line)
    for note in exported.notes:
        terminal.say(f"note: {note}")
    terminal.say(str(exported.folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--to", choices=[*TARGETS], required=True, help="the format; mlx-lm reads huggingface")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    parser.add_argument("--dtype", metavar="T", help="huggingface: float32 (default) or bfloat16")
    parser.add_argument("--type", metavar="T", help="gguf: f16 (default), q8_0, bf16 or f32")
    parser.add_argument("--licence", default="", metavar="ID", help="of the weights, such as apache-2.0")
    parser.add_argument("--name", default="", metavar="NAME", help="of the model (default: by its size)")
    parser.add_argument("--check", action="store_true", help="huggingface: compare logits and text with transformers")
    parser.add_argument(
        "--with-page", type=Path, metavar="NPM", help="onnx: add a page that runs it in a browser; npm's folder of it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("export.py", parser, arguments, _export)


if __name__ == "__main__":
    sys.exit(main())
