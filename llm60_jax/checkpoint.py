"""Trained models from checkpoints.

`load` returns a model to use, `open_` one to judge, `read_state` a state to train further.
record/store.py reads and writes the checkpoint files.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llm60_jax.config import Config, Lora, Model
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.errors import DamageError
from llm60_jax.kernels import library
from llm60_jax.machine import devices, files, manifest
from llm60_jax.model import groups
from llm60_jax.model.transformer import Transformer
from llm60_jax.record import checkpoints, store
from llm60_jax.record.workdir import TOKENIZER
from llm60_jax.training import phase_groups, step
from llm60_jax.training.step import TrainState

_MAX_TOKENIZER_BYTES = 2**27  # a hundred times the largest one here, of 65,536 pieces
_SCORE = jax.jit(step.eval_step, static_argnums=(0, 1))


class Trained(NamedTuple):
    """A trained model, as `open_` reads it."""

    folder: Path
    meta: dict[str, Any]
    config: Config
    model: Model  # of these weights: fewer blocks than `config.model` has, while a model grows
    params: Any
    lora: Lora | None  # settings of adapters that are not merged yet
    tokenizer: Tokenizer

    @property
    def score_rows(self) -> Callable[[Mapping[str, np.ndarray]], Any]:
        """Rows [B, T] -> cross-entropy of each target in nats, float32 [B, T].

        All products are in float32.
        """
        return functools.partial(_SCORE, self.model, self.lora, self.params)

    @property
    def plain_params(self) -> Any:
        """The parameters of a plain model: adapters merged, heads of deep supervision dropped."""
        return phase_groups.merged(self.params, self.lora)


def load(path: str | Path) -> tuple[Transformer, Tokenizer]:
    """Return a trained model and its tokenizer:

        model, tokenizer = checkpoint.load("runs/quickstart")

    The model is placed on the device that JAX uses here, and adapters are merged. `model(tokens,
    segments)` returns hidden states, `model.logits` turns them into logits of the next token. To
    generate text, pass the fields of `open_`'s result to `generate.write`.

    Arguments and errors are those of `open_`.
    """
    trained = open_(Path(path))
    return groups.merge(trained.model, trained.plain_params), trained.tokenizer


def open_(path: Path) -> Trained:
    """Read a checkpoint and verify every file.

    Args:
      path: a checkpoint of a phase or step, or a run directory for its newest checkpoint.

    Raises:
      InputError: there is no checkpoint at `path`.
      DamageError: a file, or the tokenizer, differs from what was saved.
    """
    folder = checkpoints.find(path)
    manifest.verify(folder)
    meta = store.read_meta(folder)
    run = folder.absolute().parents[1]
    config = store.config_of(folder, meta)
    tokenizer = _tokenizer(run / TOKENIZER, folder, meta)
    devices.settle("cpu" if config.device == "cpu" else "auto", Path(config.data_dir))
    library.settle("xla" if config.train.kernels == "xla" else "auto", config.model)
    state = jax.device_put(read_state(folder, meta, config, base_of(run, meta)))
    lora = config.phase_named(meta["phase"]).lora if has_adapters(state) else None
    return Trained(folder, meta, config, _model(folder, meta, config), state.params, lora, tokenizer)


def _model(folder: Path, meta: Mapping[str, Any], config: Config) -> Model:
    """Return the architecture of the weights of a checkpoint. One from before a model grew has fewer blocks."""
    stage: Mapping[str, Any] = next((row for row in meta["plan"] if meta["step"] <= row["stop_step"]), {})
    blocks = stage.get("blocks", config.model.layers)
    if blocks not in config.model.boundaries[1:]:
        raise DamageError(f"{folder}: its plan has {blocks!r} blocks, and no stack of the model ends there")
    return config.model.lowest(blocks)


def _tokenizer(path: Path, folder: Path, meta: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a checkpoint. Its digest is checked before it is opened."""
    recorded = meta["digests"].get("tokenizer", "no tokenizer")
    try:
        files.require_size(path, _MAX_TOKENIZER_BYTES)
        digest = files.sha256_of(path)
    except OSError as error:
        raise DamageError(f"{path}: the tokenizer of {folder} cannot be read: {error.strerror or error}") from None
    if digest != recorded:
        raise DamageError(f"{path}: its digest is {digest[:16]}, but {folder} was trained with {recorded[:16]}")
    return Tokenizer.load(path)


def has_adapters(state: TrainState) -> bool:
    """Return whether a state has adapters in training."""
    return any(name.startswith("lora_") for name in state.params)


def base_of(workdir: Path, meta: dict[str, Any]) -> tuple[Path, str] | None:
    """Return the checkpoint before the phase and its `state_sha256`, or None in a first phase."""
    if not meta["progress"].ancestors:
        return None
    name, recorded = list(meta["progress"].ancestors.items())[-1]
    return workdir / name, recorded


def read_state(folder: Path, meta: dict[str, Any], config: Config, base: tuple[Path, str] | None) -> TrainState:
    """Return the state of a verified checkpoint. A checkpoint of adapters only is joined with its
    base.

    Raises:
      DamageError: the arrays do not fit the configuration, or the base is not the recorded one.
    """
    phase = next((phase for phase in config.phase if phase.name == meta["phase"]), None)
    if meta["closed"] or phase is None or phase.lora is None:
        return store.read(folder, phase_groups.abstract(config, None if meta["closed"] else phase))[0]
    adapters, _ = store.read(folder, phase_groups.without_base(phase_groups.abstract(config, phase)))
    if base is None:
        raise DamageError(f"{folder}: holds adapters, but does not name the checkpoint that they belong to")
    verify_state(*base)
    return phase_groups.with_base(adapters, store.read(base[0], phase_groups.abstract(config, None))[0])


def verify_state(folder: Path, recorded: str) -> None:
    """Raise DamageError unless a checkpoint is complete and has the recorded state."""
    _, digest = store.identity(folder)
    if digest != recorded:
        raise DamageError(f"{folder}: its state is {digest[:16]}, but this run started from {recorded[:16]}")
