"""The plan of a run: phases -> stages -> steps, derived from the configuration alone.

Here: stages (`stages`) and how they are built (`build`); amendments by decisions, extensions and
rescues (`amend`); learning rates (`rates`); what is due between steps (`due`); devices without
work (`idle`); the key that a train step is compiled for (`step_key`); its predicted operations
(`flops`), and those of the native kernels (`native`); the stage table (`table`). All percent
arithmetic of the project is in this package. Not here: jax, files, clocks. A question about a
schedule takes microseconds.
"""

from llm60_jax.plan.amend import decide, extend, rescue
from llm60_jax.plan.build import build
from llm60_jax.plan.due import EVALUATION_SHARE, MOST_SCORED, Due, due, evaluate_every, validation_tokens
from llm60_jax.plan.idle import idle
from llm60_jax.plan.rates import learning_rate
from llm60_jax.plan.stages import LATE, Decision, Extension, Plan, Rescue, Stage
from llm60_jax.plan.step_key import Noise, Sharing, StepKey, key, sharing, tap_depths, unclaimed
from llm60_jax.plan.table import plan_table, to_rows

__all__ = [
    "EVALUATION_SHARE",
    "LATE",
    "MOST_SCORED",
    "Decision",
    "Due",
    "Extension",
    "Noise",
    "Plan",
    "Rescue",
    "Sharing",
    "Stage",
    "StepKey",
    "build",
    "decide",
    "due",
    "evaluate_every",
    "extend",
    "idle",
    "key",
    "learning_rate",
    "plan_table",
    "rescue",
    "sharing",
    "tap_depths",
    "to_rows",
    "unclaimed",
    "validation_tokens",
]  # fmt: skip
