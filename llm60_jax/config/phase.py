"""The settings of one phase: text, schedule, noise, loss, adapters and gate. No jax.

A *piecewise* setting is a list of (fraction of the phase's tokens, value) pairs. For example,
`freeze = [[0.0, 0], [0.2, 20]]` means 0 frozen blocks from the start and 20 from 20 % on. Defaults
are neutral: a setting that is left out costs nothing.
"""

import itertools
from typing import Annotated, Literal

from pydantic import Field

from llm60_jax.config.schema import (
    Count,
    Fraction,
    Name,
    Piecewise,
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
    """Loss weights of tokens (playbook, section 4.3).

    A token that occurs n times weighs n ** -rarity; punctuation and function words weigh `common`
    times that. All weights are scaled to a mean of 1 over the phase's text and clipped to `bounds`.
    """

    rarity: Annotated[float, Field(ge=0, le=1)] = 0.15
    common: Annotated[float, Field(gt=0, le=1)] = 0.7
    bounds: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=1, le=100)]] = (0.5, 2.0)


@record
class Lora:
    """Low-rank adapters (Hu et al. 2021).

    A kernel W of a live block becomes W + alpha / rank * A B, and only A and B train. The end of
    the phase merges them into plain weights.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 16.0
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = (
        "attention.qkv", "attention.out", "mlp.up", "mlp.down",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(len(set(self.targets)) == len(self.targets), f"targets: name each once, got {list(self.targets)}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


Slip = Literal[
    "invented_words", "doubled_words", "wrong_articles", "unclosed_quotes", "unfinished_sentences", "looped_words"
]  # fmt: skip
Richness = Literal["mtld", "hdd", "rare_types", "parse_rate"]


@record
class Gate:
    """The evidence that a phase needs to close (playbook, sections 1, 3.4, 4.4 and 5.5).

    The run measures and records everything; the gate judges only what is named here. A measure
    passes if the bound of its 95 % interval does.
    """

    min_gain: Annotated[float, Field(ge=0)] = 0.02  # plateau: most nats per token that 10 % more tokens would gain
    extend_up_to: Annotated[float, Field(ge=1, le=10)] = (
        1.0  # multiple of the phase's tokens; only for want of a plateau
    )
    min_fall: float = 0.0  # nats per token; least fall of the loss on the phase's held-out text
    grammar: dict[Name, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)  # least share of pairs
    rare_words: Annotated[float, Field(ge=0, le=1)] | None = None  # least share of rare-word clozes
    max_grammar_loss: Annotated[float, Field(ge=0)] = 0.05  # share of all minimal pairs lost since the phase before
    max_forgetting: Annotated[float, Field(ge=0)] = 0.5  # nats per token on earlier phases' held-out text
    # In texts that the model writes: slips per 1,000 words beyond those of held-out text, and
    # vocabulary as a multiple of that of held-out text.
    at_most: dict[Slip, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    at_least: dict[Richness, Annotated[float, Field(ge=0, le=2)]] = Field(default_factory=dict)
    max_memorised: Annotated[float, Field(ge=0, le=1)] | None = None  # share of six-word runs, beyond held-out text


@record
class Phase:
    """One goal, one text, one learning-rate curve.

    Defaults follow the playbook, sections 6 to 8 and 11.
    """

    name: Name
    goal: Goal | None = None  # None: by place; the first is grammar, the last of several fine_tune
    tokens: Count = 0  # to train on, or give epochs
    epochs: Annotated[float, Field(gt=0, le=1000)] | None = None  # passes over the phase's text, instead of tokens
    context: Piecewise
    freeze: Piecewise
    grow: Piecewise = ()  # blocks that there are, in phase 1 of architecture = "growing"; (): all, always
    learning_rate: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=0, le=1)]]  # peak, final
    sources: tuple[Source, ...]
    exclude: Exclude = Exclude()  # rules for text to remove
    warmup: Annotated[float, Field(ge=0, le=0.5)] = 0.03  # share of the phase's tokens
    hold: Fraction = 0.0  # share of the phase's tokens at the peak rate, between warm-up and decay
    decay: Literal["cosine", "linear"] = "cosine"  # the way from the peak to the final rate
    remat: tuple[tuple[Fraction, Remat], ...] = ()  # at fractions of context, freeze or grow; (): train.remat

    embedding: Literal["head_only", "frozen"] = "head_only"  # while blocks are frozen
    freeze_when: Literal["schedule", "converged"] = "schedule"  # "converged": a freeze may wait for its blocks
    settled_drift: Annotated[float, Field(ge=0, le=2)] = 0.02  # a stack has converged below it; see evaluate/drift.py
    freeze_delay: Fraction = 0.1  # longest wait of a freeze, as a share of the phase's tokens

    mlp_dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    embedding_dropout: Rate = 0.0
    drop_path: Rate = 0.0  # share of sequences that skip a live branch (Huang et al. 2016)
    activation_noise: Rate = 0.0  # standard deviation, added to a live branch's normalized input (RMS near 1)

    reweight: Reweight | None = None
    deep_supervision: Annotated[float, Field(ge=0, le=1)] = 0.0  # weight of the losses of heads below the top

    lora: Lora | None = None
    rows: Literal["stream", "fixed"] = "stream"  # "fixed": packed once; each epoch reorders the rows
    prefix_cache: bool = False  # store the outputs of frozen blocks instead of recomputing them each epoch

    canaries: Annotated[int, Field(ge=0, le=200)] = 0  # invented secrets added to its text (tools/check_privacy.py)

    gate: Gate = Gate()

    def __post_init__(self) -> None:
        require(self.tokens > 0 or self.epochs is not None, "tokens: required, unless epochs is given")
        require(bool(self.sources), "sources: at least one is needed, as a [[phase.sources]] table")
        shares = [source.dose.share for source in self.sources if source.dose.share is not None]
        enough = len(shares) < len(self.sources) or sum(shares) > 1 - 1e-9
        require(enough, f"sources: every source has a dose.share, and their sum {sum(shares):g} is less than 1")
        require_rising("context", self.context)
        require_rising("freeze", self.freeze)
        fractions = self.breakpoints
        are_apart = all(b - a >= 1e-6 for a, b in itertools.pairwise(fractions))
        require(are_apart, f"context, freeze and grow: two fractions differ by less than a millionth: {fractions}")
        depths = [depth for _, depth in self.freeze]
        may_thaw = self.freeze_when == "schedule" and self.lora is None
        require(
            may_thaw or depths == sorted(depths),
            f"freeze: depths must not fall where freezes wait or adapters train, got {depths}",
        )
        if self.grow:
            self._check_growth()
        require(all(length > 0 for _, length in self.context), "context: lengths must be above 0")
        peak, final = self.learning_rate
        require(final <= peak, f"learning_rate: the final rate {final} is above the peak {peak}")
        require(
            final > 0 or self.gate.extend_up_to == 1,
            "learning_rate: an extended phase goes on at the final rate, which is 0; set gate.extend_up_to = 1",
        )
        together = self.warmup + self.hold
        require(together < 1, f"hold: warmup and hold are {together:g} of the phase and leave nothing for the decay")
        if self.remat:
            require_rising("remat", self.remat)
            others = sorted({fraction for fraction, _ in self.remat} - set(self.breakpoints))
            require(not others, f"remat: {others} are not fractions of context, freeze or grow: {self.breakpoints}")
        if self.freeze_when == "converged":
            self._check_delay()
        if self.rows == "fixed":
            constant = len(self.context) == 1
            require(constant, f"rows: 'fixed' needs one context for the whole phase; got {_show(self.context)}")
        if self.prefix_cache:
            self._check_prefix_cache()

    def _check_growth(self) -> None:
        """Raise ValueError unless blocks are added from stage to stage, and none freezes or is adapted meanwhile."""
        require_rising("grow", self.grow)
        sizes = [blocks for _, blocks in self.grow]
        require(len(sizes) > 1, f"grow: needs two sizes or more, as in [[0.0, 20], [0.5, 60]]; got {_show(self.grow)}")
        require(all(a < b for a, b in itertools.pairwise([0, *sizes])), f"grow: blocks are only added, got {sizes}")
        frozen = max(depth for _, depth in self.freeze)
        require(
            frozen == 0,
            f"grow: a phase that grows does not freeze; set freeze = [[0.0, 0]], it is {_show(self.freeze)}",
        )
        require(not self.deep_supervision, "grow: needs deep_supervision = 0, whose heads stand on blocks to come")

    def _check_delay(self) -> None:
        """Raise ValueError if a freeze could wait until the next freeze or the end of the phase."""
        starts = [fraction for fraction, _ in self.freeze[1:]]
        for start, following in itertools.pairwise([*starts, 1.0]):
            require(
                start + self.freeze_delay < following,
                f"freeze_delay: a freeze at {start} that waits {self.freeze_delay} reaches the next freeze or the end "
                f"of the phase at {following}; lower it",
            )

    def _check_prefix_cache(self) -> None:
        """Raise ValueError unless frozen blocks compute the same for a row in every epoch."""
        frozen_all_along = len(self.freeze) == 1 and self.freeze[0][1] > 0
        require(frozen_all_along, f"prefix_cache: needs one frozen depth above 0; freeze is {_show(self.freeze)}")
        require(self.rows == "fixed", "prefix_cache: needs rows = 'fixed'; rows that each epoch packs again differ")
        constant = self.embedding == "frozen" or self.lora is not None
        require(constant, "prefix_cache: needs embedding = 'frozen'; a training embedding changes the blocks' outputs")

    def times(self, factor: float) -> str:
        """Return the setting, for `--set`, that makes the phase `factor` times as long."""
        if self.epochs is not None:
            return f"phase.{self.name}.epochs={factor * self.epochs:g}"
        return f"phase.{self.name}.tokens={max(1, round(factor * self.tokens))}"

    @property
    def breakpoints(self) -> list[float]:
        """Return the fractions at which a stage begins: those of context, freeze and grow, from 0 up."""
        return sorted({fraction for fraction, _ in (*self.context, *self.freeze, *self.grow)})

    @property
    def adapted_from(self) -> int:
        """Return the depth above which blocks have adapters: blocks below are frozen throughout."""
        return self.freeze[0][1] if self.lora is not None else 0

    @property
    def enhancements(self) -> list[str]:
        """Return the fields of the enhancements that this phase uses (playbook, section 16; and growth)."""
        return [name for name in ("deep_supervision", "drop_path", "activation_noise", "grow") if getattr(self, name)]


def _show(pairs: Piecewise) -> str:
    return str([list(pair) for pair in pairs])
