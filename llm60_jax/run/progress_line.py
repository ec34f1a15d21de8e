"""The lines of training that a person watches."""

from typing import Any, NamedTuple

from llm60_jax.machine.terminal import duration, speed
from llm60_jax.plan import Plan, Stage


def place(plan: Plan, stage: Stage) -> str:
    """Return the name of a stage: `grammar 2/5`."""
    return f"{stage.phase} {stage.index + 1}/{len(plan.phase_stages(stage.phase))}"


def progress_line(row: dict[str, Any], plan: Plan, remaining_seconds: float) -> str:
    """Return the line for a logged step, a row of metrics.jsonl."""
    return (
        f"{place(plan, plan.stage_at(row['step'] - 1))} | step {row['step']:,}/{plan.steps:,} | context "
        f"{row['context']} frozen {row['frozen']} of {row['blocks']} | loss {row['loss']:.4f} | "
        f"rate {row['learning_rate']:.2e} | {speed(row['tokens_per_second'])} | ETA {duration(remaining_seconds)}"
    )


class LiveLine(NamedTuple):
    """What the live line of a terminal shows, beside the bar."""

    share: float  # of all steps, done
    head: str
    rest: str


def live_line(plan: Plan, stage: Stage, step: int, loss: float | None, held_out: float | None, now: str) -> LiveLine:
    """Return the live line of a stage.

    Args:
      step: steps done.
      loss: of the last logged step.
      held_out: loss on the held-out text, as last measured in this phase.
      now: speed and ETA, or what happens instead of training.
    """
    share = step / plan.steps
    losses = [f"loss {loss:.3f}"] if loss is not None else []
    losses += [f"held-out {held_out:.3f}"] if held_out is not None else []
    return LiveLine(share, place(plan, stage), " | ".join([f"{share:4.0%}", *losses, now]))
