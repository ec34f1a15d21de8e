"""Output to the terminal: lines, progress bars, tables, and text that cannot command the terminal.

`say` is for what a person should see at a glance. `detail` goes to the log, and to the terminal of
a person who asks for it (`--verbose`). `progress` is a live line on a terminal.

Text that comes from files may hold control characters. `printable` escapes them, and
`PrintableFormatter` does so for log records. A terminal that goes away never ends a run.
"""

import contextlib
import logging
import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from llm60_jax.machine.signals import Interrupts

T = TypeVar("T")
_BAR, _LEAST_BAR = 24, 5  # characters


class PrintableFormatter(logging.Formatter):
    """Formats log records for a terminal. A record may quote a text or a file name."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class WarningHandler(logging.StreamHandler):
    """Prints records on stderr, in the place of a live line and above a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        end_line()
        self.setStream(sys.stderr)  # while there is a bar, this is rich's, which prints above it
        super().emit(record)


def printable(text: str) -> str:
    """Escape control characters, except newlines, so that no terminal obeys them."""
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


class _Console(Console):
    """A console that prints nothing more once its reader is gone."""

    line_is_open = False  # whether the live line stands without a line break
    is_verbose = False  # whether details are shown

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _drop_output()


console = _Console(highlight=False, markup=False, soft_wrap=True)
log = logging.getLogger("llm60_jax")


def say(text: str) -> None:
    """Print a line, and add it to the log."""
    log.info("%s", text)
    end_line()
    put(printable(text))


def detail(text: str) -> None:
    """Add a line to the log; print it too if the terminal is verbose."""
    if console.is_verbose:
        say(text)
    else:
        log.info("%s", text)


def progress(text: str) -> None:
    """Add a line of progress to the log; print it where no live line is drawn, and if the terminal is verbose."""
    log.info("%s", text)
    if console.is_verbose or not console.is_interactive:
        end_line()
        put(printable(text))


def redraw(share: float, head: str, rest: str) -> None:
    """Draw the live line of a terminal in place: `head`, a bar for the share that is done, `rest`."""
    if not console.is_interactive:
        return
    width = console.width - 1
    line = " ".join([head, meter(share, min(_BAR, width - len(head) - len(rest) - 2)), rest])
    put(printable(line)[:width].ljust(width), end="\r")
    console.line_is_open = True


def meter(share: float, width: int) -> str:
    """Return a bar of `width` characters, of which a share is filled; "" if it would be too short to read."""
    full, empty = ("#", "-") if console.options.ascii_only else ("━", "─")
    filled = round(min(1.0, max(0.0, share)) * width)
    return full * filled + empty * (width - filled) if width >= _LEAST_BAR else ""


def end_line() -> None:
    """Remove the live line, so that what follows stands in its place."""
    if console.line_is_open:
        put(" " * (console.width - 1), end="\r")
        console.line_is_open = False


@contextlib.contextmanager
def hushed(on: bool) -> Iterator[None]:
    """Print nothing inside the block if `on`, for commands whose output is one JSON object."""
    before, console.quiet = console.quiet, console.quiet or on
    try:
        yield
    finally:
        console.quiet = before


def put(text: str, end: str = "\n") -> None:
    """Print text as it is, without logging it."""
    with contextlib.suppress(OSError):  # the terminal is gone
        console.print(text, end=end)


def reader_is_gone() -> bool:
    """Return whether nobody reads stdout any more, as after `| head`."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no file, or closed from the start
        watch = select.poll()
        watch.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))
    return False


def let_go() -> None:
    """Write what stdout still holds, or drop it if that fails: Python would replace the exit code."""
    try:
        print(end="", flush=True)
    except OSError:
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_stderr_console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
_LONG_SECONDS = 30.0  # work that took less has no last line on the terminal
_FIRST_LINE_SECONDS, _LINES_APART_SECONDS = 10.0, 300.0  # until the first line of progress, and at most between two


class Tracker:
    """A `progress.Track` with a bar on a terminal, and a line now and then elsewhere.

    Its last line is a detail if the work was short.

    It checks the signals between items. With `on_stderr` all of it goes to stderr, for commands
    whose output is one JSON object.
    """

    def __init__(self, interrupts: Interrupts, on_stderr: bool = False):
        self._interrupts = interrupts
        self._console = _stderr_console if on_stderr else console

    def __call__(
        self,
        items: Iterable[T],
        description: str,
        total: int | None = None,
        remaining: Callable[[], float] | None = None,
    ) -> Iterator[T]:
        start, count, due = time.monotonic(), 0, _FIRST_LINE_SECONDS
        columns_shown = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}")]
        bar = Progress(
            *columns_shown,
            TextColumn("{task.fields[left]}") if remaining else TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_interactive,
            redirect_stderr=_stderr_console.is_interactive,  # a file gets what is written to it
            refresh_per_second=4,  # the work beside it may be timed
        )
        with bar:
            task = bar.add_task(description, total=total, count="", left="")
            for item in items:
                self._interrupts.check()
                yield item
                count += 1
                elapsed = time.monotonic() - start
                left = _left(count, total, elapsed) if remaining is None else remaining()
                of_total = f"{count:,}" + (f" of {total:,}" if total else "")
                if remaining is None:
                    bar.update(task, completed=count, count=of_total)
                else:
                    about = f"about {duration(left)} left"
                    bar.update(task, completed=elapsed, total=elapsed + left, count=of_total, left=about)
                if elapsed >= due and count != total and not self._console.is_interactive:
                    self._say(f"{description}: {of_total}" + (f", about {duration(left)} left" if left else ""))
                    due = elapsed + min(elapsed / 2 + _FIRST_LINE_SECONDS / 2, _LINES_APART_SECONDS)
        elapsed = time.monotonic() - start
        self._say(f"{description}: {count:,} in {elapsed:.1f} s", is_detail=elapsed < _LONG_SECONDS)

    def _say(self, text: str, is_detail: bool = False) -> None:
        if self._console is _stderr_console:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._console.print(printable(text))
        elif is_detail:
            detail(text)
        else:
            say(text)


def _left(count: int, total: int | None, elapsed: float) -> float:
    """Return the seconds left if all items take equally long; 0 if their number is not known."""
    return elapsed / count * (total - count) if total else 0.0


def columns(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table: the first column aligned left, the others right."""
    lines = [headings, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def duration(seconds: float) -> str:
    """Format seconds as `75 s`, `12 min` or `3 h 05 min`; a dash if they are not finite."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def speed(tokens_per_second: float) -> str:
    """Format a speed as `1,234 tokens/s`; a dash instead of 0."""
    return f"{tokens_per_second:,.0f} tokens/s" if tokens_per_second else "- tokens/s"
