"""The tools as a user calls them: what they print, and what they refuse."""

import json
import re
import shutil
import signal

import experiments
import inspect_data
import prepare_data
import profile_step
import pytest
import token_weights
from conftest import PROJECT, to_toml

from llm60_jax import config as config_module
from llm60_jax.config import schema
from llm60_jax.errors import Interrupted
from llm60_jax.machine.signals import Interrupts

SPECS = sorted((PROJECT / "configs" / "experiments").glob("*.toml"))


@pytest.fixture
def experiment(tuning, tmp_path):
    """A specification of three arms of four steps; the last needs a finished run of the first."""
    (tmp_path / "arms.toml").write_text(to_toml(tuning))
    spec = {
        "config": str(tmp_path / "arms.toml"),
        "seeds": [1, 2],
        "arm": [
            {"name": "plain"},
            {"name": "thawed", "set": ["phase.fine_tune.freeze=[[0.0,0]]"], "seeds": [1]},
            {"name": "noisy", "set": ["phase.fine_tune.drop_path=0.1"], "seeds": [1], "baseline": "plain"},
        ],
    }
    path = tmp_path / "spec.toml"
    path.write_text(to_toml(spec))
    return path


@pytest.mark.slow
def test_an_experiment_trains_its_arms_once_and_compares_them(experiment, tmp_path, capsys):
    command = [str(experiment), "--dir", str(tmp_path / "runs")]
    assert experiments.main([*command, "--list"]) == 0
    assert capsys.readouterr().out.count("to do") == 4
    assert not (tmp_path / "runs").exists()
    assert experiments.main([*command, "--jobs", "2"]) == 0
    assert capsys.readouterr().out.count("exit code 0") == 4
    report = json.loads((tmp_path / "runs" / "report.json").read_text())
    plain, thawed, noisy = report["arms"]
    assert (plain["arm"], plain["seeds"], plain["difference"], plain["deviation"]) == ("plain", 2, 0.0, 0.0)
    assert (noisy["arm"], noisy["seeds"], noisy["deviation"]) == ("noisy", 1, None)
    first = {run["arm"]: run for run in report["runs"] if run["seed"] == 1}
    assert thawed["difference"] == first["thawed"]["bits_per_byte"] - first["plain"]["bits_per_byte"]
    assert thawed["teraflops_ratio"] > noisy["teraflops_ratio"] == 1
    written = json.loads((tmp_path / "runs" / "noisy-1" / "config.json").read_text())["config"]
    assert written["baseline"] == str(tmp_path / "runs" / "plain-1")
    # A second time: nothing to do, the same report.
    assert experiments.main(command) == 0
    assert "exit code" not in capsys.readouterr().out
    assert json.loads((tmp_path / "runs" / "report.json").read_text()) == report


@pytest.mark.slow
def test_a_run_that_fails_ends_the_experiment_and_is_named(experiment, tmp_path, capsys):
    command = [str(experiment), "--dir", str(tmp_path / "runs"), "--arms", "thawed"]
    assert experiments.main([*command, "--set", "phase.fine_tune.gate.min_fall=50.0"]) == 3
    output = capsys.readouterr()
    assert "thawed, seed 1: exit code 3" in output.out
    assert "thawed-1.txt" in output.err
    assert "gate fine_tune: not passed" in (tmp_path / "runs" / "thawed-1.txt").read_text()


def test_an_arm_whose_baseline_is_not_trained_is_refused(experiment, tmp_path, capsys):
    assert experiments.main([str(experiment), "--dir", str(tmp_path / "runs"), "--arms", "noisy"]) == 2
    assert "plain-1, which is not finished" in capsys.readouterr().err


def test_an_interrupted_experiment_stops_its_runs(experiment, tmp_path, monkeypatch):
    spec = schema.validate(experiments.Experiment, schema.read_toml(experiment), str(experiment))
    planned = experiments.runs(spec, tmp_path / "runs", [], ["plain"])
    interrupts, started = Interrupts(), []
    start = experiments._start
    monkeypatch.setattr(experiments, "_start", lambda *a: started.append(start(*a)) or started[-1])
    monkeypatch.setattr(experiments.time, "sleep", lambda seconds: setattr(interrupts, "received", signal.SIGTERM))
    with pytest.raises(Interrupted) as stopped:
        experiments.train(planned, 1, interrupts)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert len(started) == 1
    assert started[0].returncode is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds = [1]", ["config", "required"]),
        ('config = "a.toml"\nseeds = []\narm = [{name = "a"}]', ["seeds"]),
        ('config = "a.toml"\nseeds = [1]\narm = [{name = "a"}, {name = "a"}]', ["names must differ"]),
        ('config = "a.toml"\nseeds = [1]\narm = [{name = "a", baseline = "b"}]', ["arm.a.baseline", "no arm 'b'"]),
        ('config = "a.toml"\nseeds = [1]\narm = [{name = "../a"}]', ["arm.0.name"]),
        (
            'config = "a.toml"\nseeds = [1, 2]\narm = [{name = "a", seeds = [1]}, {name = "b", baseline = "a"}]',
            ["arm.b.seeds", "no seeds [2]"],
        ),
        ('config = "a.toml"\nseeds = [1]\narm = [{name = "a"}]', ["a.toml", "no such configuration file"]),
    ],
)
def test_a_bad_experiment_gets_one_clear_message(text, words, tmp_path, capsys):
    (tmp_path / "spec.toml").write_text(text)
    assert experiments.main([str(tmp_path / "spec.toml"), "--list"]) == 2
    output = capsys.readouterr().err
    assert output.startswith("experiments.py: ")
    assert all(word in output for word in words), output


@pytest.mark.parametrize(
    "path", [path for path in SPECS if "\nconfig = " in path.read_text()], ids=lambda path: path.stem
)
def test_the_experiments_that_are_shipped_are_valid(path, capsys):
    assert experiments.main([str(path), "--list"]) == 0
    assert experiments.main([str(path), "--list", "--arms", "nothing"]) == 2
    assert "--arms" in capsys.readouterr().err


@pytest.mark.slow
def test_profiling_a_cached_stage_reports_both_ways(tuning, tmp_path, capsys):
    tuning["phase"][0] |= {"prefix_cache": True, "rows": "fixed", "embedding": "frozen"}
    (tmp_path / "cached.toml").write_text(to_toml(tuning))
    command = [str(tmp_path / "cached.toml"), "--rounds", "1"]
    assert profile_step.main([*command, "--json", "--trace", str(tmp_path / "trace")]) == 0
    with_cache, without = json.loads(capsys.readouterr().out)["steps"]
    assert (with_cache["stage"], without["stage"]) == ("1", "1, not cached")
    assert with_cache["matmul_flops"] < without["matmul_flops"]
    assert with_cache["state_bytes_untouched"] == without["state_bytes_untouched"] > 0
    assert min(with_cache["step_seconds"], with_cache["optimizer_seconds"], with_cache["compile_seconds"]) > 0
    assert list((tmp_path / "trace").rglob("*trace.json.gz"))
    for extra, word in ((["--phase", "grammar"], "--phase"), (["--stages", "7"], "--stages")):
        assert profile_step.main([*command, *extra]) == 2
        assert word in capsys.readouterr().err


def test_token_weights_are_shown(tree, tmp_path, capsys):
    tree["phase"][1]["reweight"] = {}
    (tmp_path / "weights.toml").write_text(to_toml(tree))
    command = [str(tmp_path / "weights.toml")]
    assert token_weights.main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"vocabulary"}
    tokens = report["vocabulary"]
    assert len(tokens) == config_module.parse(tree, "x").model.vocab_size
    assert [t["weight"] for t in tokens] == sorted((t["weight"] for t in tokens), reverse=True)
    counted = sum(t["count"] for t in tokens)
    assert sum(t["count"] * t["weight"] for t in tokens) / counted == pytest.approx(1, abs=1e-6)
    assert token_weights.main([*command, "--top", "3"]) == 0
    assert "weighs least" in capsys.readouterr().out
    assert token_weights.main([*command, "--top", "0"]) == 2
    assert "--top: 0" in capsys.readouterr().err
    look = [*command, "--documents", "0", "--rows", "0", "--weights"]
    assert inspect_data.main([*look, "--phase", "vocabulary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["token_weights"] == tokens
    assert inspect_data.main([*look, "--phase", "vocabulary"]) == 0
    assert "weighs least" in capsys.readouterr().out
    assert inspect_data.main([*look, "--phase", "grammar"]) == 2
    assert "phase grammar does not reweight its tokens" in capsys.readouterr().err
    assert token_weights.main([*command, "--phase", "grammar"]) == 2
    assert "phase grammar does not reweight its tokens" in capsys.readouterr().err
    assert token_weights.main([*command, "--phase", "gramar"]) == 2
    assert "there is no phase 'gramar'" in capsys.readouterr().err


def test_preparing_accounts_for_every_document_and_character(tree, texts, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(texts / "text" / "grammar", mixed)
    code = "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n"
    (mixed / "tool.py").write_text(code)
    (mixed / "essay.txt").write_text(
        "It rained all day, and we stayed at home.\n\n- bread\n- salt\n- tea\n\nThen it was night.\n"
    )
    (mixed / "picture.png").write_bytes(b"\x89PNG")
    (mixed / "binary.txt").write_bytes(bytes(range(256)))
    tree["phase"][0] |= {"sources": [{"kind": "folder", "path": str(mixed)}], "exclude": {"rules": ["list", "code"]}}
    tree["data_dir"] = str(tmp_path / "data")
    (tmp_path / "mixed.toml").write_text(to_toml(tree))
    command = [str(tmp_path / "mixed.toml")]
    for _ in range(2):  # built, then found
        assert prepare_data.main([*command, "--phase", "grammar", "--json"]) == 0
        phases = json.loads(capsys.readouterr().out)["phases"]
        assert list(phases) == ["grammar"]
        report = phases["grammar"]
        assert report["documents_in"] == 64 == report["documents_kept"] + sum(report["dropped"].values())
        assert report["dropped"] == {"code": 1, "not_text": 1, "other_kind": 1}
        essay = report["files"][(mixed / "essay.txt").as_posix()]
        assert essay["dropped"] == {"list": len("- bread\n- salt\n- tea")}
        assert essay["characters_kept"] == len("It rained all day, and we stayed at home.\n\nThen it was night.")
        tool = report["files"][(mixed / "tool.py").as_posix()]
        assert (tool["characters_in"], tool["characters_kept"]) == (len(code), 0)
    assert prepare_data.main([*command, "--samples", "2"]) == 0
    output = capsys.readouterr().out
    assert "mixed, list, 20 characters in one piece, essay.txt: - bread - salt - tea" in output
    assert re.search(r"phase fine_tune: documents after cutting: train \d\d, validation \d", output)
    assert prepare_data.main([*command, "--phase", "gramar"]) == 2
    assert "--phase" in capsys.readouterr().err
