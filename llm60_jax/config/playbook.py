"""Where a configuration departs from the playbook. Departures are allowed; they are said. No jax."""

from llm60_jax.config.config import Config
from llm60_jax.config.phase import Phase


def departures(config: Config) -> list[str]:
    """One line for each, naming the field, its value, and what the playbook asks for."""
    found: list[str] = []
    for phase in config.phase:
        found += _of_phase(config, phase) + _of_gate(config, phase)
    if not 8 <= config.train.tokens_per_step / config.model.max_context <= 32:
        rows = config.train.tokens_per_step / config.model.max_context
        found.append(f"train.tokens_per_step: {rows:g} sequences of full length; section 9 has 8 to 32")
    if not config.train.document_mask:
        found.append("train.document_mask: attention crosses documents; section 17.4 asks for a mask")
    if config.optimizer.name != "adafactor":
        found.append(f"optimizer.name: {config.optimizer.name}; section 8 prefers adafactor")
    if config.train.remat == "none":
        found.append("train.remat: nothing is recomputed; section 10 has it mandatory for every block")
    return found


def _of_gate(config: Config, phase: Phase) -> list[str]:
    """What a phase's gate does not ask for, and the playbook does."""
    gate, goal, where = phase.gate, config.goal(phase), f"phase.{phase.name}.gate"
    found = []
    if goal == "grammar" and not gate.grammar:
        found.append(f"{where}.grammar: nothing is asked for; section 3.4 has 'grammar errors disappear'")
    if goal == "vocabulary" and gate.rare_words is None:
        found.append(f"{where}.rare_words: nothing is asked for; section 4.4 has 'rare words used correctly'")
    return found


def _of_phase(config: Config, phase: Phase) -> list[str]:
    where = f"phase.{phase.name}"
    ranges = [
        ("warmup", phase.warmup, 0.02, 0.05, "section 8"),
        ("mlp_dropout", phase.mlp_dropout, 0.05, 0.10, "section 11"),
        ("attention_dropout", phase.attention_dropout, 0.0, 0.05, "section 11"),
        ("embedding_dropout", phase.embedding_dropout, 0.0, 0.05, "section 11"),
    ]
    found = [
        f"{where}.{name}: {value:g}; {source} has {low:g} to {high:g}"
        for name, value, low, high, source in ranges
        if not low <= value <= high
    ]
    if phase == config.phase[0] and config.start is None:
        return found
    first, peak = config.phase[0].learning_rate[0], phase.learning_rate[0]
    if config.goal(phase) == "vocabulary" and peak >= first:
        found.append(f"{where}.learning_rate: its peak {peak:g} is not below phase 1's {first:g}, as section 4.3 asks")
    whole = config.goal(phase) == "fine_tune" and phase.lora is None and config.start is None
    if whole and not 5 <= first / peak <= 10:
        found.append(f"{where}.learning_rate: {first / peak:.1f} times below phase 1's; section 8 has 5 to 10")
    return found
