"""Phases close on evidence: what is judged, what is refused, what is extended, what is overridden."""

import copy
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import metrics, state_of, without_time

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Gate
from llm60_jax.errors import DamageError, GateError, InputError
from llm60_jax.evaluate.grammar.scoring import PairScore
from llm60_jax.evaluate.overlap import Overlap, overlap
from llm60_jax.evaluate.prose import Prose
from llm60_jax.evaluate.validation import Mean
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import gates, loop
from llm60_jax.run.gates import Evidence, TextCounts

PROSE = Prose(2000, 80.0, 0.85, 0.1, 2.0, 0.1, 0.1, 1.0, 2.0, 0.1)
FLAT = tuple((tokens, 4.0 + 1e-4 * (tokens % 3)) for tokens in range(60, 101, 5))
GOOD = Evidence(
    tokens=100,
    loss=4.0,
    bits_per_byte=2.0,
    fall=Mean(1.0, 0.1),
    late=FLAT,
    grammar={"polarity": PairScore(100, 90, 0), "comparison": PairScore(100, 70, 0)},
    grammar_before=0.8,
    forgotten={"grammar": Mean(0.1, 0.05)},
    rare_words=PairScore(200, 130, 0),
    generated=TextCounts(PROSE, 0.5),
    human=TextCounts(PROSE, 0.6),
    memorised=Overlap(1000, 0.02, 9),
    memorised_by_chance=Overlap(1000, 0.01, 8),
)
STRICT = Gate(
    min_gain=0.01,
    grammar={"polarity": 0.8},
    rare_words=0.5,
    max_grammar_loss=0.02,
    max_forgetting=0.2,
    at_most={"doubled_words": 1.0},
    at_least={"mtld": 0.9, "parse_rate": 0.7},
    max_memorised=0.05,
)


def strict(tiny):
    return dataclasses.replace(tiny.phase[0], gate=STRICT)


def test_good_evidence_passes_every_check(tiny):
    checks = gates.judge(strict(tiny), GOOD)
    assert all(check.passed for check in checks), checks
    assert len(checks) == 10


@pytest.mark.parametrize(
    ("worse", "failed"),
    [
        ({"fall": Mean(0.1, 0.2)}, "fall of validation loss"),
        ({"fall": Mean(math.nan, 0.1)}, "fall of validation loss"),
        ({"late": tuple((t, 8 - math.log(t)) for t in range(60, 101, 5))}, gates.PLATEAU),
        ({"late": FLAT[:2]}, gates.PLATEAU),
        ({"late": ()}, gates.PLATEAU),
        ({"grammar": {"polarity": PairScore(100, 80, 0), "comparison": PairScore(100, 90, 0)}}, "grammar: polarity"),
        ({"grammar": {"comparison": PairScore(100, 90, 0)}}, "grammar: polarity"),
        ({"rare_words": PairScore(200, 105, 0)}, "rare words in their context"),
        ({"rare_words": None}, "rare words in their context"),
        ({"grammar_before": 0.83}, "minimal pairs, all"),
        ({"forgotten": {"grammar": Mean(0.18, 0.05)}}, "forgetting: grammar"),
        ({"generated": TextCounts(dataclasses.replace(PROSE, doubled_words=1.2), 0.5)}, "texts: doubled_words"),
        ({"generated": TextCounts(dataclasses.replace(PROSE, mtld=70.0), 0.5)}, "texts: mtld"),
        ({"generated": TextCounts(PROSE, 0.3)}, "texts: parse_rate"),
        ({"memorised": Overlap(1000, 0.07, 30)}, "learnt by heart"),
    ],
)
def test_each_fault_fails_its_own_check(tiny, worse, failed):
    checks = gates.judge(strict(tiny), dataclasses.replace(GOOD, **worse))
    assert [check.name.split(",")[0] for check in checks if not check.passed] == [failed.split(",")[0]]
    verdict = gates.Verdict("grammar", checks, dataclasses.replace(GOOD, **worse), "d", {}, {})
    told = gates.explain(verdict)
    assert failed.split(",")[0] in told
    assert "--override-gate grammar" in told
    assert ("extend_up_to" in told) is (failed == gates.PLATEAU)  # nothing else is met by an extension
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["passed"] is False


def test_without_the_parser_its_rate_is_not_asked_for(tiny):
    found = dataclasses.replace(GOOD, generated=TextCounts(PROSE, None), human=TextCounts(PROSE, None))
    assert all(check.passed for check in gates.judge(strict(tiny), found))


def test_the_expected_gain_is_the_slope_over_the_logarithm_of_tokens():
    late = [(tokens, 7 - 0.5 * math.log(tokens)) for tokens in (600, 700, 800, 900, 1000)]
    found = gates.expected_gain(late)
    assert found.value == pytest.approx(0.5 * math.log(1.1))
    assert found.error == pytest.approx(0, abs=1e-9)
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        noisy = [(tokens, loss + rng.normal(0, 0.01)) for tokens, loss in late]
        found = gates.expected_gain(noisy)
        covered += abs(found.value - 0.5 * math.log(1.1)) <= found.error
    assert 0.92 <= covered / 400 <= 0.98


def test_overlap_counts_runs_of_six_words():
    training = ["one two three four five six seven eight nine ten", "other words stand here and no others do"]
    found = overlap(["One two, three four five six seven! And then no more of it at all"], iter(training))
    assert (found.runs, found.longest) == (10, 7)
    assert found.share == pytest.approx(2 / 10)
    assert overlap(["nothing of this stands in the other text at all"], training).longest == 0
    assert overlap([], training) == Overlap(0, 0.0, 0)


def test_a_phenomenon_without_pairs_is_refused(tree):
    tree["phase"][0]["gate"]["grammar"] = {"polaritty": 0.5}
    with pytest.raises(InputError, match=r"phase\.grammar\.gate\.grammar: 'polaritty' is none of"):
        loop.launch(config_module.parse(tree, "x"), Interrupts(), "again")


# --- The plan of an extended phase -----------------------------------------------------------------------------------


def test_an_extension_moves_later_phases_and_keeps_the_final_rate(tree):
    tree["phase"][0]["gate"]["extend_up_to"] = 1.25
    c = config_module.parse(tree, "x")
    first = plan.build(c)
    more = plan.extend(first, c.phase[0], "it still improves")
    assert (more.phase, more.steps) == ("grammar", 1)
    made = plan.build(c, (), [more, more])
    assert made.phase_span("grammar") == (0, 12)
    assert made.scheduled_span("grammar") == (0, 10)
    assert made.phase_span("vocabulary") == (12, 22)
    assert [stage.token_start for stage in made.phase_stages("grammar")[-2:]] == [10 * 128, 11 * 128]
    before, after = (made.phase_stages("grammar")[i] for i in (-3, -1))
    assert (before.context, before.frozen_blocks) == (after.context, after.frozen_blocks)
    rates = [plan.learning_rate(made, c.phase[0], step) for step in range(12)]
    assert rates[:10] == [plan.learning_rate(first, c.phase[0], step) for step in range(10)]
    assert rates[9] == rates[10] == rates[11] == c.phase[0].learning_rate[1]
    assert plan.extend(made, c.phase[0], "") is None  # a quarter of ten steps is two
    assert [step for step in range(12) if made.is_late_mark("grammar", step)] == [7, 8, 9, 10, 11]


def test_late_marks_lie_in_the_last_stage(tree):
    tree["phase"][0]["tokens"] = 1000 * 128
    tree["phase"][1] |= {"tokens": 1000 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}
    made = plan.build(config_module.parse(tree, "x"))
    assert [step for step in range(1000) if made.is_late_mark("grammar", step)] == [700, 750, 800, 850, 900, 950]
    late = [step for step in range(1000, 2000) if made.is_late_mark("vocabulary", step)]
    assert (late[0], len(late)) == (1600, 6)


# --- Runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tree):
    """Two phases of ten steps; the first one may be extended by a fifth, and shows no plateau unless told."""
    one_stage = {"tokens": 10 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}
    tree["phase"] = [phase | one_stage for phase in tree["phase"][:2]]
    tree["phase"][0]["gate"] |= {"min_gain": 0.0, "extend_up_to": 1.2}
    return tree


@pytest.mark.slow
def test_a_phase_that_still_improves_is_extended_and_then_refused(two, train, tmp_path):
    with pytest.raises(GateError, match="gain from 10 % more tokens") as refusal:
        train(two)
    assert "extend_up_to (now 1.2)" in str(refusal.value)
    workdir = Path(two["workdir"])
    extensions = [row["extension"]["steps"] for row in metrics(workdir) if "extension" in row]
    assert extensions == [1, 1]
    steps = [row for row in metrics(workdir) if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert {row["learning_rate"] for row in steps[9:]} == {two["phase"][0]["learning_rate"][1]}
    assert not (workdir / "phases").exists() or not list((workdir / "phases").iterdir())
    told = json.loads((workdir / "gates" / "grammar.json").read_text())
    assert [check["name"] for check in told["checks"] if not check["passed"]] == [gates.PLATEAU]
    # The same command with a gate that asks for less resumes, with the longer plan.
    two["phase"][0]["gate"]["min_gain"] = 100.0
    train(two)
    assert [row["step"] for row in metrics(workdir) if "loss" in row] == list(range(1, 23))
    meta = json.loads((workdir / "phases" / "vocabulary" / "meta.json").read_text())
    assert (meta["step"], len(meta["progress"]["extensions"])) == (22, 2)


@pytest.mark.slow
def test_an_extended_run_is_resumed_bit_for_bit(two, train, tmp_path):
    def run(name, stop_after=None):
        tree = copy.deepcopy(two) | {"workdir": str(tmp_path / name)}
        if stop_after:
            train(tree, stop_after)
        with pytest.raises(GateError):
            train(tree)
        return tmp_path / name

    reference, cut = run("whole"), run("cut", 11)
    assert state_of(cut / "checkpoints" / "12") == state_of(reference / "checkpoints" / "12")
    assert without_time(metrics(cut)) == without_time(metrics(reference))


@pytest.mark.slow
def test_a_plateau_is_told_from_the_checkpoint_even_if_metrics_are_lost(tree, train, tmp_path):
    tree["phase"], tree["tokenizer"] = tree["phase"][:1], {"phases": ["grammar"]}
    reference, cut = (copy.deepcopy(tree) | {"workdir": str(tmp_path / name)} for name in ("whole", "cut"))
    train(reference)
    train(cut, 9)
    (tmp_path / "cut" / "metrics.jsonl").unlink()
    train(cut)
    told = [json.loads((tmp_path / name / "gates" / "grammar.json").read_text()) for name in ("whole", "cut")]
    assert len(told[0]["evidence"]["late"]) == 4
    assert told[0] == told[1]


@pytest.mark.slow
def test_an_override_is_recorded_for_good(two, tmp_path):
    two["phase"][0]["gate"] |= {"extend_up_to": 1.0, "min_fall": 50.0}
    parsed = config_module.parse(two, "x")
    with pytest.raises(GateError, match="2 of 2 checks fell short"):
        loop.launch(parsed, Interrupts(), "again")
    loop.launch(parsed, Interrupts(), "again", loop.Override("grammar", "only a trial"))
    workdir = Path(two["workdir"])
    told = json.loads((workdir / "gates" / "grammar.json").read_text())
    assert (told["passed"], told["override"]) == (False, "only a trial")
    for phase in ("grammar", "vocabulary"):  # and in everything that is built on it
        assert json.loads((workdir / "phases" / phase / "meta.json").read_text())["progress"]["overrides"] == {
            "grammar": "only a trial"
        }


def closed(base, tmp_path):
    copied = tmp_path / "base"
    shutil.copytree(base, copied)
    return copied, state_of(copied / "phases" / "grammar")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (None, GateError, "missing, so no run can continue"),
        ({"state_sha256": "0" * 64}, DamageError, "judged state 0000"),
        ({"digests": {"tokenizer": "x"}}, DamageError, "other text or tokens"),
        ({"passed": False, "override": None}, GateError, "did not pass its gate"),
        ({"passed": "yes", "override": None}, GateError, "did not pass its gate"),
        ("not json", DamageError, "unreadable"),
    ],
)
def test_nothing_goes_on_from_a_phase_that_was_not_judged(base, tmp_path, change, error, words):
    run, state = closed(base, tmp_path)
    path = run / "gates" / "grammar.json"
    told = json.loads(path.read_text())
    gates.require(run, "grammar", state, told["digests"])
    if change is None:
        path.unlink()
    else:
        path.write_text(change if isinstance(change, str) else json.dumps(told | change))
    with pytest.raises(error, match=words):
        gates.require(run, "grammar", state, told["digests"])


def test_a_later_phase_asks_for_the_gate(two, train, monkeypatch):
    two["phase"][0]["gate"]["min_gain"] = 100.0
    real = loop.closing.close

    def tampered(run, phase, judgement):
        real(run, phase, judgement)
        (run.workdir.path / "gates" / "grammar.json").unlink()

    monkeypatch.setattr(loop.closing, "close", tampered)
    with pytest.raises(GateError, match=r"grammar\.json: missing"):
        train(two)


def test_a_later_run_asks_for_the_gate(tuning, base, tmp_path):
    run, _ = closed(base, tmp_path)
    (run / "gates" / "grammar.json").unlink()
    tuning["start"] = str(run / "phases" / "grammar")
    with pytest.raises(GateError, match=r"grammar\.json: missing"):
        loop.launch(config_module.parse(tuning, "x"), Interrupts(), "again")


def test_the_command_line_of_an_override(tiny_file, capsys):
    import launch

    for arguments in (["--override-gate", "grammar"], ["--why", "x"], ["--override-gate", "grammar", "--why", " "]):
        with pytest.raises(SystemExit) as stop:
            launch.main([str(tiny_file), *arguments])
        assert stop.value.code == 2
    assert launch.main([str(tiny_file), "--override-gate", "gramar", "--why", "x"]) == 2
    assert "there is no phase 'gramar'" in capsys.readouterr().err
