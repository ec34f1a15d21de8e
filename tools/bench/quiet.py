"""Rounds of timed steps on a machine that is quiet: rounds that other processes disturb do not count;
not a command."""

import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import psutil
from worker_process import WorkerProcess

from llm60_jax.errors import MachineError
from llm60_jax.machine.progress import Track

Answer = dict[str, Any]  # "seconds" of a step, and what else its side tells
Step = Callable[[], tuple[Answer, float]]  # the float is what `watched` returns
SPARE_ROUNDS = 3  # rounds that may be disturbed beside as many as must be clean
_CLEARLY_SLOWER = (1.2, 1.05)  # times the fastest contender, after one clean round and after more
_UNSEEN_SECONDS = 0.02  # CPU time by core; the system counts ticks of 10 ms, so two sums differ by this much


def watched(side: WorkerProcess, do: str, **values: Any) -> tuple[Answer, float]:
    """Return a side's answer, and the CPU time that all other processes used meanwhile, as a share of one core.

    The other sides count as others: threads that wait for work in a busy loop disturb too. So do
    children of this side, because none of its work is theirs.
    """
    own, busy, start = side.cpu_seconds(), busy_seconds(), time.perf_counter()
    answer = side.ask(do, **values)
    seconds = time.perf_counter() - start
    foreign = busy_seconds() - busy - (side.cpu_seconds() - own)
    return answer, foreign_share(foreign, seconds, len(_cores()))


def foreign_share(foreign: float, seconds: float, cores: int) -> float:
    """Return foreign CPU seconds as a share of one core; 0 where the ticks of the system could hide them."""
    return max(0.0, foreign - _UNSEEN_SECONDS * cores) / seconds


def busy_seconds() -> float:
    """Return the CPU time that everything has used on the cores of this process, other virtual machines included."""
    times = psutil.cpu_times(percpu=True)
    unused = ("idle", "iowait", "guest", "guest_nice")  # the guests' times are part of user and nice
    return sum(sum(times[core]) - sum(getattr(times[core], name, 0.0) for name in unused) for core in _cores())


def _cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    every = range(psutil.cpu_count())
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(every)
    return [core for core in every if core in allowed]


class Rounds:
    """Steps of several sides in turn, until enough rounds are clean.

    A round is one step of each side. It is clean if other processes used at most `limit` of a core
    during every step. A disturbed round ends at once, is left out and repeated.

    Args:
      what: what the steps belong to, for progress and messages.
      steps: does a step, by side.
      contenders: the sides of which only the fastest is wanted. One that is clearly slower than the
        fastest takes part no more.
      rounds: how many must be clean.
      limit: a share of one core.
    """

    def __init__(self, what: str, steps: Mapping[str, Step], contenders: Collection[str], rounds: int, limit: float):
        self._what, self._steps, self._contenders = what, steps, contenders
        self._rounds, self._limit = rounds, limit
        self.clean: list[dict[str, Answer]] = []  # by side, for each clean round
        self.disturbed: list[float] = []  # the share that others used, for each disturbed round
        self._seconds: dict[str, float] = {}  # of each side's newest step

    def run(self, track: Track) -> None:
        """Do all steps. Raise MachineError if too many rounds are disturbed."""
        for _ in track(self._in_turn(), self._what, None, self._seconds_left):
            pass

    def _in_turn(self) -> Iterator[str]:
        """Do the steps, and yield the side after each, so that a signal is seen between them."""
        while len(self.clean) < self._rounds:
            answers: dict[str, Answer] = {}
            for name in self.taking_part():
                answers[name], foreign = self._steps[name]()
                self._seconds[name] = answers[name]["seconds"]
                yield name
                if foreign > self._limit:
                    self._leave_out(foreign)
                    break
            else:
                self.clean.append(answers)

    def _leave_out(self, foreign: float) -> None:
        self.disturbed.append(foreign)
        if len(self.disturbed) <= self._rounds + SPARE_ROUNDS:
            return
        raise MachineError(
            f"{self._what}: other processes used {min(self.disturbed):.0%} to {max(self.disturbed):.0%} of a core in "
            f"{len(self.disturbed)} rounds, and times are true only up to {self._limit:.0%}; {len(self.clean)} of "
            f"{self._rounds} rounds were clean. End other programs (`top` shows them) and run the same command again; "
            "stages that are finished are kept. --foreign-percent allows more"
        )

    def taking_part(self) -> list[str]:
        """Return the sides of the next round."""
        return [name for name in self._steps if name not in self._contenders or not self._is_slow(name)]

    def _is_slow(self, name: str) -> bool:
        rounds = self.count(name)
        return rounds > 0 and self._times_fastest(name) > _CLEARLY_SLOWER[min(rounds, 2) - 1]

    def _times_fastest(self, name: str) -> float:
        """Return a contender's time relative to the fastest of each of its rounds."""
        return statistics.median(
            answers[name]["seconds"] / min(answers[other]["seconds"] for other in self._contenders if other in answers)
            for answers in self.clean
            if name in answers
        )

    def _seconds_left(self) -> float:
        """Return the seconds left if all rounds to come are clean, and no more contenders leave."""
        each = statistics.fmean(self._seconds.values())
        return each * len(self.taking_part()) * (self._rounds - len(self.clean))

    def last(self, name: str) -> Answer:
        """Return a side's answer in the newest clean round that it took part in."""
        return [answers[name] for answers in self.clean if name in answers][-1]

    def middle(self, name: str, value: str = "seconds") -> Any:
        """Return the median of a side's value; None if the side has none."""
        values = [answers[name][value] for answers in self.clean if name in answers]
        return None if None in values else statistics.median(values)

    def ratio(self, name: str, base: str) -> float:
        """Return how many times as long as `base` a side takes, the median over its rounds."""
        rows = [answers for answers in self.clean if name in answers]
        return statistics.median(answers[name]["seconds"] / answers[base]["seconds"] for answers in rows)

    def count(self, name: str) -> int:
        """Return the clean rounds that a side took part in."""
        return sum(name in answers for answers in self.clean)
