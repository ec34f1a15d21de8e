"""Progress on the terminal: a bar, or a line now and then, on stdout or on stderr."""

import io
import signal

import pytest
from rich.console import Console

from llm60_jax.errors import Interrupted
from llm60_jax.machine import terminal
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
