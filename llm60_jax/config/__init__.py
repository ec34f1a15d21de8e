"""The configuration of a run: frozen records from TOML, checked before anything expensive starts.

Here: the fields and their bounds (`config`, `model`, `phase`, `sources`), the strict reader with
`--set` and its messages (`schema`), the golden rules (`rules`) and departures from the playbook
(`playbook`). Not here: the stages that follow from a configuration (plan/), and anything that needs
jax or reads text.
"""

from llm60_jax.config.config import (
    Config,
    Optimizer,
    Sampling,
    TokenizerSettings,
    Train,
    load,
    parse,
    to_tree,
    with_devices,
    with_kernels,
)
from llm60_jax.config.model import INIT_STD, Model
from llm60_jax.config.phase import Gate, Goal, Lora, Phase, Reweight
from llm60_jax.config.playbook import departures
from llm60_jax.config.rules import RULE_2, RULE_5, RULE_6
from llm60_jax.config.sources import (
    RULES,
    Dose,
    Exclude,
    FolderSource,
    HubSource,
    InstructionSource,
    PackageSource,
    Rule,
    Source,
)

__all__ = [
    "INIT_STD", "RULES", "RULE_2", "RULE_5", "RULE_6", "Config", "Dose", "Exclude", "FolderSource", "Gate", "Goal",
    "HubSource", "InstructionSource", "Lora", "Model", "Optimizer", "PackageSource", "Phase", "Reweight", "Rule",
    "Sampling", "Source", "TokenizerSettings", "Train", "departures", "load", "parse", "to_tree",
    "with_devices", "with_kernels",
]  # fmt: skip
