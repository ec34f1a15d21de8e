"""Those who only watch a run: terminal, TensorBoard, doctor, samples, strain, profiler, costs, report.

An observer is a callable that takes events (events.py). It reads the run, writes files of its own, and changes nothing
that training rests on.
"""

import logging
from contextlib import AbstractContextManager
from typing import Any

from llm60_jax.evaluate import validation
from llm60_jax.machine import facts
from llm60_jax.machine.terminal import duration, redraw, say, speed
from llm60_jax.record import doctor, history, report, store
from llm60_jax.record.history import History
from llm60_jax.record.tensorboard import Events
from llm60_jax.run import samples
from llm60_jax.run.events import (
    Evaluated,
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
from llm60_jax.run.progress_line import progress_line
from llm60_jax.run.state import Run
from llm60_jax.training import costs
from llm60_jax.training.profiling import Recorder, Span

log = logging.getLogger("llm60_jax")


def of(run: Run, span: Span | None, events: Events | None) -> list[Observer]:
    """Return the observers of a run, in the order in which they see an event.

    Args:
      span: steps to profile.
      events: TensorBoard's files, where the configuration asks for them.
    """
    watching: list[Observer] = [Terminal(run), Costs(run), Doctor(run), Strain(run), Samples(run), Report(run)]
    if events is not None:
        watching.append(TensorBoard(events))
    if span is not None:
        watching.append(Profiler(run, span))
    return watching


class Terminal:
    """Prints what happens, and the one line of training."""

    def __init__(self, run: Run):
        self._run = run
        self._has_stepped = False

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegins(stage=stage):
                say(
                    f"{stage.phase} {stage.index + 1}: context {stage.context}, {stage.frozen_blocks} blocks frozen; "
                    f"compiled or read from the cache in {event.compile_seconds:.1f} s, waited "
                    f"{event.waited_seconds:.1f} s; temporaries {event.temporary_bytes / 2**20:.0f} MiB"
                )
            case StepLanded() if not self._has_stepped:
                self._has_stepped = True
                say(f"first step after {facts.age():.1f} s")
            case StageProved(stage=stage):
                say(f"{stage.phase} {stage.index + 1}: in effect: {event.description}")
            case StepLogged():
                redraw(progress_line(event.row, self._run.plan, event.remaining_seconds))
            case Paused():
                say(f"paused {duration(event.seconds)}: the computer slept, or the process was stopped")
            case Evaluated(row=row):
                say(f"{row['phase']}: after {row['step']:,} steps {validation.describe(row)}")
            case StageEnds():
                self._end_stage(event)

    def _end_stage(self, event: StageEnds) -> None:
        stage, account = event.stage, event.account
        leaves = f"{account['frozen_leaves']} frozen leaves unchanged, " if account["frozen_leaves"] else ""
        say(
            f"{stage.phase} {stage.index + 1}: {speed(self._run.clock.rate(stage))}, {leaves}resident memory "
            f"{account['resident_bytes'] / 2**20:,.0f} MiB, peak {account['peak_resident_bytes'] / 2**20:,.0f} MiB"
        )


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
                    say(f"doctor: {finding.explain()}")


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
                    written = samples.keep(run, phase)
                samples.show(written, phase)


class Profiler:
    """Records the steps of `--profile A:B` and prints where their time went."""

    def __init__(self, run: Run, span: Span):
        self._run = run
        self._recorder = Recorder(span, run.workdir.path, run.programs)

    def needs_rest(self, number: int) -> bool:
        return self._recorder.is_due(number)

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
    """Writes report.html at the end of a phase, and prints what the phase has come to."""

    def __init__(self, run: Run):
        self._run = run

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseEnds):
            read = _history(self._run)
            say(report.summary(read, event.phase))
            say(f"the report: {report.write(read)}")


def _history(run: Run) -> History:
    """Return the run as its directory shows it; the rows are those in memory."""
    return history.read(run.workdir.path, run.metrics.rows)
