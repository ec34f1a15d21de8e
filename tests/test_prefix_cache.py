"""The frozen-prefix cache: it changes only the time, and repairs damage."""

import copy
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conftest import metrics, state_of, without_time

from llm60_jax import config as config_module
from llm60_jax.data.tokens.packing import FixedRows
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.errors import InputError
from llm60_jax.record import store
from llm60_jax.training import prefix_cache


@pytest.fixture
def cached(tuning):
    """Two blocks frozen throughout, their outputs cached, several epochs of a short text."""
    tuning["phase"][0] |= {"embedding": "frozen", "rows": "fixed", "prefix_cache": True, "tokens": 6 * 128}
    return tuning


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"freeze": [[0.0, 0], [0.5, 2]]}, "needs one frozen depth above 0"),
        ({"freeze": [[0.0, 2], [0.5, 4]]}, "needs one frozen depth above 0"),
        ({"freeze": [[0.0, 0]]}, "needs one frozen depth above 0"),
        ({"context": [[0.0, 16], [0.5, 32]]}, "'fixed' needs one context"),
        ({"rows": "stream"}, "needs rows = 'fixed'"),
        ({"embedding": "head_only"}, "needs embedding = 'frozen'"),
    ],
)
def test_unsuitable_phases_are_refused_with_the_reason(cached, changes, reason):
    cached["phase"][0] |= changes
    with pytest.raises(InputError) as caught:
        config_module.parse(cached, "x")
    assert reason in str(caught.value)


@pytest.mark.slow
def test_adapters_train_above_a_cached_prefix(cached, train, tmp_path):
    del cached["phase"][0]["embedding"]
    cached["phase"][0]["lora"] = {"rank": 4}
    whole = train(copy.deepcopy(cached) | {"workdir": str(tmp_path / "whole")})
    cut = copy.deepcopy(cached) | {"workdir": str(tmp_path / "cut")}
    train(cut, stop_after=3)
    assert state_of(train(cut) / "phases" / "fine_tune") == state_of(whole / "phases" / "fine_tune")
    seconds = next(row["stage_end"]["seconds"] for row in metrics(whole) if "stage_end" in row)
    assert seconds["frozen prefix"] > 0  # its computation does not count as waiting for data


@pytest.mark.slow
def test_results_equal_those_without_a_cache_up_to_bfloat16_rounding(cached, train, tmp_path):
    runs = []
    for on in (True, False):
        tree = copy.deepcopy(cached) | {"workdir": str(tmp_path / str(on))}
        tree["phase"][0]["prefix_cache"] = on
        runs.append(train(tree))
        assert ("the frozen prefix takes" in (runs[-1] / "log.txt").read_text(encoding="utf-8")) is on
    losses = [np.array([row["loss"] for row in metrics(workdir) if "loss" in row]) for workdir in runs]
    np.testing.assert_allclose(*losses, rtol=2e-3)
    ours, theirs = (store.load(workdir / "phases" / "fine_tune")[0]["params"] for workdir in runs)
    start = store.load(Path(cached["start"]))[0]["params"]
    for name in ours:
        moved = np.abs(np.asarray(theirs["norm"]["scale"]) - start["norm"]["scale"]).max()
        for a, b in zip(*map(jax.tree.leaves, (ours[name], theirs[name])), strict=True):
            assert np.abs(np.asarray(a) - np.asarray(b)).max() <= 0.2 * moved + 1e-6
    assert not (runs[0] / "prefix_cache" / "fine_tune").exists()  # its disk space is freed
    flops = [next(row["proof"]["matmul_flops"] for row in metrics(workdir) if "proof" in row) for workdir in runs]
    assert flops[0] < flops[1]


def test_interrupted_and_resumed_equals_uninterrupted(cached, train, tmp_path):
    reference = train(copy.deepcopy(cached) | {"workdir": str(tmp_path / "whole")})
    tree = copy.deepcopy(cached) | {"workdir": str(tmp_path / "cut")}
    cut = train(tree, stop_after=3)
    chunk = next((cut / "prefix_cache" / "fine_tune").glob("*[!n]"))
    chunk.write_bytes(b"\0" * chunk.stat().st_size)  # damaged while nothing runs
    assert train(tree) == cut
    assert state_of(cut / "phases" / "fine_tune") == state_of(reference / "phases" / "fine_tune")
    assert without_time(metrics(cut)) == without_time(metrics(reference))


def fixed_rows(rows, context=4):
    tokens = np.arange(rows * context, dtype=np.uint16)
    shard = TokenShard(tokens, np.array([0, len(tokens)]), np.ones(1, np.int64), np.zeros(1, np.int32))
    return FixedRows(shard, 0, "p", 0, rows, context)


class Compute:
    """A fake of the frozen blocks that returns each token twice and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, tokens, segments):
        self.calls += 1
        assert tokens.shape == (prefix_cache.BATCH, 4)
        return jnp.stack([tokens, tokens], -1).astype(jnp.bfloat16)


def prepare(folder, compute, identity=1, rows=80):
    return prefix_cache.prepare(folder, {"id": identity}, fixed_rows(rows), (4, 2), compute, lambda items, *_: items)


def test_activations_are_read_by_row_number_and_only_missing_files_are_computed(tmp_path):
    compute = Compute()
    cache = prepare(tmp_path / "c", compute)
    calls = compute.calls
    assert calls == 10
    rows = fixed_rows(80)
    numbers = np.array([79, 0, 33, 0])
    expected = np.stack([np.repeat(rows.row(n)["tokens"][:, None], 2, 1) for n in numbers]).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(cache(numbers), expected)
    assert cache.bytes == 80 * 4 * 2 * 2
    prepare(tmp_path / "c", compute)
    assert compute.calls == calls  # nothing is computed again
    damaged = sorted(path for path in (tmp_path / "c").iterdir() if path.suffix != ".json")[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x7f")
    np.testing.assert_array_equal(prepare(tmp_path / "c", compute)(numbers), expected)
    assert compute.calls == calls + prefix_cache.CHUNK // prefix_cache.BATCH
    prepare(tmp_path / "c", compute, identity=2)
    assert compute.calls == 2 * calls + prefix_cache.CHUNK // prefix_cache.BATCH


def test_an_interrupted_computation_resumes(tmp_path):
    class Stop(Exception):
        pass

    def cut(items, *_):
        yield from list(items)[:2]
        raise Stop

    compute = Compute()
    with pytest.raises(Stop):
        prefix_cache.prepare(tmp_path / "c", {"id": 1}, fixed_rows(80), (4, 2), compute, cut)
    before = compute.calls
    assert len(json.loads((tmp_path / "c" / "index.json").read_text())["files"]) == 2
    prepare(tmp_path / "c", compute)
    assert compute.calls - before == 2  # 16 of 80 rows are left
