"""Those who only watch a run: terminal, TensorBoard, doctor, samples, strain, profiler, costs, report.

An observer is a callable that takes events (events.py). It reads the run, writes files of its own, and changes nothing
that training rests on.
"""

import logging
import time
from contextlib import AbstractContextManager
from typing import Any

from llm60_jax.evaluate import validation
from llm60_jax.machine import compilation_cache, facts, shipped, together
from llm60_jax.machine.terminal import detail, duration, progress, redraw, say, speed
from llm60_jax.plan import Stage
from llm60_jax.record import doctor, history, report, store
from llm60_jax.record.history import History
from llm60_jax.record.metrics import Row
from llm60_jax.record.tensorboard import Events
from llm60_jax.run import samples
from llm60_jax.run.events import (
    Evaluated,
    EvaluationBegins,
    Event,
    Observer,
    Paused,
    PhaseEnds,
    PhaseJudged,
    RowAdded,
    Saved,
    StageBegins,
    StageEnds,
    StageProved,
    StageTrained,
    StepBegins,
    StepLanded,
    StepLogged,
    Stopped,
)
from llm60_jax.run.progress_line import live_line, place, progress_line
from llm60_jax.run.state import Run
from llm60_jax.training import costs
from llm60_jax.training.profiling import Recorder, Span

log = logging.getLogger("llm60_jax")
_REDRAW_SECONDS = 0.5  # between two drawings of the live line


def of(run: Run, span: Span | None, events: Events | None) -> list[Observer]:
    """Return the observers of a run, in the order in which they see an event.

    Args:
      span: steps to profile.
      events: TensorBoard's files, where the configuration asks for them.
    """
    recorded = [] if span is None else [Profiler(run, span)]
    if not together.is_first():
        return [Samples(run), *recorded]  # in the first all meet, and all rest for the second
    watching: list[Observer] = [
        Terminal(run),
        Cache(run),
        Costs(run),
        Doctor(run),
        Strain(run),
        Samples(run),
        Report(run),
    ]
    if events is not None:
        watching.append(TensorBoard(events))
    return [*watching, *recorded]


class Terminal:
    """Prints a line at both ends of a stage, and between them the live line of training."""

    def __init__(self, run: Run):
        self._run = run
        self._began = time.monotonic()  # of the stage under way
        self._drawn = 0.0  # when the live line was drawn last
        self._stage: Stage | None = None
        self._row: Row | None = None  # of the last logged step of the stage
        self._evaluation: Row | None = None  # the last one of the phase
        self._has_stepped = False

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegins():
                self._begin_stage(event)
            case StepBegins() if not self._has_stepped:
                self._has_stepped = True
                detail(f"the first step begins after {facts.age():.1f} s")
            case StepLanded(number=number):
                if time.monotonic() - self._drawn > _REDRAW_SECONDS:
                    self._redraw(number)
            case StageProved(stage=stage):
                detail(f"{place(self._run.plan, stage)}: in effect: {event.description}")
            case StepLogged(row=row):
                self._row = row
                progress(progress_line(row, self._run.plan, event.remaining_seconds))
                self._redraw(row["step"])
            case Paused():
                say(f"paused {duration(event.seconds)}: the computer slept, or the process was stopped")
            case EvaluationBegins():
                self._redraw(self._run.step, "scoring held-out text")
            case Evaluated(row=row):
                self._evaluation = row
                detail(f"{row['phase']}: after {row['step']:,} steps {validation.describe(row)}")
            case StageEnds():
                self._end_stage(event)
            case PhaseEnds():
                self._evaluation = None

    def _begin_stage(self, event: StageBegins) -> None:
        stage, plan = event.stage, self._run.plan
        self._began, self._stage, self._row = time.monotonic(), stage, None
        say(
            f"{place(plan, stage)}: context {stage.context}, {stage.frozen_blocks} of {stage.blocks} blocks frozen, "
            f"steps {stage.start_step + 1:,} to {stage.stop_step:,}"
        )
        detail(
            f"{place(plan, stage)}: compiled or read from the cache in {event.compile_seconds:.1f} s, waited "
            f"{event.waited_seconds:.1f} s; temporaries {event.temporary_bytes / 2**20:.0f} MiB"
        )

    def _end_stage(self, event: StageEnds) -> None:
        stage, account, name = event.stage, event.account, place(self._run.plan, event.stage)
        parts = [f"loss {self._row['loss']:.3f}"] if self._row else []
        if self._evaluation is not None and self._evaluation["step"] > stage.start_step:
            parts.append(f"held-out {self._evaluation['validation_loss']:.3f}")
        rate = self._run.clock.rate(stage)  # 0 while too few steps are measured
        parts += [*([speed(rate)] if rate else []), duration(time.monotonic() - self._began)]
        say(f"{name}: done: {', '.join(parts)}")
        leaves = f"{account['frozen_leaves']} frozen leaves unchanged, " if account["frozen_leaves"] else ""
        detail(
            f"{name}: {leaves}resident memory {account['resident_bytes'] / 2**20:,.0f} MiB, peak "
            f"{account['peak_resident_bytes'] / 2**20:,.0f} MiB"
        )

    def _redraw(self, step: int, now: str = "") -> None:
        """Draw the live line; `now` stands for speed and ETA."""
        if self._stage is None:
            return
        self._drawn = time.monotonic()
        clock = self._run.clock
        now = now or f"{speed(clock.rate(self._stage))} | ETA {duration(clock.remaining(step))}"
        loss = self._row["loss"] if self._row else None
        held_out = self._evaluation["validation_loss"] if self._evaluation else None
        redraw(*live_line(self._run.plan, self._stage, step, loss, held_out, now))


class TensorBoard:
    """Copies the scalars of each row to TensorBoard's event files."""

    def __init__(self, events: Events):
        self._events = events

    def __call__(self, event: Event) -> None:
        if isinstance(event, RowAdded):
            self._events(event.row)


class Costs:
    """Remembers what the program of a stage took, for the plan of the next run."""

    def __init__(self, run: Run):
        self._run = run

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageEnds) and event.step_seconds:
            account = event.account
            cost = costs.Cost((event.step_seconds,), account["temporary_bytes"], account["peak_resident_bytes"])
            costs.remember(self._run.config, {event.key: cost})


class Cache:
    """Seals the compilation cache when nothing compiles: a run that is killed early has not compiled in vain."""

    def __init__(self, run: Run):
        self._run = run

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepLogged) and self._run.programs.is_idle:
            compilation_cache.seal(self._run.cache)


class Doctor:
    """Prints what the doctor finds, each trouble once."""

    def __init__(self, run: Run):
        self._run = run
        self._reported: set[tuple[str, str]] = set()  # phase, symptom

    def __call__(self, event: Event) -> None:
        if isinstance(event, Evaluated | PhaseEnds | Stopped):
            for finding in doctor.examine(_history(self._run)):
                if (finding.phase, finding.symptom) not in self._reported:
                    self._reported.add((finding.phase, finding.symptom))
                    command = f"{shipped.invocation('doctor')} {self._run.workdir.path}"
                    say(f"doctor: {finding.phase}: {finding.symptom}; {command} explains")
                    detail(f"doctor: {finding.explain()}")


class Strain:
    """Warns of disk and memory that run short: once, until they no longer do."""

    def __init__(self, run: Run):
        self._run = run
        self._warned: set[str] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Evaluated):
            shortages = facts.strain(self._run.workdir.path, store.nbytes(self._run.state))
            for resource in shortages.keys() - self._warned:
                log.warning("%s", shortages[resource])
            self._warned = set(shortages)


class Samples:
    """Writes the same prompts on with every checkpoint, and shows the short texts at the end of a phase."""

    def __init__(self, run: Run):
        self._run = run

    def __call__(self, event: Event) -> None:
        run = self._run
        match event:
            # Where a phase begins, the phase before has written with the same weights.
            case Saved(phase=phase, step=step) if step != run.plan.phase_span(phase.name)[0]:
                with run.clock.paused("samples"):
                    samples.keep(run, phase)
            case PhaseJudged(phase=phase):
                with run.clock.paused("samples"):
                    samples.keep(run, phase, show=True)


class Profiler:
    """Records the steps of `--profile A:B` in process 0, and prints where their time went.

    All processes rest before they begin and after they end, because all take the steps in one order.
    """

    def __init__(self, run: Run, span: Span):
        self._run, self._span = run, span
        self._recorder = Recorder(span if together.is_first() else None, run.workdir.path, run.programs)

    def needs_rest(self, number: int) -> bool:
        return number in (self._span.first, self._span.last + 1)

    def __call__(self, event: Event) -> None:
        match event:
            case StepBegins() if self._recorder.is_due(event.number):
                with self._paused():
                    self._recorder.before(event.number, event.key, self._run.state)
            case StageTrained():
                self._recorder.close(self._run.step, self._run.state)

    def _paused(self) -> AbstractContextManager[Any]:
        return self._run.clock.paused("profile")


class Report:
    """Writes report.html at the end of a phase, and says how much of its time went into evaluation."""

    def __init__(self, run: Run):
        self._run = run

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseEnds):
            read = _history(self._run)
            detail(report.summary(read, event.phase))
            detail(f"the report: {report.write(read)}")
            if spent := report.time_spent(read, event.phase):
                say(f"phase {event.phase.name}: {spent}")


def _history(run: Run) -> History:
    """Return the run as its directory shows it; the rows are those in memory."""
    return history.read(run.workdir.path, run.metrics.rows)
