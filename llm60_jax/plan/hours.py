"""Hours of training steps by phase, from the seconds that one step of each stage takes."""

from collections.abc import Callable, Iterable

from llm60_jax.plan.stages import Stage


def by_phase(
    stages: Iterable[Stage], step_seconds: Callable[[Stage], float | None]
) -> tuple[dict[str, float], list[Stage]]:
    """Return the hours of each phase, and the stages left out because `step_seconds` knows nothing of them."""
    hours: dict[str, float] = {}
    unmeasured = []
    for stage in stages:
        seconds = step_seconds(stage)
        if seconds is None:
            unmeasured.append(stage)
        else:
            hours[stage.phase] = hours.get(stage.phase, 0.0) + stage.steps * seconds / 3600
    return hours, unmeasured
