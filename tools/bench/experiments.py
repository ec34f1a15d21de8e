"""Train the arms of an experiment, each with several seeds, and compare them."""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from llm60_jax import config as config_module
from llm60_jax.config import schema
from llm60_jax.config.schema import PathText, record, require
from llm60_jax.errors import Failure, InputError, Interrupted
from llm60_jax.machine import cli, files, manifest, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record.workdir import WorkDir

LAUNCH = Path(__file__).resolve().parents[2] / "launch.py"
EXAMPLES = """examples:
  # list the runs, and which are finished
  python tools/experiments.py configs/experiments/playbook.toml --list
  # two at a time, a core each
  python tools/experiments.py configs/experiments/playbook.toml --jobs 2
  # two arms, on other text
  python tools/experiments.py configs/experiments/playbook.toml --arms playbook,no-mask \\
    --set phase.grammar.sources.0.path=my/books
  # compare the finished runs
  python tools/experiments.py configs/experiments/playbook.toml --report

Each run is launch.py with the overrides of its arm, in a directory of its own: DIR/<arm>-<seed>.
The comparison goes to DIR/report.json. The same command resumes where it stopped; finished runs
stay.
"""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
ArmName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


@record
class Arm:
    """One way of training: overrides of the configuration."""

    name: ArmName
    set: tuple[str, ...] = ()
    seeds: tuple[Seed, ...] | None = None  # None: the experiment's
    # an arm whose finished run of the same seed allows enhancements (golden rule 6)
    baseline: ArmName | None = None


@record
class Experiment:
    """Arms to compare; the first is the reference for the others."""

    config: PathText
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    arm: Annotated[tuple[Arm, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arm]
        require(len(set(names)) == len(names), f"arm: names must differ, got {names}")
        for arm in self.arm:
            is_valid = arm.baseline is None or arm.baseline in names[: names.index(arm.name)]
            require(is_valid, f"arm.{arm.name}.baseline: there is no arm '{arm.baseline}' before it")
            if arm.baseline is not None:
                absent = set(arm.seeds or self.seeds) - set(self.arm[names.index(arm.baseline)].seeds or self.seeds)
                require(not absent, f"arm.{arm.name}.seeds: its baseline has no seeds {sorted(absent)}")


@dataclasses.dataclass(frozen=True)
class ArmRun:
    """One arm with one seed."""

    arm: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    after: Path | None  # the run directory that must be finished first

    @property
    def finished(self) -> bool:
        """Whether its last phase is closed."""
        return _is_finished(self.folder)


def runs(experiment: Experiment, folder: Path, overrides: Sequence[str], only: Sequence[str]) -> list[ArmRun]:
    """Return all runs of an experiment, in the order of its arms, with their configurations
    validated.

    Raises:
      InputError: a configuration is not valid; the message names the arm's overrides.
    """
    planned = []
    for arm in experiment.arm:
        if only and arm.name not in only:
            continue
        for seed in arm.seeds or experiment.seeds:
            workdir = folder / f"{arm.name}-{seed}"
            after = folder / f"{arm.baseline}-{seed}" if arm.baseline else None
            named = [f'baseline="{after}"'] if after else []
            sets = [*overrides, *named, *arm.set, f"seed={seed}"]
            config_module.load(experiment.config, sets, str(workdir))
            arguments = [experiment.config, "--workdir", str(workdir), *(x for s in sets for x in ("--set", s))]
            planned.append(ArmRun(arm.name, seed, workdir, tuple(arguments), after))
    return planned


def train(todo: Sequence[ArmRun], jobs: int, interrupts: Interrupts) -> None:
    """Train the unfinished runs, `jobs` processes at a time, each on a core of its own if the
    system allows it.

    Raises:
      Failure: a run failed. Its output is in `<run>.txt`. The other runs under way finish first.
      InputError: a run needs another run that is unfinished and not in `todo`.
      Interrupted: a signal came; the runs under way have saved their state.
    """
    waiting = collections.deque(run for run in todo if not run.finished)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    slots: dict[int, tuple[ArmRun, subprocess.Popen[bytes], float]] = {}
    failed: tuple[ArmRun, int] | None = None  # a run and its exit code
    done = len(todo) - len(waiting)
    try:
        while slots or (waiting and failed is None):
            for slot in set(range(jobs)) - set(slots):
                ready = _next(waiting, alone=not slots) if failed is None else None
                if ready is not None:
                    core = cores[slot % len(cores)] if jobs > 1 and cores else None
                    slots[slot] = ready, _start(ready, core), time.monotonic()
                    terminal.say(f"{ready.arm}, seed {ready.seed}: started ({done + len(slots)} of {len(todo)})")
            if waiting and not slots and failed is None:
                run = waiting[0]
                raise InputError(f"{run.arm}, seed {run.seed}: needs {run.after}, which is not finished; train it too")
            interrupts.check()
            time.sleep(0.2)
            for slot, (run, process, began) in list(slots.items()):
                code = process.poll()
                if code is not None:
                    del slots[slot]
                    done += code == 0
                    terminal.say(f"{run.arm}, seed {run.seed}: exit code {code} after {time.monotonic() - began:.0f} s")
                    failed = (run, code) if code else failed
    except Interrupted as stop:
        for _, process, _ in slots.values():
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGINT)
        for _, process, _ in slots.values():
            process.wait()
        stop.add_note("the runs under way are saved; the same command goes on from there")
        raise
    if failed is not None:
        failure = Failure(f"{failed[0].arm}, seed {failed[0].seed}: failed; its output is in {_output(failed[0])}")
        failure.exit_code = failed[1] if failed[1] > 0 else 1
        raise failure


def _next(waiting: "collections.deque[ArmRun]", alone: bool) -> ArmRun | None:
    """Return the next run that may start. The very first one starts alone: it prepares the data
    that all share."""
    for run in waiting:
        prepared = alone or any(path.is_file() for path in run.folder.parent.glob("*/plan.json"))
        if prepared and (run.after is None or _is_finished(run.after)):
            waiting.remove(run)
            return run
    return None


def _start(run: ArmRun, core: int | None) -> "subprocess.Popen[bytes]":
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with _output(run).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(LAUNCH), *run.arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    if core is not None:
        with contextlib.suppress(ProcessLookupError):
            # Before the process imports jax, which starts one thread for each core that it may use.
            os.sched_setaffinity(process.pid, {core})
    return process


def _output(run: ArmRun) -> Path:
    return run.folder.with_name(run.folder.name + ".txt")


def _is_finished(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
        return manifest.exists(folder / "phases" / stored["phase"][-1]["name"])
    return False


def measure(run: ArmRun) -> dict[str, Any]:
    """Return a finished run's last validation, its training time, and the operations of its
    steps."""
    rows = WorkDir(run.folder).rows()
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    if not any("validation_loss" in row for row in rows):
        raise InputError(f"{run.folder / 'metrics.jsonl'}: holds no evaluation; delete {run.folder} to train it again")
    stages = {(row["phase"], row["stage"]): row for row in plan}
    proofs = {(row["phase"], row["stage"]): row["proof"] for row in rows if "proof" in row}
    ends = {(row["phase"], row["stage"]): row["stage_end"] for row in rows if "stage_end" in row}
    last = [row for row in rows if "validation_loss" in row][-1]
    return {
        "arm": run.arm,
        "seed": run.seed,
        "bits_per_byte": last["bits_per_byte"],
        "validation_loss": last["validation_loss"],
        "loss_by_rarity": last["loss_by_rarity"],
        "training_seconds": sum(
            stages[at]["tokens"] / end["tokens_per_second"] for at, end in ends.items() if end["tokens_per_second"]
        ),
        "cpu_seconds": sum(end.get("cpu_seconds", 0.0) for end in ends.values()),
        "teraflops": sum(stages[at]["steps"] * proof["matmul_flops"] for at, proof in proofs.items()) / 1e12,
        "peak_resident_bytes": max(end["peak_resident_bytes"] for end in ends.values()),
    }


def compare(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each arm: means over its seeds, and differences from the first arm.

    A difference is the mean over the seeds that both arms have; its deviation is the sample
    standard deviation, None for a single seed.
    """
    if not measured:
        return []
    averaged = ("bits_per_byte", "validation_loss", "teraflops")
    reference = {m["seed"]: m for m in measured if m["arm"] == measured[0]["arm"]}
    rows = []
    for arm in dict.fromkeys(m["arm"] for m in measured):
        of_arm = [m for m in measured if m["arm"] == arm]
        pairs = [(m, reference[m["seed"]]) for m in of_arm if m["seed"] in reference]
        deltas = [m["bits_per_byte"] - r["bits_per_byte"] for m, r in pairs]
        rows.append(
            {
                "arm": arm,
                "seeds": len(of_arm),
                **{field: statistics.fmean(m[field] for m in of_arm) for field in averaged},
                "difference": statistics.fmean(deltas) if deltas else None,
                "deviation": statistics.stdev(deltas) if len(deltas) > 1 else None,
                **{f"{f}_ratio": _ratio(pairs, f) for f in ("training_seconds", "cpu_seconds", "teraflops")},
                "training_seconds": statistics.fmean(m["training_seconds"] for m in of_arm),
            }
        )
    return rows


def _ratio(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], field: str) -> float | None:
    ratios = [m[field] / r[field] for m, r in pairs if r[field]]
    return statistics.fmean(ratios) if ratios else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as text; "x" columns are ratios to the first arm."""
    headings = ("arm", "seeds", "bits/byte", "difference", "± seeds", "seconds", "x time", "x CPU", "x operations")
    ratios = ("training_seconds_ratio", "cpu_seconds_ratio", "teraflops_ratio")
    return terminal.columns(
        headings,
        [
            (
                row["arm"],
                str(row["seeds"]),
                f"{row['bits_per_byte']:.4f}",
                _number(row["difference"], "+.4f"),
                _number(row["deviation"], ".4f"),
                f"{row['training_seconds']:.0f}",
                *(_number(row[ratio], ".2f") for ratio in ratios),
            )
            for row in rows
        ],
    )


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _run(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.jobs < 1:
        raise InputError(f"--jobs: {options.jobs}, but it must be 1 or more")
    experiment = schema.validate(Experiment, schema.read_toml(options.experiment), str(options.experiment))
    only = [name for name in re.split(r"[,\s]+", options.arms) if name]
    if unknown := set(only) - {arm.name for arm in experiment.arm}:
        raise InputError(f"--arms: there is no {sorted(unknown)} in {options.experiment}")
    folder = options.dir or Path("runs") / options.experiment.stem
    todo = runs(experiment, folder, options.set, only)
    if options.list:
        for run in todo:
            terminal.say(f"{'finished' if run.finished else 'to do   '}  {run.arm}, seed {run.seed}: {run.folder}")
        return
    if not options.report:
        train(todo, options.jobs, interrupts)
    measured = [measure(run) for run in todo if run.finished]
    rows = compare(measured)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "report.json", files.dump({"arms": rows, "runs": measured}))
    terminal.say(table(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="a TOML file; see configs/experiments/")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where runs go (default: runs/<name of the file>)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override in every arm")
    parser.add_argument("--arms", default="", metavar="NAMES", help="only these arms, separated by commas")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, a core each (default 1)")
    parser.add_argument("--list", action="store_true", help="list the runs and train nothing")
    parser.add_argument("--report", action="store_true", help="compare the finished runs and train nothing")
    return cli.run_tool("experiments.py", parser, arguments, _run)


if __name__ == "__main__":
    sys.exit(main())
