"""Scalars for TensorBoard."""

import sys

import pytest
from conftest import metrics

from llm60_jax.errors import InputError
from llm60_jax.record import tensorboard


def read(folder):
    """Return every scalar of the event files in a folder: name -> [(step, value)], in order."""
    from tensorboardX import proto
    from tensorboardX.record_writer import masked_crc32c

    scalars = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            assert masked_crc32c(data[:8]) == int.from_bytes(data[8:12], "little")
            event = proto.event_pb2.Event()
            event.ParseFromString(data[12 : 12 + size])
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
            data = data[16 + size :]
    return scalars


def test_rows_become_named_numbers():
    assert tensorboard.scalars({"step": 1, "loss": 2.0, "grad_norm": float("nan"), "frozen": 4}) == {
        "training/loss": 2.0,
        "training/frozen": 4.0,
    }
    row = {
        "validation_loss": 3.0,
        "minimal_pairs_by_phenomenon": {"agreement": 0.5},
        "loss_by_rarity": [1.0, None],
        "earlier_phases": {"grammar": {"validation_loss": 2.5}},
    }
    assert tensorboard.scalars(row) == {
        "validation/validation_loss": 3.0,
        "grammar/agreement": 0.5,
        "rarity/0": 1.0,
        "earlier/grammar": 2.5,
    }
    assert tensorboard.scalars({"step": 3, "proof": {}}) == {}


def test_a_run_writes_them_beside_its_rows(tree, train):
    tree["phase"], tree["tokenizer"] = tree["phase"][:1], {"phases": ["grammar"]}
    tree["train"]["tensorboard"] = True
    train(tree, 6)
    run = train(tree)
    written = read(run / tensorboard.FOLDER)
    rows = {row["step"]: row["loss"] for row in metrics(run) if "loss" in row}
    assert {step: pytest.approx(value) for step, value in written["training/loss"]} == rows
    assert {step for step, _ in written["validation/validation_loss"]} >= {0, 5, 10}
    assert len(list((run / tensorboard.FOLDER).iterdir())) == 2  # one for each time the run was started


def test_without_the_extra_there_is_one_message(tree, train, monkeypatch):
    tree["train"]["tensorboard"] = True
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"\.\[tensorboard\]"):
        train(tree)
