"""A run directory: its identity, its lock, its rows and its log."""

import copy
import json
import logging
import os
import platform
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT

from llm60_jax import config as config_module
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.record.workdir import opened


def changed(tree, path, value):
    other = copy.deepcopy(tree)
    node = other
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return config_module.parse(other, "changed")


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
        workdir.begin(config_module.parse(tree, "x"), {"tokenizer": "abc"}, Path(__file__))
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
        (("train", "kernels"), "native"),
        (("train", "micro_batch"), [[16, 8], [32, 4], [64, 2]]),
        (("phase", 0, "gate"), {"min_gain": 0.5}),
        (("phase", 0, "sources", 0, "path"), "moved"),
    ],
)
def test_free_fields_may_change(tree, tmp_path, path, value):
    with opened(tmp_path / "run") as workdir:
        workdir.begin(config_module.parse(tree, "x"), {}, Path(__file__))
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


def test_only_one_process_uses_a_run(tmp_path):
    code = (
        f"from llm60_jax.record.workdir import opened\nwith opened(__import__('pathlib').Path({str(tmp_path)!r})): pass"
    )
    with opened(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert "another process (pid " in second.stderr
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0  # free again


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"), opened(tmp_path / "file" / "run"):
        pass


def test_the_lock_file_names_its_process(tmp_path):
    with opened(tmp_path):
        holder = (tmp_path / "lock").read_text()
    assert (tmp_path / "lock").read_text() == ""  # released in order
    assert re.fullmatch(r"pid \d+ on \S+, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", holder)


def test_a_process_that_was_killed_is_reported(tmp_path, caplog):
    host = platform.node()
    (tmp_path / "lock").write_text(f"pid 999999 on {host}, since 2026-01-01 00:00:00")
    with caplog.at_level("WARNING", "llm60_jax"), opened(tmp_path):
        pass
    assert "the last process here (pid 999999" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", "llm60_jax"), opened(tmp_path):
        pass
    assert not caplog.text


def test_a_folder_that_another_computer_writes_to_is_refused(tmp_path, caplog):
    (tmp_path / "lock").write_text("pid 7 on elsewhere, since 2026-01-01 00:00:00")
    (tmp_path / "log.txt").write_text("a word")
    with pytest.raises(InputError, match=r"another computer \(pid 7 on elsewhere.* delete .*lock"), opened(tmp_path):
        pass
    os.utime(tmp_path / "log.txt", (time.time() - 3600, time.time() - 3600))
    with caplog.at_level("WARNING", "llm60_jax"), opened(tmp_path):
        pass
    assert "the last process here (pid 7 on elsewhere" in caplog.text


def test_only_its_owner_can_read_a_run(tmp_path):
    (tmp_path / "there").mkdir(mode=0o755)
    for path in (tmp_path / "new", tmp_path / "there"):
        with opened(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_changed_free_fields_are_recorded(tree, tmp_path):
    with opened(tmp_path / "run") as workdir:
        for value in (1, 3, 3):
            workdir.begin(changed(tree, ("train", "log_every"), value), {}, Path(__file__))
    (change,) = json.loads(workdir.config_path.read_text())["changes"]
    assert change.pop("time")
    assert change == {"train.log_every": [1, 3]}
    assert "train.log_every: 1 -> 3" in (tmp_path / "run" / "log.txt").read_text()


def test_a_newer_field_does_not_change_the_identity_of_a_run(tiny, tmp_path):
    with opened(tmp_path / "run") as workdir:
        workdir.begin(tiny, {}, Path(__file__))
        record = json.loads(workdir.config_path.read_text())
        for phase in record["config"]["phase"]:
            del phase["canaries"]  # as an older version left it
        del record["changes"]
        workdir.config_path.write_text(json.dumps(record))
        workdir.check_identity(tiny)
        workdir.begin(tiny, {}, Path(__file__))
    assert json.loads(workdir.config_path.read_text())["changes"] == []


def test_a_log_commands_no_terminal(tmp_path):
    with opened(tmp_path):
        logging.getLogger("llm60_jax").info("a name: \x1b]0;owned\x07")
    assert "\x1b" not in (tmp_path / "log.txt").read_text()
    assert "a name: \\x1b]0;owned\\x07" in (tmp_path / "log.txt").read_text()
