"""The frame of a command: options, messages and exit codes."""

import signal

import pytest
from conftest import tiny_tree

from llm60_jax import config as config_module
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import cli
from llm60_jax.machine.signals import SIGNALS


@pytest.fixture
def own_signals():
    """Gives a test's signal handlers back to those who had them."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(own_signals):
    """`run(body, *arguments)` runs a tool with the option --word."""

    def run(body, *arguments):
        parser = cli.parser("A tool.", "examples:\n  python tools/x.py --word a")
        parser.add_argument("--word")
        return cli.run_tool("x.py", parser, arguments, body)

    return run


def test_a_tool_runs_with_its_options_under_signals(run):
    seen = []
    assert run(lambda options, interrupts: seen.append((options.word, interrupts.received)), "--word", "a") == 0
    assert seen == [("a", None)]


def test_a_failure_is_one_message_and_its_exit_code(run, capsys):
    def fail(options, interrupts):
        raise DamageError(f"{options.word}: damaged")

    assert run(fail, "--word", "a") == 4
    assert capsys.readouterr().err == "x.py: a: damaged\n"


def test_a_bug_shows_its_traceback(run, capsys):
    assert run(lambda options, interrupts: 1 / 0) == 1
    error = capsys.readouterr().err
    assert error.startswith("x.py: internal error, please report it: ZeroDivisionError")
    assert "Traceback" in error


def test_an_unknown_option_is_refused(run, capsys):
    with pytest.raises(SystemExit) as caught:
        run(lambda options, interrupts: None, "--wrod", "a")
    assert caught.value.code == 2
    assert "--wrod" in capsys.readouterr().err


def test_help_shows_the_examples(run, capsys):
    with pytest.raises(SystemExit):
        run(lambda options, interrupts: None, "--help")
    assert "  python tools/x.py --word a\n" in capsys.readouterr().out


def test_an_unknown_phase_is_the_users_error(tmp_path):
    config = config_module.parse(tiny_tree(tmp_path), "x")
    assert cli.phase_of(config, "grammar") is config.phase[0]
    with pytest.raises(InputError, match=r"--phase: there is no phase 'gramar'; there are \['grammar', 'vocabulary'"):
        cli.phase_of(config, "gramar")
