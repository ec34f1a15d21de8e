"""The plan of a run: phases -> stages -> steps, worked out from the configuration alone.

Here: stages and how they are built (`stages`, `build`), amendments by decisions, extensions and rescues
(`amend`), learning rates (`rates`), what is due between
steps (`due`), the key that a step is compiled for (`step_key`), its operations by
formula (`flops`) and the stage table (`table`). All percent arithmetic of the project is in this package. Not
here: jax, files, clocks; a question about a schedule takes microseconds.
"""

from llm60_jax.plan.amend import decide, extend, rescue
from llm60_jax.plan.build import build
from llm60_jax.plan.due import Due, due
from llm60_jax.plan.rates import learning_rate
from llm60_jax.plan.stages import LATE, Decision, Extension, Plan, Rescue, Stage
from llm60_jax.plan.step_key import Noise, StepKey, tap_depths
from llm60_jax.plan.table import plan_table, to_rows

__all__ = [
    "LATE", "Decision", "Due", "Extension", "Noise", "Plan", "Rescue", "Stage", "StepKey", "build", "decide", "due",
    "extend", "learning_rate", "plan_table", "rescue", "tap_depths", "to_rows",
]  # fmt: skip
