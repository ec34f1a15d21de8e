"""The playbook in code: for each open phase, train its stages; judge; extend or close.

Raw text -> documents -> tokenizer -> shards -> every stage of every phase -> gates. Everything a restart needs is in
the newest checkpoint and in the prepared data, so running and resuming are the same call.
"""

import contextlib
import functools
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase
from llm60_jax.data import first_look
from llm60_jax.data.prepare import Prepared, prepare
from llm60_jax.errors import DamageError, GateError, InputError, Interrupted, TrainingError
from llm60_jax.kernels import library
from llm60_jax.machine import devices, facts, manifest, shared_folder, shipped, together
from llm60_jax.machine.awake import kept_awake
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import Tracker, detail, say
from llm60_jax.plan import Stage
from llm60_jax.record import checkpoints, report, store
from llm60_jax.record.metrics import MetricsLog
from llm60_jax.record.tensorboard import Events
from llm60_jax.record.workdir import WorkDir, flat, opened
from llm60_jax.run import amending, ancestry, closing, feed, gates, measures, observers, preflight
from llm60_jax.run.events import Observer, Observers, PhaseEnds, PhaseJudged, Stopped
from llm60_jax.run.flight import Rewind
from llm60_jax.run.opening import open_run
from llm60_jax.run.stage import train_stage
from llm60_jax.run.state import Run
from llm60_jax.training import tuning
from llm60_jax.training.profiling import Span

log = logging.getLogger("llm60_jax")
_TO_ROUNDING = "with another number of devices the run is equal to rounding only, not bit for bit"


class Override(NamedTuple):
    """A person's decision to close a phase against its gate."""

    phase: str
    why: str


class Ready(NamedTuple):
    """What a run is opened with, once all is checked and prepared."""

    workdir: WorkDir
    data: Prepared  # with the configuration of counted tokens
    versions: dict[str, str]
    start: ancestry.Start | None


def train(run: Run, override: Override | None = None) -> None:
    """Train phases -> stages -> steps. A resumed run enters the same three loops further down."""
    for phase in open_phases(run):
        closing.enter(run, phase)  # golden rule 1: only from the phase before, closed on evidence
        while True:
            for stage in stages(run, phase):
                train_stage(run, phase, stage)
            judgement = closing.judge(run, phase, override.why if override and override.phase == phase.name else None)
            run.tell(PhaseJudged(phase))
            run.interrupts.agree()  # all is saved, and the same command judges again
            if judgement.extension is None:
                break
            detail(judgement.explanation)  # its remedy comes at once
            amending.extend(run, judgement.extension)
        if judgement.closes:
            say(judgement.explanation)
            closing.close(run, phase, judgement)
        closing.account(run, phase)
        run.tell(PhaseEnds(phase))
        if not judgement.closes:
            raise GateError(judgement.explanation)
        feed.clear(run, phase)
    say(farewell(run))


def farewell(run: Run) -> str:
    """Return the last lines of a finished run: where the model is, and what is worth trying next."""
    workdir, last = run.workdir.path, run.checkpoints.phase(run.config.phase[-1].name)
    tries = [
        ("generate", [str(workdir), "--prompt", run.config.sampling.prompts[0]]),
        ("evaluate", [str(workdir)]),
        ("check_privacy", [str(last)]),
    ]
    return "\n".join(
        [
            f"done: {run.step:,} steps, {run.plan.tokens:,} tokens",
            f"  the model:  {last}",
            f"  the report: {workdir / report.NAME}",
            "what to try next:",
            *(f"  {shipped.invocation(name)} {shlex.join(arguments)}" for name, arguments in tries),
        ]
    )


def open_phases(run: Run) -> Iterator[Phase]:
    """Yield the phases that are not closed yet, each when the one before it is.

    Raises DamageError where a closed phase is not of this run.
    """
    for phase in run.config.phase:
        for line in run.data.corpora[phase.name].summary():
            detail(f"{phase.name}: {line}")
        for line in run.data.corpora[phase.name].warnings():
            say(f"{phase.name}: {line}")
        say(run.data.describe(phase))
        folder, stop = run.checkpoints.phase(phase.name), run.plan.phase_span(phase.name)[1]
        ends = together.on_first(functools.partial(_end_of, folder))
        if ends is not None:
            if ends != stop:
                raise DamageError(f"{folder}: ends at step {ends}, and the phase at {stop}; it is not of this run")
            feed.clear(run, phase)
        elif run.step > stop:
            log.warning("%s is missing, though later phases are trained", folder)
        else:
            yield phase


def _end_of(folder: Path) -> int | None:
    """Return the step at which a phase checkpoint was written; None if there is none."""
    return store.identity(folder, manifest.read)[0] if manifest.exists(folder) else None


def stages(run: Run, phase: Phase) -> Iterator[Stage]:
    """Yield the stages of a phase that are left, as they are planned when the run comes to them.

    With `freeze_when = "converged"` a freeze is decided when it is due, after a look at its blocks.
    """
    while run.step < run.plan.phase_span(phase.name)[1]:
        stage = run.plan.stage_at(run.step)
        if phase.freeze_when == "converged" and amending.is_undecided(run, stage):
            if plan.due(run.config, run.plan, phase, run.step).look:
                measures.look(run, phase, stage)
            amending.decide(run, phase, stage)
        else:
            yield stage


def launch(
    config: Config,
    interrupts: Interrupts,
    resume_command: str,
    override: Override | None = None,
    back_to: int | None = None,
    span: Span | None = None,
    watching: Sequence[Observer] = (),
) -> None:
    """Train a configuration to the end of its last phase, from wherever its run directory stands.

    Args:
      config: the validated configuration.
      interrupts: asked wherever stopping is safe.
      resume_command: what to type to go on; part of the message on an interruption.
      override: of a gate, recorded for good.
      back_to: a step that the run goes back to; what it has committed after that is set aside.
      span: steps to record with the profiler.
      watching: observers beside those of every run.

    Raises:
      Failure: any of `errors`; state is saved where there is any.
    """
    try:
        with _prepared(config, interrupts, back_to, span) as ready, kept_awake(config.train.keep_awake):
            rows = MetricsLog(ready.workdir)
            opening = (ready.data.config, ready.workdir, rows, ready.data, ready.versions, interrupts, ready.start)
            while True:
                try:  # no name holds the run, so that a rewind frees its memory before the next one opens
                    _train_watched(open_run(*opening), override, span, watching)
                    return
                except Rewind:
                    pass  # once more, from the checkpoint before and at a lower rate
    except Interrupted as stop:
        raise Interrupted(f"{stop}. To go on: {resume_command}", stop.exit_code - 128) from None
    except Exception as error:
        if (failure := together.lost(error)) is None:
            raise
        raise failure from None


@contextlib.contextmanager
def _prepared(config: Config, interrupts: Interrupts, back_to: int | None, span: Span | None) -> Iterator[Ready]:
    """Check a configuration and this machine, prepare the text, and open the run directory, all cheap checks first."""
    gates.check_names(config.phase)
    tree = config_module.to_tree(config)  # of processes that act together, what may change under a run is the same, too
    options = {"--back-to": back_to, "--profile": span}
    together.require_same("the configuration", flat(tree) | flat(tree, free=True) | options)
    together.all_or_none(lambda: preflight.require(config))
    look = together.first_then_all(lambda: first_look.look(config, Tracker(interrupts)))
    config = look.config
    plan.build(config)  # each stage has a step
    with opened(Path(config.workdir)) as workdir:
        for field, folder in (("workdir", config.workdir), ("data_dir", config.data_dir)):
            shared_folder.require(field, Path(folder))
        for line in look.notes:
            say(f"note: {line}")
        workdir.check_identity(config)
        if back_to is not None:
            together.on_first(lambda: _go_back(workdir, back_to))
        if workdir.is_new:
            ancestry.check_baseline(config)
            for line in config_module.departures(config):
                say(f"note: {line}")
        start = together.all_or_none(functools.partial(ancestry.start, config))
        # before hours of work rest on them
        config, versions = together.all_or_none(functools.partial(devices.ready, config))
        wanted = config.train.kernels
        config, kernels = together.all_or_none(functools.partial(library.settled, config)), library.active()
        versions["kernels"] = kernels.name  # they round differently
        together.require_same("this computer", versions)
        (detail if kernels.kernels in ("native", wanted) else say)(f"note: {kernels.reason}")
        for phase in config.phase if kernels.kernels == "native" else ():
            if fault := plan.unclaimed(config, phase):
                say(f"note: phase {phase.name} trains on XLA: {fault}")
        for line in _shared(config):
            say(f"note: {line}")
        config = together.first_then_all(lambda: tuning.settled(config, Tracker(interrupts)))
        track, inherited = Tracker(interrupts), start.data if start else None
        data = together.first_then_all(lambda: prepare(config, track, workdir.check_digests, inherited))
        together.require_same("the prepared text", data.digests)
        together.on_first(lambda: workdir.begin(data.config, data.digests, data.tokenizer.path, kernels.record))
        yield Ready(workdir, data, versions, start)


def _shared(config: Config) -> Iterator[str]:
    """Yield how devices share the steps, and what that means for equal bits."""
    settings = config.train
    if line := plan.idle(config, facts.devices_at_hand()):
        yield line
    if settings.device_count == 1:
        return
    of_processes = f" of {together.count()} processes" if together.count() > 1 else ""
    yield f"{settings.device_count} devices{of_processes} share each step" + (
        f"; {settings.fsdp} of them hold the weights together" if settings.fsdp > 1 else ""
    )
    slots, count = plan.sharing(config).slots, settings.device_count
    if config.optimizer.name != "adafactor":
        yield f"optimizer.name = {config.optimizer.name}: its update may round otherwise elsewhere; {_TO_ROUNDING}"
    elif settings.gather == "layer" and settings.fsdp > 1:
        yield f'train.gather = "layer": {_TO_ROUNDING}'
    elif slots == 0:
        why = "train.slots = 0" if settings.slots == 0 else f"{count} is no power of two"
        yield f"{why}: the sums of a step have no fixed order; {_TO_ROUNDING}"
    elif slots > settings.slots:
        yield (
            f"{count} devices make {slots} sums of each step, and train.slots is {settings.slots}: with fewer devices "
            f"set train.slots={slots} from the beginning, or the run is equal to rounding only"
        )


def _go_back(workdir: WorkDir, step: int) -> None:
    """Set aside what the run has committed after a step. Raise InputError where that step has no checkpoint."""
    if branch := checkpoints.set_aside_after(workdir.path, step):
        workdir.forget_rescues(step)
        say(f"going back to step {step:,}; what came after it is in {branch}")


def _train_watched(run: Run, override: Override | None, span: Span | None, watching: Sequence[Observer]) -> None:
    """Train with the run's observers, and record why training stops itself if it does."""
    if span is not None and not run.step < span.first <= span.last <= run.plan.steps:
        raise InputError(
            f"--profile {span.first}:{span.last}: the run stands at step {run.step:,} of {run.plan.steps:,}, "
            "and what is recorded must lie between"
        )
    with contextlib.ExitStack() as stack:
        events = None
        if run.config.train.tensorboard:
            events = stack.enter_context(contextlib.closing(Events(run.workdir.path, run.step)))
        run.tell = Observers([*observers.of(run, span, events), *watching])
        stack.enter_context(run.awake.watching())
        try:
            train(run, override)
        except TrainingError as failure:
            stage = run.plan.stage_at(min(run.step, run.plan.steps - 1))
            run.record({**run.position(run.step, stage), "stopped": str(failure)})
            run.tell(Stopped(failure))
            raise
        finally:
            run.tell = Observers()  # they hold the run, which would keep its memory
