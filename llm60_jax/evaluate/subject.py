"""The trained model that a measure is given."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llm60_jax.config import Config, Model
from llm60_jax.data.tokens.tokenizer import Tokenizer


class Subject(Protocol):
    """What a measure may use of a trained model. `checkpoint.Trained` implements it."""

    @property
    def folder(self) -> Path:
        """The checkpoint's folder."""

    @property
    def meta(self) -> dict[str, Any]:
        """The checkpoint's metadata."""

    @property
    def config(self) -> Config: ...

    @property
    def model(self) -> Model:
        """The architecture of its weights."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def score_rows(self) -> Callable[[Mapping[str, np.ndarray]], Any]:
        """Rows [B, T] -> cross-entropy of each target in nats, float32 [B, T]."""

    @property
    def plain_params(self) -> Any:
        """The parameters of a plain model, adapters merged."""
