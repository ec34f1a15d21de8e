import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from llm60_jax import config
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.workdir import opened


def changed(tree, path, value):
    other = copy.deepcopy(tree)
    node = other
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return config.parse(other, "changed")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("seed",), 8, ["seed: 7 in the run, 8 now"]),
        (("model", "hidden_dim"), 96, ["model.hidden_dim: 64 in the run, 96 now"]),
        (("phase", 1, "tokens"), 2560, ["phase.vocabulary.tokens: 1280 in the run, 2560 now"]),
        (("phase", 0, "learning_rate"), [1e-3, 1e-4], ["phase.grammar.learning_rate"]),
        (("tokenizer", "model_type"), "unigram", ["tokenizer.model_type"]),
        (("optimizer",), {"weight_decay": 0.0}, ["optimizer.weight_decay"]),
        (("phase", 2, "name"), "other", ["phase (order)"]),
    ],
)
def test_another_identity_is_refused_with_both_values(tree, tmp_path, path, value, words):
    with opened(tmp_path / "run") as workdir:
        workdir.begin(config.parse(tree, "x"), {"tokenizer": "abc"}, Path(__file__))
        with pytest.raises(InputError) as caught:
            workdir.check_identity(changed(tree, path, value))
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("workdir",), "elsewhere"),
        (("train", "log_every"), 3),
        (("train", "remat"), "none"),
        (("train", "micro_batch"), [[16, 8], [32, 4], [64, 2]]),
        (("phase", 0, "gate"), {"min_gain": 0.5}),
        (("phase", 0, "sources", 0, "path"), "moved"),
    ],
)
def test_what_may_change_may_change(tree, tmp_path, path, value):
    with opened(tmp_path / "run") as workdir:
        workdir.begin(config.parse(tree, "x"), {}, Path(__file__))
        workdir.check_identity(changed(tree, path, value))


def test_changed_data_is_refused(tiny, tmp_path):
    with opened(tmp_path / "run") as workdir:
        workdir.check_digests({"tokenizer": "a" * 64})
        workdir.begin(tiny, {"data of phase grammar": "a" * 64}, Path(__file__))
        workdir.check_digests({"data of phase grammar": "a" * 64})
        with pytest.raises(InputError, match=r"changed under this run: data of phase grammar: a{16} before, b{16} now"):
            workdir.check_digests({"data of phase grammar": "b" * 64})


def test_an_unreadable_record_is_damage(tiny, tmp_path):
    with opened(tmp_path / "run") as workdir:
        workdir.config_path.write_text('{"config": ')
        with pytest.raises(DamageError, match=r"config\.json"):
            workdir.check_identity(tiny)


def test_one_process_a_run(tmp_path):
    code = f"from llm60_jax.workdir import opened\nwith opened(__import__('pathlib').Path({str(tmp_path)!r})): pass"
    with opened(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert "another process (pid " in second.stderr
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0  # free again


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"), opened(tmp_path / "file" / "run"):
        pass


def test_metrics_survive_a_cut_line_and_rewind(tmp_path):
    with opened(tmp_path) as workdir:
        for step in (1, 2, 3):
            workdir.append({"step": step, "phase": "grammar", "loss": step / 3})
        with workdir.metrics_path.open("a") as file:
            file.write('null\n[3]\n{"phase": "x"}\n{"step": 4, "lo')
        with workdir.metrics_path.open("ab") as file:
            file.write(b"\xff\xfe")
        workdir.rewind(2)
        assert [row["step"] for row in workdir.rows()] == [1, 2]
        assert json.loads(workdir.metrics_path.read_text().splitlines()[1])["loss"] == 2 / 3
