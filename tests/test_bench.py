"""The bench as a user calls it, on a tiny model."""

import importlib.util
import json
import sys

import pytest
from conftest import PROJECT, to_toml

sys.path.insert(0, str(PROJECT / "tools"))
import bench


@pytest.fixture
def command(tree, tmp_path):
    (tmp_path / "c.toml").write_text(to_toml(tree))
    return ["--config", str(tmp_path / "c.toml"), "--rounds", "2"]


def test_stages_are_measured_and_hours_projected(command, capsys):
    assert bench.main([*command, "--stages", "1,3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["stages"]
    assert (first["stage"], second["stage"], second["frozen"]) == (1, 3, 2)
    for row in found["stages"]:
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["step_seconds"])
        assert row["ceiling_share"] == pytest.approx(row["flops_per_second"] / row["ceiling_flops_per_second"])
        assert row["compile_seconds"] > 0
        assert row["peak_bytes"] > row["temporary_bytes"] > 0
        assert row["optimizer_share"] > 0
        assert row["input_share"] > 0
        assert row["ratio"] is row["torch_tokens_per_second"] is None
    assert first["matmul_flops"] > second["matmul_flops"]
    assert found["whole_playbook_ratio"] is None
    assert found["hours"]["grammar"] > 0


def test_hours_weigh_every_stage_by_its_steps(tiny):
    rows = [{"context": 16, "frozen": 0, "step_seconds": 3600.0}]
    grammar = [stage for stage in bench.plan.build(tiny).stages if (stage.context, stage.frozen) == (16, 0)]
    expected = sum(stage.steps for stage in grammar if stage.phase == "grammar")
    assert bench.hours(tiny, rows)["grammar"] == expected


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra torch")
def test_the_same_model_in_pytorch_has_the_same_loss(command, capsys):
    assert bench.main([*command, "--stages", "1,3", "--against-torch", "--variants", "eager,remat", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["losses"]["torch"] == pytest.approx(found["losses"]["jax"], rel=1e-3)
    assert found["whole_playbook_ratio"] > 0
    for row in found["stages"]:
        assert row["ratio"] == min(row["ratios"].values())
        assert row["torch_tokens_per_second"] > 0


def test_wrong_requests_are_one_message(command, capsys, monkeypatch):
    assert bench.main([*command, "--stages", "9"]) == 2
    assert "has stages 1 to" in capsys.readouterr().err
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert bench.main([*command, "--against-torch"]) == 2
    assert "pip install -e '.[torch]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench.main([*command, "--variants", "fast"])
    assert "some of eager, remat, compiled" in capsys.readouterr().err
