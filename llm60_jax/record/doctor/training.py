"""Checks of the optimization: its steps, its schedule, what is learnt and what is forgotten."""

import statistics
from collections.abc import Iterator, Sequence

from llm60_jax.config import INIT_STD, Phase
from llm60_jax.record import reference
from llm60_jax.record.doctor import text
from llm60_jax.record.doctor.findings import (
    Finding,
    divided_rates,
    freezing,
    longer,
    longer_warmup,
    new_run,
    share_done,
    stuck,
    text_facts,
    training_losses,
    without_cache,
)
from llm60_jax.record.history import History

_REFUSED_STEPS = 3  # steps that were not applied before the learning rate is blamed
_HOT_RATE = 0.1  # RMS of an update as a share of INIT_STD; deep models learn nothing from 0.15 on
_DIVERGED = 0.3  # nats that the training loss is above its best
_OVERFIT_GAP = 0.3  # nats that the held-out loss is above the training loss
_OVERFIT_RISE = 0.05  # nats that the held-out loss is above its best
_MANY_EPOCHS = 8  # passes through a phase's text
_DEAD_CONTRIBUTION = 0.01  # share of the residual stream that a block adds
_NEEDED_DEPTH = 0.5  # share of the blocks
_NEEDED_LOSS = 0.02  # nats above the last block's loss at which a depth suffices


def refused_steps(history: History, phase: Phase) -> Iterator[Finding]:
    """Find broken batches and spikes. Section 14: "NaNs: LR too high: lower LR, longer warmup"."""
    refused = [row["refused"] for row in history.of(phase, "refused")]
    broken = [row for row in refused if row["broken"]]
    if broken:
        arrays = sorted({name for row in broken for name in row["broken"]})
        batches = ", ".join(f"bad_batches/{row['batch']}" for row in broken[:3])
        yield Finding(
            "NaN in a batch",
            phase.name,
            f"{len(broken)} steps were not applied because {', '.join(arrays)} of their batches are not finite: "
            f"{batches}",
            "broken data, not the learning rate: the numbers are wrong before the model sees them",
            f"look at a batch: numpy.load('{history.path}/bad_batches/{broken[0]['batch']}'); delete the prepared text "
            f"in {history.config.data_dir}/tokenized and run the same command, which prepares it again",
        )
    spikes = [row for row in refused if not row["broken"]]
    if len(spikes) >= _REFUSED_STEPS or (spikes and history.of(phase, "rescue")):
        yield Finding(
            "spikes",
            phase.name,
            f"{len(spikes)} steps were not applied: their loss was far above that of the steps before, or not finite",
            f"the learning rate is too high (peak {phase.learning_rate[0]:g}) or rises too fast",
            new_run(divided_rates(phase, 3), *longer_warmup(phase, min(0.1, max(0.03, 2 * phase.warmup)))),
        )


def not_in_effect(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a run that ended because the proof at the beginning of a stage failed (training/proof.py)."""
    last = history.rows[-1]
    reason = last.get("stopped", "")
    if last["phase"] == phase.name and "the plan is not in effect" in reason:
        yield Finding(
            "not what was planned",
            phase.name,
            reason.split(": the plan is not in effect: ")[-1],
            "the program or the loader does not do what the configuration says",
            "this is an error of the program, not a setting: undo changes in llm60_jax/, run the tests, and report it",
        )


def diverges(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a loss that rises, or that does not fall under an extreme learning rate."""
    losses = training_losses(history, phase)
    peak = phase.learning_rate[0]
    if len(losses) < 8:
        return
    smooth = [statistics.fmean(losses[max(0, i - 3) : i + 1]) for i in range(len(losses))]
    rise = smooth[-1] - min(smooth)
    no_progress_losses = None if any(text.no_order(history, phase)) else stuck(history, phase)
    moved = peak * history.config.optimizer.update_rms
    hot = moved > _HOT_RATE * INIT_STD
    if (rise > _DIVERGED and not _schedule_explains_rise(history, phase)) or (hot and no_progress_losses is not None):
        evidence = f"training loss {smooth[-1]:.2f}, at its best {min(smooth):.2f}"
        if no_progress_losses is not None:
            loss, entropy = no_progress_losses
            evidence += f"; held-out loss {loss:.2f}, and token frequencies alone give {entropy:.2f}"
        yield Finding(
            "diverges",
            phase.name,
            f"{evidence}; a step moves the blocks' matrices by up to {moved:g}, "
            f"and their initial spread was {INIT_STD:g}",
            "the learning rate is too high",
            new_run(divided_rates(phase, moved / 1e-3 if hot else 3), *longer_warmup(phase, 0.05)),
        )


def no_progress(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a held-out loss that token frequencies alone would give, where no other check explains it."""
    losses = stuck(history, phase)
    if losses is None or any(any(check(history, phase)) for check in (diverges, text.no_order, frozen_from_start)):
        return
    if phase.embedding == "frozen" and max(depth for _, depth in phase.freeze) > 0:
        cause = "the embedding freezes with the lower blocks, before it has learnt anything"
        fix = new_run(f"phase.{phase.name}.embedding=head_only", *without_cache(phase))
    else:
        cause = (
            f"the learning rate does not fit this model (peak {phase.learning_rate[0]:g}; deeper models need lower "
            "rates), or the phase is too short"
        )
        fix = f"{new_run(divided_rates(phase, 3))}, or with three times the rate; or {longer(phase)}"
    yield Finding(
        "no progress",
        phase.name,
        f"held-out loss {losses.validation_loss:.2f} after {share_done(history, phase):.0%} of the phase; token "
        f"frequencies alone give {losses.unigram_entropy:.2f}",
        cause,
        fix,
    )


def overfitting(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a held-out loss above the training loss. Section 14 blames dropout, wrongly."""
    scores = [row["validation_loss"] for row in history.of(phase, "validation_loss")]
    losses, facts = training_losses(history, phase), text_facts(history, phase)
    if len(scores) < 3 or len(losses) < 8 or not facts:
        return
    recent = statistics.fmean(losses[-max(4, len(losses) // 10) :])
    gap, rise, epochs = scores[-1] - recent, scores[-1] - min(scores), facts["epochs"]
    if (rise > _OVERFIT_RISE and gap > _OVERFIT_GAP) or (gap > _OVERFIT_GAP and epochs > _MANY_EPOCHS):
        shorter = min(4 / epochs, 0.5)  # of the phase: four epochs at most
        yield Finding(
            "overfitting",
            phase.name,
            f"held-out loss {scores[-1]:.2f}, {rise:.2f} above its best and {gap:.2f} above the training loss; the "
            f"phase reads its text {epochs:.1f} times",
            "too little text, read too often. It is not too much dropout, as section 14 says: dropout works against it",
            f"{new_run(phase.times(shorter))}, or add text to its sources"
            + ("" if phase.mlp_dropout >= 0.1 else f"; --set phase.{phase.name}.mlp_dropout=0.1 helps a little"),
        )


def forgetting(history: History, phase: Phase) -> Iterator[Finding]:
    """Find earlier phases whose loss rose by more than the gate allows."""
    rows = history.of(phase, "earlier_phases")
    if len(rows) < 2:
        return
    for name, last in rows[-1]["earlier_phases"].items():
        first = rows[0]["earlier_phases"].get(name)
        rise = last["validation_loss"] - first["validation_loss"] if first else 0.0
        if rise > phase.gate.max_forgetting:
            yield Finding(
                "forgetting",
                phase.name,
                f"the held-out loss of {name} rose by {rise:.2f} nats; {phase.gate.max_forgetting:g} is allowed",
                f"phase {phase.name} is too long, or its learning rate (peak {phase.learning_rate[0]:g}) is too high",
                f"{new_run(divided_rates(phase, 3))}, or a shorter phase: --set {phase.times(0.5)}",
            )


def frozen_from_start(history: History, phase: Phase) -> Iterator[Finding]:
    """Find blocks that freeze before any training, under a model that learns nothing."""
    depth, losses = phase.freeze[0][1], stuck(history, phase)
    if not depth or losses is None:  # else it is a choice, which `config.departures` tells
        return
    yield Finding(
        "untrained blocks",
        phase.name,
        f"blocks 1 to {depth} of {history.config.model.layers} are frozen from step 0; held-out loss "
        f"{losses.validation_loss:.2f}, and token frequencies alone give {losses.unigram_entropy:.2f}",
        "blocks that were never trained only pass noise on; freezing is for blocks that have converged (section 7)",
        new_run(*freezing(history.config, phase)),
    )


def idle_depth(history: History, phase: Phase) -> Iterator[Finding]:
    """Find blocks that add nothing, and depth that the loss does not need."""
    rows = history.of(phase, "depth")
    if not rows:
        return
    depth, layers = rows[-1]["depth"], history.config.model.layers
    dead = [number + 1 for number, share in enumerate(depth["contributions"]) if share < _DEAD_CONTRIBUTION]
    losses = depth["losses"]
    needed = next(number for number, loss in enumerate(losses) if loss <= losses[-1] + _NEEDED_LOSS)
    fix = "a shallower model learns as much in less time: lower model.layers in a new run"
    if phase.learning_rate[0] <= 0.5:
        fix += f"; or raise the learning rate: --set {divided_rates(phase, 1 / 2)}"
    if 4 * len(dead) >= layers:
        yield Finding(
            "dead blocks",
            phase.name,
            f"{len(dead)} of {layers} blocks add less than {_DEAD_CONTRIBUTION:.0%} to the residual stream: "
            f"{_ranges(dead)}",
            "they were not trained, or the learning rate is too low for so deep a model",
            fix,
        )
    elif needed < _NEEDED_DEPTH * layers and stuck(history, phase) is None:
        yield Finding(
            "useless depth",
            phase.name,
            f"the loss after block {needed} of {layers} is {losses[needed]:.2f}, after the last {losses[-1]:.2f}",
            "the text, or the training so far, needs no more depth",
            fix,
        )


def above_reference(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a held-out loss far above that of the project's own run of the same model, schedule and text."""
    like, measured = reference.matching(history, phase, reference.known()), reference.points(history, phase)
    if like is None or not measured:
        return
    last = measured[-1]
    expected = reference.loss_at(like, last.tokens)
    if expected is None or last.loss - expected <= reference.ABOVE:
        return
    yield Finding(
        "above the reference",
        phase.name,
        f"held-out loss {last.loss:.2f} after {last.tokens:,} tokens of the phase; our own run of {like.run} had "
        f"{expected:.2f} there",
        "model, schedule and length of the text are the same, so the text itself differs, or its order, or the code",
        "read the findings above first; then compare your text (python tools/inspect_data.py) and seed with ours, and "
        "run the tests",
    )


def _schedule_explains_rise(history: History, phase: Phase) -> bool:
    """Return whether the training loss may rise because the context or the model grew, with no step refused."""
    kinds = {(row["context"], row.get("blocks")) for row in history.of(phase, "context")}
    return len(kinds) > 1 and not history.of(phase, "refused")


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers in the form `1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
