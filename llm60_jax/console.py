"""What a person sees: the plan as a table, progress bars, the training line, samples."""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm60_jax.errors import Failure, MachineError, PrintableFormatter, printable
from llm60_jax.interrupts import Interrupts
from llm60_jax.plan import Plan

T = TypeVar("T")


class _Console(Console):
    """A console whose reader may go away: what would be printed is dropped, the run goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = _Console(highlight=False, markup=False, soft_wrap=True)
log = logging.getLogger("llm60_jax")


def say(text: str) -> None:
    """Prints a line and keeps it in the run's log. A closed terminal never ends a run."""
    log.info("%s", text)
    _print(printable(text))


@contextlib.contextmanager
def hushed(on: bool) -> Iterator[None]:
    """Inside it nothing is said if `on`; for commands whose output is one JSON object."""
    before, console.quiet = console.quiet, console.quiet or on
    try:
        yield
    finally:
        console.quiet = before


def _print(text: str, end: str = "\n") -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        console.print(text, end=end)


def parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of a command, its examples below the options, line by line."""
    return argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def config_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of a command that works on a configuration: CONFIG, and `--set`."""
    found = parser(description, examples)
    found.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file; see configs/")
    found.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override any field, for example seed=1 or phase.grammar.tokens=204800; may be repeated",
    )
    return found


@contextlib.contextmanager
def _messages(command: str) -> Iterator[None]:
    """Warnings go to the terminal, a run adds a log of everything, and no character stops a message or commands the
    terminal."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.levelno == logging.WARNING)  # errors are told once, by `guarded`
    handler.setFormatter(PrintableFormatter(f"{command}: warning: %(message)s"))
    before = log.handlers, log.propagate, logging.raiseExceptions
    log.handlers, log.propagate = [handler], False
    logging.raiseExceptions = False  # a closed terminal is no reason to stop
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        log.handlers, log.propagate, logging.raiseExceptions = before


def guarded(command: str, body: Callable[[], None], log_file: Callable[[], Path | None] = lambda: None) -> int:
    """Runs the body of a command and returns its exit code: whatever ends it is told in one message.

    Args:
      command: its name, which every message begins with.
      body: the work.
      log_file: where a traceback of an error of our own is, if it is anywhere; else it is part of the message.
    """

    def tell(message: str) -> None:
        with contextlib.suppress(OSError):
            print(f"{command}: {printable(message)}", file=sys.stderr, flush=True)

    try:
        with _messages(command):
            body()
    except Failure as failure:
        tell(str(failure))
        return failure.exit_code
    except KeyboardInterrupt:
        tell("interrupted; run the same command to start again")
        return 128 + signal.SIGINT
    except Exception as error:
        device_is_full = type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
        if isinstance(error, MemoryError) or device_is_full:
            tell("out of memory; choose fewer sequences in train.micro_batch, or a smaller model")
            return MachineError.exit_code
        if isinstance(error, OSError):
            tell(f"{error.filename or 'the system'}: {error.strerror or error}")
            return MachineError.exit_code
        log = log_file()
        where = f"the traceback is in {log}" if log and log.exists() else traceback.format_exc()
        tell(f"internal error, please report it: {type(error).__name__}: {str(error)[:500]}\n  {where}")
        return 1
    return 0


class Tracker:
    """Progress bars over long loops, with a look at the signals between items; `quiet` for the look alone."""

    def __init__(self, interrupts: Interrupts, quiet: bool = False):
        self._interrupts, self._quiet = interrupts, quiet

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        start, count = time.monotonic(), 0
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(
            *columns, console=console, transient=True, disable=self._quiet or not console.is_terminal
        ) as progress:
            task = progress.add_task(description, total=total)
            for item in items:
                self._interrupts.check()
                yield item
                count += 1
                progress.advance(task)
        if not self._quiet:
            say(f"{description}: {count:,} in {time.monotonic() - start:.1f} s")


def plan_table(rows: Sequence[dict[str, Any]]) -> str:
    """The stage table of `plan.to_rows` as text of fixed columns, a blank line between phases."""
    lines = [
        f"{'phase':<12} stage {'tokens':>13} {'steps':>7} {'context':>7} {'sequences':>9} {'micro-batches':>13} "
        f"{'frozen':>6} {'remat':>5}  learning rate"
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        batches = f"{row['accumulation']} of {row['micro_batch']}"
        if before is None or before["phase"] != row["phase"]:
            lines.append("")
        lines.append(
            f"{row['phase']:<12} {row['stage'] + 1:>5} {row['tokens']:>13,} {row['steps']:>7,} {row['context']:>7} "
            f"{row['sequences']:>9} {batches:>13} {row['frozen']:>6} {row['remat']:>5}  "
            f"{row['learning_rate_first']:.2e} -> {row['learning_rate_last']:.2e}"
        )
    return "\n".join(lines)


def columns(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as text, as wide as its content: the first column to the left, the others to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def duration(seconds: float) -> str:
    """`75 s`, `12 min`, `3 h 05 min`; a dash for what is not known yet."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def speed(tokens_per_second: float) -> str:
    """`1,234 tokens/s`; a dash before anything was measured."""
    return f"{tokens_per_second:,.0f} tokens/s" if tokens_per_second else "- tokens/s"


class ProgressLine:
    """The one line of training, redrawn in place on a terminal and printed line by line elsewhere."""

    def show(self, row: dict[str, Any], plan: Plan, remaining: float) -> None:
        """Shows a row of metrics.jsonl; `remaining` are the seconds to the end of the plan."""
        text = (
            f"{row['phase']} {row['stage'] + 1}/{len(plan.phase_stages(row['phase']))} | step {row['step']:,}/"
            f"{plan.steps:,} | context {row['context']} frozen {row['frozen']} | loss {row['loss']:.4f} | rate "
            f"{row['learning_rate']:.2e} | {speed(row['tokens_per_second'])} | ETA {duration(remaining)}"
        )
        if console.is_terminal:
            _print(printable(text)[: console.width - 1].ljust(console.width - 1), end="\r")
            log.info("%s", text)
        else:
            say(text)

    def end(self, text: str) -> None:
        """Leaves the line as it stands and says something below it."""
        if console.is_terminal:
            _print("")
        say(text)
