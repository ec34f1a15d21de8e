"""The one line of training that a person watches."""

from typing import Any

from llm60_jax.machine.terminal import console, duration, log, printable, put, say, speed
from llm60_jax.plan import Plan


class ProgressLine:
    """The one line of training, redrawn in place on a terminal and printed line by line elsewhere."""

    def show(self, row: dict[str, Any], plan: Plan, remaining: float) -> None:
        """Shows a row of metrics.jsonl; `remaining` are the seconds to the end of the plan."""
        text = (
            f"{row['phase']} {row['stage'] + 1}/{len(plan.phase_stages(row['phase']))} | step {row['step']:,}/"
            f"{plan.steps:,} | context {row['context']} frozen {row['frozen']} | loss {row['loss']:.4f} | rate "
            f"{row['learning_rate']:.2e} | {speed(row['tokens_per_second'])} | ETA {duration(remaining)}"
        )
        if console.is_terminal:
            put(printable(text)[: console.width - 1].ljust(console.width - 1), end="\r")
            log.info("%s", text)
        else:
            say(text)

    def end(self, text: str) -> None:
        """Leaves the line as it stands and says something below it."""
        if console.is_terminal:
            put("")
        say(text)
