"""A run that goes back to a checkpoint and on at a lower rate."""

import json

import numpy as np
import pytest
from conftest import metrics, without_time

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import DamageError, TrainingError
from llm60_jax.plan import Rescue


@pytest.fixture
def one(tree):
    tree["phase"], tree["tokenizer"] = tree["phase"][:1], {"phases": ["grammar"]}
    tree["train"]["rewinds"] = 1
    return tree


def test_a_rescue_halves_the_rate_and_warms_up_again(tiny):
    phase = tiny.phase[0]
    before = plan.build(tiny)
    after = plan.build(tiny, rescues=[Rescue("grammar", 4, 0.5, 3)])
    rates = [plan.learning_rate(one, phase, step) for one in (before, after) for step in range(10)]
    assert rates[10:14] == rates[:4]
    assert np.divide(rates[14:], rates[4:10]) == pytest.approx([0.5 / 3, 1 / 3, 0.5, 0.5, 0.5, 0.5])
    other = tiny.phase[1]
    assert plan.learning_rate(after, other, 12) == plan.learning_rate(before, other, 12)
    assert plan.rescue(before, phase, 4) == Rescue("grammar", 4, 0.5, 1)


def test_the_run_goes_back_once_and_on_at_half_the_rate(one, train, poisoned, capsys):
    poisoned({6, 7, 8}, times=1)
    run = train(one)
    newest = 5  # saved before its freeze
    assert json.loads((run / "rescues.json").read_text()) == [
        {"phase": "grammar", "step": newest, "factor": 0.5, "warmup": 1}
    ]
    rows = metrics(run)
    assert [row["rescue"]["step"] for row in rows if "rescue" in row] == [newest]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 11))
    parsed = config_module.parse(one, "x")
    scheduled = [plan.learning_rate(plan.build(parsed), parsed.phase[0], step) for step in range(10)]
    factors = [row["learning_rate"] / rate for row, rate in zip(steps, scheduled, strict=True)]
    assert factors == pytest.approx([1.0] * newest + [0.5] * 5)
    assert (run / "phases" / "grammar").is_dir()
    assert "going back" in (run / "log.txt").read_text()
    assert "at 0.5 times the rate" in capsys.readouterr().out


@pytest.mark.slow
def test_after_its_last_rescue_a_run_stops(one, train, poisoned):
    poisoned({6, 7, 8}, times=2)
    with pytest.raises(TrainingError, match="step 8: not applied"):
        train(one)


@pytest.mark.slow
def test_a_run_that_went_back_is_resumed_bit_for_bit(one, train, poisoned, tmp_path):
    whole, cut = (json.loads(json.dumps(one)) | {"workdir": str(tmp_path / name)} for name in ("whole", "cut"))
    poisoned({6, 7, 8}, times=1)
    reference = train(whole)
    poisoned({6, 7, 8}, times=1)
    train(cut, 9)
    run = train(cut)
    assert without_time(metrics(run)) == without_time(metrics(reference))
    (run / "rescues.json").write_text("[{")
    with pytest.raises(DamageError, match=r"rescues\.json"):
        train(cut)
