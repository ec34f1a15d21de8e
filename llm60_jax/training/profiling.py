"""Profile compiled steps: read jax.profiler's traces back as tables by part and by operation.

A part is a named scope of model or step (counted_flops.PARTS), with its backward pass and its
recomputation. `data` is the host's work to get a batch. Seconds are summed over concurrent threads
or streams.
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
WAYS = ("forward", "backward", "again")  # passes; "again" is recomputation for the backward pass
_MAX_ROWS = 15  # of the table of operations
# Skip these instructions: their time is that of the instructions inside them.
_CONTAINERS = ("while", "call", "conditional", "async-start", "async-done")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(")
_PATH = re.compile(r'op_name="([^"]*)"')


class Instruction(NamedTuple):
    """An instruction of a compiled program."""

    kind: str  # fusion, dot, custom-call ...
    shape: str  # of its result
    path: str  # scopes, then the JAX operation


@dataclasses.dataclass(frozen=True)
class Operation:
    """All instructions of one kind, shape, part and pass."""

    name: str  # the compiler's
    written: str  # the JAX operation it comes from
    part: str
    way: str  # one of WAYS
    shape: str
    calls: int
    seconds: float


class Profile(NamedTuple):
    """The time and memory of `steps` steps of a program. Seconds are summed over threads."""

    steps: int
    operations: list[Operation]  # longest first
    data_seconds: float
    window_seconds: float  # wall time from the start of the first operation to the end of the last
    idle_seconds: float  # wall time in the window without an operation on any thread
    flops: dict[str, int]  # operations of matrix products in one step, by part
    memory: dict[str, int]  # bytes, by kind

    @property
    def seconds(self) -> float:
        """Seconds of all operations and of the data."""
        return self.data_seconds + sum(operation.seconds for operation in self.operations)

    def of(self, part: str, way: str | None = None) -> float:
        """Return the seconds of a part, in one pass or in all."""
        if part == DATA:
            return self.data_seconds if way is None else 0.0
        return sum(o.seconds for o in self.operations if o.part == part and way in (None, o.way))


def data() -> contextlib.AbstractContextManager[Any]:
    """Return a context manager that marks the host's work to put a batch on the device."""
    return jax.profiler.TraceAnnotation(DATA)


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Record a trace in `folder`, for XProf and, as perfetto_trace.json.gz, for ui.perfetto.dev.

    Raises:
      MachineError: the folder cannot be written.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # else every function call is an event
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
            yield
    except OSError as error:
        raise MachineError(
            f"{folder}: the trace cannot be written ({error.strerror or error}); free some disk space, or run without "
            "profiling"
        ) from error


def profile(folder: Path, compiled: CompiledSteps, key: StepKey, steps: int) -> Profile:
    """Read the newest trace below `folder`, which has `steps` steps of a program."""
    program = instructions(compiled.text(key))
    groups: dict[tuple[str, str, str, str, str], list[float]] = {}
    data_seconds = 0.0
    spans = []
    for name, start, seconds in events(folder):
        if name == DATA:
            data_seconds += seconds
        elif (instruction := program.get(name)) and instruction.kind not in _CONTAINERS:
            path = instruction.path
            kind, written = re.sub(r"[.\d]+$", "", name), path.rpartition("/")[2]
            group = kind, written, counted_flops.part_of(path), way_of(path), instruction.shape
            groups.setdefault(group, []).append(seconds)
            spans.append((start, start + seconds))
    operations = [Operation(*group, len(times), sum(times)) for group, times in groups.items()]
    operations.sort(key=lambda operation: -operation.seconds)
    return Profile(
        steps, operations, data_seconds, *window_and_idle(spans), compiled.flops_by_part[key], compiled.memory(key)
    )


def window_and_idle(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the time from the first start to the last stop, and the part that no span covers."""
    ordered = sorted(spans)
    if not ordered:
        return 0.0, 0.0
    idle, latest = 0.0, ordered[0][0]
    for start, stop in ordered:
        idle += max(0.0, start - latest)
        latest = max(latest, stop)
    return latest - ordered[0][0], idle


def way_of(path: str) -> str:
    """Return the pass of a path of scopes: forward, backward, or again (recomputed under remat)."""
    if "rematted_computation" in path:
        return "again"
    return "backward" if "transpose(" in path else "forward"


def events(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yield name, start and seconds of every event in the newest trace below a folder."""
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns)
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines:
            for event in line.events:
                yield event.name, event.start_ns / 1e9, event.duration_ns / 1e9


def instructions(text: str) -> dict[str, Instruction]:
    """Return the instructions by name of a compiled program that XLA printed."""
    by_name = {}
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            name, shape, kind = match.groups()
            path = _PATH.search(line)
            by_name[name] = Instruction(kind, re.sub(r"\{[^}]*\}", "", shape), path[1] if path else "")
    return by_name


# --- Tables ---------------------------------------------------------------------------------------


def tables(measured: Profile) -> str:
    """Return the profile as text: by part, by operation, then time and memory."""
    summary = f"{_time(measured)}\n{_memory(measured.memory)}"
    return "\n\n".join([_parts(measured), _operations(measured), summary])


def _parts(measured: Profile) -> str:
    rows, steps = [], measured.steps
    parts = {operation.part for operation in measured.operations} | {DATA}
    for part in sorted(parts, key=measured.of, reverse=True):
        seconds, flops = measured.of(part), measured.flops.get(part, 0)
        ways = (f"{measured.of(part, way) / steps:.3f}" if measured.of(part, way) else "" for way in WAYS)
        share, speed = seconds / (measured.seconds or 1.0), steps * flops / (seconds or 1.0) / 1e9
        rows.append(
            (
                part,
                f"{seconds / steps:.3f}",
                f"{share:.1%}",
                *ways,
                f"{flops / 1e9:,.1f}" if flops else "",
                f"{speed:,.0f}" if flops else "",
            )
        )
    all_flops = sum(measured.flops.values()) / 1e9
    ways = (f"{sum(o.seconds for o in measured.operations if o.way == way) / steps:.3f}" for way in WAYS)
    rows.append(("all", f"{measured.seconds / steps:.3f}", "100.0%", *ways, f"{all_flops:,.1f}", ""))
    return terminal.columns(("part", "seconds a step", "share", *WAYS, "GFLOP", "GFLOP/s"), rows)


def _operations(measured: Profile) -> str:
    rows = [
        (
            operation.name[:40],
            operation.written[:30],
            operation.part,
            operation.way,
            f"{operation.seconds / (measured.seconds or 1.0):.1%}",
            f"{operation.calls / measured.steps:,.0f}",
            f"{1e6 * operation.seconds / operation.calls:,.0f}",
            operation.shape[:40],
        )
        for operation in measured.operations[:_MAX_ROWS]
    ]
    headings = ("operation", "JAX operation", "part", "pass", "share", "calls a step", "us a call", "result")
    return terminal.columns(headings, rows)


def _time(measured: Profile) -> str:
    idle = measured.idle_seconds / (measured.window_seconds or 1.0)
    return f"time: {measured.window_seconds:.3f} s from the first operation to the last, idle for {idle:.2%} of it"


def _memory(memory: Mapping[str, int]) -> str:
    return "memory: " + ", ".join(f"{name} {size / 2**20:,.1f} MiB" for name, size in memory.items())


def write(folder: Path, compiled: CompiledSteps, key: StepKey, steps: int) -> str:
    """Write tables and program beside their trace, and return the tables.

    The files are profile.txt, profile.json and program.txt.

    Raises:
      MachineError: the folder cannot be written.
    """
    measured = profile(folder, compiled, key, steps)
    text = tables(measured)
    files.write_text(folder / "profile.txt", f"{key}\n{text}\n")
    operations = [dataclasses.asdict(operation) for operation in measured.operations]
    files.write_text(
        folder / "profile.json", files.dump(measured._asdict() | {"operations": operations, "key": repr(key)})
    )
    files.write_text(folder / "program.txt", compiled.text(key))
    return text


# --- In a run -------------------------------------------------------------------------------------


class Span(NamedTuple):
    """The steps of a run to record, counted from 1, both ends included."""

    first: int
    last: int


class Recorder:
    """Record some steps of a run.

    Call `before` ahead of each step for which `is_due`, and `close` when a stage ends.
    """

    def __init__(self, span: Span | None, workdir: Path, compiled: CompiledSteps):
        self._span, self._compiled = span, compiled
        self._folder = workdir / "profile" / (f"{span.first}-{span.last}" if span else "")
        self._open = contextlib.ExitStack()
        self._key: StepKey | None = None

    def is_due(self, step: int) -> bool:
        """Return whether a recording starts or ends before step number `step`."""
        return self._span is not None and step in (self._span.first, self._span.last + 1)

    def before(self, step: int, key: StepKey, state: Any) -> None:
        """Start or end the recording before step number `step`, which is due."""
        if self._key is not None:
            self.close(step - 1, state)
            return
        jax.block_until_ready(state)  # keep earlier steps out of the trace
        try:
            self._open.enter_context(recording(self._folder))
        except BaseException:
            self._span = None  # no second try, which would record other steps
            raise
        self._key = key

    def close(self, done: int, state: Any) -> None:
        """End a recording after step number `done`, if there is one; write and print its tables."""
        if self._key is None or self._span is None:
            return
        steps = done + 1 - self._span.first
        key, self._key, self._span = self._key, None, None  # first, so that a failure ends the recording too
        jax.block_until_ready(state)
        self._open.close()
        text = write(self._folder, self._compiled, key, steps)
        terminal.say(f"profile of {steps} steps: {self._folder}\n{text}")
