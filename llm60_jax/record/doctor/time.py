"""Where the time of a run goes, and checks of it."""

from collections.abc import Iterator
from typing import NamedTuple

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.plan import flops
from llm60_jax.record.doctor.findings import Finding
from llm60_jax.record.history import History

# Each kind of lost time has a largest share and a largest number of seconds; a check needs both to be exceeded.
_MOST_WAITING_SHARE, _MOST_WAITING_SECONDS = 0.25, 1.0  # of a stage, for data
_MOST_COMPILING_SHARE, _MOST_COMPILING_SECONDS = 0.3, 60.0  # of a phase
_MOST_ASIDE_SHARE, _MOST_ASIDE_SECONDS = 0.35, 60.0  # of the run, for evaluation, samples and saving


class Share(NamedTuple):
    """One part of a phase's time."""

    name: str
    seconds: float
    share: float


def seconds_of(history: History, phase: Phase) -> float:
    """Return the seconds of a phase's finished stages."""
    return sum(_seconds(history, phase).values())


def time_of(history: History, phase: Phase) -> list[Share]:
    """Return a phase's time by parts: steps, waiting for data, compiling, evaluation, samples, saving.

    Recomputation is a part of the steps, estimated by the operations that it adds. The list is empty before the
    phase's first stage has ended.
    """
    seconds = _seconds(history, phase)
    total = seconds_of(history, phase)
    if not total:
        return []
    steps, *others = [Share(name, spent, spent / total) for name, spent in seconds.items()]
    recomputation = _recomputed_share(history, phase) * seconds["steps"]
    return [steps, Share("of them recomputation", recomputation, recomputation / total), *others]


# --- Checks ----------------------------------------------------------------------------------------------------------


def slow(history: History, phase: Phase) -> Iterator[Finding]:
    """Find time lost to waiting for data and for the compiler."""
    for row in history.of(phase, "stage_end"):
        spent = row["stage_end"].get("seconds", {})
        share = spent.get("data", 0.0) / max(sum(spent.values()), 1e-9)
        if share > _MOST_WAITING_SHARE and spent["data"] > _MOST_WAITING_SECONDS:
            yield Finding(
                "starved for data",
                phase.name,
                f"stage {row['stage'] + 1} waited {spent['data']:.1f} s for batches, {share:.0%} of its time",
                "the loader is slower than the step: a slow disk, or a machine that does other work",
                f"move {history.config.data_dir} to a local disk (data_dir), close other programs; python "
                "tools/bench_data.py measures the loader alone",
            )
            break
    seconds = _seconds(history, phase)
    total = max(sum(seconds.values()), 1e-9)
    if seconds["compiling"] > max(_MOST_COMPILING_SECONDS, _MOST_COMPILING_SHARE * total):
        yield Finding(
            "compiles too long",
            phase.name,
            f"{seconds['compiling']:.0f} s of {total:.0f} s were spent waiting for the compiler",
            "the phase is too short for its number of stages, or the compilation cache is deleted between runs",
            f"keep {history.config.data_dir}/compiled between runs, or use fewer entries in context and freeze",
        )


def without_native_kernels(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a run whose machine lacks something for the native kernels. It reports this once, for the last phase."""
    if history.lacks and phase == list(history.begun)[-1] and not plan.unclaimed(history.config, phase):
        yield Finding(
            "slower than it could be",
            phase.name,
            "XLA computes the steps; the native kernels would be about 1.5 times as fast",
            history.lacks,
            "mend that, and run the same command again. A run may change its kernels; its bits differ from there on",
        )


def mostly_not_training(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a run that spends too long on evaluation, samples and saving.

    The run is judged as a whole, after its last phase, because a short phase spends much of its time this way.
    """
    if phase != list(history.begun)[-1]:
        return
    spent: dict[str, float] = {}
    for begun in history.begun:
        for name, seconds in _seconds(history, begun).items():
            spent[name] = spent.get(name, 0.0) + seconds
    total = sum(spent.values())
    aside = sum(spent[name] for name in ("evaluation", "samples", "saving"))
    if aside <= max(_MOST_ASIDE_SECONDS, _MOST_ASIDE_SHARE * total):
        return
    largest = max(("evaluation", "samples", "saving"), key=lambda name: spent[name])
    config, steps = history.config, max((row["step"] for row in history.rows), default=0)
    field = "evaluate_every" if largest == "evaluation" else "save_every"
    now = plan.evaluate_every(config, phase) if field == "evaluate_every" else config.train.save_every
    if now < steps:
        cause = f"train.{field} = {now} steps is too often for such short steps"
        remedy = f"run the same command with --set train.{field}={4 * now}, which may change inside a run"
    else:
        cause = "the run is short beside what every phase measures and saves at its end"
        remedy = "train longer, or compare this run with others of its length"
    yield Finding(
        "trains too little of its time",
        phase.name,
        f"evaluation, samples and saving took {aside:.0f} s of {total:.0f} s; {largest} took most",
        cause,
        remedy,
    )


# --- Measurements ----------------------------------------------------------------------------------------------------


def _seconds(history: History, phase: Phase) -> dict[str, float]:
    """Return a phase's seconds by their use."""
    names = {"steps": "steps", "data": "waiting for data", "compile": "compiling"}
    seconds = dict.fromkeys([*names.values(), "evaluation", "samples", "saving"], 0.0)
    rows = [row["stage_end"] for row in history.of(phase, "stage_end")]
    rows += [row["phase_end"] for row in history.of(phase, "phase_end")]
    for row in rows:
        for field, spent in row.get("seconds", {}).items():
            name = names.get(field, field)
            seconds[name] = seconds.get(name, 0.0) + spent
    return seconds


def _recomputed_share(history: History, phase: Phase) -> float:
    """Return the share of a phase's operations that recomputation adds."""
    config, total, recomputed = history.config, 0.0, 0.0
    for stage in history.stages(phase):
        key = plan.key(config, stage)
        operations = flops.step_flops(config.model, key) * stage.steps
        without = flops.step_flops(config.model, key._replace(remat="none")) * stage.steps
        total, recomputed = total + operations, recomputed + operations - without
    return recomputed / total if total else 0.0
