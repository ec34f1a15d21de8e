"""Other runs that a run builds on: the checkpoint it starts from, and the baseline that enhancements need."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import config as config_module
from llm60_jax.config import RULE_5, RULE_6, Config
from llm60_jax.data.prepare import Prepared, prepare
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files, manifest
from llm60_jax.machine.progress import Track
from llm60_jax.record import store
from llm60_jax.record.workdir import TOKENIZER
from llm60_jax.run import gates


class Start(NamedTuple):
    """A verified checkpoint that a run begins from."""

    folder: Path
    meta: dict[str, Any]
    tokenizer: Path  # its run's own

    @property
    def data(self) -> tuple[Path, dict[str, Any]]:
        """Return its tokenizer and the text it was trained on, which preparing a run's data needs."""
        return self.tokenizer, self.meta["corpora"]


def start(config: Config) -> Start | None:
    """Return the checkpoint that `config.start` names, or None.

    Raises:
      InputError: there is no such phase checkpoint, or it has another architecture.
      DamageError: the checkpoint, its gate or its tokenizer has changed.
      GateError: its phase was never judged.
    """
    if config.start is None:
        return None
    folder = Path(config.start)
    if not manifest.exists(folder):
        raise InputError(
            f"start: {folder} is no checkpoint; train its run first, or name the end of a phase: runs/RUN/phases/PHASE"
        )
    manifest.verify(folder)
    meta = store.read_meta(folder)
    if not meta.get("closed"):
        raise InputError(f"start: {folder} is a checkpoint inside a phase; name the end of one, below phases/")
    ours = config_module.to_tree(config)["model"]
    trained = store.config_of(folder, meta)
    theirs = config_module.to_tree(trained)["model"]
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise InputError(
                f"model.{name}: {theirs.get(name)} in {folder}, {ours.get(name)} here; {RULE_5}. "
                "Copy the section [model] of the run that it comes from"
            )
    old_optimizer, new_optimizer = trained.optimizer.name, config.optimizer.name
    if old_optimizer != new_optimizer:
        raise InputError(
            f"optimizer.name: {old_optimizer} in {folder}, {new_optimizer} here; its state comes with the weights. "
            f"Set optimizer.name={old_optimizer} and rates for it, or train that run again"
        )
    run = folder.absolute().parents[1]
    gates.require(run, meta["phase"], meta["state_sha256"], None)
    if run.resolve() == Path(config.workdir).resolve():
        raise InputError(f"start: {folder} lies in the run directory itself; give the new run another: --workdir DIR")
    tokenizer = run / TOKENIZER
    if not tokenizer.is_file():
        raise DamageError(f"{tokenizer}: the tokenizer of {folder} is missing; restore the run directory")
    digest, recorded = files.sha256_of(tokenizer), meta["digests"]["tokenizer"]
    if digest != recorded:
        raise DamageError(f"{tokenizer}: its digest is {digest[:16]}, and {folder} was trained with {recorded[:16]}")
    return Start(folder, meta, tokenizer)


def prepared(
    config: Config, track: Track, check: Callable[[Mapping[str, str]], None] = lambda digests: None
) -> Prepared:
    """Prepare all data of a configuration (`prepare.prepare`), with the tokenizer of the checkpoint it starts from."""
    checkpoint = start(config)
    return prepare(config, track, check, checkpoint.data if checkpoint else None)


def check_baseline(config: Config) -> None:
    """Raise InputError unless `config.baseline`, if named, is a finished run of a plain model of the same size.

    This is golden rule 6.
    """
    if config.baseline is None:
        return
    folder = Path(config.baseline)
    where = f"baseline {folder}"
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
        plain = config_module.parse(stored, f"{folder / 'config.json'}")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{where}: no run directory with a config.json; '{RULE_6}' (playbook, rule 6)") from None
    used = [*plain.model.enhancements, *plain.phase[0].enhancements]
    if used:
        raise InputError(f"{where}: it uses {', '.join(used)} itself; name a run without enhancements")
    for name in ("layers", "dim", "heads", "hidden_dim"):
        theirs, ours = getattr(plain.model, name), getattr(config.model, name)
        if theirs != ours:
            raise InputError(f"{where}: model.{name} is {theirs} there and {ours} here; name a run of the same size")
    for phase in plain.phase:
        if not manifest.exists(folder / "phases" / phase.name):
            raise InputError(f"{where}: its phase {phase.name} is not closed; '{RULE_6}' (playbook, rule 6)")
