"""Runs as a page shows them while they train: their state, their curves, several of them over one another.

All comes from the files of a run (record/tail.py), and nothing is written. Only what was appended is read. Fragments
are kept: they are drawn again when the run's files changed, and only so often that drawing takes a small share of one
core (`BUDGET`), so that a run that is watched loses nothing worth mentioning.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.errors import DamageError, Failure, InputError
from llm60_jax.machine import facts, pages
from llm60_jax.machine.terminal import duration, printable
from llm60_jax.record import charts, curves, forecast, history, report, shapes, status
from llm60_jax.record.history import History
from llm60_jax.record.status import Status
from llm60_jax.record.tail import Tail

BUDGET = 0.002  # share of one core that drawing one fragment may take
MOST_COMPARED = charts.COLOURS  # runs in one chart
_MOST_KEPT = 20  # comparisons
_TEMPLATE = Path(__file__).with_name("watch.html")
# The doctor reads every row, the others thinned ones; so it has a budget of its own.
_DOCTOR = ("doctor",)
_SECTIONS = ("loss", "vocabulary", "grammar", "schedule", "samples", "phases", "gates", "depth", "time", "text")


class Fragment(NamedTuple):
    """A piece of HTML, and the digest by which a browser asks whether it changed."""

    html: str
    tag: str

    @classmethod
    def of(cls, html: str) -> "Fragment":
        """Return a fragment with its digest. Control characters are escaped, as in the report."""
        html = printable(html)
        return cls(html, hashlib.sha256(html.encode("utf-8", "replace")).hexdigest()[:24])


class Summary(NamedTuple):
    """A line in the list of runs."""

    name: str
    state: str
    reason: str = ""
    done: float = 0.0  # share of its steps


class _Paced:
    """A fragment that is drawn again if something changed, and only so often that it stays within the budget."""

    def __init__(self, draw: Callable[[], str], now: Callable[[], float] = time.monotonic):
        self._draw, self._now = draw, now
        self._version: object = None
        self._due = 0.0
        self._kept = Fragment.of("")

    def get(self, version: object) -> Fragment:
        """Return the fragment of a version, or a somewhat older one."""
        if version != self._version and self._now() >= self._due:
            start = time.thread_time()
            try:
                self._kept, self._version = Fragment.of(self._draw()), version
            finally:  # what fails took its time, too
                self._due = self._now() + (time.thread_time() - start) / BUDGET
        return self._kept


class WatchedRun:
    """A run directory that is read again and again."""

    def __init__(self, path: Path):
        self.path = path
        self._tail = Tail(path / "metrics.jsonl")
        self._small: History | None = None  # all but the rows
        self._marks: object = None
        self._version = 0
        self._sections = _Paced(lambda: report.fragment(self.history(thinned=True), _SECTIONS))
        self._findings = _Paced(lambda: report.fragment(self.history(), _DOCTOR))
        self._standing: dict[str, Any] = {}
        self._stands_for: object = None
        self._load: facts.Load | None = None  # at the last look
        self._parts: list[Fragment] = []
        self._whole = Fragment.of("")
        self._lock = threading.Lock()

    def refresh(self) -> int:
        """Read what changed in the run's files, and return a number that changes with them.

        Raise DamageError if config.json or metrics.jsonl cannot be read, InputError if the run has not begun.
        """
        marks = _marks(self.path)
        if self._small is None or marks != self._marks:
            self._small = history.read(self.path, rows=[])
            self._marks = marks
            self._version += 1
        try:
            self._version += self._tail.read(self._small.config)
        except OSError as error:
            raise DamageError(f"{self.path}: metrics.jsonl cannot be read: {error.strerror}") from None
        return self._version

    def refreshed(self) -> int:
        """Return what `refresh` returns, while no other thread reads the run. Raise as `refresh`."""
        with self._lock:
            return self.refresh()

    def history(self, thinned: bool = False) -> History:
        """Return the run as it was last read, with all rows or thinned ones."""
        assert self._small is not None, "refresh comes first"
        lines = [*self._small.skipped, shapes.told("metrics.jsonl", self._tail.skipped)]
        rows = self._tail.thinned.rows if thinned else self._tail.rows
        return self._small._replace(rows=rows, skipped=[line for line in lines if line])

    def summary(self, name: str) -> Summary:
        """Return the run as a line of a list. A run that cannot be read is one, too."""
        try:
            with self._lock:
                self.refresh()
                run = self.history()
                state = status.of(run)
        except InputError:
            process = status.holder(self.path)
            if process and status.is_alive(self.path, process):
                return Summary(name, "preparing", "it prepares its text")
            return Summary(name, "no run yet", "config.json is missing")
        except Failure as failure:
            return Summary(name, "unreadable", str(failure))
        return Summary(name, state.word, state.reason, _done(run))

    def now(self) -> Fragment:
        """Return where the run stands, and how busy the machine is. Raise as `refresh`."""
        with self._lock:
            version = self.refresh()
            run = self.history()
            state = status.of(run)
            if (version, state) != self._stands_for:
                self._standing = _standing(run, self._tail.thinned.rows, state)
                self._stands_for = version, state
            is_live = state.word == "under way"
            machine = self._machine(state.pid) if is_live else []
            return Fragment.of(pages.render(_TEMPLATE, **self._standing, machine=machine))

    def _machine(self, pid: int | None) -> list[tuple[str, str]]:
        """Return how busy this computer was since the call before."""
        try:
            load = facts.load(self.path)
        except OSError:
            return []
        before, self._load = self._load or load, load
        passed = load.all_seconds - before.all_seconds
        busy = f"{(load.busy_seconds - before.busy_seconds) / passed:.0%} of " if passed > 0 else ""
        resident = facts.resident_bytes_of(pid) if pid else 0
        return [
            ("processor", f"{busy}{load.cores} cores, load {load.load:.1f}"),
            ("memory", f"{load.memory_used / 1e9:.1f} of {load.memory_total / 1e9:.1f} GB"),
            *([("this run", f"{resident / 1e9:.1f} GB")] if resident else []),
            ("disk", f"{load.disk_free / 1e9:,.0f} of {load.disk_total / 1e9:,.0f} GB free"),
        ]

    def sections(self) -> Fragment:
        """Return the sections of the report. Raise as `refresh`."""
        with self._lock:
            version = self.refresh()
            parts = [self._findings.get(version), self._sections.get(version)]
            if parts != self._parts:
                self._parts, self._whole = parts, Fragment.of("".join(part.html for part in parts))
            return self._whole


class Watch:
    """The runs that a page shows, by their names.

    Args:
      runs: returns the run directories that are there now.
    """

    def __init__(self, runs: Callable[[], Mapping[str, Path]]):
        self._runs = runs
        self._watched: dict[Path, WatchedRun] = {}
        self._compared: dict[tuple[str, ...], _Paced] = {}
        self._lock = threading.Lock()

    def list(self) -> list[Summary]:
        """Return a line for each run. Those that are gone are forgotten."""
        runs = self._runs()
        there = set(runs.values())
        with self._lock:
            if not self._watched.keys() <= there:
                self._watched = {path: run for path, run in self._watched.items() if path in there}
                self._compared.clear()
        return [self._of(path).summary(name) for name, path in runs.items()]

    def run(self, name: str) -> WatchedRun:
        """Return a run. Raise InputError if there is none of that name."""
        runs = self._runs()
        if name not in runs:
            raise InputError(f"{name[:200]}: there is no such run; those that are: {', '.join(runs) or 'none'}")
        return self._of(runs[name])

    def compare(self, names: Sequence[str]) -> Fragment:
        """Return curves of two to six runs over one another. Raise as `run` and `WatchedRun.refresh`."""
        chosen = tuple(dict.fromkeys(names))
        if not 2 <= len(chosen) <= MOST_COMPARED:
            raise InputError(f"choose two to {MOST_COMPARED} runs to compare; {len(chosen)} are chosen")
        runs = [self.run(name) for name in chosen]

        def draw() -> str:
            named = [(name, run.history(thinned=True)) for name, run in zip(chosen, runs, strict=True)]
            return "".join(curves.compared(named)) or "<p>None of these runs has a measurement yet.</p>"

        versions = tuple(run.refreshed() for run in runs)
        with self._lock:
            if len(self._compared) > _MOST_KEPT:
                self._compared.clear()
            return self._compared.setdefault(chosen, _Paced(draw)).get(versions)

    def _of(self, path: Path) -> WatchedRun:
        with self._lock:
            if path not in self._watched:
                self._watched[path] = WatchedRun(path)
            return self._watched[path]


def _marks(path: Path) -> object:
    """Return what changes when one of a run's small files changes."""
    files = [path / "config.json", path / "plan.json", *path.glob("gates/*.json"), *path.glob("samples/*.json")]
    marks = []
    for file in sorted(files):
        try:
            found = os.stat(file)
        except OSError:
            continue
        marks.append((file.name, found.st_ino, found.st_size, found.st_mtime_ns))
    return marks


def _done(run: History) -> float:
    steps = max((row["stop_step"] for row in run.plan), default=0)
    return min(1.0, run.rows[-1]["step"] / steps) if run.rows and steps else 0.0


def _standing(run: History, thinned: list[dict[str, Any]], state: Status) -> dict[str, Any]:
    """Return what watch.html shows of a run, beside the machine."""
    step = run.rows[-1]["step"] if run.rows else 0
    seconds_left = forecast.remaining(run._replace(rows=thinned), step)
    last: dict[str, Any] = next((row for row in reversed(run.rows) if "loss" in row), {})
    return {
        "name": run.path.name,
        "headline": report.headline(run._replace(rows=run.rows[-1:])),
        "skipped": run.skipped,
        "state": state,
        "done": _done(run),
        "figures": [(name, value) for name, value in _figures(run, last, step) if value],
        "time_left": duration(seconds_left) if state.word == "under way" and step else "",
    }


def _figures(run: History, last: dict[str, Any], step: int) -> list[tuple[str, str]]:
    steps = max((row["stop_step"] for row in run.plan), default=0)
    stages = [row["stage"] for row in run.plan if row["phase"] == last.get("phase")]
    scores: dict[str, Any] = next((row for row in reversed(run.rows) if "validation_loss" in row), {})
    figures = [("step", f"{step:,} of {steps:,}" if steps else f"{step:,}")]
    if last:
        figures += [
            ("stage", f"{last['phase']} {last['stage'] + 1}/{len(stages)}" if stages else last["phase"]),
            ("loss", f"{last['loss']:.3f}"),
            ("held-out loss", f"{scores['validation_loss']:.3f}" if scores else ""),
            ("minimal pairs", f"{scores['minimal_pairs']:.1%}" if "minimal_pairs" in scores else ""),
            ("learning rate", f"{last['learning_rate']:.2e}"),
            ("context", f"{last['context']:,}"),
            ("frozen blocks", f"{last['frozen']} of {last.get('blocks', run.config.model.layers)}"),
            ("tokens/s", f"{last['tokens_per_second']:,.0f}" if last.get("tokens_per_second") else ""),
        ]
    return figures
