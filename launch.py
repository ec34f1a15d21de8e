"""Train a language model from raw text, or resume the training: `python launch.py CONFIG`."""

import argparse
import shlex
import sys
import threading
from pathlib import Path

from llm60_jax.machine.signals import Interrupts

INTERRUPTS = Interrupts()
if __name__ == "__main__":  # first, so that a signal during the imports below is not lost
    INTERRUPTS.install()

# ruff: noqa: E402

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import cli, environment, locks, shipped, signals, terminal, together

EXAMPLES = """examples:
  python launch.py configs/quickstart.toml              the embedded default, all three phases
  python launch.py configs/quickstart.toml              the same command again resumes
  python launch.py configs/llm60.toml --dry-run         check everything and print the plan
  python launch.py configs/llm60.toml --set phase.grammar.tokens=204800 --workdir runs/short
  python launch.py configs/llm60.toml --back-to 12000       go back to an earlier checkpoint
  python launch.py configs/llm60.toml --profile 100:102      record three steps and print where their time goes
  python launch.py configs/llm60.toml --override-gate grammar --why "a trial of phase 2; the model is not for use"
  srun -n 8 python launch.py configs/llm60.toml --together           eight processes of Slurm, Open MPI and the like
  python launch.py configs/llm60.toml --coordinator node1:51300 --processes 2 --process 0    and 1 on another computer

exit codes:
  0 done   2 bad input or configuration   3 a gate did not pass   4 damaged data or checkpoint
  5 disk, memory or device   6 training stopped itself   129, 130, 143 interrupted, state saved   1 internal error
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    environment.read_names_as_utf8()
    options = _parse(arguments)
    terminal.console.is_verbose = options.verbose
    meeting = _meeting(options)
    typed = sys.argv[1:] if arguments is None else arguments
    command = f"{shipped.invocation(shipped.TRAIN)} {shlex.join(_to_go_on(typed))}"
    logs: list[Path] = []

    def on_loss(message: str) -> None:
        text = f"{message}. To go on, start all processes again: {command}"
        cli.tell("launch.py", text)

        def record() -> None:
            terminal.log.error("%s", text)
            locks.erase_names()  # another computer may go on at once

        recording = threading.Thread(target=record, daemon=True)
        recording.start()
        recording.join(5)  # a disk that hangs does not hold this process
        signals.leave(MachineError.exit_code)

    def body() -> None:
        config = config_module.load(options.config, options.set, options.workdir)
        logs.append(Path(config.workdir, "log.txt"))
        # before any import of JAX, which reads the environment
        environment.settle(Path(config.data_dir), config.device)
        if meeting is None:
            together.require_asked_for()
        else:
            together.begin(meeting, INTERRUPTS, on_loss)
            terminal.console.quiet = not together.is_first()
        if options.dry_run:
            _dry_run(config)
        else:
            _run(config, command, options)

    return cli.guarded("launch.py", body, lambda: logs[0] if logs else None)


def _to_go_on(command: list[str]) -> list[str]:
    """Return the command that resumes: without the options that act once."""
    parts = list(command)
    for option in ("--back-to", "--profile"):
        parts = [part for part in parts if not part.startswith(f"{option}=")]
        if option in parts:
            at = parts.index(option)
            del parts[at : at + 2]
    return parts


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--workdir", metavar="DIR", help="run directory, instead of the configuration's")
    parser.add_argument("--verbose", action="store_true", help="print all that log.txt holds")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, and stop")
    parser.add_argument("--override-gate", metavar="PHASE", help="close this phase against its gate; stays on record")
    parser.add_argument("--why", metavar="REASON", help="reason for the override")
    parser.add_argument(
        "--back-to", type=int, metavar="STEP", help="go back to this step; later checkpoints are set aside, not deleted"
    )
    parser.add_argument("--profile", type=_span, metavar="A:B", help="record steps A to B with the profiler")
    several = parser.add_argument_group("several processes, on one computer or many")
    several.add_argument(
        "--together",
        action="store_true",
        help="train with the processes that Slurm, Open MPI, Kubernetes or a TPU started",
    )
    several.add_argument("--coordinator", type=_address, metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--processes", type=int, metavar="N", help="number of processes")
    several.add_argument("--process", type=int, metavar="I", help="number of this process, from 0")
    several.add_argument(
        "--heartbeat", type=int, default=together.HEARTBEAT, metavar="SECONDS",
        help="silence after which a process counts as gone (default %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.heartbeat < 3:
        parser.error("--heartbeat: 3 seconds or more")
    by_hand = [options.coordinator, options.processes, options.process]
    if None in by_hand and any(value is not None for value in by_hand):
        parser.error("--coordinator, --processes and --process must be used together")
    if options.together and options.coordinator is not None:
        parser.error("--together finds the others by itself; leave out --coordinator, --processes and --process")
    if options.processes is not None and not 0 <= options.process < options.processes:
        parser.error(f"--process {options.process}: the {options.processes} processes are numbered from 0")
    if (options.override_gate is None) != (not (options.why or "").strip()):
        parser.error("--override-gate and --why must be used together")
    return options


def _meeting(options: argparse.Namespace) -> together.Meeting | None:
    """Return where to meet the other processes; None if this one trains alone."""
    if not options.together and options.processes in (None, 1):
        return None
    return together.Meeting(options.coordinator, options.processes, options.process, options.heartbeat)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not (port.isdecimal() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text}: give a host and a port, such as node1:51300")
    return text


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text}: give two steps, such as 100:102")
    return int(first), int(last)


def _dry_run(config: Config) -> None:
    import jax

    from llm60_jax.data import survey
    from llm60_jax.data.read import sources
    from llm60_jax.kernels import library
    from llm60_jax.machine import devices, facts, unfinished
    from llm60_jax.record.workdir import WorkDir
    from llm60_jax.run import ancestry, gates, preflight
    from llm60_jax.training import tuning

    config, _ = devices.ready(config)
    config, kernels = library.expected(config, jax.default_backend())
    with unfinished.folder() as scratch:  # a dry run leaves nothing behind
        track = terminal.Tracker(INTERRUPTS)
        in_epochs = survey.look(config, [phase for phase in config.phase if phase.epochs is not None], track, scratch)
        config = tuning.recalled(survey.counted(config, in_epochs))
        if config.train.is_auto:
            terminal.say(
                'note: "auto" is not measured on this machine yet; the run measures first, or tools/tune.py does'
            )
        stage_plan = plan.build(config)
        terminal.say(plan.plan_table(plan.to_rows(stage_plan, config)))
        terminal.say(
            f"{stage_plan.steps:,} steps of {stage_plan.tokens_per_step:,} tokens, {stage_plan.tokens:,} in all; "
            f"{config.model.parameter_count:,} parameters"
        )
        notes = [*config_module.departures(config), plan.idle(config, facts.devices_at_hand())]
        for line in filter(None, [*notes, kernels.reason if kernels.lacks else None]):
            terminal.say(f"note: {line}")
        gates.check_names(config.phase)
        preflight.require(config)
        WorkDir(Path(config.workdir)).check_identity(config)
        ancestry.check_baseline(config)
        start = ancestry.start(config)
        for path in config.evaluation_text:
            sources.inputs(sources.folder(path))
        looked = survey.look(config, config.phase, track, scratch)
        left = survey.require_enough(config, looked, start.data[1] if start else {}, track, scratch)
    terminal.say(terminal.columns(survey.HEADINGS, survey.rows(config, looked)))
    for line in survey.notes(config, looked):
        terminal.say(f"note: {line}")
    terminal.say(
        "The configuration is valid, its sources exist, and this machine can hold the run. "
        + (f"Not looked at: {'; '.join(left)}" if left else "Its text suffices for training, validation and vocabulary")
    )


def _run(config: Config, command: str, options: argparse.Namespace) -> None:
    overridden, why = options.override_gate, options.why
    if overridden is not None and overridden not in [phase.name for phase in config.phase]:
        names = ", ".join(phase.name for phase in config.phase)
        raise InputError(f"--override-gate: there is no phase '{overridden}'; there are {names}")
    # Heavy imports come after the configuration is checked.
    from llm60_jax.run import loop
    from llm60_jax.training import profiling

    override = loop.Override(overridden, why) if overridden and why else None
    span = profiling.Span(*options.profile) if options.profile else None
    loop.launch(config, INTERRUPTS, command, override, options.back_to, span)


if __name__ == "__main__":
    code = main()
    terminal.let_go()
    several = together.count() > 1
    together.end(code)
    # All is saved: do not wait for a program that is compiling in the background, or for JAX's farewell to processes
    # that have failed.
    if code > 128 or several:
        signals.leave(code)
    sys.exit(code)
