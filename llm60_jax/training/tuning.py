"""Tune `micro_batch = "auto"` and `remat = "auto"` by measurement, within a memory budget.

The split into micro-batches and the recomputation policy change only speed and memory: a step has
the same tokens, and its gradient is a sum over them. The measured values replace "auto" in the
configuration, so no other module sees "auto". They are cached for later runs.
"""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, to_tree
from llm60_jax.config.schema import Remat
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import facts, files, remembered
from llm60_jax.machine.progress import Track
from llm60_jax.plan import Stage, StepKey
from llm60_jax.training import costs

_MIN_TOKENS = 256  # of a micro-batch
_SIZING_REMAT: Remat = "products"  # policy under which micro-batch sizes are compared
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
    bytes: int  # memory of the process while the program runs
    tokens_per_second: float | None
    chosen: bool


class Answer(NamedTuple):
    """The values that replace "auto", and the measurements behind them."""

    micro_batch: list[list[int]]  # [context, sequences]
    remat: dict[str, list[list[Any]]]  # phase -> [fraction, policy]; phases with their own policy are absent
    trials: list[Timed]


def recalled(config: Config) -> Config:
    """Return the configuration with its cached values, or unchanged if there are none."""
    if not config.train.is_auto:
        return config
    try:
        entry = remembered.read(costs.place(config, "tuned"))[_identity(config)]
        return _filled(config, entry["micro_batch"], entry["remat"])
    except (KeyError, TypeError, ValueError, InputError):  # missing or malformed
        return config


def settled(config: Config, track: Track) -> Config:
    """Return the configuration with cached values; measure them if there are none.

    Raises:
      MachineError: no candidate fits the memory budget.
    """
    cached = recalled(config)
    return tuned(config, track)[0] if cached.train.is_auto else cached


def tuned(config: Config, track: Track, rounds: int = 2) -> tuple[Config, Answer]:
    """Measure the values anew, cache them, and return the configuration with them.

    Raises:
      MachineError: no candidate fits the memory budget.
    """
    answer = find(config, track, rounds)
    remembered.add(costs.place(config, "tuned"), {_identity(config): answer._asdict()})
    return _filled(config, answer.micro_batch, answer.remat), answer


def budget(config: Config) -> int:
    """Return the memory budget in bytes: train.memory_gb, or half of the machine's memory."""
    gigabytes = config.train.memory_gb
    return facts.memory_bytes() // 2 if gigabytes is None else int(gigabytes * 1e9)


def find(config: Config, track: Track, rounds: int) -> Answer:
    """Find the fastest micro-batch of each context, then the fastest policy of each stage.

    A context is sized in its first stage, which has the most live blocks. Stages with the same
    program share its policy.
    """
    stages = plan.build(config).stages
    sizes: dict[int, int] = {}
    policies: dict[StepKey, Remat] = {}
    remat: dict[str, list[list[Any]]] = {}
    trials: list[Timed] = []
    base = 0
    for phase in config.phase:
        phase_stages = [stage for stage in stages if stage.phase == phase.name]
        fixed = config.train.remat != "auto" or phase.remat
        steps: costs.Steps | None = None
        for stage in track(phase_stages, f"{phase.name}: finding micro-batches, stages", len(phase_stages)):
            key = plan.key(config, stage)
            if key not in policies:
                steps = steps or costs.Steps(config, phase)
                base = base or facts.resident_bytes()  # includes the state, which every program reuses
                race = _Race(steps, key, base, budget(config), rounds)
                if stage.context not in sizes:
                    sizing = key.remat if fixed else _SIZING_REMAT
                    sizes[stage.context] = race.run([Candidate(n, sizing) for n in _sizes(config, stage)]).micro_batch
                choices = (key.remat,) if fixed else get_args(Remat)
                best = race.run([Candidate(sizes[stage.context], policy) for policy in choices])
                policies[key] = best.remat
                trials += race.trials(stage, best)
                steps.compiled.release(())
            if not fixed:
                remat.setdefault(phase.name, []).append([phase.breakpoints[stage.index], policies[key]])
    return Answer([[context, size] for context, size in sorted(sizes.items())], remat, trials)


class _Race:
    """Time whole steps of several candidates for one stage in turn; slow ones drop out."""

    def __init__(self, steps: costs.Steps, key: StepKey, base: int, most_bytes: int, rounds: int):
        self._steps, self._key, self._base, self._budget, self._rounds = steps, key, base, most_bytes, rounds
        self._bytes: dict[Candidate, int] = {}
        self._first: dict[Candidate, float] = {}  # seconds of each first step, which is slower than later ones
        self._seconds: dict[Candidate, list[float]] = {}  # of the steps after the first

    def run(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the fastest candidate that fits; among equals, the one with the least memory.

        Raises:
          MachineError: no candidate fits the memory budget.
        """
        for candidate in candidates:
            if candidate not in self._bytes:
                self._begin(candidate)
        first = {candidate: self._first[candidate] for candidate in candidates if candidate in self._first}
        if not first:
            least, smallest = min((self._bytes[candidate], candidate) for candidate in candidates)
            raise MachineError(
                f"train.memory_gb: nothing fits into {self._budget / 1e9:.1f} GB: at context {self._key.context} "
                f"micro-batches of {smallest.micro_batch} with remat '{smallest.remat}' take {least / 1e9:.1f} GB; "
                "raise train.memory_gb"
            )
        running = _near(first, _FIRST_SLACK)
        for _ in range(self._rounds):
            for candidate in running:
                self._seconds[candidate].append(self._steps.time(self._key_of(candidate))[0])
            running = _near({candidate: min(self._seconds[candidate]) for candidate in running}, _LATER_SLACK)
        medians = {candidate: statistics.median(self._seconds[candidate]) for candidate in running}
        return min(_near(medians, _EQUAL_SLACK), key=self._bytes.__getitem__)

    def trials(self, stage: Stage, best: Candidate) -> list[Timed]:
        """Return every measured candidate, for a report."""
        place = stage.phase, stage.index + 1, stage.context, stage.frozen_blocks
        return [
            Timed(*place, *candidate, size, self._speed(candidate), candidate == best)
            for candidate, size in self._bytes.items()
        ]

    def _begin(self, candidate: Candidate) -> None:
        """Compile a candidate and, if it fits, time its first step."""
        key = self._key_of(candidate)
        _ = self._steps.compiled[key]
        self._bytes[candidate] = self._base + self._steps.compiled.temporary_bytes(key)
        if self._bytes[candidate] <= self._budget:
            self._first[candidate], self._seconds[candidate] = self._steps.time(key)[0], []

    def _key_of(self, candidate: Candidate) -> StepKey:
        accumulation = self._key.tokens // (self._key.context * candidate.micro_batch)
        return self._key._replace(micro_batch=candidate.micro_batch, accumulation=accumulation, remat=candidate.remat)

    def _speed(self, candidate: Candidate) -> float | None:
        """Return tokens per second, None beyond the budget."""
        if candidate not in self._first:
            return None
        return self._key.tokens / statistics.median(self._seconds[candidate] or [self._first[candidate]])


def _near(seconds: dict[Candidate, float], slack: float) -> list[Candidate]:
    """Return the candidates within `slack` times the fastest one's seconds."""
    return [candidate for candidate, time in seconds.items() if time <= slack * min(seconds.values())]


def _sizes(config: Config, stage: Stage) -> list[int]:
    """Return the micro-batch sizes to try: the configured one, or all of at least `_MIN_TOKENS`."""
    if config.train.micro_batch != "auto":
        return [stage.micro_batch]
    choices = config.train.choices(stage.context)
    return [n for n in choices if n * stage.context >= _MIN_TOKENS] or choices[-1:]


def _filled(config: Config, micro_batch: Any, remat: dict[str, Any]) -> Config:
    """Return the configuration with these values in place of "auto"."""
    tree = to_tree(config)
    tree["train"]["micro_batch"] = micro_batch
    tree["train"]["remat"] = config.train.policy
    for phase in tree["phase"]:
        phase["remat"] = remat.get(phase["name"]) or phase["remat"]
    return config_module.parse(tree, "tuned values")


def _identity(config: Config) -> str:
    """Return the digest of everything that determines the answer: untuned programs and budget."""
    train, keys = config.train, costs.keys_of(config, plan.build(config))
    settings = [train.micro_batch, train.remat, budget(config), [list(phase.remat) for phase in config.phase]]
    return files.digest_of([costs.programs_of(config, keys), settings])
