"""Merges LoRA adapters into the weights they were trained on, and writes a plain model."""

import shutil
import sys
from pathlib import Path

from llm60_jax import checkpoint
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.record import store
from llm60_jax.record.workdir import TOKENIZER
from llm60_jax.training import phase_groups

EXAMPLES = """examples:
  python tools/merge_adapters.py runs/lora/adapters/fine_tune runs/merged
  python tools/merge_adapters.py runs/lora/checkpoints/2500 runs/halfway      adapters of a run under way
  python tools/merge_adapters.py my/adapters/fine_tune runs/merged --base moved/runs/llm60/phases/vocabulary

The model goes to OUT/phases/<phase>, with its tokenizer in OUT/tokenizer: a place that `start` of a configuration can
name. The base is found by the path that the adapters recorded, and must have the state that they were trained on.
"""


def merge(folder: Path, out: Path, base: Path | None) -> Path:
    """Writes the merged model and returns its checkpoint folder.

    Args:
      folder: a checkpoint with adapters: `adapters/<phase>` of a run, or a rolling one of a phase with adapters.
      out: a directory, not of a run; `phases/<phase>` in it must not exist.
      base: the checkpoint the adapters were trained on, where it is no longer at its recorded place.

    Raises:
      InputError: the checkpoint has no adapters, or the place is taken.
      DamageError: the adapters, their base or the tokenizer are not what was saved.
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
        raise InputError(f"{folder}: holds no adapters; phase {phase.name} of it is plain already")
    workdir = folder.absolute().parents[1]
    found = checkpoint.base_of(workdir, meta)
    if found is not None and base is not None:
        found = base, found[1]
    state = phase_groups.end(phase, checkpoint.read_state(folder, meta, config, found))
    tokenizer = workdir / TOKENIZER
    if not tokenizer.is_file():
        raise DamageError(f"{tokenizer}: the tokenizer of {folder} is missing; keep adapters in their run directory")
    target = out / "phases" / phase.name
    store.save(target, state, meta | {"closed": True, "permanent": True, "iterator": None})
    (out / TOKENIZER).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer, out / TOKENIZER)
    judged = workdir / "gates" / f"{phase.name}.json"
    if judged.is_file():  # of the end of the phase, it lets another run start from the merged model
        (out / "gates").mkdir(exist_ok=True)
        shutil.copyfile(judged, out / "gates" / judged.name)
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("adapters", type=Path, metavar="ADAPTERS", help="a checkpoint that holds adapters")
    parser.add_argument("out", type=Path, metavar="OUT", help="a directory for the merged model")
    parser.add_argument("--base", type=Path, metavar="CHECKPOINT", help="the base, if it was moved")
    options = parser.parse_args(arguments)
    return cli.guarded(
        "merge_adapters.py", lambda: terminal.say(str(merge(options.adapters, options.out, options.base)))
    )


if __name__ == "__main__":
    sys.exit(main())
