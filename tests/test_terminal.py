"""Progress on the terminal: a bar, or a line now and then, on stdout or on stderr."""

import io
import logging
import re
import signal
import sys

import pytest
from rich.console import Console

from llm60_jax.errors import InputError, Interrupted
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import Tracker


@pytest.fixture
def clock(monkeypatch):
    """A clock that `clock.now += seconds` moves."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(terminal.time, "monotonic", lambda: Clock.now)
    return Clock


def test_progress_of_a_command_with_json_is_on_stderr_alone(clock, capsys):
    for on_stderr in (True, False):
        for _ in Tracker(Interrupts(), on_stderr)("abc", "letters", 3):
            clock.now += 15.0
        output = capsys.readouterr()
        shown, empty = (output.err, output.out) if on_stderr else (output.out, output.err)
        assert shown.endswith("letters: 3 in 45.0 s\n")
        assert empty == ""


def test_json_that_hushes_its_command_still_shows_progress(capsys):
    with terminal.hushed(True):
        list(Tracker(Interrupts(), on_stderr=True)("abc", "letters"))
    assert "letters: 3" in capsys.readouterr().err


def test_a_line_now_and_then_tells_what_is_left(clock, capsys):
    for _ in Tracker(Interrupts(), on_stderr=True)(range(100), "steps", 100):
        clock.now += 6.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "steps: 2 of 100, about 10 min left"
    assert 5 < len(lines) < 12
    assert lines[-1] == "steps: 100 in 600.0 s"


def test_a_caller_who_knows_better_tells_what_is_left(clock, capsys):
    for _ in Tracker(Interrupts(), on_stderr=True)(range(3), "steps", remaining=lambda: 7200.0):
        clock.now += 60.0
    assert capsys.readouterr().err.splitlines()[0] == "steps: 1, about 2 h 00 min left"


def test_the_end_of_quick_work_is_a_detail(clock, capsys, caplog):
    with caplog.at_level("INFO", "llm60_jax"):
        for _ in Tracker(Interrupts())("abc", "letters", 3):
            clock.now += 3.0
    assert capsys.readouterr().out == ""
    assert "letters: 3 in 9.0 s" in caplog.text


def test_quick_work_shows_its_end_only(capsys):
    list(Tracker(Interrupts(), on_stderr=True)(range(1000), "steps", 1000))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("remaining", [None, lambda: 90.0])
def test_a_terminal_shows_a_bar(monkeypatch, remaining):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "_stderr_console", console)
    list(Tracker(Interrupts(), on_stderr=True)(range(4), "steps", 4, remaining))
    assert "━" in screen.getvalue()
    assert "4 of 4" in screen.getvalue()
    assert ("about 90 s left" in screen.getvalue()) == (remaining is not None)


def test_a_signal_ends_the_loop_between_items():
    interrupts = Interrupts()
    items = Tracker(interrupts, on_stderr=True)(range(10), "steps")
    assert next(items) == 0
    interrupts.received = signal.SIGINT
    with pytest.raises(Interrupted):
        next(items)


@pytest.fixture
def screen(monkeypatch):
    """`screen(TERM)` puts a terminal in the place of stdout and stderr. `screen.getvalue()` is all that it gets."""

    class Screen(io.StringIO):
        def __call__(self, term):
            for name in ("console", "_stderr_console"):
                made = terminal._Console(file=self, force_terminal=True, width=100, _environ={"TERM": term})
                monkeypatch.setattr(terminal, name, made)
            monkeypatch.setattr(sys, "stderr", self)
            return self

    return Screen()


def left_on(screen):
    """Return the lines that stay on a terminal: what is behind the last carriage return or erasure of each."""
    return [re.split(r"\r|\x1b\[2K", line)[-1] for line in screen.getvalue().split("\n")]


def test_messages_take_the_place_of_the_live_line(screen):
    shown = screen("xterm")

    def body():
        terminal.redraw(0.5, "grammar 1/5", "50% | loss 4.123")
        logging.getLogger("llm60_jax").warning("little disk")
        terminal.redraw(0.6, "grammar 1/5", "60% | loss 4.123")
        raise InputError("no text")

    assert cli.guarded("launch.py", body) == 2
    assert left_on(shown) == ["launch.py: warning: little disk", "launch.py: no text", ""]
    assert shown.getvalue().count(" " * 99 + "\r") == 2


def test_a_warning_stands_above_a_bar(screen):
    shown = screen("xterm")

    def body():
        for item in Tracker(Interrupts())(range(3), "cleaning", 3):
            if item == 1:
                logging.getLogger("llm60_jax").warning("a broken file")

    assert cli.guarded("launch.py", body) == 0
    assert "launch.py: warning: a broken file" in left_on(shown)


def test_a_terminal_that_cannot_go_back_gets_lines(screen):
    shown = screen("dumb")
    terminal.redraw(0.5, "grammar 1/5", "50% | loss 4.123")
    list(Tracker(Interrupts())("abc", "letters", 3))
    terminal.progress("step 1/2")
    assert shown.getvalue() == "step 1/2\n"
