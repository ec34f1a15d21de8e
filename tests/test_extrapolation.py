"""A power law through losses: what it expects, how often it is right, and the tool around it."""

import itertools
import json

import extrapolate as tool
import numpy as np
import pytest

from llm60_jax.record import extrapolation, history, reference
from llm60_jax.record.reference import Point

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


def test_losses_that_rise_have_no_forecast():
    points = [(tokens, 1 + tokens / 1e6) for tokens in TOKENS]
    assert all(map(np.isnan, extrapolation.forecast(points, [24e6])[0][1:]))


def test_points_of_a_run_are_spread_by_ratios():
    points = [(float(n), 2.0) for n in range(1_000, 1_000_001, 1_000)]
    kept = extrapolation.spread(points)
    assert len(kept) == 12
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    ratios = [after[0] / before[0] for before, after in itertools.pairwise(kept)]
    assert max(ratios) / min(ratios) < 2.5
    assert extrapolation.spread(points[:3]) == points[:3]


@pytest.fixture
def curve(healthy, monkeypatch):
    """The run `healthy` with thirty measurements on a curve, and what to call it by."""
    monkeypatch.setattr(history, "read", lambda path: healthy)
    tokens = healthy.config.phase[0].tokens
    counts = [tokens * n / 30 for n in range(1, 31)]
    points = [Point(int(count), 3.0, law(1.2, 0.8, 0.35, count * 1e3), None) for count in counts]
    monkeypatch.setattr(reference, "points", lambda run, phase: points)
    return ["run"]


def test_one_run_is_read_from_a_tenth_of_its_phase_on(curve, healthy, capsys):
    assert tool.main([*curve, "--json", "--tokens", "200_000"]) == 0
    found = json.loads(capsys.readouterr().out)
    tokens = healthy.config.phase[0].tokens
    assert found["points"][0][0] >= 0.1 * tokens
    assert found["points"][-1][0] == tokens
    assert [each["tokens"] for each in found["forecasts"]] == sorted({200_000, *(tokens * n for n in (2, 4, 8, 16))})
    assert found["back_test"]["low"] <= found["back_test"]["came"] + 1e-3
    assert tool.main(curve) == 0
    assert "From the first" in capsys.readouterr().out


def test_several_runs_give_their_last_loss_each(curve, healthy, monkeypatch, capsys):
    ends = iter([4_000_000, 1_000_000, 2_000_000, 8_000_000])
    monkeypatch.setattr(reference, "points", lambda *_: [Point(9, 9.0, 9.0, None), Point(next(ends), 3.0, 2.0, None)])
    assert tool.main(["a", "b", "c", "d", "--json"]) == 0
    assert [tokens for tokens, _ in json.loads(capsys.readouterr().out)["points"]] == [1e6, 2e6, 4e6, 8e6]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "run"], "these runs have 1 different numbers of tokens; a law needs 4 or more"),
        (["run", "--phase", "poems"], "there is no phase 'poems'"),
    ],
)
def test_what_does_not_suffice_is_said(curve, capsys, arguments, words):
    assert tool.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_number_of_tokens_is_a_whole_number(capsys):
    with pytest.raises(SystemExit, match="2"):
        tool.main(["run", "--tokens", "a lot"])
    assert "'a lot' is no number of tokens" in capsys.readouterr().err
