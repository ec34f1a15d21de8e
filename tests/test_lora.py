"""Adapters start neutral, train alone, merge exactly, and are saved alone."""

import copy
import json
import shutil
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import merge_adapters
import numpy as np
import pytest
from conftest import metrics, shared_programs, state_of, without_time

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError
from llm60_jax.model import groups
from llm60_jax.record import store
from llm60_jax.run import gates
from llm60_jax.training import phase_groups, step

LORA = {"rank": 4, "alpha": 8.0}
TARGETS = ["attention.qkv", "attention.out", "mlp.up", "mlp.down"]


@pytest.fixture
def adapted(tuning):
    """Adapters train on blocks 2 to 5 at first, then on 4 and 5 from the middle of the phase."""
    tuning["phase"][0] |= {"lora": LORA, "freeze": [[0.0, 2], [0.5, 4]]}
    return tuning


@pytest.fixture(scope="module")
def run(base, texts, tmp_path_factory):
    """An uninterrupted run with adapters: its tree, its configuration and its directory."""
    from conftest import few_pairs, tiny_tree

    from llm60_jax.machine.signals import Interrupts
    from llm60_jax.run import loop

    tree = tiny_tree(texts) | {"workdir": str(tmp_path_factory.mktemp("lora") / "run")}
    del tree["tokenizer"]
    tree |= {"start": str(base / "phases" / "grammar"), "phase": [tree["phase"][2]]}
    tree["phase"][0] |= {"tokens": 512, "context": [[0.0, 16]], "lora": LORA, "freeze": [[0.0, 2], [0.5, 4]]}
    c = config_module.parse(tree, "x")
    with pytest.MonkeyPatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        loop.launch(c, Interrupts(), "again")
    return tree, c, Path(c.workdir)


def random_adapters(c, lora, adapted_from=0):
    fresh = groups.init_lora(c.model, lora, adapted_from, jax.random.key(1))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), fresh)


@pytest.mark.slow
@pytest.mark.parametrize("targets", [TARGETS, ["mlp.down"]], ids=str)
def test_merged_equals_applied(adapted, targets):
    adapted["phase"][0]["lora"] = LORA | {"targets": targets}
    c = config_module.parse(adapted, "x")
    lora = c.phase[0].lora
    params = groups.init(c.model, jax.random.key(0))
    params |= random_adapters(c, lora, 2)
    tokens = np.arange(32, dtype=np.int32).reshape(2, 16) + 5
    ones = np.ones_like(tokens)
    applied = groups.merge(c.model, params, lora)(tokens, ones, dtype=jnp.dtype(jnp.float32)).hidden_BTD
    plain = groups.merge_lora(params, lora)
    assert set(plain) == set(groups.init(c.model, jax.random.key(0)))
    merged = groups.merge(c.model, plain)(tokens, ones, dtype=jnp.dtype(jnp.float32)).hidden_BTD
    np.testing.assert_allclose(applied, merged, rtol=1e-4, atol=1e-5)
    bare = {name: group for name, group in params.items() if not name.startswith("lora_")}
    without = groups.merge(c.model, bare)(tokens, ones, dtype=jnp.dtype(jnp.float32)).hidden_BTD
    assert float(jnp.abs(applied - without).max()) > 0.01  # the adapters have an effect


@pytest.mark.slow
def test_fresh_adapters_change_nothing_and_only_live_ones_train(adapted):
    c = config_module.parse(adapted, "x")
    phase = c.phase[0]
    plain = step.init(c)
    state = phase_groups.begin(c, phase, plain)
    tokens = np.arange(16, dtype=np.int32)[None] + 5
    hidden = [
        groups.merge(c.model, s.params, lora)(tokens, np.ones_like(tokens)).hidden_BTD
        for s, lora in ((plain, None), (state, phase.lora))
    ]
    np.testing.assert_array_equal(*hidden)
    assert set(state.params) - set(plain.params) == {"lora_2_3", "lora_4_5"}
    for stage in plan.build(c).stages:
        key = plan.key(c, stage)
        shape = (key.accumulation, key.micro_batch, key.context)
        batch = {name: np.full(shape, 9, np.int32) for name in ("tokens", "targets", "segments")}
        batch["weights"] = np.ones(shape, np.float32)
        new, _ = jax.jit(lambda s, b, key=key: step.train_step(c, key, s, b, jnp.float32(1e-2)))(state, batch)
        moved = {
            name
            for name in state.params
            if any(
                bool((a != b).any())
                for a, b in zip(*map(jax.tree.leaves, (new.params[name], state.params[name])), strict=True)
            )
        }
        assert moved == {"lora_2_3", "lora_4_5"} - ({"lora_2_3"} if stage.frozen_blocks == 4 else set())


def test_a_run_saves_adapters_alone_and_a_plain_merged_model(run, base):
    _, c, workdir = run
    before = state_of(base / "phases" / "grammar")
    assert json.loads((workdir / "gates" / "fine_tune.json").read_text())["earlier_checkpoints"] == {
        str(base / "phases" / "grammar"): before
    }
    store.load(base / "phases" / "grammar")  # the base is intact
    adapters, _ = store.load(workdir / "adapters" / "fine_tune")
    assert set(adapters["params"]) == {"lora_2_3", "lora_4_5"}
    assert set(adapters["opt_state"]) == {"lora_2_3", "lora_4_5"}
    for rolling in (workdir / "checkpoints").iterdir():
        assert set(store.load(rolling)[0]["params"]) == {"lora_2_3", "lora_4_5"}
    plain, _ = store.load(workdir / "phases" / "fine_tune")
    base_state, _ = store.load(base / "phases" / "grammar")
    assert set(plain["params"]) == set(base_state["params"])
    merged = groups.merge_lora(base_state["params"] | adapters["params"], c.phase[0].lora)
    chex.assert_trees_all_close(plain["params"], merged, rtol=0, atol=1e-7)
    chex.assert_trees_all_equal(plain["params"]["embedding"], base_state["params"]["embedding"])
    chex.assert_trees_all_equal(plain["params"]["blocks_0_1"], base_state["params"]["blocks_0_1"])


@pytest.mark.slow
def test_adapters_and_heads_of_deep_supervision_resume(tuning, train, tmp_path):
    tuning["phase"][0] |= {"lora": LORA, "deep_supervision": 0.2, "freeze": [[0.0, 0]]}
    whole = train(copy.deepcopy(tuning) | {"workdir": str(tmp_path / "whole")})
    cut = copy.deepcopy(tuning) | {"workdir": str(tmp_path / "cut")}
    train(cut, stop_after=2)
    assert state_of(train(cut) / "phases" / "fine_tune") == state_of(whole / "phases" / "fine_tune")


def test_the_merging_tool_refuses_a_run_directory(run):
    _, _, workdir = run
    before = sorted(path.name for path in workdir.rglob("*"))
    with pytest.raises(InputError, match=r"is a run directory, it holds config\.json"):
        merge_adapters.merge(workdir / "adapters" / "fine_tune", workdir, None)
    assert sorted(path.name for path in workdir.rglob("*")) == before


def test_the_merging_tool_writes_the_same_model(run, tmp_path):
    _, _, workdir = run
    assert merge_adapters.main([str(workdir / "adapters" / "fine_tune"), str(tmp_path)]) == 0
    ours, _ = store.load(tmp_path / "phases" / "fine_tune")
    theirs, _ = store.load(workdir / "phases" / "fine_tune")
    chex.assert_trees_all_equal(ours["params"], theirs["params"])
    assert (tmp_path / "tokenizer" / "tokenizer.model").exists()
    gates.require(tmp_path, "fine_tune", state_of(tmp_path / "phases" / "fine_tune"), None)  # a run may start here
    with pytest.raises(InputError, match="holds a checkpoint already"):
        merge_adapters.merge(workdir / "adapters" / "fine_tune", tmp_path, None)
    with pytest.raises(InputError, match="holds no adapters"):
        merge_adapters.merge(workdir / "phases" / "fine_tune", tmp_path / "other", None)


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_interrupted_and_resumed_equals_uninterrupted(run, train, tmp_path, stop_after):
    tree, _, reference = run
    tree = copy.deepcopy(tree) | {"workdir": str(tmp_path / "run")}
    train(tree, stop_after)
    workdir = train(tree)
    assert state_of(workdir / "phases" / "fine_tune") == state_of(reference / "phases" / "fine_tune")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


@pytest.mark.slow
def test_adapters_with_another_base_are_refused(run, base, train, tmp_path):
    tree, _, _ = run
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    tree = copy.deepcopy(tree) | {"workdir": str(tmp_path / "run"), "start": str(moved / "phases" / "grammar")}
    train(tree, stop_after=2)
    state, meta = store.load(moved / "phases" / "grammar")
    shutil.rmtree(moved / "phases" / "grammar")
    state["params"]["norm"]["scale"] = state["params"]["norm"]["scale"] + 1
    store.save(moved / "phases" / "grammar", state, meta)
    gate = moved / "gates" / "grammar.json"
    judged = json.loads(gate.read_text()) | {"state_sha256": state_of(moved / "phases" / "grammar")}
    gate.write_text(json.dumps(judged))
    with pytest.raises(InputError, match="and this run began from"):
        train(tree)


def test_a_base_of_another_architecture_is_refused(adapted, train):
    adapted["model"]["hidden_dim"] = 96
    with pytest.raises(InputError, match=r"model\.hidden_dim: 64 in .*, 96 here; 'Never change architecture"):
        train(adapted)
