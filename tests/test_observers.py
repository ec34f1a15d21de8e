"""Observers see a run and can neither change nor end it."""

import io
import logging
import re
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PROJECT, few_pairs, metrics, shared_programs, state_of, without_time

from llm60_jax import config as config_module
from llm60_jax.errors import GateError, Interrupted, MachineError
from llm60_jax.machine import compilation_cache, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import stages
from llm60_jax.record import history, report
from llm60_jax.run import events, loop, observers
from llm60_jax.run.events import Observers, RowAdded, StepLogged
from llm60_jax.training.programs import CompiledSteps


@pytest.fixture
def short(tree):
    """One phase of four steps in two stages."""
    tree["tokenizer"] = {"phases": ["grammar"]}
    tree["phase"] = [tree["phase"][0] | {"tokens": 4 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0], [0.5, 2]]}]
    return tree


def train(tree, workdir, monkeypatch, *watching):
    with monkeypatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        config = config_module.parse(tree | {"workdir": str(workdir)}, "x")
        loop.launch(config, Interrupts(), "again", watching=watching)
    return workdir


def test_a_run_without_observers_or_with_broken_ones_is_the_same_run(short, tmp_path, monkeypatch, caplog):
    reference = train(short, tmp_path / "reference", monkeypatch)

    def broken(event):
        raise ZeroDivisionError(type(event).__name__)

    with caplog.at_level(logging.WARNING, "llm60_jax"):
        noisy = train(short, tmp_path / "noisy", monkeypatch, broken)
    assert "the run goes on, and its log.txt has the traceback" in caplog.text
    monkeypatch.setattr(observers, "of", lambda *arguments: [])
    blind = train(short, tmp_path / "blind", monkeypatch)
    for run in (noisy, blind):
        assert state_of(run / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
        assert without_time(metrics(run)) == without_time(metrics(reference))


def test_events_come_in_the_order_of_the_playbook(short, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "PROBES_PER_PHASE", 1)  # a look at the start of the phase only
    seen = []
    train(short, tmp_path / "run", monkeypatch, lambda event: seen.append(type(event).__name__))
    order = [name for name in seen if name in ("StageBegins", "StageProved", "StageEnds", "PhaseJudged", "PhaseEnds")]
    assert order == ["StageBegins", "StageProved", "StageEnds"] * 2 + ["PhaseJudged", "PhaseEnds"]
    steps = [name for name in seen if name in ("StepBegins", "StepLanded")]
    # Step 2 is dispatched before step 1 is read. Steps 3 and 4 wait for a save and an evaluation.
    assert steps == [*["StepBegins"] * 2, *["StepLanded"] * 2, *["StepBegins", "StepLanded"] * 2]


def test_every_event_has_a_name_in_the_union():
    classes = {value for value in vars(events).values() if getattr(value, "__module__", "") == events.__name__}
    classes = {value for value in classes if isinstance(value, type)}
    assert classes - {Observers} == set(events.Event.__args__)


@pytest.mark.parametrize("failure", [MachineError("no space"), Interrupted("a signal", 2), KeyError("x")])
def test_what_an_observer_raises_stays_with_it(failure, caplog):
    seen = []

    def failing(event):
        raise failure

    with caplog.at_level(logging.WARNING, "llm60_jax"):
        Observers([failing, seen.append])(RowAdded({}))
    assert seen == [RowAdded({})]
    assert bool(caplog.records) is not isinstance(failure, Interrupted)  # which the run asks for again


def test_the_cache_is_sealed_when_nothing_compiles(tiny, monkeypatch):
    sealed = []
    monkeypatch.setattr(compilation_cache, "seal", sealed.append)
    run = SimpleNamespace(cache="folder", programs=CompiledSteps(tiny))
    cache, compiling = observers.Cache(run), Future()
    run.programs._programs["a stage to come"] = compiling
    cache(StepLogged({}, 1.0))
    assert sealed == []
    compiling.set_result("a program")
    cache(RowAdded({}))
    assert sealed == []
    cache(StepLogged({}, 1.0))
    assert sealed == ["folder"]


# --- The console -----------------------------------------------------------------------------------------------------


@pytest.fixture
def console(monkeypatch):
    """`console(is_terminal, is_verbose=False)` puts a console in the place of the real one; it keeps what it prints."""

    def make(is_terminal, is_verbose=False):
        made = terminal._Console(
            file=io.StringIO(), force_terminal=is_terminal, width=100, highlight=False, markup=False, soft_wrap=True
        )
        made.is_verbose = is_verbose
        monkeypatch.setattr(terminal, "console", made)
        return made

    return make


def lines_of(console):
    return console.file.getvalue().splitlines()


def test_a_terminal_shows_both_ends_of_a_stage_and_a_live_line(short, tmp_path, monkeypatch, console):
    monkeypatch.setattr(observers, "_REDRAW_SECONDS", 0.0)
    shown = console(is_terminal=True)
    run = train(short, tmp_path / "run", monkeypatch)
    text = shown.file.getvalue()
    assert "grammar 1/2: context 16, 0 of 6 blocks frozen, steps 1 to 2\n" in text
    assert "grammar 2/2: context 16, 2 of 6 blocks frozen, steps 3 to 4\n" in text
    assert re.search(r"grammar 2/2: done: loss \d\.\d+, held-out \d\.\d+, ", text)
    live = [part for part in re.split(r"[\r\n]", text) if re.match(r"grammar \d/2 [━─]", part)]
    assert any(re.match(r"grammar 2/2 ━{18}─{6}  75% \| loss \d\.\d{3} \| held-out ", line) for line in live), live
    assert all(len(line) < 100 for line in live)
    assert any("scoring held-out text" in line for line in live)
    kept = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
    assert not any("temporaries" in line or "in effect" in line or " | step " in line for line in kept)
    log = (run / "log.txt").read_text(encoding="utf-8")
    words = ("temporaries", "in effect", "| step 4/4 |", "the first step begins after", "unchanged")
    assert [word for word in words if word not in log] == []


def test_a_pipe_shows_a_line_each_log_interval(short, tmp_path, monkeypatch, console):
    short["train"]["log_every"] = 2
    shown = console(is_terminal=False)
    train(short, tmp_path / "run", monkeypatch)
    steps = [line.split(" | ")[1] for line in lines_of(shown) if " | step " in line]
    assert steps == ["step 1/4", "step 2/4", "step 4/4"]
    assert "━" not in shown.file.getvalue()


def test_the_end_says_where_the_model_is_and_what_to_try(short, tmp_path, monkeypatch, console):
    shown = console(is_terminal=False)
    run = train(short, tmp_path / "run", monkeypatch)
    end = lines_of(shown)[-7:]
    assert end[0] == "done: 4 steps, 512 tokens"
    assert end[1].split() == ["the", "model:", str(run / "phases" / "grammar")]
    assert end[2].split() == ["the", "report:", str(run / "report.html")]
    commands = [line.split() for line in end[4:]]
    assert [command[1] for command in commands] == ["tools/generate.py", "tools/evaluate.py", "tools/check_privacy.py"]
    for command in commands:
        assert (PROJECT / command[1]).exists()
        assert Path(command[2]).exists()


def test_a_verbose_terminal_shows_what_the_log_holds(short, tmp_path, monkeypatch, console):
    shown = console(is_terminal=True, is_verbose=True)
    run = train(short, tmp_path / "run", monkeypatch)
    logged = [line.split(" INFO ", 1)[1] for line in (run / "log.txt").read_text().splitlines() if " INFO " in line]
    missing = {line for line in logged if line not in shown.file.getvalue() and not line.startswith("compiled ")}
    assert missing == set()


def test_a_phase_that_is_extended_says_so_once_and_the_last_gate_says_all(short, tmp_path, monkeypatch, console):
    short["phase"][0]["gate"] |= {"min_gain": 0.0, "extend_up_to": 1.1}
    short["phase"][0]["tokens"] = 20 * 128
    shown = console(is_terminal=False)
    with pytest.raises(GateError) as refused:
        train(short, tmp_path / "run", monkeypatch)
    text = shown.file.getvalue()
    assert "more steps: it still improves\n" in text
    assert "not passed" not in text
    assert "not passed: 1 of 2 checks" in str(refused.value)
    assert "not passed: 1 of 2 checks" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "- tokens/s" not in "".join(line for line in text.splitlines() if ": done:" in line)


def test_evaluation_that_takes_more_than_its_share_is_said(tmp_path, short, monkeypatch):
    run = train(short, tmp_path / "run", monkeypatch)
    read = history.read(run)
    phase = read.config.phase[0]
    assert "evaluation" in report.time_spent(read, phase)
    ends = [row["stage_end"] for row in read.rows if "stage_end" in row]
    ends[0]["seconds"] = {"steps": 900.0, "evaluation": 40.0}
    ends[1]["seconds"] = {"steps": 60.0}
    read = read._replace(rows=[row for row in read.rows if "phase_end" not in row])
    assert report.time_spent(read, phase) == "17 min, 96% of it training steps, 4% evaluation"
    ends[0]["seconds"]["evaluation"] = 100.0
    said = report.time_spent(read, phase)
    assert "9% evaluation (more than 5%; train.evaluate_every is 5 steps, train.validation_tokens is 512)" in said


def test_a_narrow_or_plain_terminal_gets_a_line_without_a_bar(console):
    shown = console(is_terminal=True)
    assert terminal.meter(0.5, 10) == "━" * 5 + "─" * 5
    assert terminal.meter(2.0, 10) == "━" * 10
    assert terminal.meter(0.5, 4) == ""
    shown.width = 30
    terminal.redraw(0.5, "grammar 1/5", "50% | loss 4.123 | 1,234 tokens/s")
    assert len(shown.file.getvalue().rstrip("\r")) == 29
