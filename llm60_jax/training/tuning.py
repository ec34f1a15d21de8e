"""Tune `micro_batch = "auto"` and `remat = "auto"` by measurement, within a memory budget.

The split into micro-batches and the recomputation policy change only speed and memory: a step has
the same tokens, and its gradient is a sum over them. The measured values replace "auto" in the
configuration, so no other module sees "auto". They are cached for later runs.
"""

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

import jax

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, to_tree
from llm60_jax.config.schema import Remat
from llm60_jax.errors import InputError
from llm60_jax.machine import files, memory, remembered, together
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.plan import Stage, StepKey
from llm60_jax.training import costs
from llm60_jax.training.race import Candidate, Race, Timed, program_of, without_choices

_MIN_TOKENS = 256  # of a micro-batch
_EXPECTED_SHARE = 0.5  # of candidates that are still running in the later rounds, for the estimate of the time


class Start(NamedTuple):
    """Where a search begins."""

    tokens: int  # of the micro-batch that is tried first
    remat: Remat  # policy under which micro-batch sizes are compared


# A CPU is fastest with what its caches hold. Others wait for each operation to be launched, so the whole step in one
# micro-batch comes first there, and nothing is computed twice.
CPU_START, ACCELERATOR_START = Start(1024, "products"), Start(2**62, "none")


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

    Several processes measure nothing: values that are not cached stay "auto", which the plan has a value for.

    Raises:
      MachineError: no candidate fits the memory budget.
    """
    cached = recalled(config)
    return tuned(config, track)[0] if cached.train.is_auto and together.count() == 1 else cached


def tuned(config: Config, track: Track, rounds: int = 2, anew: bool = False) -> tuple[Config, Answer]:
    """Measure the values, cache them, and return the configuration with them.

    An interrupted measurement goes on from its finished parts, unless it is to begin `anew`.

    Raises:
      MachineError: no candidate fits the memory budget.
    """
    with Unfinished(config.data_dir, "tuning", [_identity(config), rounds], anew=anew) as unfinished:
        answer = find(config, track, rounds, unfinished)
        remembered.add(costs.place(config, "tuned"), {_identity(config): answer._asdict()})
    return _filled(config, answer.micro_batch, answer.remat), answer


def budget(config: Config) -> int:
    """Return the memory budget in bytes: train.memory_gb, or what the device or the machine has for a run."""
    gigabytes = config.train.memory_gb
    return memory.available() if gigabytes is None else int(gigabytes * 1e9)


def start() -> Start:
    """Return where a search begins on this process's device."""
    return CPU_START if jax.default_backend() == "cpu" else ACCELERATOR_START


def find(config: Config, track: Track, rounds: int, unfinished: Unfinished) -> Answer:
    """Find the fastest micro-batch of each context, then the fastest policy of each stage.

    A context is sized in the stage that has the most live blocks. Stages with the same program share
    its policy.
    """
    search = _Search(config, rounds, unfinished)
    for _ in track(search.run(), "finding micro-batches and remat, steps", None, search.remaining):
        pass
    return search.answer


class Forecast(NamedTuple):
    """What a search may take."""

    programs: int  # that it compiles and times, at most
    seconds: float  # at most, without compiling, by the steps that were measured before; 0 without any


def forecast(config: Config, rounds: int) -> Forecast:
    """Return what a search may take on this machine."""
    pace, programs = costs.Pace(config), _possible(config)
    for key, cost in costs.recall(config, plan.build(config)).items():
        pace.count(key, cost.middle)
    return Forecast(len(programs), pace.remaining(0, dict.fromkeys(programs, _steps_of_each(rounds))))


class _Search:
    """The search over all stages, one race after another."""

    def __init__(self, config: Config, rounds: int, unfinished: Unfinished):
        self._config, self._rounds, self._unfinished = config, rounds, unfinished
        self._pace = costs.Pace(config)
        self._to_do = dict.fromkeys(_possible(config), _steps_of_each(rounds))  # steps
        self._to_compile = set(self._to_do)
        self._sizes: dict[int, int] = {}
        self._policies: dict[StepKey, Remat] = {}
        self._remat: dict[str, list[list[Any]]] = {}
        self._trials: list[Timed] = []
        self._races: list[Race] = []

    @property
    def answer(self) -> Answer:
        return Answer([[context, size] for context, size in sorted(self._sizes.items())], self._remat, self._trials)

    def remaining(self) -> float:
        """Return the seconds of the rest, if every candidate must run; 0 before the first step."""
        return self._pace.remaining(len(self._to_compile), self._to_do)

    def run(self) -> Iterator[None]:
        """Search, and yield after each step."""
        config, base = self._config, 0
        stages = plan.build(config).stages
        for phase in config.phase:
            steps: costs.Steps | None = None
            own = [stage for stage in stages if stage.phase == phase.name]
            for stage in sorted(own, key=lambda one: one.frozen_blocks - one.blocks):  # the most live blocks first
                key = plan.key(config, stage)
                if key not in self._policies:
                    steps = steps or costs.Steps(config, phase)
                    # includes the state, which every program reuses
                    base = base or memory.in_use()
                    race = Race(config, steps, key, base, budget(config), self._unfinished, self._pace)
                    yield from self._decide(stage, key, race)
                    steps.compiled.release(())
                if not _is_fixed(config, stage):
                    place = phase.breakpoints[stage.index]
                    bisect.insort(self._remat.setdefault(phase.name, []), [place, self._policies[key]])

    def _decide(self, stage: Stage, key: StepKey, race: Race) -> Iterator[None]:
        """Size the context, if it has no size yet, and choose the policy of a program."""
        if stage.context not in self._sizes:
            policies = (key.remat,) if _is_fixed(self._config, stage) else _from(start().remat)
            for policy in policies:  # the next one keeps less, and is tried where no size fits
                yield from self._climb(race, [Candidate(size, policy) for size in _sizes(self._config, stage)])
                if any(race.fits(candidate) for candidate in race.candidates):
                    break
            yield from self._finish(race, "sizes")
            self._sizes[stage.context] = race.best.micro_batch
        size, won = self._sizes[stage.context], {earlier.best.remat for earlier in self._races}
        race.candidates = []
        # earlier winners first, because they may show that others need not run
        for policy in sorted(_policies(self._config, stage, key), key=lambda policy: policy not in won):
            if not any(race.is_lost(Candidate(size, policy), earlier) for earlier in self._races):
                yield from self._begin(race, Candidate(size, policy))
        yield from self._finish(race, "policies")
        self._policies[key] = race.best.remat
        self._trials += race.trials(stage)
        self._races.append(race)
        for other in [other for other in self._to_do if without_choices(other) == without_choices(key)]:
            self._forget(other)

    def _forget(self, key: StepKey) -> None:
        """Expect no more of a program."""
        self._to_do.pop(key, None)
        self._to_compile.discard(key)

    def _climb(self, race: Race, sizes: Sequence[Candidate]) -> Iterator[None]:
        """Begin sizes from a middle one up, then down, on each side until one is clearly slower.

        A step is slow with small micro-batches, and with large ones again, so what is beyond a size
        that is clearly slower need not run. What is beyond a size that does not fit cannot.
        """
        first = start().tokens
        middle = min(range(len(sizes)), key=lambda n: abs(sizes[n].micro_batch * race.key.context - first))
        previous = sizes[middle]
        yield from self._begin(race, previous)
        for candidate in sizes[middle + 1 :]:
            if not race.is_near(previous):
                break
            yield from self._begin(race, candidate)
            previous = candidate
        previous = sizes[middle]
        for candidate in sizes[:middle][::-1]:
            if race.fits(previous) and not race.is_near(previous):
                break
            yield from self._begin(race, candidate)
            previous = candidate

    def _begin(self, race: Race, candidate: Candidate) -> Iterator[None]:
        race.begin(candidate)
        key = race.key_of(candidate)
        if key not in self._to_do:  # a policy was expected with another size
            open_key = without_choices(key)
            alike = (other for other in self._to_compile if without_choices(other) == open_key)
            expected = (other for other in alike if other.remat == key.remat)
            self._forget(next(expected, key))
        self._to_compile.discard(key)
        self._to_do[key] = _steps_of_each(self._rounds) - 1 if race.fits(candidate) else 0.0
        yield

    def _finish(self, race: Race, name: str) -> Iterator[None]:
        for key in race.finish(name, self._rounds):
            self._to_do[key] = max(0.0, self._to_do[key] - 1)
            yield


def _sizes(config: Config, stage: Stage) -> list[int]:
    """Return the micro-batch sizes to try: the configured one, or all of at least `_MIN_TOKENS`."""
    if config.train.micro_batch != "auto":
        return [stage.micro_batch]
    choices = config.train.choices(stage.context)
    return [n for n in choices if n * stage.context >= _MIN_TOKENS] or choices[-1:]


def _is_fixed(config: Config, stage: Stage) -> bool:
    """Return whether the configuration says the policy of a stage."""
    return config.train.remat != "auto" or bool(config.phase_named(stage.phase).remat)


def _policies(config: Config, stage: Stage, key: StepKey) -> tuple[Remat, ...]:
    """Return the policies to try in a stage."""
    if _is_fixed(config, stage):
        return (key.remat,)
    # To native kernels, "none" and "products" are the same.
    return tuple(policy for policy in get_args(Remat) if key.kernels == "xla" or policy != "none")


def _from(policy: Remat) -> tuple[Remat, ...]:
    """Return a policy, and those that keep less, one after the other."""
    policies = get_args(Remat)  # from the one that keeps least
    return policies[policies.index(policy) :: -1]


def _steps_of_each(rounds: int) -> float:
    """Return the steps that a program is expected to run: the first, and some of the rounds."""
    return 1 + _EXPECTED_SHARE * rounds


def _possible(config: Config) -> list[StepKey]:
    """Return all programs that a search may run, each policy with one size of micro-batch."""
    programs: dict[StepKey, None] = {}
    sized: set[int] = set()
    for stage in plan.build(config).stages:
        key = plan.key(config, stage)
        sizes, policies = _sizes(config, stage), _policies(config, stage, key)
        policy = policies[0] if len(policies) == 1 else start().remat
        candidates = [Candidate(size, policy) for size in sizes if stage.context not in sized]
        candidates += [Candidate(sizes[len(sizes) // 2], policy) for policy in policies]
        programs |= dict.fromkeys(program_of(key, candidate) for candidate in candidates)
        sized.add(stage.context)
    return list(programs)


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
