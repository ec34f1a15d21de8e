"""Validation: intervals, comparisons, and scores on the text of earlier phases and runs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import metrics

from llm60_jax import config as config_module
from llm60_jax.data.prepare import prepare
from llm60_jax.data.tokens.packing import validation_rows
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.evaluate import validation
from llm60_jax.machine.progress import silent
from llm60_jax.run import ancestry


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

    result = validation.score(score_rows, None, fake_rows(count), text_bytes=count * 9, bins=np.array([0, 3]))
    assert result.loss == pytest.approx(2.0)
    assert result.perplexity == pytest.approx(math.exp(2.0))
    assert result.tokens == 3 * count
    assert result.bits_per_byte == pytest.approx(3 * 2.0 / math.log(2) / 9)
    assert result.loss_by_rarity == (None, None, None, 2.0, None)
    assert set(shapes) == {(validation.ROWS, 4)}  # one program for all


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """The pieces of the texts differ in length and in loss; the true mean is 3."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        tokens = rng.integers(5, 100, 60)
        mean = validation.mean(tokens * (3 + rng.normal(0, 0.5, 60)), tokens)
        covered += abs(mean.value - 3) <= mean.error
    assert 0.92 <= covered / 400 <= 0.98


def test_a_piece_is_a_document_in_a_row_and_one_piece_has_no_error():
    rows = {name: array.copy() for name, array in fake_rows(2).items()}
    rows["segments"] = np.array([[1, 1, 2, 2], [1, 1, 1, 0]], np.int32)
    losses = np.array([[1.0, 3.0, 5.0, 9.0], [2.0, 2.0, 2.0, 9.0]])

    def score_rows(params, rows):
        return np.concatenate([losses, np.zeros((validation.ROWS - 2, 4))])

    result = validation.score(score_rows, None, rows, text_bytes=1, bins=np.zeros(2, np.int64))
    assert result.pieces == [(4.0, 2), (5.0, 1), (6.0, 3)]
    assert result.loss == pytest.approx(15 / 6)
    assert validation.mean(np.array([6.0]), np.array([3])) == (2.0, math.inf)
    single = validation.score(lambda p, r: np.ones((8, 4)), None, fake_rows(1), 1, np.zeros(2, int))
    assert single.to_row()["validation_error"] is None


def test_a_fall_is_compared_piece_by_piece():
    """Pieces differ far more from one another than from their own loss before."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(20, 60, 50)
    before = tokens * rng.uniform(1, 9, 50)
    after = before - tokens * (0.1 + rng.normal(0, 0.02, 50))
    pieces = [list(zip(sums.tolist(), tokens.tolist(), strict=True)) for sums in (before, after)]
    fall = validation.fall(*pieces)
    assert fall.value == pytest.approx(0.1, abs=0.01)
    assert fall.error < 0.01 < validation.mean(before, tokens).error
    with pytest.raises(ValueError, match="two different texts"):
        validation.fall(pieces[0], pieces[1][1:])
    with pytest.raises(ValueError, match="two different texts"):
        validation.fall(pieces[0], [])


def test_a_short_evaluation_is_compared_with_what_a_long_one_scored_of_the_same_text():
    rng = np.random.default_rng(2)
    sizes = rng.integers(5, 90, 40)
    shard = TokenShard(rng.integers(4, 50, sizes.sum()).astype(np.uint16), np.cumsum([0, *sizes]), sizes, 0 * sizes)

    def score(params, rows):  # whatever a model would say of a target, it says again
        return 0.1 * rows["targets"] + params

    def pieces(most, loss):
        rows, text_bytes = validation_rows(shard, 64, most)
        return validation.score(score, loss, rows, text_bytes, np.zeros(50, np.int64)).pieces

    short, long = pieces(200, 2.0), pieces(2000, 1.0)
    assert 0 < len(short) < len(long)
    assert validation.fall(short, long).value == pytest.approx(1.0)
    assert validation.fall(long, short).value == pytest.approx(-1.0)


def test_random_weights_are_scored_on_a_few_rows_and_without_pairs(tree, train):
    """Nobody waits for the first step of a deep model. The gate compares the same text at the end of the phase."""
    del tree["train"]["validation_tokens"]
    tree["tokenizer"] = {"phases": ["grammar"]}
    tree["phase"] = [tree["phase"][0] | {"tokens": 2 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}]
    run = train(tree)
    first, *_, last = [row for row in metrics(run) if "validation_loss" in row]
    assert first["validation_tokens"] <= 8 * tree["model"]["max_context"] < last["validation_tokens"]
    assert "minimal_pairs" not in first
    gate = json.loads((run / "gates" / "grammar.json").read_text())["evidence"]["fall"]
    compared = list(zip(first["pieces"]["grammar"], last["pieces"]["grammar"], strict=False))
    fall = sum(a - b for (a, _), (b, _) in compared) / sum(size for (_, size), _ in compared)
    assert gate["value"] == pytest.approx(fall, abs=1e-4)


def test_a_run_scores_the_held_out_text_of_the_run_before_it(tuning, base, train):
    """Same weights, same rows: the first loss equals the last loss of the other run, bit for bit."""
    run = train(tuning)
    scored = [row for row in metrics(run) if "validation_loss" in row]
    ended = [row for row in metrics(base) if "validation_loss" in row][-1]
    assert [set(row.get("earlier_phases", {})) for row in scored] == [{"grammar"}, set(), set(), {"grammar"}]
    assert scored[0]["earlier_phases"]["grammar"]["validation_loss"] == ended["validation_loss"]
    gate = json.loads((run / "gates" / "fine_tune.json").read_text())
    rise = scored[-1]["earlier_phases"]["grammar"]["validation_loss"] - ended["validation_loss"]
    assert gate["evidence"]["forgotten"]["grammar"]["value"] == pytest.approx(rise, abs=1e-3)
    assert "forgetting: grammar" in [check["name"] for check in gate["checks"]]


def test_a_phase_of_the_same_name_hides_no_text_of_the_run_before(tuning, base):
    tuning["phase"][0]["name"] = "grammar"
    config = config_module.parse(tuning, "tree")
    start = ancestry.start(config)
    prepared = prepare(config, silent, lambda digests: None, (start.tokenizer, start.meta["corpora"]))
    assert list(prepared.held_out) == ["grammar before", "grammar"]
    assert prepared.held_out["grammar"] is prepared.shards["grammar"].validation


def test_missing_text_of_the_run_before_is_named(tuning, base, train, tmp_path):
    data = Path(tuning["data_dir"])
    hidden = list((data / "processed").glob("grammar-*"))
    for path in hidden:
        path.rename(tmp_path / path.name)
    try:
        run = train(tuning)
    finally:
        for path in hidden:
            (tmp_path / path.name).rename(path)
    assert not any("earlier_phases" in row for row in metrics(run))
    assert "cannot show what it forgets" in (run / "log.txt").read_text()
