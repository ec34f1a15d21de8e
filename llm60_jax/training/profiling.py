"""Where the time of compiled steps goes: jax.profiler's traces, read back as tables by part of the model and by
operation.

A part is a scope that model and step name (flops.PARTS), backward pass and recomputation included; `data` is what the
host does to have a batch. Seconds are summed over the threads, or the streams, that worked at the same time.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llm60_jax.errors import MachineError
from llm60_jax.machine import files, terminal
from llm60_jax.plan import StepKey
from llm60_jax.training import counted_flops
from llm60_jax.training.programs import CompiledSteps

DATA = "data"
WAYS = ("forward", "backward", "again")
_MOST = 15  # operations in a table
# Instructions whose time is that of the instructions inside them.
_CONTAINERS = ("while", "call", "conditional", "async-start", "async-done")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(")
_PATH = re.compile(r'op_name="([^"]*)"')


class Instruction(NamedTuple):
    """One of a compiled program."""

    kind: str  # fusion, dot, custom-call ...
    shape: str
    path: str  # the scopes in which it was written, and the operation of JAX


@dataclasses.dataclass(frozen=True)
class Operation:
    """Instructions of one kind, shape, part and pass, together."""

    name: str  # as the compiler has it
    written: str  # the operation of JAX that it comes from
    part: str
    way: str  # forward, backward, or again: computed once more for the backward pass
    shape: str
    calls: int
    seconds: float


class Profile(NamedTuple):
    """What a trace tells of `steps` steps of a program. Seconds are those of all threads together."""

    steps: int
    operations: list[Operation]  # the longest first
    data_seconds: float
    window_seconds: float  # from the beginning of the first operation to the end of the last
    idle_seconds: float  # of them, in which no thread had an operation: the host's work, and what falls between
    flops: dict[str, int]  # operations of matrix products in one step, by part
    memory: dict[str, int]  # bytes, by kind

    @property
    def seconds(self) -> float:
        return self.data_seconds + sum(one.seconds for one in self.operations)

    def of(self, part: str, way: str | None = None) -> float:
        """Seconds of a part, in all or of one pass."""
        if part == DATA:
            return self.data_seconds if way is None else 0.0
        return sum(one.seconds for one in self.operations if one.part == part and way in (None, one.way))


def data() -> contextlib.AbstractContextManager[Any]:
    """Around what the host does to have a batch on the device."""
    return jax.profiler.TraceAnnotation(DATA)


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[None]:
    """A trace of what runs inside, below `folder`: for XProf, and as perfetto_trace.json.gz for ui.perfetto.dev.

    Raises MachineError when nothing can be written there.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every call of a function would be an event
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
            yield
    except OSError as error:
        raise MachineError(f"{folder}: the trace cannot be written: {error.strerror or error}") from error


def profile(folder: Path, compiled: CompiledSteps, key: StepKey, steps: int) -> Profile:
    """Reads the newest trace below `folder`, of `steps` steps of a program."""
    program = instructions(compiled.text(key))
    groups: dict[tuple[str, str, str, str, str], list[float]] = {}
    data_seconds = 0.0
    spans = []
    for name, start, seconds in events(folder):
        if name == DATA:
            data_seconds += seconds
        elif (found := program.get(name)) and found.kind not in _CONTAINERS:
            kind, written = re.sub(r"[.\d]+$", "", name), found.path.rpartition("/")[2]
            group = kind, written, counted_flops.part_of(found.path), way_of(found.path), found.shape
            groups.setdefault(group, []).append(seconds)
            spans.append((start, start + seconds))
    operations = [Operation(*group, len(some), sum(some)) for group, some in groups.items()]
    operations.sort(key=lambda one: -one.seconds)
    return Profile(
        steps, operations, data_seconds, *window_and_idle(spans), compiled.flops_by_part[key], compiled.memory(key)
    )


def window_and_idle(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The time from the first beginning to the last end, and how much of it no span covers."""
    ordered = sorted(spans)
    if not ordered:
        return 0.0, 0.0
    idle, latest = 0.0, ordered[0][0]
    for start, stop in ordered:
        idle += max(0.0, start - latest)
        latest = max(latest, stop)
    return latest - ordered[0][0], idle


def way_of(path: str) -> str:
    """The pass that a path of scopes belongs to: forward, backward, or again (computed once more, for remat)."""
    if "rematted_computation" in path:
        return "again"
    return "backward" if "transpose(" in path else "forward"


def events(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Name, beginning and seconds of everything in the newest trace below a folder."""
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns)
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines:
            for event in line.events:
                yield event.name, event.start_ns / 1e9, event.duration_ns / 1e9


def instructions(text: str) -> dict[str, Instruction]:
    """The instructions of a compiled program, as XLA prints it, by name."""
    found = {}
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            name, shape, kind = match.groups()
            path = _PATH.search(line)
            found[name] = Instruction(kind, re.sub(r"\{[^}]*\}", "", shape), path[1] if path else "")
    return found


# --- For a person ----------------------------------------------------------------------------------------------------


def tables(found: Profile) -> str:
    """By part, by operation, and the memory."""
    return "\n\n".join([_parts(found), _operations(found), f"{_time(found)}\n{_memory(found.memory)}"])


def _parts(found: Profile) -> str:
    rows, step = [], found.steps
    parts = {one.part for one in found.operations} | {DATA}
    for part in sorted(parts, key=found.of, reverse=True):
        seconds, done = found.of(part), found.flops.get(part, 0)
        ways = (f"{found.of(part, way) / step:.3f}" if found.of(part, way) else "" for way in WAYS)
        share, speed = seconds / (found.seconds or 1.0), step * done / (seconds or 1.0) / 1e9
        rows.append(
            (
                part,
                f"{seconds / step:.3f}",
                f"{share:.1%}",
                *ways,
                f"{done / 1e9:,.1f}" if done else "",
                f"{speed:,.0f}" if done else "",
            )
        )
    all_flops = sum(found.flops.values()) / 1e9
    ways = (f"{sum(one.seconds for one in found.operations if one.way == way) / step:.3f}" for way in WAYS)
    rows.append(("all", f"{found.seconds / step:.3f}", "100.0%", *ways, f"{all_flops:,.1f}", ""))
    return terminal.columns(("part", "seconds a step", "share", *WAYS, "GFLOP", "GFLOP/s"), rows)


def _operations(found: Profile) -> str:
    rows = [
        (
            one.name[:40],
            one.written[:30],
            one.part,
            one.way,
            f"{one.seconds / (found.seconds or 1.0):.1%}",
            f"{one.calls / found.steps:,.0f}",
            f"{1e6 * one.seconds / one.calls:,.0f}",
            one.shape[:40],
        )
        for one in found.operations[:_MOST]
    ]
    headings = ("operation", "written as", "part", "pass", "share", "a step", "us each", "gives")
    return terminal.columns(headings, rows)


def _time(found: Profile) -> str:
    share = found.idle_seconds / (found.window_seconds or 1.0)
    return f"time: {found.window_seconds:.3f} s from the first operation to the last, {share:.2%} of it without any"


def _memory(memory: Mapping[str, int]) -> str:
    return "memory: " + ", ".join(f"{name} {size / 2**20:,.1f} MiB" for name, size in memory.items())


def write(folder: Path, compiled: CompiledSteps, key: StepKey, steps: int) -> str:
    """Puts the tables (profile.txt, profile.json) and the program (program.txt) beside the trace that they are of, and
    gives the tables. Raises MachineError."""
    found = profile(folder, compiled, key, steps)
    told = tables(found)
    files.write_text(folder / "profile.txt", f"{key}\n{told}\n")
    plain = found._asdict() | {"operations": [dataclasses.asdict(one) for one in found.operations], "key": repr(key)}
    files.write_text(folder / "profile.json", files.dump(plain))
    files.write_text(folder / "program.txt", compiled.text(key))
    return told


# --- In a run --------------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """Steps of a run to record, from 1, both included."""

    first: int
    last: int


class Recorder:
    """Records some steps of a run: told before the steps at which it has something to do, and when a stage ends."""

    def __init__(self, span: Span | None, workdir: Path, compiled: CompiledSteps):
        self._span, self._compiled = span, compiled
        self._folder = workdir / "profile" / (f"{span.first}-{span.last}" if span else "")
        self._open = contextlib.ExitStack()
        self._key: StepKey | None = None

    def is_due(self, step: int) -> bool:
        """Whether a recording begins or ends before step number `step`."""
        return self._span is not None and step in (self._span.first, self._span.last + 1)

    def before(self, step: int, key: StepKey, state: Any) -> None:
        """Step number `step` is dispatched next, and it is due."""
        if self._key is not None:
            self.close(step - 1, state)
            return
        jax.block_until_ready(state)  # what ran before is not to be recorded
        self._open.enter_context(recording(self._folder))
        self._key = key

    def close(self, done: int, state: Any) -> None:
        """Ends a recording that is under way, after step number `done`, and tells what it shows."""
        if self._key is None or self._span is None:
            return
        jax.block_until_ready(state)
        self._open.close()
        steps = done + 1 - self._span.first
        key, self._key, self._span = self._key, None, None
        told = write(self._folder, self._compiled, key, steps)
        terminal.say(f"profile of {steps} steps: {self._folder}\n{told}")
