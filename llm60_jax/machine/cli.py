"""What all commands share: a parser with examples, messages on stderr, and one exit code for each kind of failure."""

import argparse
import contextlib
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llm60_jax.errors import Failure, MachineError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import PrintableFormatter, log, printable


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
        log_path = log_file()
        where = f"the traceback is in {log_path}" if log_path and log_path.exists() else traceback.format_exc()
        tell(f"internal error, please report it: {type(error).__name__}: {str(error)[:500]}\n  {where}")
        return 1
    return 0


def run_tool(
    name: str,
    command_line: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    body: Callable[[argparse.Namespace, Interrupts], None],
) -> int:
    """Parse the arguments, take over the signals, run `body` guarded, and return the exit code. Main thread only."""
    options = command_line.parse_args(arguments)
    interrupts = Interrupts()
    interrupts.install()
    return guarded(name, lambda: body(options, interrupts))
