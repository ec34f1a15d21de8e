"""The configuration of a run: frozen records read from TOML, every value checked before anything expensive starts.

Here: the fields and their bounds (`config`, `phase`, `sources`), the strict reader with `--set` and its messages
(`schema`), the playbook's golden rules and where a configuration departs from it (`rules`, `playbook`). Not here: what
follows from a configuration, which is the plan's, and anything that needs jax or reads text.
"""

from llm60_jax.config.config import (
    INIT_STD,
    Config,
    Model,
    Optimizer,
    Sampling,
    TokenizerSettings,
    Train,
    load,
    parse,
    to_tree,
)
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
]  # fmt: skip
