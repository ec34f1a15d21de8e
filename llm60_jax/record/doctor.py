"""Symptom -> measured evidence -> likely cause -> what to do (playbook, section 14, extended).

Every check looks at what a run has recorded and says nothing unless it is sure: a doctor that cries wolf is not asked
again. Section 14 is corrected in one place: overfitting does not come from too much dropout, which works against it,
but from reading too little text too often. Pure functions of a `History`.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from llm60_jax import plan
from llm60_jax.config import INIT_STD, Config, Phase
from llm60_jax.plan import flops
from llm60_jax.record.history import History

# Thresholds. docs/experiments.md has what healthy and faulty runs measure.
_HOT = 0.1  # a learning rate above this share of the initial weights; deep models learn nothing from 0.15 on
_RISE = 0.3  # nats by which a training loss has risen above its best
_MET = 10  # times that each token has been trained on, on average, before progress is expected
_NO_PROGRESS = 0.05  # nats below what the frequencies of tokens alone give
_ORDERED = 0.12  # bigrams.Order.gain of the words of a text
_FEW_WORDS = 0.8  # bigrams.Order.by_chance, beyond which nothing is told
_KEPT_ORDER = 0.5  # share of its text's order that a batch has at least
_DUPLICATES = 0.5  # share of the characters
_EPOCHS = 8  # passes through a phase's text
_GAP = 0.3  # nats by which the held-out loss is above that of training
_OVERFIT = 0.05  # nats by which the held-out loss has risen above its best
_ROOM = 64  # tokens of context, below which there is nothing to ramp
_WAIT = 0.25, 1.0  # share of the time, and seconds, that a stage waited for data
_COMPILE = 0.3, 60.0  # the same of a phase for compiling
_ASIDE = 0.35, 60.0  # the same of the run for evaluation, samples and saving
_WHOLE_WORDS = 0.30  # share of words that are one token
_UNUSED = 0.40  # share of pieces that a text never uses, where it has _PER_PIECE tokens for each
_PER_PIECE = 50
_DEAD = 0.01  # of the stream, that a block adds
_IDLE_DEPTH = 0.5, 0.02  # share of the blocks that the loss (nats) needs
_LOOPS = 100.0  # words in loops of 1,000, beyond those of a person
_REFUSED = 3  # steps that were not applied, before the learning rate is blamed


class Finding(NamedTuple):
    """What is wrong with a run. `symptom` names it, the same for the same trouble."""

    symptom: str
    phase: str
    evidence: str
    cause: str
    fix: str

    def explain(self) -> str:
        """For a person, in four lines."""
        return (
            f"{self.phase}: {self.symptom}\n  measured: {self.evidence}\n  likely cause: {self.cause}\n"
            f"  what to do: {self.fix}"
        )


class Share(NamedTuple):
    """Where the time of a phase went."""

    name: str
    seconds: float
    share: float


def examine(history: History) -> list[Finding]:
    """Everything that is wrong with a run as far as it went, phase by phase."""
    return [finding for phase in history.begun for check in _CHECKS for finding in check(history, phase)]


def seconds_of(history: History, phase: Phase) -> float:
    """Seconds that a phase took, as far as its stages have ended."""
    return sum(_seconds(history, phase).values())


def time_of(history: History, phase: Phase) -> list[Share]:
    """Where a phase's time went: training steps, of them recomputation (by the operations it adds), waiting for
    data, compiling, evaluation, samples, saving. Empty before the phase's first stage has ended."""
    seconds = _seconds(history, phase)
    total = seconds_of(history, phase)
    if not total:
        return []
    found = [Share(name, spent, spent / total) for name, spent in seconds.items()]
    again = _recomputed(history, phase) * seconds["steps"]
    return [found[0], Share("of them recomputation", again, again / total), *found[1:]]


# --- Checks ----------------------------------------------------------------------------------------------------------


def _refused_steps(history: History, phase: Phase) -> Iterator[Finding]:
    """Section 14: "NaNs: LR too high: lower LR, longer warmup"; or the batch itself is broken."""
    refused = [row["refused"] for row in history.of(phase, "refused")]
    broken = [row for row in refused if row["broken"]]
    if broken:
        names = sorted({name for row in broken for name in row["broken"]})
        files = ", ".join(f"bad_batches/{row['batch']}" for row in broken[:3])
        yield Finding(
            "NaN in a batch",
            phase.name,
            f"{len(broken)} steps were not applied because {', '.join(names)} of their batches are not finite: {files}",
            "broken data, not the learning rate: the numbers are wrong before the model sees them",
            f"look at one: numpy.load('{history.path}/bad_batches/{broken[0]['batch']}'); delete the prepared text "
            f"below {history.config.data_dir}/tokenized and run the same command, which makes it anew",
        )
    spikes = [row for row in refused if not row["broken"]]
    if len(spikes) >= _REFUSED or (spikes and history.of(phase, "rescue")):
        yield Finding(
            "spikes",
            phase.name,
            f"{len(spikes)} steps were not applied: their loss far above that of the steps before, or not finite",
            f"the learning rate is too high (peak {phase.learning_rate[0]:g}) or comes too fast",
            _anew(_rates(phase, 3), f"phase.{phase.name}.warmup={min(0.1, 2 * phase.warmup):g}"),
        )


def _not_in_effect(history: History, phase: Phase) -> Iterator[Finding]:
    """The proof at the beginning of a stage has failed (proof.py), and nothing came after it."""
    last = history.rows[-1]
    if last["phase"] == phase.name and "the plan is not in effect" in (told := last.get("stopped", "")):
        yield Finding(
            "not what was planned",
            phase.name,
            told.split(": the plan is not in effect: ")[-1],
            "the program, or what the loader gives to it, does not do what the configuration says",
            "an error of the program, not a setting: undo what was changed in llm60_jax/, run the tests, and report it",
        )


def _hot(history: History, phase: Phase) -> Iterator[Finding]:
    """The loss has risen, or does not fall, under a rate that is beyond all measure."""
    losses = _losses(history, phase)
    peak = phase.learning_rate[0]
    if len(losses) < 8:
        return
    smooth = [statistics.fmean(losses[max(0, i - 3) : i + 1]) for i in range(len(losses))]
    rise = smooth[-1] - min(smooth)
    stuck = None if any(_no_order(history, phase)) else _stuck(history, phase)
    hot = peak > _HOT * INIT_STD
    if (rise > _RISE and not _changes_text(history, phase)) or (hot and stuck is not None):
        evidence = f"training loss {smooth[-1]:.2f}, at its best {min(smooth):.2f}"
        if stuck is not None:
            evidence += f"; held-out loss {stuck[0]:.2f}, and token frequencies alone give {stuck[1]:.2f}"
        yield Finding(
            "diverges",
            phase.name,
            f"{evidence}; a step moves weights by up to {peak:g}, where they began with a spread of {INIT_STD:g}",
            "the learning rate is too high",
            _anew(_rates(phase, peak / 1e-3 if hot else 3), f"phase.{phase.name}.warmup={max(0.05, phase.warmup):g}"),
        )


def _no_order(history: History, phase: Phase) -> Iterator[Finding]:
    """Tokens in no order teach frequencies only: in the text, or in what the loader makes of it."""
    words, text = (_order(_data(history, phase).get(name)) for name in ("word_order", "order"))
    batches = [_order(row["stage_end"].get("order")) for row in history.of(phase, "stage_end")]
    known = [found for found in batches if found is not None]
    if words is not None and words < _ORDERED:
        yield Finding(
            "word salad",
            phase.name,
            f"neighbouring words repeat {words:.0%} more often than if they were shuffled; prose has 15 % to 35 %"
            f"{_stuck_too(history, phase)}",
            "the phase's text has no word order: lists, tables, or words that were shuffled",
            f"look at it: python tools/inspect_data.py; replace phase.{phase.name}.sources by clean prose and begin "
            "phase 1 again in a new --workdir",
        )
    elif text is not None and known and min(known) < _KEPT_ORDER * text:
        yield Finding(
            "shuffled tokens",
            phase.name,
            f"neighbouring tokens of the batches repeat {min(known):.0%} more often than shuffled ones, those of the "
            f"text {text:.0%}{_stuck_too(history, phase)}",
            "what the loader gives to the model is not the text: rows are cut or shuffled between data and step",
            "an error in the input pipeline (llm60_jax/data/packing.py, loader.py), not a setting: run the tests "
            "tests/test_data_packing.py and tests/test_data_loader.py, and report it",
        )


def _no_progress(history: History, phase: Phase) -> Iterator[Finding]:
    """The held-out loss is that of a model that knows token frequencies only, and nothing else explains it."""
    stuck = _stuck(history, phase)
    if stuck is None or any(any(check(history, phase)) for check in (_hot, _no_order, _frozen_from_start)):
        return
    held = phase.embedding == "frozen" and max(depth for _, depth in phase.freeze) > 0
    if held:
        cause = "the embedding is held still with the blocks below it, before it has learnt anything"
        fix = _anew(f"phase.{phase.name}.embedding=head_only")
    else:
        cause = (
            f"the learning rate does not fit this model (peak {phase.learning_rate[0]:g}): the deeper, the lower; or "
            "the phase is too short"
        )
        fix = f"{_anew(_rates(phase, 3))}, or with three times the rate; or more tokens: --set "
        fix += f"phase.{phase.name}.tokens={2 * phase.tokens}"
    yield Finding(
        "no progress",
        phase.name,
        f"held-out loss {stuck[0]:.2f} after {_done(history, phase):.0%} of the phase; frequencies give {stuck[1]:.2f}",
        cause,
        fix,
    )


def _duplicated(history: History, phase: Phase) -> Iterator[Finding]:
    """Most of the text was there twice; what is left of it is read again and again."""
    data = _data(history, phase)
    share = data.get("duplicate_share", 0.0)
    if share > _DUPLICATES:
        yield Finding(
            "duplicated text",
            phase.name,
            f"{share:.0%} of the text was dropped because it had been read before; {data['tokens']:,} tokens left are "
            f"read {data['epochs']:.1f} times",
            "the same documents lie in the sources several times",
            f"remove the copies, and add other text to phase.{phase.name}.sources, or lower its tokens to "
            f"{4 * data['tokens']:,}: python tools/inspect_data.py shows which documents they are",
        )


def _overfitting(history: History, phase: Phase) -> Iterator[Finding]:
    """Section 14 blames dropout; that is the wrong way round."""
    scores = [row["validation_loss"] for row in history.of(phase, "validation_loss")]
    losses, data = _losses(history, phase), _data(history, phase)
    if len(scores) < 3 or len(losses) < 8 or not data:
        return
    trained = statistics.fmean(losses[-max(4, len(losses) // 10) :])
    gap, rise, epochs = scores[-1] - trained, scores[-1] - min(scores), data["epochs"]
    if (rise > _OVERFIT and gap > _GAP) or (gap > _GAP and epochs > _EPOCHS):
        most = 4 * data["tokens"]
        yield Finding(
            "overfitting",
            phase.name,
            f"held-out loss {scores[-1]:.2f}, {rise:.2f} above its best and {gap:.2f} above that of training; the "
            f"phase reads its text {epochs:.1f} times",
            "too little text read too often. It is not too much dropout, as section 14 has it: that works against it",
            f"{_anew(f'phase.{phase.name}.tokens={min(most, phase.tokens // 2)}')}, or add text to its sources"
            + ("" if phase.mlp_dropout >= 0.1 else f"; --set phase.{phase.name}.mlp_dropout=0.1 helps a little"),
        )


def _forgetting(history: History, phase: Phase) -> Iterator[Finding]:
    """What earlier phases taught is lost beyond what the gate allows."""
    found = history.of(phase, "earlier_phases")
    if len(found) < 2:
        return
    for name, last in found[-1]["earlier_phases"].items():
        first = found[0]["earlier_phases"].get(name)
        rise = last["validation_loss"] - first["validation_loss"] if first else 0.0
        if rise > phase.gate.max_forgetting:
            yield Finding(
                "forgetting",
                phase.name,
                f"the held-out loss of {name} rose by {rise:.2f} nats; {phase.gate.max_forgetting:g} is allowed",
                f"phase {phase.name} is too long or its learning rate (peak {phase.learning_rate[0]:g}) too high",
                f"{_anew(_rates(phase, 3))}, or fewer tokens: --set phase.{phase.name}.tokens={phase.tokens // 2}",
            )


def _grammar(history: History, phase: Phase) -> Iterator[Finding]:
    """Section 14: "Poor grammar: bad phase-1 data: restart phase 1"."""
    failed = [
        check
        for check in history.gates.get(phase.name, {}).get("checks", [])
        if check["name"].startswith("grammar: ") and not check["passed"]
    ]
    if not failed:
        return
    told = ", ".join(
        f"{check['name'].removeprefix('grammar: ')} {_share(check['found'])} ({check['asked']})" for check in failed[:4]
    )
    rows, seen = history.of(phase, "minimal_pairs"), _data(history, phase)
    curve = f"; minimal pairs {rows[0]['minimal_pairs']:.0%} -> {rows[-1]['minimal_pairs']:.0%}" if rows else ""
    cause = "too little or unclean text in phase 1: fine-tuning never fixes broken grammar"
    if seen:
        cause += f" ({seen['tokens']:,} tokens of text, read {seen['epochs']:.1f} times)"
    yield Finding(
        "poor grammar",
        phase.name,
        f"{len(failed)} phenomena below what the gate asks for: {told}{curve}",
        cause,
        "look at the text (python tools/inspect_data.py), clean it or add to it, and begin phase 1 again in a new "
        f"--workdir; where its loss still falls, with more tokens: --set phase.{phase.name}.tokens={2 * phase.tokens}",
    )


def _repetition(history: History, phase: Phase) -> Iterator[Finding]:
    """Texts of the model that go round in loops."""
    evidence = history.gates.get(phase.name, {}).get("evidence", {})
    own, human = (evidence.get(who, {}).get("looped_words") for who in ("generated", "human"))
    if own is None or human is None or own - human <= _LOOPS:
        return
    yield Finding(
        "repetition",
        phase.name,
        f"{own:.0f} of 1,000 words the model writes stand in loops, {human:.0f} of a person's",
        "too little training for its sampling, or text that repeats itself",
        f"sample otherwise: --set sampling.repetition_penalty=1.2 --set sampling.top_p=0.95; and train longer, or add "
        f"text to phase.{phase.name}.sources",
    )


def _frozen_from_start(history: History, phase: Phase) -> Iterator[Finding]:
    """Blocks that were never trained compute noise."""
    depth = phase.freeze[0][1]
    if not depth or phase != history.config.phase[0] or history.config.start is not None:
        return
    rows = [row for row in history.of(phase, "frozen") if row["frozen"]]
    yield Finding(
        "untrained blocks",
        phase.name,
        f"blocks 1 to {depth} of {history.config.model.layers} are frozen from step 0 on, in all {len(rows)} logged "
        "steps, and nothing has trained them before",
        "freezing is for blocks that have converged (playbook, section 7)",
        _anew(_freezing(history.config, phase)),
    )


def _never_ramped(history: History, phase: Phase) -> Iterator[Finding]:
    """One context from beginning to end, where the playbook ramps it."""
    model, contexts = history.config.model, [context for _, context in phase.context]
    if len(contexts) > 1 or history.config.goal(phase) == "fine_tune" or model.max_context < _ROOM:
        return
    short = contexts[0] < model.max_context
    rate = [row["stage_end"]["tokens_per_second"] for row in history.of(phase, "stage_end")]
    speed = f", at {rate[0]:,.0f} tokens/s" if rate else ""
    half, full = model.max_context // 2, model.max_context
    yield Finding(
        "context never ramped",
        phase.name,
        f"context {contexts[0]} from the first token to the last{speed}; the model has room for {full}",
        "nothing longer than that was ever seen"
        if short
        else "the short contexts of the ramp, which are faster, are missing",
        _anew(f"'phase.{phase.name}.context=[[0.0,{full // 4}],[0.3,{half}],[0.7,{full}]]'")
        + " (playbook, section 6), with train.micro_batch for each",
    )


def _slow(history: History, phase: Phase) -> Iterator[Finding]:
    """Time that is not training: waiting for data, and for the compiler."""
    for row in history.of(phase, "stage_end"):
        spent = row["stage_end"].get("seconds", {})
        share = spent.get("data", 0.0) / max(sum(spent.values()), 1e-9)
        if share > _WAIT[0] and spent["data"] > _WAIT[1]:
            yield Finding(
                "starved for data",
                phase.name,
                f"stage {row['stage'] + 1} waited {spent['data']:.1f} s for batches, {share:.0%} of its time",
                "the loader is slower than the step: a slow disk, or a machine that does other work",
                f"move {history.config.data_dir} to a local disk (data_dir), close what else runs; python "
                "tools/bench_data.py measures the loader alone",
            )
            break
    seconds = _seconds(history, phase)
    total = max(sum(seconds.values()), 1e-9)
    if seconds["compiling"] > max(_COMPILE[1], _COMPILE[0] * total):
        yield Finding(
            "compiles too long",
            phase.name,
            f"{seconds['compiling']:.0f} s of {total:.0f} s were spent waiting for the compiler",
            "the phase is too short for its stages, or the compilation cache is not kept",
            f"keep {history.config.data_dir}/compiled between runs; or fewer entries in context and freeze",
        )


def _aside(history: History, phase: Phase) -> Iterator[Finding]:
    """A run that measures and saves more than it trains; judged as a whole, because short phases have their marks."""
    if phase != list(history.begun)[-1]:
        return
    spent: dict[str, float] = {}
    for one in history.begun:
        for name, seconds in _seconds(history, one).items():
            spent[name] = spent.get(name, 0.0) + seconds
    total = sum(spent.values())
    aside = sum(spent[name] for name in ("evaluation", "samples", "saving"))
    if aside <= max(_ASIDE[1], _ASIDE[0] * total):
        return
    most = max(("evaluation", "samples", "saving"), key=lambda name: spent[name])
    field = {"evaluation": "evaluate_every", "samples": "save_every", "saving": "save_every"}[most]
    now = getattr(history.config.train, field)
    yield Finding(
        "trains too little of its time",
        phase.name,
        f"{aside:.0f} s of {total:.0f} s went into evaluation, samples and saving, most into {most}",
        f"train.{field} = {now} steps is too often for steps so short",
        f"run the same command with --set train.{field}={4 * now}, which may change inside a run",
    )


def _never_frozen(history: History, phase: Phase) -> Iterator[Finding]:
    """Section 14: "Slow training: no freezing: freeze early layers"."""
    config = history.config
    if max(depth for _, depth in phase.freeze) or config.goal(phase) == "fine_tune" or len(config.model.stacks) < 2:
        return
    keys = [plan.key(config, stage) for stage in history.stages(phase)]
    if not keys:
        return
    third, two_thirds = _thirds(config)
    now = statistics.fmean(flops.step_flops(config.model, key) / key.tokens for key in keys)
    then = statistics.fmean(
        sum(
            share * flops.step_flops(config.model, key._replace(frozen_blocks=depth)) / key.tokens
            for share, depth in ((0.2, 0), (0.3, third), (0.5, two_thirds))
        )
        for key in keys
    )
    yield Finding(
        "slow: nothing freezes",
        phase.name,
        f"no block ever freezes; freezing as the playbook does would save {1 - then / now:.0%} of the operations",
        "no freezing (playbook, section 7). It costs loss; docs/experiments.md has how much",
        _anew(_freezing(config, phase)),
    )


def _idle_depth(history: History, phase: Phase) -> Iterator[Finding]:
    """Blocks that add nothing, and depth that the loss does not need."""
    found = history.of(phase, "depth")
    if not found:
        return
    depth, layers = found[-1]["depth"], history.config.model.layers
    dead = [number + 1 for number, share in enumerate(depth["contributions"]) if share < _DEAD]
    losses = depth["losses"]
    needed = next(number for number, loss in enumerate(losses) if loss <= losses[-1] + _IDLE_DEPTH[1])
    fix = (
        "a shallower model learns as much in less time: lower model.layers in a new run; or a higher learning rate: "
        f"--set {_rates(phase, 1 / 2)}"
    )
    if 4 * len(dead) >= layers:
        yield Finding(
            "dead blocks",
            phase.name,
            f"{len(dead)} of {layers} blocks add less than {_DEAD:.0%} to the residual stream: {_ranges(dead)}",
            "they were not trained, or the learning rate is too low for so deep a model",
            fix,
        )
    elif needed < _IDLE_DEPTH[0] * layers and _stuck(history, phase) is None:
        yield Finding(
            "useless depth",
            phase.name,
            f"the loss after block {needed} of {layers} is {losses[needed]:.2f}, after the last {losses[-1]:.2f}",
            "the text, or the training so far, needs no more depth",
            fix,
        )


def _tokenizer(history: History, phase: Phase) -> Iterator[Finding]:
    """A vocabulary that was not made for this text."""
    data = _data(history, phase)
    if not data or data["whole_word_share"] >= _WHOLE_WORDS:
        return
    rich = data["tokens"] >= _PER_PIECE * history.config.model.vocab_size
    if rich and data["unused_share"] > _UNUSED:
        yield Finding(
            "foreign tokenizer",
            phase.name,
            f"{data['whole_word_share']:.0%} of words are one token, {data['bytes_per_token']:.2f} bytes a token, and "
            f"{data['unused_share']:.0%} of the vocabulary never occurs",
            "the tokenizer was learnt from other text: another language, or code",
            "learn it from this text: tokenizer.phases names phases whose text is that of the training; begin in a new "
            "--workdir. python tools/inspect_data.py shows the fit",
        )


_CHECKS: Sequence[Callable[[History, Phase], Iterator[Finding]]] = (
    _refused_steps,
    _not_in_effect,
    _hot,
    _no_order,
    _no_progress,
    _duplicated,
    _tokenizer,
    _frozen_from_start,
    _never_ramped,
    _never_frozen,
    _slow,
    _aside,
    _idle_depth,
    _overfitting,
    _forgetting,
    _grammar,
    _repetition,
)


# --- What the checks look at -----------------------------------------------------------------------------------------


def _data(history: History, phase: Phase) -> dict[str, Any]:
    """What the run recorded of the phase's text; empty for a run of an earlier version."""
    found = history.of(phase, "data")
    return found[-1]["data"] if found else {}


def _order(found: dict[str, Any] | None) -> float | None:
    """The gain of an order; None where so few words are used that all pairs repeat anyway."""
    return None if found is None or found["by_chance"] > _FEW_WORDS else float(found["gain"])


def _losses(history: History, phase: Phase) -> list[float]:
    return [row["loss"] for row in history.of(phase, "loss") if row["loss"] is not None and math.isfinite(row["loss"])]


def _changes_text(history: History, phase: Phase) -> bool:
    """Whether the training loss may rise because the context does, and no step was refused."""
    return len({row["context"] for row in history.of(phase, "context")}) > 1 and not history.of(phase, "refused")


def _done(history: History, phase: Phase) -> float:
    rows = history.of(phase, "tokens")
    return (rows[-1]["tokens"] - rows[0]["tokens"]) / phase.tokens if rows else 0.0


def _stuck(history: History, phase: Phase) -> tuple[float, float] | None:
    """The held-out loss and that of token frequencies, where a first phase that is a quarter through does not get
    below it."""
    entropy = _data(history, phase).get("unigram_entropy")
    scores = history.of(phase, "validation_loss")
    first = phase == history.config.phase[0] and history.config.start is None
    if not first or entropy is None or not scores or _done(history, phase) < 0.25:
        return None
    if _done(history, phase) * phase.tokens < _MET * history.config.model.vocab_size:
        return None
    loss = scores[-1]["validation_loss"]
    return (loss, entropy) if loss > entropy - _NO_PROGRESS else None


def _stuck_too(history: History, phase: Phase) -> str:
    stuck = _stuck(history, phase)
    return f"; held-out loss {stuck[0]:.2f}, token frequencies alone give {stuck[1]:.2f}" if stuck else ""


def _seconds(history: History, phase: Phase) -> dict[str, float]:
    """Seconds of a phase by what they went into."""
    names = {"steps": "steps", "data": "waiting for data", "compile": "compiling"}
    found = dict.fromkeys([*names.values(), "evaluation", "samples", "saving"], 0.0)
    rows = [row["stage_end"] for row in history.of(phase, "stage_end")]
    rows += [row["phase_end"] for row in history.of(phase, "phase_end")]
    for row in rows:
        for name, spent in row.get("seconds", {}).items():
            name = names.get(name, name)
            found[name] = found.get(name, 0.0) + spent
    return found


def _recomputed(history: History, phase: Phase) -> float:
    """The share of a phase's operations that recomputation is."""
    config, whole, again = history.config, 0.0, 0.0
    for stage in history.stages(phase):
        key = plan.key(config, stage)
        most = flops.step_flops(config.model, key) * stage.steps
        least = flops.step_flops(config.model, key._replace(remat="none")) * stage.steps
        whole, again = whole + most, again + most - least
    return again / whole if whole else 0.0


def _rates(phase: Phase, lower: float) -> str:
    peak, final = (f"{rate / lower:.1e}" for rate in phase.learning_rate)
    return f"'phase.{phase.name}.learning_rate=[{peak},{final}]'"


def _anew(*settings: str) -> str:
    """A change that a run under way refuses, so that it needs a new one."""
    return "begin a new run with " + " ".join(f"--set {setting}" for setting in settings) + " --workdir runs/NEW"


def _thirds(config: Config) -> tuple[int, int]:
    """The stack boundaries inside a model that are nearest to a third and two thirds of its blocks."""
    inner, layers = config.model.boundaries[1:-1], config.model.layers
    first, second = (min(inner, key=lambda depth: abs(depth - part * layers / 3)) for part in (1, 2))
    return first, second


def _freezing(config: Config, phase: Phase) -> str:
    """The schedule of the playbook, section 7, in depths that this model can freeze."""
    third, two_thirds = _thirds(config)
    return f"'phase.{phase.name}.freeze=[[0.0,0],[0.2,{third}],[0.5,{two_thirds}]]'"


def _share(found: Any) -> str:
    return f"{found:.0%}" if isinstance(found, (int, float)) else json.dumps(found)


def _ranges(numbers: Sequence[int]) -> str:
    """`1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
