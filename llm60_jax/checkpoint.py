"""Trained models out of checkpoints: `load` for whoever uses one, `open_` for whoever judges one.

store.py reads and writes the checkpoints themselves.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llm60_jax import devices, manifest, model, phase_groups, session, step, store
from llm60_jax.config import Config
from llm60_jax.data.tokenizer import Tokenizer
from llm60_jax.errors import DamageError
from llm60_jax.model import Transformer
from llm60_jax.phase import Lora
from llm60_jax.workdir import TOKENIZER

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
    return model.merge(found.config.model, found.plain_params), found.tokenizer


def open_(path: Path) -> Trained:
    """Reads a checkpoint, every file of it verified.

    Args:
      path: a run directory, whose newest checkpoint is meant; or a checkpoint of one, of a phase or a step.

    Raises:
      InputError: neither is there.
      DamageError: a file, or the tokenizer, is not what was saved.
    """
    folder = store.find(path)
    manifest.verify(folder)
    meta = store.read_meta(folder)
    run = folder.absolute().parents[1]
    config = store.config_of(folder, meta)
    tokenizer = _tokenizer(run / TOKENIZER, folder, meta)
    devices.settle("cpu" if config.device == "cpu" else "auto", Path(config.data_dir))
    state = jax.device_put(session.read_state(folder, meta, config, session.base_of(run, meta)))
    lora = config.phase_named(meta["phase"]).lora if session.has_adapters(state) else None
    return Trained(folder, meta, config, state.params, lora, tokenizer)


def _tokenizer(path: Path, folder: Path, meta: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a checkpoint was trained with; another one is not even opened."""
    recorded = meta["digests"].get("tokenizer", "no tokenizer")
    try:
        manifest.require_size(path, _TOKENIZER_BYTES)
        found = manifest.sha256_of(path)
    except OSError as error:
        raise DamageError(f"{path}: the tokenizer of {folder} cannot be read: {error.strerror or error}") from None
    if found != recorded:
        raise DamageError(f"{path}: its digest is {found[:16]}, and {folder} was trained with {recorded[:16]}")
    return Tokenizer.load(path)
