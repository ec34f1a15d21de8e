"""The proofs of reliability in short: the tools run them in full (docs/results/reliability.md)."""

import json
import os
import shutil
import sys
from pathlib import Path

import fault_trial
import fuzz_attacks
import fuzz_files
import fuzz_runs
import pytest
import trial
import verify_resume
from conftest import PROJECT, tiny_tree, to_toml

from llm60_jax import config as config_module
from llm60_jax.machine.progress import silent
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.record import checkpoints

QUICK = PROJECT / "tests" / "quick_launch.py"


@pytest.fixture(scope="module")
def short(texts, tmp_path_factory):
    """A folder and the training of one phase of six steps, of which blocks freeze after the
    third."""
    folder = tmp_path_factory.mktemp("trials")
    tree = tiny_tree(texts) | {"tokenizer": {"phases": ["grammar"]}}
    tree["phase"] = [tree["phase"][0] | {"context": [[0.0, 16]], "freeze": [[0.0, 0], [0.5, 2]]}]
    (folder / "tiny.toml").write_text(to_toml(tree))
    return folder, trial.training(folder / "tiny.toml", [], 6, QUICK)


@pytest.mark.slow
def test_killed_runs_go_on_bit_for_bit_and_a_lost_position_is_found_out(short, monkeypatch, capsys):
    folder, training = short
    monkeypatch.setattr(verify_resume.trial, "training", lambda *arguments: training)
    monkeypatch.setattr(verify_resume, "SABOTAGES", {"iterator": verify_resume.SABOTAGES["iterator"]})
    options = ["--kills", "1", "--steps", "6", "--folder", str(folder / "kills"), "--json"]
    assert verify_resume.main([str(training.config), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kills"]["disturbed"] == 1
    assert report["kills"]["faults"] == []
    assert report["kills"]["completed"] >= 1
    assert "state" in report["controls"]["iterator"][0]
    shutil.copytree(folder / "kills" / "reference", folder / "reference")
    shutil.copy(folder / "kills" / "reference.done", folder)


@pytest.mark.slow
def test_faults_of_a_run_are_seen(short):
    folder, training = short
    trial.undisturbed(training, folder)
    reference, run = folder / "reference", folder / "faulty"
    shutil.copytree(reference, run)
    assert trial.final_faults(run, reference) == []
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(rows.replace('"loss": ', '"loss": 1', 1))
    assert "metrics of step 1 differ" in trial.faults(run, reference, {})[0]
    (run / "metrics.jsonl").write_text(rows)
    assert trial.faults(run, reference, {"phases/other": "", "checkpoints/99": ""}) == [
        "step 99 was committed, and the newest checkpoint now is of step 6",
        "phases/other: was committed, and is lost",
    ]
    shutil.rmtree(run / "checkpoints" / "5")
    shutil.copytree(run / "checkpoints" / "4", run / "checkpoints" / "5")
    assert any("checkpoints/5: state" in fault for fault in trial.faults(run, reference, {}))


@pytest.mark.slow
def test_damage_is_named_and_unnoticed_without_digests(short, monkeypatch):
    """Three of the seven ways; the tool has them all."""
    ways = fault_trial.damages
    monkeypatch.setattr(fault_trial, "damages", lambda content: list(ways(content))[::3])
    folder, training = short
    trial.undisturbed(training, folder)
    run = folder / "few"
    for checkpoint in checkpoints.listed(folder / "reference")[:2]:
        shutil.copytree(checkpoint, run / checkpoint.relative_to(folder / "reference"))
    with Unfinished(folder / "kept", "test", []) as unfinished:
        tried, wrong = fault_trial.try_damage(run, silent, unfinished, "damage")
    assert wrong == []
    assert tried > 25
    path = checkpoints.listed(run)[0] / "meta.json"
    with fault_trial._unchecked():
        assert list(fault_trial._after_damage(run, path, path.parent.name, {f"phases/{path.parent.name}": ""}))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="disks in memory need Linux and root")
def test_a_disk_that_fills_up_loses_nothing(short):
    folder, training = short
    trial.undisturbed(training, folder)
    ended, wrong = fault_trial.try_disk(training, folder, 100_000)
    assert wrong == []
    assert ended == "exit code 5"


@pytest.fixture
def trials(tmp_path):
    with Unfinished(tmp_path / "kept", "test", []) as unfinished:
        yield fuzz_files.Trials(silent, unfinished)


@pytest.mark.slow
def test_broken_configurations_are_refused_and_unknown_fields_noticed(trials):
    result = fuzz_files.try_configs(PROJECT / "configs" / "tiny.toml", 25, 1, trials)
    assert result.wrong == []
    assert all(result.controls.values())


@pytest.fixture(scope="module")
def small(short):
    """The run of `short`, to be broken."""
    folder, training = short
    trial.undisturbed(training, folder)
    config = config_module.load(training.config, list(training.overrides), str(folder / "small"))
    shutil.copytree(
        folder / "reference", folder / "small", ignore=lambda place, names: [n for n in names if n in "123"]
    )
    (shard,) = Path(config.data_dir, "tokenized").glob(f"grammar-*{_shard(config, folder / 'small')}")
    return fuzz_runs.BreakableRun(folder / "small", shard, config)


def _shard(config, run):
    from llm60_jax.machine import manifest

    digest = json.loads((run / "config.json").read_text())["digests"]["tokenizer"]
    report = [
        path.name
        for path in Path(config.data_dir, "tokenized").glob("grammar-*")
        if manifest.read(path)["identity"]["tokenizer"] == digest
    ]
    return report[0].removeprefix("grammar-")


@pytest.mark.slow
def test_broken_files_are_refused(small):
    assert [fault for number in range(10) for fault in fuzz_runs.break_file(small, number, 2)] == []


HOSTILE = (
    "code in meta.json",
    "objects in train",
    "a huge train.bytes",
    "a link",
    "a pipe",
    "a script",
    "an escape",
    "1000",
)


@pytest.mark.slow
def test_hostile_files_do_no_harm(small, monkeypatch, trials):
    real = fuzz_attacks.attacks
    monkeypatch.setattr(
        fuzz_attacks, "attacks",
        lambda canary: {name: attack for name, attack in real(canary).items() if name.startswith(HOSTILE)},
    )  # fmt: skip
    assert len(real(small.path)) >= 60
    result = fuzz_files.try_hostile(small, trials)
    assert result.wrong == []
    assert all(result.controls.values()), result.controls
