"""Race the candidates of a stage: whole steps in turn, slow ones drop out.

A candidate is a micro-batch size and a recomputation policy. `tuning` says who takes part.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

from llm60_jax.config import Config
from llm60_jax.config.schema import Remat
from llm60_jax.errors import MachineError
from llm60_jax.machine import memory
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.plan import Stage, StepKey, flops
from llm60_jax.training import costs

# Multiples of the fastest seconds; slower candidates drop out, after their first step or later.
_FIRST_SLACK, _LATER_SLACK = 1.3, 1.1
_EQUAL_SLACK = 1.02  # within this multiple, less memory wins


class Candidate(NamedTuple):
    """A micro-batch size and a recomputation policy for a stage."""

    micro_batch: int
    remat: Remat


class Timed(NamedTuple):
    """A measured candidate. One beyond the budget has no speed."""

    phase: str
    stage: int
    context: int
    frozen_blocks: int
    micro_batch: int
    remat: Remat
    bytes: int  # memory while the program runs; the budget, if the device could not even compile it
    tokens_per_second: float | None
    chosen: bool


class Race:
    """Time whole steps of several candidates for one stage in turn; slow ones drop out."""

    def __init__(
        self,
        config: Config,
        steps: costs.Steps,
        key: StepKey,
        base: int,
        most_bytes: int,
        unfinished: Unfinished,
        pace: costs.Pace,
    ):
        self.key = key
        self.candidates: list[Candidate] = []  # that take part
        self.best: Candidate
        self._lost: set[Remat] = set()  # policies that were clearly slower
        self._model, self._budget, self._base = config.model, most_bytes, base
        self._steps, self._unfinished, self._pace = steps, unfinished, pace
        self._bytes: dict[Candidate, int] = {}
        self._first: dict[Candidate, float] = {}  # seconds of each first step, which is slower than later ones
        self._seconds: dict[Candidate, list[float]] = {}  # of the steps after the first
        self._warm: set[Candidate] = set()  # whose program has run in this process

    def begin(self, candidate: Candidate) -> None:
        """Let a candidate take part: compile it and, if it fits, time its first step, once."""
        self.candidates.append(candidate)
        if candidate not in self._bytes:
            temporary, first = self._unfinished.part(repr(self.key_of(candidate)), lambda: self._measured(candidate))
            self._bytes[candidate] = self._base + temporary
            if first is not None:
                self._first[candidate], self._seconds[candidate] = first, []

    def finish(self, name: str, rounds: int) -> Iterator[StepKey]:
        """Time the candidates in turn, and set `best`: of the fastest, the one with the least memory.

        Yield the program after each step. The finished rounds are kept under the name.

        A candidate for which the device runs out of memory after all drops out, too.

        Raises:
          MachineError: no candidate fits the memory budget.
        """
        part = f"{name}, {self.key!r}"
        if part not in self._unfinished:
            running = _near(self._first_seconds(), _FIRST_SLACK)
            for candidate in [candidate for candidate in running if candidate not in self._warm]:
                self._step(candidate)
            for _ in range(rounds):
                for candidate in running:
                    seconds = self._step(candidate)
                    if seconds is None:
                        del self._seconds[candidate]
                    else:
                        self._seconds[candidate].append(seconds)
                    yield self.key_of(candidate)
                left = {candidate: min(self._seconds[candidate]) for candidate in running if candidate in self._seconds}
                running = _near(left, _LATER_SLACK)
            self._unfinished[part] = [running, [[candidate, times] for candidate, times in self._seconds.items()]]
        in_the_end, seconds = self._unfinished[part]
        self._seconds = {Candidate(*values): times for values, times in seconds}
        self._first = {candidate: self._first[candidate] for candidate in self._seconds}
        first = self._first_seconds()
        running = [Candidate(*values) for values in in_the_end] or list(first)
        self._lost = {candidate.remat for candidate in first if candidate not in running}
        medians = {candidate: self._median(candidate) for candidate in running}
        self.best = min(_near(medians, _EQUAL_SLACK), key=self._bytes.__getitem__)

    def _first_seconds(self) -> dict[Candidate, float]:
        """Return the seconds of the first step of the candidates that fit. Raise MachineError if there are none."""
        first = {candidate: self._first[candidate] for candidate in self.candidates if candidate in self._first}
        if not first:
            least, smallest = min((self._bytes[candidate], candidate) for candidate in self.candidates)
            raise MachineError(
                f"train.memory_gb: nothing fits into {self._budget / 1e9:.1f} GB: at context {self.key.context} "
                f"micro-batches of {smallest.micro_batch} with remat '{smallest.remat}' take {least / 1e9:.1f} GB; "
                "raise train.memory_gb"
            )
        return first

    def fits(self, candidate: Candidate) -> bool:
        """Return whether a candidate has begun and is within the memory budget."""
        return candidate in self._first

    def is_near(self, candidate: Candidate) -> bool:
        """Return whether a candidate's first step is about as fast as the fastest one."""
        return candidate in _near(self._first, _FIRST_SLACK) if self._first else False

    def is_lost(self, candidate: Candidate, earlier: "Race") -> bool:
        """Return whether an earlier race shows that a policy is slower than its winner here, too.

        To recompute more than the winner pays where it saves memory traffic. A block that freezes
        and a smaller micro-batch have less traffic to save, a longer context has more to recompute.
        """
        winner = candidate._replace(remat=earlier.best.remat)
        return (
            candidate.remat in earlier._lost
            and self.fits(winner)
            and self._flops(candidate) > self._flops(winner)
            and _alike(self.key) == _alike(earlier.key)
            and self.key.context >= earlier.key.context
            and self.key.frozen_blocks >= earlier.key.frozen_blocks
            and self.key.context * candidate.micro_batch <= earlier.key.context * earlier.best.micro_batch
        )

    def trials(self, stage: Stage) -> list[Timed]:
        """Return every measured candidate, for a report."""
        place = stage.phase, stage.index + 1, stage.context, stage.frozen_blocks
        return [
            Timed(*place, *candidate, size, self._speed(candidate), candidate == self.best)
            for candidate, size in self._bytes.items()
        ]

    def key_of(self, candidate: Candidate) -> StepKey:
        """Return the program of a candidate."""
        return program_of(self.key, candidate)

    def _measured(self, candidate: Candidate) -> tuple[int, float | None]:
        """Return the temporary bytes of a candidate and, if it fits, the seconds of its first step."""
        key = self.key_of(candidate)
        if _if_there_is_room(lambda: self._pace.compile(self._steps, key)) is None:
            return max(0, self._budget - self._base), None
        temporary = self._steps.compiled.temporary_bytes(key)
        return temporary, self._step(candidate) if self._base + temporary <= self._budget else None

    def _step(self, candidate: Candidate) -> float | None:
        """Return the seconds of a step; None if the device ran out of memory."""
        self._warm.add(candidate)
        seconds = _if_there_is_room(lambda: self._pace.step(self._steps, self.key_of(candidate)))
        if seconds is None:
            self._steps.renew()
        return seconds

    def _flops(self, candidate: Candidate) -> int:
        return flops.step_flops(self._model, self.key_of(candidate))

    def _speed(self, candidate: Candidate) -> float | None:
        """Return tokens per second, None beyond the budget."""
        if candidate not in self._first:
            return None
        return self.key.tokens / self._median(candidate)

    def _median(self, candidate: Candidate) -> float:
        """Return the median seconds of a candidate's steps; the first one counts where there is no other."""
        return statistics.median(self._seconds[candidate] or [self._first[candidate]])


def _if_there_is_room(work: Callable[[], float]) -> float | None:
    """Return the seconds of some work on the device; None if it ran out of memory."""
    try:
        return work()
    except Exception as error:
        if memory.is_exhausted(error):
            return None
        raise


def program_of(key: StepKey, candidate: Candidate) -> StepKey:
    """Return the program of a candidate for a stage's key."""
    accumulation = key.tokens // (key.context * candidate.micro_batch)
    return key._replace(micro_batch=candidate.micro_batch, accumulation=accumulation, remat=candidate.remat)


def without_choices(key: StepKey) -> StepKey:
    """Return a key without what a search chooses."""
    return key._replace(micro_batch=0, accumulation=0, remat="full")


def _alike(key: StepKey) -> StepKey:
    """Return a key without what differs between the stages of a phase, either."""
    return without_choices(key)._replace(context=0, frozen_blocks=0, embedding_frozen=False, blocks=None)


def _near(seconds: dict[Candidate, float], slack: float) -> list[Candidate]:
    """Return the candidates within `slack` times the fastest one's seconds."""
    return [candidate for candidate, time in seconds.items() if time <= slack * min(seconds.values())]
