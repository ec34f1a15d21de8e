"""tools/plan.py as a user calls it."""

import json

import plan as tool
import pytest
from conftest import to_toml

from llm60_jax import plan
from llm60_jax.kernels import choice
from llm60_jax.kernels.choice import Choice


@pytest.fixture
def path(tree, tmp_path):
    (tmp_path / "c.toml").write_text(to_toml(tree | {"data_dir": str(tmp_path / "data")}))  # nothing is measured there
    return str(tmp_path / "c.toml")


def test_a_plan_without_a_step(path, tiny, capsys):
    assert tool.main([path, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stages = plan.build(tiny).stages
    assert [row["tokens"] for row in report["stages"]] == [stage.tokens for stage in stages]
    assert report["hours"] == {}
    assert tool.main([path]) == 0
    assert "--measure runs a few steps" in capsys.readouterr().out


@pytest.mark.parametrize("kernels", ["xla", "auto"])
def test_a_plan_says_which_kernels_a_run_would_use(path, capsys, monkeypatch, kernels):
    monkeypatch.setattr(choice, "_buildable", lambda: Choice("native", "the native kernels for avx2 are used"))
    settings = ["--set", f"train.kernels={kernels}", "--set", "model.heads=1"]  # heads that the kernels claim
    assert tool.main([path, "--json", *settings]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kernels"] == {"xla": "xla", "auto": "native"}[kernels]
    assert tool.main([path, *settings]) == 0
    assert f"on a CPU {report['reason']}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_hours_are_steps_times_what_a_step_took(path, capsys):
    assert tool.main([path, "--measure", "--rounds", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for row in report["stages"]:
        spread = row["step_seconds"]
        assert 0 < spread["least"] <= spread["median"] <= spread["most"]
        assert row["hours"]["median"] == pytest.approx(row["steps"] * spread["median"] / 3600)
        assert row["peak_bytes"] > row["temporary_bytes"] > 0
    total = report["hours"].pop("all")
    assert total["median"] == pytest.approx(sum(sums["median"] for sums in report["hours"].values()))


def test_nonsense_is_refused(path, capsys):
    assert tool.main([path, "--rounds", "0"]) == 2
    assert "--rounds: 0" in capsys.readouterr().err
    assert tool.main([path, "--set", "train.remat=dots"]) == 2
    assert "remat" in capsys.readouterr().err
