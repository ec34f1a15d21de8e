"""What a run tells those who watch it, and the rule that they only watch."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from llm60_jax.config import Phase
from llm60_jax.errors import Interrupted, MachineError, TrainingError
from llm60_jax.plan import Stage, StepKey

log = logging.getLogger("llm60_jax")


@dataclass(frozen=True)
class RowAdded:
    """A row has gone into metrics.jsonl."""

    row: dict[str, Any]


@dataclass(frozen=True)
class StageBegins:
    stage: Stage
    compile_seconds: float  # of its program, or of reading it from the cache
    waited_seconds: float  # for that program
    temporary_bytes: int


@dataclass(frozen=True)
class StepBegins:
    """The next thing is to dispatch step `number`, counted from 1."""

    number: int
    key: StepKey


@dataclass(frozen=True)
class StepLanded:
    """The numbers of a step have been read."""

    number: int
    stage: Stage


@dataclass(frozen=True)
class StepLogged:
    row: dict[str, Any]  # of metrics.jsonl
    remaining_seconds: float  # to the end of the plan; infinite before anything was measured


@dataclass(frozen=True)
class Paused:
    """The computer slept, or the process was stopped."""

    seconds: float


@dataclass(frozen=True)
class StageProved:
    """The first step of a stage has shown what its program does."""

    stage: Stage
    description: str


@dataclass(frozen=True)
class EvaluationBegins:
    """The held-out text is about to be scored."""


@dataclass(frozen=True)
class Evaluated:
    row: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """A rolling checkpoint holds the state."""

    phase: Phase
    step: int


@dataclass(frozen=True)
class StageTrained:
    """All steps of a stage have landed; nothing is checked yet."""

    stage: Stage


@dataclass(frozen=True)
class StageEnds:
    stage: Stage
    key: StepKey
    account: dict[str, Any]  # `stage_end` of metrics.jsonl
    step_seconds: float  # measured; 0 before the second step


@dataclass(frozen=True)
class PhaseJudged:
    """The evidence of a phase is recorded."""

    phase: Phase


@dataclass(frozen=True)
class PhaseEnds:
    """A phase has closed, or its gate has refused."""

    phase: Phase


@dataclass(frozen=True)
class Stopped:
    """Training stopped itself."""

    failure: TrainingError


Event = (
    RowAdded
    | StageBegins
    | StepBegins
    | StepLanded
    | StepLogged
    | Paused
    | StageProved
    | EvaluationBegins
    | Evaluated
    | Saved
    | StageTrained
    | StageEnds
    | PhaseJudged
    | PhaseEnds
    | Stopped
)

Observer = Callable[[Event], None]


class Observers:
    """Those who only watch a run. None may change it, and none may end it: a failure is logged, and the run goes on."""

    def __init__(self, observers: Iterable[Observer] = ()):
        self._observers = tuple(observers)

    def __call__(self, event: Event) -> None:
        """Show an event to all of them, in their order."""
        for observer in self._observers:
            with never_ends_the_run(type(observer).__name__):
                observer(event)

    def needs_rest(self, number: int) -> bool:
        """Return whether one of them wants no step under way when step `number` begins."""
        return any(observer.needs_rest(number) for observer in self._observers if hasattr(observer, "needs_rest"))


@contextlib.contextmanager
def never_ends_the_run(name: str) -> Iterator[None]:
    """Log whatever an observer raises; the traceback goes to the run's log.txt only."""
    try:
        yield
    except Interrupted:
        pass  # the signal is not lost: the run asks for it before its next step
    except MachineError as failure:
        log.warning("%s", failure)
    except Exception:
        log.exception("%s failed", name)
        log.warning("%s failed; the run goes on, and its log.txt has the traceback", name)
