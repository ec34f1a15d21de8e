"""The settings of one phase: its text, its schedule, its noise, its loss and its way of fine-tuning. No jax.

A *piecewise* setting is a list of (fraction of the phase's tokens, value) pairs: `freeze = [[0.0, 0], [0.2, 20]]`
means 0 frozen blocks from the start and 20 from 20 % on. Defaults are neutral: what is not named costs nothing.
"""

import itertools
from typing import Annotated, Literal

from pydantic import Field

from llm60_jax.config.schema import (
    Fraction,
    Name,
    Piecewise,
    Positive,
    Remat,
    record,
    require,
    require_rising,
)
from llm60_jax.config.sources import Exclude, Source

Goal = Literal["grammar", "vocabulary", "fine_tune"]
Target = Literal["attention.qkv", "attention.out", "mlp.up", "mlp.down"]
Rate = Annotated[float, Field(ge=0, lt=1)]


@record
class Reweight:
    """Token-level loss weights (playbook, section 4.3): a token that occurs n times weighs n ** -rarity, punctuation
    and function words `common` times that; scaled to a mean of 1 over the phase's text, within `bounds`."""

    rarity: Annotated[float, Field(ge=0, le=1)] = 0.15
    common: Annotated[float, Field(gt=0, le=1)] = 0.7
    bounds: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=1, le=100)]] = (0.5, 2.0)


@record
class Lora:
    """Low-rank adapters (Hu et al. 2021): kernels of the live blocks become W + alpha / rank * A B, and only A and B
    train. At the end of the phase they are merged into plain weights."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 16.0
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = (
        "attention.qkv", "attention.out", "mlp.up", "mlp.down",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(len(set(self.targets)) == len(self.targets), f"targets: each one once, got {list(self.targets)}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


Slip = Literal[
    "invented_words", "doubled_words", "wrong_articles", "unclosed_quotes", "unfinished_sentences", "looped_words"
]  # fmt: skip
Richness = Literal["mtld", "hdd", "rare_types", "parse_rate"]


@record
class Gate:
    """What a phase must show before it closes (playbook, sections 1, 3.4, 4.4 and 5.5). Everything is measured and
    kept; what is named here is asked for. Bounds are those of 95 % intervals."""

    min_gain: Annotated[float, Field(ge=0)] = 0.02  # plateau: nats a token that 10 % more tokens would bring, at most
    extend_up_to: Annotated[float, Field(ge=1, le=10)] = 1.0  # times the phase's tokens, while it only lacks a plateau
    min_fall: float = 0.0  # nats a token by which the loss on the phase's own held-out text has fallen, at least
    grammar: dict[Name, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)  # share of pairs, at least
    rare_words: Annotated[float, Field(ge=0, le=1)] | None = None  # share of rare-word cloze, at least
    max_grammar_loss: Annotated[float, Field(ge=0)] = 0.05  # share of all minimal pairs, since the phase before
    max_forgetting: Annotated[float, Field(ge=0)] = 0.5  # nats a token on what earlier phases are validated with
    # Of texts the model writes: slips for 1,000 words beyond those of held-out text, and vocabulary as a share of it.
    at_most: dict[Slip, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    at_least: dict[Richness, Annotated[float, Field(ge=0, le=2)]] = Field(default_factory=dict)
    max_memorised: Annotated[float, Field(ge=0, le=1)] | None = None  # share of runs of six words, beyond held-out text


@record
class Phase:
    """One goal, one body of text, one learning-rate curve. Defaults follow the playbook, sections 6 to 8 and 11."""

    name: Name
    goal: Goal | None = None  # None: by place, the first phase grammar, the last of several fine_tune
    tokens: Positive
    context: Piecewise
    freeze: Piecewise
    learning_rate: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=0, le=1)]]  # peak, final
    sources: tuple[Source, ...]
    exclude: Exclude = Exclude()  # what is taken out of their text
    warmup: Annotated[float, Field(ge=0, le=0.5)] = 0.03  # share of the phase's tokens
    remat: tuple[tuple[Fraction, Remat], ...] = ()  # piecewise, at fractions of context and freeze; () is train.remat

    embedding: Literal["head_only", "frozen"] = "head_only"  # of the tied embedding while blocks are frozen
    freeze_when: Literal["schedule", "converged"] = "schedule"  # "converged" lets a freeze wait for its blocks
    settled_drift: Annotated[float, Field(ge=0, le=2)] = 0.02  # below it a stack has converged; see evaluate/drift.py
    freeze_delay: Fraction = 0.1  # the longest a freeze may wait, as a share of the phase's tokens

    mlp_dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    embedding_dropout: Rate = 0.0
    drop_path: Rate = 0.0  # share of sequences for which a live branch is left out (Huang et al. 2016)
    activation_noise: Rate = 0.0  # standard deviation, added to what a norm gives a live branch (RMS near 1)

    reweight: Reweight | None = None
    deep_supervision: Annotated[float, Field(ge=0, le=1)] = 0.0  # weight of the losses of heads below the top

    lora: Lora | None = None
    rows: Literal["stream", "fixed"] = "stream"  # "fixed": packed once, every epoch the same rows in another order
    prefix_cache: bool = False  # keep what the frozen blocks compute, instead of computing it in every epoch

    canaries: Annotated[int, Field(ge=0, le=200)] = 0  # made-up secrets added to its text (tools/check_privacy.py)

    gate: Gate = Gate()

    def __post_init__(self) -> None:
        require(bool(self.sources), "sources: at least one is needed, as a [[phase.sources]] table")
        shares = [source.dose.share for source in self.sources if source.dose.share is not None]
        enough = len(shares) < len(self.sources) or sum(shares) > 1 - 1e-9
        require(enough, f"sources: every one has a dose.share, and together they are {sum(shares):g}, less than 1")
        require_rising("context", self.context)
        require_rising("freeze", self.freeze)
        apart = all(b - a >= 1e-6 for a, b in itertools.pairwise(self.breakpoints))
        require(apart, f"context and freeze: two fractions differ by less than a millionth: {self.breakpoints}")
        depths = [depth for _, depth in self.freeze]
        require(depths == sorted(depths), f"freeze: depths must not fall inside a phase, got {depths}")
        require(all(length > 0 for _, length in self.context), "context: lengths must be above 0")
        peak, final = self.learning_rate
        require(final <= peak, f"learning_rate: the final rate {final} is above the peak {peak}")
        if self.remat:
            require_rising("remat", self.remat)
            strange = sorted({fraction for fraction, _ in self.remat} - set(self.breakpoints))
            require(not strange, f"remat: {strange} are no fractions of context or freeze: {self.breakpoints}")
        if self.freeze_when == "converged":
            self._check_delay()
        if self.rows == "fixed":
            one = len(self.context) == 1
            require(one, f"rows: 'fixed' needs one context for the whole phase, and context is {_show(self.context)}")
        if self.prefix_cache:
            self._check_prefix_cache()

    def _check_delay(self) -> None:
        """A freeze that waits as long as it may still comes before the next one and before the phase ends."""
        starts = [fraction for fraction, _ in self.freeze[1:]]
        for start, following in itertools.pairwise([*starts, 1.0]):
            require(
                start + self.freeze_delay < following,
                f"freeze_delay: a freeze at {start} that waits {self.freeze_delay} reaches what follows at {following}",
            )

    def _check_prefix_cache(self) -> None:
        """What frozen blocks compute for a row must stay the same for the whole phase, and be needed again."""
        frozen_all_along = len(self.freeze) == 1 and self.freeze[0][1] > 0
        require(frozen_all_along, f"prefix_cache: needs one frozen depth above 0, and freeze is {_show(self.freeze)}")
        require(self.rows == "fixed", "prefix_cache: needs rows = 'fixed'; rows packed anew in each epoch differ")
        still = self.embedding == "frozen" or self.lora is not None
        require(still, "prefix_cache: needs embedding = 'frozen'; an embedding that trains changes what blocks compute")

    @property
    def breakpoints(self) -> list[float]:
        """Fractions at which a stage begins: those of context and freeze together, rising from 0."""
        return sorted({fraction for fraction, _ in (*self.context, *self.freeze)})

    @property
    def adapted_from(self) -> int:
        """Depth from which on blocks get adapters: those frozen from the start would never train theirs."""
        return self.freeze[0][1] if self.lora is not None else 0

    @property
    def enhancements(self) -> list[str]:
        """The optional enhancements (playbook, section 16) that this phase switches on, by field."""
        return [name for name in ("deep_supervision", "drop_path", "activation_noise") if getattr(self, name)]


def _show(pairs: Piecewise) -> str:
    return str([list(pair) for pair in pairs])
