"""A power law through losses: what it expects, how often it is right, and the tool around it."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import extrapolate as tool
import numpy as np
import pytest

from llm60_jax.errors import InputError
from llm60_jax.record import extrapolation, history

TOKENS = np.geomspace(5e5, 12e6, 12)


def law(floor, scale, exponent, tokens):
    return floor + scale * (tokens / 1e6) ** -exponent


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(1.2, 0.8, 0.35), (0.0, 2.0, 0.1), (1.0, 0.5, 0.9)])
def test_points_on_a_curve_give_the_curve(floor, scale, exponent):
    points = [(tokens, law(floor, scale, exponent, tokens)) for tokens in TOKENS]
    for each in extrapolation.forecast(points, [24e6, 200e6]):
        assert each.middle == pytest.approx(law(floor, scale, exponent, each.tokens), abs=2e-3)
        assert each.low <= each.middle <= each.high < each.low + 0.01


@pytest.mark.parametrize("count", [extrapolation.LEAST, 12])
def test_an_interval_of_90_percent_is_right_so_often(count):
    rng, inside = np.random.default_rng(1), 0
    for _ in range(200):
        floor, scale, exponent = rng.uniform(0.5, 1.5), rng.uniform(0.5, 2), rng.uniform(0.15, 0.7)
        tokens = np.geomspace(5e5, 12e6, count)
        losses = law(floor, scale, exponent, tokens) + rng.normal(0, 0.005, count)
        (found,) = extrapolation.forecast(list(zip(tokens, losses, strict=True)), [200e6])
        inside += found.low <= law(floor, scale, exponent, 200e6) <= found.high
    assert 0.85 <= inside / 200 <= 0.98


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda tokens: 1 + tokens / 1e7, "do not fall"),
        (lambda tokens: 4 - 2.7 * (tokens / 5e5) ** -0.3, "do not fall"),
        (lambda tokens: 3 - 0.4 * np.log(tokens / 5e5), "fall faster than any power"),
    ],
)
def test_losses_that_follow_no_law_have_no_forecast(loss, words):
    with pytest.raises(InputError, match=words):
        extrapolation.forecast([(tokens, loss(tokens)) for tokens in TOKENS], [24e6])


def test_points_of_a_run_are_spread_by_ratios():
    points = [(float(n), 2.0) for n in range(1_000, 1_000_001, 1_000)]
    kept = extrapolation.spread(points)
    assert len(kept) == 12
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    ratios = [after[0] / before[0] for before, after in itertools.pairwise(kept)]
    assert max(ratios) / min(ratios) < 2.5
    assert extrapolation.spread(points[:3]) == points[:3]


def on_a_curve(run, tokens):
    """Give a run thirty measurements of its first phase, all on one curve; the last is after `tokens`."""
    phase = run.config.phase[0]
    kept = [row for row in run.rows if row["phase"] != phase.name or "validation_loss" not in row]
    score = {"phase": phase.name, "validation_loss": 3.0, "validation_tokens": 8_192}
    rows = [
        {**score, "step": n * tokens // 30 // 128, "bits_per_byte": law(1.2, 0.8, 0.35, n * tokens / 30 * 1e3)}
        for n in range(1, 31)
    ]
    return run._replace(rows=[*kept, *rows, {"phase": phase.name, "step": rows[-1]["step"], "phase_end": {}}])


@pytest.fixture
def runs(healthy, monkeypatch):
    """Runs by name, to change: four whose first phases have different numbers of tokens, as a tool reads them."""
    found = {}
    for name, tokens in (("a", 6_400), ("b", 12_800), ("c", 25_600), ("d", 51_200)):
        first, *others = healthy.config.phase
        config = dataclasses.replace(healthy.config, phase=(dataclasses.replace(first, tokens=tokens), *others))
        found[name] = on_a_curve(healthy._replace(path=Path(name), config=config), tokens)
    monkeypatch.setattr(history, "read", lambda path: found[str(path)])
    return found


def test_one_run_is_read_from_a_tenth_of_its_phase_on(runs, capsys):
    assert tool.main(["b", "--json", "--tokens", "200_000"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1_280 <= found["points"][0][0] <= 1_800
    last = found["points"][-1][0]
    assert last == pytest.approx(12_800, abs=128)
    assert [each["tokens"] for each in found["forecasts"]] == sorted({200_000, *(last * n for n in (2, 4, 8, 16))})
    back = found["back_test"]
    assert back["from_tokens"] <= last / 2
    assert back["middle"] == pytest.approx(back["came"], abs=0.01)
    assert tool.main(["b"]) == 0
    text = capsys.readouterr().out
    assert "From the points up to" in text
    assert "One run was read" in text


def test_blocks_that_came_late_leave_only_what_was_measured_after_them(runs, capsys):
    half = [row | {"blocks": 2} if row["stop_step"] <= 50 else row for row in runs["b"].plan]
    runs["b"] = runs["b"]._replace(plan=half)
    grown = sum(stage.tokens for stage in runs["b"].stages(runs["b"].config.phase[0]) if stage.blocks == 2)
    assert grown > 1_280
    assert tool.main(["b", "--json"]) in (0, 2)
    told = capsys.readouterr()
    assert "of the whole model" in told.err or json.loads(told.out)["points"][0][0] > grown


def test_several_runs_give_their_last_loss_each(runs, capsys):
    assert tool.main(["d", "a", "c", "b", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [tokens for tokens, _ in points] == pytest.approx([6_400, 12_800, 25_600, 51_200], abs=128)
    assert tool.main(["d", "a", "c", "b"]) == 0
    assert "One run was read" not in capsys.readouterr().out


def wider(run):
    model = dataclasses.replace(run.config.model, hidden_dim=128)
    return run._replace(config=dataclasses.replace(run.config, model=model))


def faster(run):
    first, *others = run.config.phase
    first = dataclasses.replace(first, learning_rate=(1e-2, 1e-3))
    return run._replace(config=dataclasses.replace(run.config, phase=(first, *others)))


def with_rows_of(run, field, value):
    return run._replace(rows=[row | {field: value(row[field])} if field in row else row for row in run.rows])


def of_other_text(run):
    return with_rows_of(run, "data", lambda facts: facts | {"documents": 7})


def unfinished(run):
    return run._replace(rows=[row for row in run.rows if "phase_end" not in row])


def scored_on_less(run):
    return with_rows_of(run, "validation_tokens", lambda _: 9)


def extended(run):
    return run._replace(rows=[*run.rows, {"phase": "grammar", "step": 1, "extension": {}}])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wider, r"c and a differ in model\."),
        (faster, r"c and a differ in phase\.grammar\.learning_rate"),
        (of_other_text, "c and a differ in the text"),
        (scored_on_less, "c and a differ in the held-out tokens"),
        (unfinished, "c: phase grammar has not ended"),
        (extended, "c: it was extended"),
    ],
)
def test_several_runs_must_differ_in_tokens_alone(runs, capsys, change, words):
    runs["c"] = change(runs["c"])
    assert tool.main(["a", "b", "c", "d"]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_run_without_its_plan_or_with_damaged_rows_is_named(runs, capsys):
    runs["b"] = runs["b"]._replace(skipped=["metrics.jsonl: line 7 is no JSON"])
    assert tool.main(["b"]) == 0
    assert "metrics.jsonl: line 7 is no JSON" in capsys.readouterr().err
    runs["b"] = runs["b"]._replace(plan=[])
    assert tool.main(["b"]) == 2
    assert "plan.json is missing or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b", "c", "c"], "these runs have 3 different numbers of tokens; a law needs 4 or more"),
        (["a", "--phase", "poems"], "there is no phase 'poems'"),
        (["a", "--phase", ""], "there is no phase ''"),
        (["a", "b", "--phase", "vocabulary"], "vocabulary has not ended"),
        (["a", "--phase", "fine_tune", "--tokens", "100"], "not beyond the last measurement"),
    ],
)
def test_what_does_not_suffice_is_said(runs, capsys, arguments, words):
    assert tool.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_number_of_tokens_is_a_whole_number(capsys):
    with pytest.raises(SystemExit, match="2"):
        tool.main(["run", "--tokens", "a lot"])
    assert "'a lot' is no number of tokens" in capsys.readouterr().err
