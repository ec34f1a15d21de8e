"""A trained model as an evaluator needs it: the weights of a checkpoint, its configuration and its tokenizer."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llm60_jax import checkpoint, manifest, phase_groups, session, step
from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.tokenizer import Tokenizer
from llm60_jax.errors import DamageError
from llm60_jax.phase import Lora
from llm60_jax.workdir import TOKENIZER

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


def open_(path: Path) -> Trained:
    """Reads a checkpoint, every file of it verified.

    Args:
      path: a run directory, whose newest checkpoint is meant; or a checkpoint of one, of a phase or a step.

    Raises:
      InputError: neither is there.
      DamageError: a file, or the tokenizer, is not what was saved.
    """
    folder = checkpoint.find(path)
    manifest.verify(folder)
    meta = checkpoint.read_meta(folder)
    run = folder.absolute().parents[1]
    config = config_module.parse(meta["config"], f"{folder / checkpoint.META}")
    state = session.read_state(folder, meta, config, session.base_of(run, meta))
    tokenizer = Tokenizer.load(run / TOKENIZER)
    recorded = meta["digests"]["tokenizer"]
    if tokenizer.sha256 != recorded:
        told = f"its digest is {tokenizer.sha256[:16]}, and {folder} was trained with {recorded[:16]}"
        raise DamageError(f"{tokenizer.path}: {told}")
    lora = config.phase_named(meta["phase"]).lora if session.has_adapters(state) else None
    return Trained(folder, meta, config, state.params, lora, tokenizer)
