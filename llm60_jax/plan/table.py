"""The stage table, as rows of plain values and as text."""

from collections.abc import Sequence
from typing import Any

from llm60_jax.config import Config
from llm60_jax.plan.rates import learning_rate
from llm60_jax.plan.stages import Plan


def to_rows(plan: Plan, config: Config) -> list[dict[str, Any]]:
    """Return the stage table as plain values, one dict a stage.

    `--dry-run` prints it, `plan.json` holds it.
    """
    phases = {phase.name: phase for phase in config.phase}
    return [
        {
            "phase": stage.phase,
            "stage": stage.index,
            "start_step": stage.start_step,
            "stop_step": stage.stop_step,
            "steps": stage.steps,
            "tokens": stage.tokens,
            "token_start": stage.token_start,
            "context": stage.context,
            "sequences": stage.sequences,
            "micro_batch": stage.micro_batch,
            "accumulation": stage.accumulation,
            "blocks": stage.blocks,
            "frozen": stage.frozen_blocks,
            "remat": stage.remat,
            "reason": stage.reason,
            "learning_rate_first": learning_rate(plan, phases[stage.phase], stage.start_step),
            "learning_rate_last": learning_rate(plan, phases[stage.phase], stage.stop_step - 1),
        }
        for stage in plan.stages
    ]


def plan_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the rows of `to_rows` as text with fixed columns and a blank line between phases."""
    lines = [
        f"{'phase':<12} stage {'tokens':>13} {'steps':>7} {'context':>7} {'sequences':>9} {'micro-batches':>13} "
        f"{'blocks':>6} {'frozen':>6} {'remat':>5}  learning rate"
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        batches = f"{row['accumulation']} of {row['micro_batch']}"
        if before is None or before["phase"] != row["phase"]:
            lines.append("")
        lines.append(
            f"{row['phase']:<12} {row['stage'] + 1:>5} {row['tokens']:>13,} {row['steps']:>7,} {row['context']:>7} "
            f"{row['sequences']:>9} {batches:>13} {row['blocks']:>6} {row['frozen']:>6} "
            f"{row['remat']:>5}  {row['learning_rate_first']:.2e} -> {row['learning_rate_last']:.2e}"
        )
    return "\n".join(lines)
