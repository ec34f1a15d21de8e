"""The frame of every command: a parser with examples, messages on stderr, exit codes.

A tool's main builds a `parser` or `config_parser`, adds its options, and returns `run_tool(...)`.
"""

import argparse
import contextlib
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llm60_jax.config import Config, Phase
from llm60_jax.config.schema import nearest
from llm60_jax.errors import Failure, InputError, Interrupted, MachineError
from llm60_jax.machine import environment, memory, shipped
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import (
    PrintableFormatter,
    WarningHandler,
    end_line,
    let_go,
    log,
    printable,
    reader_is_gone,
)

# What an interrupted call keeps that prepares text.
PREPARED = "finished parts of the text are kept; the same command goes on from there"


def parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Return a command's parser. Its help shows the examples below the options, line by line."""
    return argparse.ArgumentParser(
        prog=shipped.program(),
        description=description,
        epilog=shipped.spoken(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_parser(description: str | None, examples: str, default: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a command that takes a configuration: CONFIG and `--set`.

    Args:
      default: the name of the configuration of a call without CONFIG; None requires one.
    """
    result = parser(description, examples)
    text = "a TOML file, or the name of one in configs/: quickstart"
    if default is None:
        result.add_argument("config", type=_config_file, metavar="CONFIG", help=text)
    else:
        path = shipped.configs()[default]
        text += f" (default: {default})"
        result.add_argument("config", type=_config_file, nargs="?", default=path, metavar="CONFIG", help=text)
    result.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override any field, for example seed=1 or phase.grammar.tokens=204800; may be repeated",
    )
    return result


def _config_file(text: str) -> Path:
    """Return the file that CONFIG means. A path that is missing is reported by whoever reads it."""
    path = shipped.config_file(text)
    if not path.exists() and text.isidentifier():
        names = list(shipped.configs())
        hint = nearest(text, names) or f"; those are {', '.join(names)}"
        raise argparse.ArgumentTypeError(f"'{text}' is no file and no configuration of the package{hint}")
    return path


def add_anew(command_line: argparse.ArgumentParser) -> None:
    """Add the option of every tool that measures for long: whether kept parts are used."""
    command_line.add_argument(
        "--anew",
        action="store_true",
        help="measure all parts again. Without it, the same command keeps the parts that an interrupted call "
        "finished, with the same code on the same kind of machine. A call that ended forgets its parts",
    )


def phase_of(config: Config, name: str) -> Phase:
    """Return the phase that the user named with `--phase`. Raise InputError if there is none."""
    try:
        return config.phase_named(name)
    except KeyError:
        raise InputError(f"--phase: there is no phase '{name}'; there are {config.phase_names}") from None


def run_tool(
    name: str,
    command_line: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    body: Callable[[argparse.Namespace, Interrupts], None],
    after_interruption: str = "run the same command to start again",
) -> int:
    """Run a tool from its command line and return its exit code.

    Args:
      name: the file name of the tool. Every message begins with it.
      command_line: the parser of its options.
      arguments: the command line; None takes that of this process.
      body: the work. Signals are taken over before it begins, and it should check them.
      after_interruption: what an interrupted call keeps and the user can do, unless the exception
        has a note that says so.
    """
    environment.read_names_as_utf8()
    options = command_line.parse_args(arguments)
    interrupts = Interrupts()
    interrupts.install()

    def work() -> None:
        try:
            body(options, interrupts)
            print(end="", flush=True)  # a full disk below stdout is an error
        except Interrupted as stop:
            if not getattr(stop, "__notes__", ()):
                stop.add_note(after_interruption)
            raise

    code = guarded(name, work)
    let_go()
    return code


def guarded(command: str, body: Callable[[], None], log_file: Callable[[], Path | None] = lambda: None) -> int:
    """Run the body of a command and return its exit code.

    Print one message for the exception that ends it, if any.

    Args:
      command: the file name of the command. Every message begins with it, or with the words that
        started it through `llm60`.
      body: the work.
      log_file: returns the log that holds the traceback of a bug. Without a log the message holds
        it.
    """
    command = shipped.program() or command
    try:
        with _messages(command):
            body()
    except Failure as failure:
        tell(command, "; ".join([str(failure), *getattr(failure, "__notes__", ())]))
        return failure.exit_code
    except KeyboardInterrupt:
        tell(command, "interrupted; run the same command again")
        return 128 + signal.SIGINT
    except Exception as error:
        if memory.is_exhausted(error):
            tell(command, "out of memory; choose fewer sequences in train.micro_batch, or a smaller model")
            return MachineError.exit_code
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return 128 + signal.SIGPIPE
        if isinstance(error, OSError):
            tell(command, f"{error.filename or 'the system'}: {error.strerror or error}")
            return MachineError.exit_code
        log_path = log_file()
        where = f"the traceback is in {log_path}" if log_path and log_path.exists() else traceback.format_exc()
        tell(command, f"internal error, please report it: {type(error).__name__}: {str(error)[:500]}\n  {where}")
        return 1
    return 0


@contextlib.contextmanager
def _messages(command: str) -> Iterator[None]:
    """Show warnings on the terminal inside the block, with every character printable there.

    A run adds a full log.
    """
    handler = WarningHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.levelno == logging.WARNING)  # `guarded` prints errors, once
    handler.setFormatter(PrintableFormatter(f"{command}: warning: %(message)s"))
    before = log.handlers, log.propagate, logging.raiseExceptions
    log.handlers, log.propagate = [handler], False
    logging.raiseExceptions = False  # a closed terminal must not stop the command
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        log.handlers, log.propagate, logging.raiseExceptions = before


def tell(command: str, message: str) -> None:
    """Print a message on stderr, in the place of a live line."""
    end_line()
    with contextlib.suppress(OSError):
        print(f"{command}: {printable(shipped.spoken(message))}", file=sys.stderr, flush=True)
