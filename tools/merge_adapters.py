"""Merge LoRA adapters into the weights they were trained on, and save a plain model."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from llm60_jax import checkpoint
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import cli, environment, manifest, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import store
from llm60_jax.record.workdir import TOKENIZER
from llm60_jax.training import phase_groups

EXAMPLES = """examples:
  # the adapters of a finished phase
  python tools/merge_adapters.py runs/lora/adapters/fine_tune runs/merged
  # the adapters of a run under way
  python tools/merge_adapters.py runs/lora/checkpoints/2500 runs/halfway
  # a base that you moved
  python tools/merge_adapters.py my/adapters/fine_tune runs/merged --base moved/runs/llm60/phases/vocabulary

The model goes to OUT/phases/<phase>, its tokenizer to OUT/tokenizer. The field `start` of a
configuration can name that checkpoint. The adapters record the path of their base; its state must
be the one they were trained on.
"""


def merge(folder: Path, out: Path, base: Path | None) -> Path:
    """Save the merged model and return its checkpoint folder.

    Args:
      folder: a checkpoint with adapters: `adapters/<phase>` of a run, or a rolling one of a phase
        with adapters.
      out: a directory, not of a run; `phases/<phase>` in it must not exist.
      base: the checkpoint the adapters were trained on, if it is no longer at its recorded path.

    Raises:
      InputError: the checkpoint has no adapters, or the place is taken.
      DamageError: the adapters, their base or the tokenizer have changed since they were saved.
    """
    taken = next((name for name in ("config.json", "lock", "checkpoints") if (out / name).exists()), None)
    if taken:
        raise InputError(f"{out}: is a run directory, it holds {taken}; give the merged model a directory of its own")
    if not manifest.exists(folder):
        raise InputError(f"{folder}: no checkpoint; name one, for example runs/lora/adapters/fine_tune")
    manifest.verify(folder)
    meta = store.read_meta(folder)
    config = store.config_of(folder, meta)
    phase = config.phase_named(meta["phase"])
    if phase.lora is None or meta["closed"]:
        raise InputError(f"{folder}: holds no adapters; its phase {phase.name} is plain already")
    workdir = folder.absolute().parents[1]
    recorded = checkpoint.base_of(workdir, meta)
    if recorded is not None and base is not None:
        recorded = base, recorded[1]
    environment.settle(Path(config.data_dir))
    state = phase_groups.end(phase, checkpoint.read_state(folder, meta, config, recorded))
    tokenizer = workdir / TOKENIZER
    if not tokenizer.is_file():
        raise DamageError(f"{tokenizer}: the tokenizer of {folder} is missing; keep adapters in their run directory")
    target = out / "phases" / phase.name
    store.save(target, state, meta | {"closed": True, "permanent": True, "iterator": None})
    (out / TOKENIZER).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer, out / TOKENIZER)
    gate = workdir / "gates" / f"{phase.name}.json"
    if gate.is_file():  # the evidence that another run needs to start from the merged model
        (out / "gates").mkdir(exist_ok=True)
        shutil.copyfile(gate, out / "gates" / gate.name)
    return target


def _merge(options: argparse.Namespace, interrupts: Interrupts) -> None:
    terminal.say(str(merge(options.adapters, options.out, options.base)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("adapters", type=Path, metavar="ADAPTERS", help="a checkpoint that holds adapters")
    parser.add_argument("out", type=Path, metavar="OUT", help="a directory for the merged model")
    parser.add_argument("--base", type=Path, metavar="CHECKPOINT", help="the base, if you moved it")
    return cli.run_tool("merge_adapters.py", parser, arguments, _merge)


if __name__ == "__main__":
    sys.exit(main())
