"""The one line of training that a person watches."""

from typing import Any

from llm60_jax.machine.terminal import duration, speed
from llm60_jax.plan import Plan


def progress_line(row: dict[str, Any], plan: Plan, remaining_seconds: float) -> str:
    """Return the line for a logged step, a row of metrics.jsonl."""
    return (
        f"{row['phase']} {row['stage'] + 1}/{len(plan.phase_stages(row['phase']))} | step {row['step']:,}/"
        f"{plan.steps:,} | context {row['context']} frozen {row['frozen']} | loss {row['loss']:.4f} | rate "
        f"{row['learning_rate']:.2e} | {speed(row['tokens_per_second'])} | ETA {duration(remaining_seconds)}"
    )
