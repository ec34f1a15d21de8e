"""Say which devices have nothing to do in a step."""

from llm60_jax.config import Config


def idle(config: Config, available: int) -> str | None:
    """Return a line if a run leaves some of the `available` devices idle; None if it uses all.

    `train.devices` must be counted: "all" counts as 1 here.
    """
    used, most, tokens = config.train.device_count, config.most_devices, config.train.tokens_per_step
    if used >= available:
        return None
    line = f"{available - used} of {available} devices are idle, because train.devices is {used}"
    if most >= available:
        return line
    return f"{line}; a step of {tokens:,} tokens keeps at most {most} busy, and a longer one needs other learning rates"
