"""Departures of a configuration from the playbook. They are allowed, and reported. No jax."""

from llm60_jax.config.config import Config
from llm60_jax.config.phase import Phase

_LEAST_CONTEXT = 64  # tokens; a shorter context needs no ramp


def departures(config: Config) -> list[str]:
    """Return a line for each departure: the field, its value, and what the playbook asks for."""
    lines: list[str] = []
    for phase in config.phase:
        lines += _of_schedule(config, phase) + _of_phase(config, phase) + _of_gate(config, phase)
    if not 8 <= config.train.tokens_per_step / config.model.max_context <= 32:
        rows = config.train.tokens_per_step / config.model.max_context
        lines.append(f"train.tokens_per_step: {rows:g} sequences of full length; section 9 asks for 8 to 32")
    if not config.train.document_mask:
        lines.append("train.document_mask: attention crosses documents; section 17.4 asks for a mask")
    if config.optimizer.name != "adafactor":
        lines.append(f"optimizer.name: {config.optimizer.name}; section 8 prefers adafactor")
    if config.train.remat == "none":
        lines.append("train.remat: nothing is recomputed; section 10 requires it for every block")
    return lines


def _of_schedule(config: Config, phase: Phase) -> list[str]:
    """Return a line for each departure in the contexts and freezes of a phase."""
    where, model, lines = f"phase.{phase.name}", config.model, []
    depths, contexts = [depth for _, depth in phase.freeze], [context for _, context in phase.context]
    if phase == config.phase[0] and config.start is None and min(depths):
        lines.append(
            f"{where}.freeze: blocks 1 to {min(depths)} of {model.layers} are frozen from step 0 and never train; "
            "section 7 freezes blocks that have converged"
        )
    if config.goal(phase) == "fine_tune":
        return lines
    if len(contexts) == 1 and model.max_context >= _LEAST_CONTEXT:
        ramp = f"[[0.0, {model.max_context // 4}], [0.3, {model.max_context // 2}], [0.7, {model.max_context}]]"
        lines.append(f"{where}.context: {contexts[0]} from the first token to the last; section 6 asks for {ramp}")
    if phase.grow:
        sizes = " -> ".join(str(blocks) for _, blocks in phase.grow)
        lines.append(f"{where}.grow: {sizes} blocks; golden rule 5 keeps the architecture, section 7 freezes instead")
    elif not any(depths) and len(model.stacks) > 1:
        lines.append(f"{where}.freeze: no block ever freezes; section 7 asks for it from 20 % and 50 % of the phase on")
    if depths != sorted(depths):
        lines.append(f"{where}.freeze: blocks thaw again, {' -> '.join(map(str, depths))}; section 7 only adds to them")
    return lines


def _of_gate(config: Config, phase: Phase) -> list[str]:
    """Return a line for each demand of the playbook that the gate of a phase does not make."""
    gate, goal, where = phase.gate, config.goal(phase), f"phase.{phase.name}.gate"
    lines = []
    if goal == "grammar" and not gate.grammar:
        lines.append(f"{where}.grammar: no bounds; section 3.4 asks for 'grammar errors disappear'")
    if goal == "vocabulary" and gate.rare_words is None:
        lines.append(f"{where}.rare_words: no bound; section 4.4 asks for 'rare words used correctly'")
    return lines


def _of_phase(config: Config, phase: Phase) -> list[str]:
    """Return a line for each departure in the noise and the learning rate of a phase."""
    where = f"phase.{phase.name}"
    ranges = [
        ("warmup", phase.warmup, 0.02, 0.05, "section 8"),
        ("mlp_dropout", phase.mlp_dropout, 0.05, 0.10, "section 11"),
        ("attention_dropout", phase.attention_dropout, 0.0, 0.05, "section 11"),
        ("embedding_dropout", phase.embedding_dropout, 0.0, 0.05, "section 11"),
    ]
    lines = [
        f"{where}.{name}: {value:g}; {section} asks for {low:g} to {high:g}"
        for name, value, low, high, section in ranges
        if not low <= value <= high
    ]
    if phase.hold or phase.decay != "cosine":
        held = f"{phase.hold:.0%} at the peak, then " if phase.hold else ""
        lines.append(f"{where}.decay: {held}{phase.decay}; section 8 asks for cosine decay after the warm-up")
    if phase == config.phase[0] and config.start is None:
        return lines
    first, peak = config.phase[0].learning_rate[0], phase.learning_rate[0]
    if config.goal(phase) == "vocabulary" and peak >= first:
        lines.append(f"{where}.learning_rate: peak {peak:g}; section 4.3 asks for less than phase 1's {first:g}")
    trains_all = config.goal(phase) == "fine_tune" and phase.lora is None and config.start is None
    if trains_all and not 5 <= first / peak <= 10:
        lines.append(f"{where}.learning_rate: {first / peak:.1f} times below phase 1's; section 8 asks for 5 to 10")
    return lines
