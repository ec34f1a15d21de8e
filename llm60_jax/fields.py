"""The kinds of field that a configuration has: strict frozen records and bounded numbers. No jax."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

record = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))

Positive = Annotated[int, Field(gt=0, le=10**15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Remat = Literal["full", "attention", "products", "none"]
Recompute = Literal["full", "attention", "products", "none", "auto"]  # as it is asked for; "auto" is measured
Dtype = Literal["bfloat16", "float32"]  # of the operands of matrix products in training
Piecewise = tuple[tuple[Fraction, Count], ...]  # (fraction of the phase's tokens, value from there on)


def require(condition: bool, message: str) -> None:
    """Raises ValueError, which validation turns into one line that names the field."""
    if not condition:
        raise ValueError(message)


def require_rising(field: str, pairs: Sequence[tuple[float, Any]]) -> None:
    """A piecewise setting begins at 0 and its fractions rise."""
    fractions = [fraction for fraction, _ in pairs]
    require(bool(pairs) and fractions[0] == 0, f"{field}: the first fraction must be 0")
    require(all(a < b for a, b in itertools.pairwise(fractions)), f"{field}: fractions must rise, got {fractions}")
