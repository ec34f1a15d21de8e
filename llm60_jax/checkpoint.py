"""Trained models out of checkpoints: `load` for whoever uses one, `open_` for whoever judges one.

store.py reads and writes the checkpoints themselves.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llm60_jax.config import Config, Lora
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.errors import DamageError
from llm60_jax.machine import devices, files, manifest
from llm60_jax.model import groups
from llm60_jax.model.transformer import Transformer
from llm60_jax.record import checkpoints, store
from llm60_jax.record.workdir import TOKENIZER
from llm60_jax.training import phase_groups, step
from llm60_jax.training.step import TrainState

_TOKENIZER_BYTES = 2**27  # a vocabulary of 65,536 pieces, the largest there is here, has a hundredth of it
_SCORE = jax.jit(step.eval_step, static_argnums=(0, 1))


class Trained(NamedTuple):
    """Made by `open_`. `lora` are the adapters' settings where the checkpoint has some that are not merged yet."""

    folder: Path
    meta: dict[str, Any]
    config: Config
    params: Any
    lora: Lora | None
    tokenizer: Tokenizer

    @property
    def score_rows(self) -> Callable[[Mapping[str, np.ndarray]], Any]:
        """Rows [B, T] -> cross-entropy of each target in nats, float32 [B, T], all products in float32."""
        return functools.partial(_SCORE, self.config.model, self.lora, self.params)

    @property
    def plain_params(self) -> Any:
        """The parameters of a plain model: adapters merged, the heads of deep supervision left out."""
        return phase_groups.merged(self.params, self.lora)


def load(path: str | Path) -> tuple[Transformer, Tokenizer]:
    """A trained model, and the tokenizer that turns text into its tokens and back:

        model, tokenizer = checkpoint.load("runs/quickstart")

    On whatever device JAX runs on here, wherever it was trained. Adapters are merged. `model(tokens, segments)` gives
    hidden states and `model.logits` the scores of the next token; `generate.write` takes `Trained`, see `open_`.

    Args and errors: those of `open_`.
    """
    found = open_(Path(path))
    return groups.merge(found.config.model, found.plain_params), found.tokenizer


def open_(path: Path) -> Trained:
    """Reads a checkpoint, every file of it verified.

    Args:
      path: a run directory, whose newest checkpoint is meant; or a checkpoint of one, of a phase or a step.

    Raises:
      InputError: neither is there.
      DamageError: a file, or the tokenizer, is not what was saved.
    """
    folder = checkpoints.find(path)
    manifest.verify(folder)
    meta = store.read_meta(folder)
    run = folder.absolute().parents[1]
    config = store.config_of(folder, meta)
    tokenizer = _tokenizer(run / TOKENIZER, folder, meta)
    devices.settle("cpu" if config.device == "cpu" else "auto", Path(config.data_dir))
    state = jax.device_put(read_state(folder, meta, config, base_of(run, meta)))
    lora = config.phase_named(meta["phase"]).lora if has_adapters(state) else None
    return Trained(folder, meta, config, state.params, lora, tokenizer)


def _tokenizer(path: Path, folder: Path, meta: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a checkpoint was trained with; another one is not even opened."""
    recorded = meta["digests"].get("tokenizer", "no tokenizer")
    try:
        files.require_size(path, _TOKENIZER_BYTES)
        found = files.sha256_of(path)
    except OSError as error:
        raise DamageError(f"{path}: the tokenizer of {folder} cannot be read: {error.strerror or error}") from None
    if found != recorded:
        raise DamageError(f"{path}: its digest is {found[:16]}, and {folder} was trained with {recorded[:16]}")
    return Tokenizer.load(path)


def has_adapters(state: TrainState) -> bool:
    """Whether adapters train in this state."""
    return any(name.startswith("lora_") for name in state.params)


def base_of(workdir: Path, meta: dict[str, Any]) -> tuple[Path, str] | None:
    """The checkpoint that a checkpoint's phase began from, and its `state_sha256`; None for a run's first phase."""
    if not meta["progress"].ancestors:
        return None
    name, recorded = list(meta["progress"].ancestors.items())[-1]
    return workdir / name, recorded


def read_state(folder: Path, meta: dict[str, Any], config: Config, base: tuple[Path, str] | None) -> TrainState:
    """The state of a verified checkpoint of a run, joined with its base where it holds adapters only.

    Raises:
      DamageError: its arrays do not fit the configuration, or the base is not the one that it was saved with.
    """
    phase = next((phase for phase in config.phase if phase.name == meta["phase"]), None)
    if meta["closed"] or phase is None or phase.lora is None:
        return store.read(folder, phase_groups.abstract(config, None if meta["closed"] else phase))[0]
    adapters, _ = store.read(folder, phase_groups.without_base(phase_groups.abstract(config, phase)))
    if base is None:
        raise DamageError(f"{folder}: holds adapters, and names no checkpoint that they belong to")
    verify_state(*base)
    return phase_groups.with_base(adapters, store.read(base[0], phase_groups.abstract(config, None))[0])


def verify_state(folder: Path, recorded: str) -> None:
    """Raises DamageError unless a checkpoint is whole and its state the recorded one."""
    _, found = store.identity(folder)
    if found != recorded:
        raise DamageError(f"{folder}: its state is {found[:16]}, and this run went on from {recorded[:16]}")
