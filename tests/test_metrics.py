"""metrics.jsonl: rows in memory, the file as output."""

import errno
import json

import pytest
from conftest import state_of

from llm60_jax.record import metrics
from llm60_jax.record.metrics import MetricsLog
from llm60_jax.record.workdir import opened


def row(step, **fields):
    return {"step": step, "tokens": 128 * step, "phase": "grammar", "stage": 0, **fields}


def test_rows_survive_a_cut_line_and_rewind(tmp_path):
    with opened(tmp_path) as workdir:
        log = MetricsLog(workdir)
        for step in (1, 2, 3):
            log.add(row(step, loss=step / 3, context=16, frozen=0, learning_rate=1e-3))
        with log.path.open("a") as file:
            file.write('null\n[3]\n{"phase": "x"}\n{"step": 4, "lo')
        with log.path.open("ab") as file:
            file.write(b"\xff\xfe")
        resumed = MetricsLog(workdir)
        assert [entry["step"] for entry in resumed.rows] == [1, 2, 3]
        resumed.rewind(2)
        assert resumed.rows == workdir.rows() == log.rows[:2]
        assert json.loads(log.path.read_text().splitlines()[1])["loss"] == 2 / 3


def test_rows_that_a_full_disk_refuses_come_later(tmp_path, monkeypatch, caplog):
    real = metrics._write_all

    def half(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as workdir:
        log = MetricsLog(workdir)
        log.add(row(1))
        monkeypatch.setattr(metrics, "_write_all", half)
        for step in (2, 3):
            log.add(row(step))
        assert "its rows are kept in memory" in caplog.text
        assert [entry["step"] for entry in workdir.rows()] == [1]
        monkeypatch.setattr(metrics, "_write_all", real)
        log.add(row(4))
        assert [entry["step"] for entry in workdir.rows()] == [1, 2, 3, 4] == [entry["step"] for entry in log.rows]


def test_a_row_is_found_by_its_field_and_its_place(tmp_path):
    with opened(tmp_path) as workdir:
        log = MetricsLog(workdir)
        log.add(row(1, loss=2.0))
        log.add(row(1, proof={}, stage=0))
        assert log.find("proof", phase="grammar", stage=0) == row(1, proof={}, stage=0)
        assert log.find("proof", phase="grammar", stage=1) is None
        assert log.find("drift") is None


@pytest.mark.slow
def test_the_run_does_not_read_its_own_rows_back(tree, train, monkeypatch, tmp_path):
    """A run whose metrics.jsonl is emptied at every step comes to the same checkpoints: the file is output."""
    tree["tokenizer"] = {"phases": ["grammar"]}
    tree["phase"] = [tree["phase"][0] | {"tokens": 6 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0], [0.5, 2]]}]
    reference = train(tree | {"workdir": str(tmp_path / "reference")})
    real = MetricsLog.add

    def add(self, entry):
        real(self, entry)
        self.path.write_text("")

    monkeypatch.setattr(MetricsLog, "add", add)
    emptied = train(tree)
    assert state_of(emptied / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
