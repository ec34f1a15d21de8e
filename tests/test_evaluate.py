import math

import numpy as np
import pytest

from llm60_jax import gates
from llm60_jax.evaluate import validation


def fake_rows(count):
    return {
        "tokens": np.ones((count, 4), np.int32),
        "targets": np.ones((count, 4), np.int32),
        "segments": np.ones((count, 4), np.int32),
        "weights": np.tile(np.array([1, 1, 1, 0], np.float32), (count, 1)),
    }


@pytest.mark.parametrize("count", [1, validation.ROWS, validation.ROWS + 3])
def test_padding_rows_do_not_count(count):
    shapes = []

    def score_rows(params, rows):
        shapes.append(rows["tokens"].shape)
        return np.full(rows["tokens"].shape, 2.0)

    found = validation.score(score_rows, None, fake_rows(count), text_bytes=count * 9, bins=np.array([0, 3]))
    assert found.loss == pytest.approx(2.0)
    assert found.perplexity == pytest.approx(math.exp(2.0))
    assert found.tokens == 3 * count
    assert found.bits_per_byte == pytest.approx(3 * 2.0 / math.log(2) / 9)
    assert found.loss_by_rarity == (None, None, None, 2.0, None)
    assert set(shapes) == {(validation.ROWS, 4)}  # one program for all


def test_a_gate_opens_on_a_gain(tiny):
    phase = tiny.phase[0]
    assert gates.judge(phase, 5.0, 4.0, 1.0, "d", {}).passed
    strict = type(phase)(**{**vars(phase), "min_gain": 0.5})
    assert not gates.judge(strict, 5.0, 4.6, 1.0, "d", {}).passed
    assert not gates.judge(phase, 5.0, math.nan, 1.0, "d", {}).passed
    told = gates.judge(strict, 5.0, 4.6, 1.0, "d", {}).explain()
    assert "not passed" in told
    assert "phase.grammar.tokens" in told
