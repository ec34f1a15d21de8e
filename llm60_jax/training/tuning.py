"""`micro_batch = "auto"` and `remat = "auto"`: found by measuring, within a budget of memory, and remembered.

How a step is cut into micro-batches, and what is computed again, changes its speed and its memory and nothing else: the
step has the same tokens, and its gradient is a sum over them. What is found is put into the places of "auto", so
nothing beyond this file knows of it.
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

_LEAST_TOKENS = 256  # of a micro-batch that is tried
_FIRST: Remat = "products"  # the policy under which sizes are compared
_SLACK = (1.3, 1.1)  # times the fastest one's seconds beyond which a candidate is out: after its first step, and later
_EQUAL = 1.02  # times the fastest one's within which less memory decides


class Candidate(NamedTuple):
    """One way to perform a stage's steps."""

    micro_batch: int
    remat: Remat


class Timed(NamedTuple):
    """A choice that was looked at. What does not fit the budget has no speed."""

    phase: str
    stage: int
    context: int
    frozen_blocks: int
    micro_batch: int
    remat: Remat
    bytes: int  # of the process while the program runs
    tokens_per_second: float | None
    chosen: bool


class Answer(NamedTuple):
    """What goes into the places of "auto", and how it was found."""

    micro_batch: list[list[int]]  # (context, sequences)
    remat: dict[str, list[list[Any]]]  # phase -> (fraction, policy); without phases that say it themselves
    trials: list[Timed]


def recalled(config: Config) -> Config:
    """The configuration with what was found for it on this machine before; as it is where that is nothing."""
    if not config.train.is_auto:
        return config
    try:
        told = remembered.read(costs.place(config, "tuned"))[_identity(config)]
        return _filled(config, told["micro_batch"], told["remat"])
    except (KeyError, TypeError, ValueError, InputError):  # not known, or not as we write it
        return config


def settled(config: Config, track: Track) -> Config:
    """The same, found now where nothing is known. Raises MachineError when nothing fits the budget."""
    known = recalled(config)
    return tuned(config, track)[0] if known.train.is_auto else known


def tuned(config: Config, track: Track, rounds: int = 2) -> tuple[Config, Answer]:
    """The same, found anew in any case, and remembered."""
    answer = find(config, track, rounds)
    remembered.add(costs.place(config, "tuned"), {_identity(config): answer._asdict()})
    return _filled(config, answer.micro_batch, answer.remat), answer


def budget(config: Config) -> int:
    """Bytes that the process may hold (train.memory_gb; half of the machine's memory by default)."""
    asked = config.train.memory_gb
    return facts.memory_bytes() // 2 if asked is None else int(asked * 1e9)


def find(config: Config, track: Track, rounds: int) -> Answer:
    """For each context the fastest micro-batch, in the first stage that has it, the one with the most live blocks; then
    for each stage the fastest policy. Stages that share a program share its answer."""
    stages = plan.build(config).stages
    sizes: dict[int, int] = {}
    policies: dict[StepKey, Remat] = {}
    remat: dict[str, list[list[Any]]] = {}
    trials: list[Timed] = []
    base = 0
    for phase in config.phase:
        mine = [stage for stage in stages if stage.phase == phase.name]
        fixed = config.train.remat != "auto" or phase.remat
        steps: costs.Steps | None = None
        for stage in track(mine, f"{phase.name}: finding micro-batches, stages", len(mine)):
            key = plan.key(config, stage)
            if key not in policies:
                steps = steps or costs.Steps(config, phase)
                base = base or facts.resident_bytes()  # with the state that every program takes and gives back
                race = _Race(steps, key, base, budget(config), rounds)
                if stage.context not in sizes:
                    first = key.remat if fixed else _FIRST
                    sizes[stage.context] = race.run([Candidate(n, first) for n in _sizes(config, stage)]).micro_batch
                choices = (key.remat,) if fixed else get_args(Remat)
                best = race.run([Candidate(sizes[stage.context], policy) for policy in choices])
                policies[key] = best.remat
                trials += race.trials(stage, best)
                steps.compiled.release(())
            if not fixed:
                remat.setdefault(phase.name, []).append([phase.breakpoints[stage.index], policies[key]])
    return Answer([[context, size] for context, size in sorted(sizes.items())], remat, trials)


class _Race:
    """Whole steps of several choices for one stage, in turn; the slow ones drop out."""

    def __init__(self, steps: costs.Steps, key: StepKey, base: int, most_bytes: int, rounds: int):
        self._steps, self._key, self._base, self._budget, self._rounds = steps, key, base, most_bytes, rounds
        self._bytes: dict[Candidate, int] = {}
        self._first: dict[Candidate, float] = {}  # seconds of the first step of what fits: it is slower than the others
        self._seconds: dict[Candidate, list[float]] = {}  # of those after it

    def run(self, choices: Sequence[Candidate]) -> Candidate:
        """The fastest of them that fits; among equals the one that takes the least memory."""
        for choice in choices:
            if choice not in self._bytes:
                self._begin(choice)
        first = {choice: self._first[choice] for choice in choices if choice in self._first}
        if not first:
            least, choice = min((self._bytes[choice], choice) for choice in choices)
            raise MachineError(
                f"train.memory_gb: nothing fits into {self._budget / 1e9:.1f} GB: at context {self._key.context} "
                f"micro-batches of {choice.micro_batch} with remat '{choice.remat}' take {least / 1e9:.1f} GB"
            )
        running = _near(first, _SLACK[0])
        for _ in range(self._rounds):
            for choice in running:
                self._seconds[choice].append(self._steps.time(self._key_of(choice))[0])
            running = _near({choice: min(self._seconds[choice]) for choice in running}, _SLACK[1])
        middle = {choice: statistics.median(self._seconds[choice]) for choice in running}
        return min(_near(middle, _EQUAL), key=self._bytes.__getitem__)

    def trials(self, stage: Stage, best: Candidate) -> list[Timed]:
        """All that was looked at, for a person."""
        place = stage.phase, stage.index + 1, stage.context, stage.frozen_blocks
        return [
            Timed(*place, *choice, size, self._speed(choice), choice == best) for choice, size in self._bytes.items()
        ]

    def _begin(self, choice: Candidate) -> None:
        """Compiles a choice and, if it fits, performs its first step."""
        key = self._key_of(choice)
        _ = self._steps.compiled[key]
        self._bytes[choice] = self._base + self._steps.compiled.temporary_bytes(key)
        if self._bytes[choice] <= self._budget:
            self._first[choice], self._seconds[choice] = self._steps.time(key)[0], []

    def _key_of(self, choice: Candidate) -> StepKey:
        accumulation = self._key.tokens // (self._key.context * choice.micro_batch)
        return self._key._replace(micro_batch=choice.micro_batch, accumulation=accumulation, remat=choice.remat)

    def _speed(self, choice: Candidate) -> float | None:
        if choice not in self._first:
            return None
        return self._key.tokens / statistics.median(self._seconds[choice] or [self._first[choice]])


def _near(seconds: dict[Candidate, float], slack: float) -> list[Candidate]:
    """Those within `slack` times the fastest."""
    return [choice for choice, time in seconds.items() if time <= slack * min(seconds.values())]


def _sizes(config: Config, stage: Stage) -> list[int]:
    """Sequences in a micro-batch that are tried: what the configuration says, or all that make 256 tokens and more."""
    if config.train.micro_batch != "auto":
        return [stage.micro_batch]
    choices = config.train.choices(stage.context)
    return [n for n in choices if n * stage.context >= _LEAST_TOKENS] or choices[-1:]


def _filled(config: Config, micro_batch: Any, remat: dict[str, Any]) -> Config:
    tree = to_tree(config)
    tree["train"]["micro_batch"] = micro_batch
    tree["train"]["remat"] = config.train.policy
    for phase in tree["phase"]:
        phase["remat"] = remat.get(phase["name"]) or phase["remat"]
    return config_module.parse(tree, "what was measured")


def _identity(config: Config) -> str:
    """What the answer depends on: the programs of the plan before anything is filled in, and the budget."""
    train, keys = config.train, costs.keys_of(config, plan.build(config))
    asked = [train.micro_batch, train.remat, budget(config), [list(phase.remat) for phase in config.phase]]
    return files.digest_of([costs.programs_of(config, keys), asked])
