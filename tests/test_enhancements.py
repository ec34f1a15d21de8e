"""The optional enhancements (playbook, section 16): neutral when off, effective when on."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import metrics, state_of

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError
from llm60_jax.model import groups, noise
from llm60_jax.plan import Noise
from llm60_jax.record import store
from llm60_jax.training import step

F32 = jnp.dtype(jnp.float32)
TOKENS = np.arange(32, dtype=np.int32).reshape(2, 16) + 5


def build(tree, **changes):
    other = copy.deepcopy(tree)
    other["model"] |= changes
    return config_module.parse(other | {"baseline": "x"}, "x")


def hidden(c, params, **options):
    return groups.merge(c.model, params)(TOKENS, np.ones_like(TOKENS), **({"dtype": F32} | options)).hidden_BTD


def test_swiglu_matches_the_parameters_of_gelu():
    real = config_module.load("configs/llm60.toml", ["baseline=x", "model.mlp=swiglu"]).model
    plain = config_module.load("configs/llm60.toml").model
    assert real.parameter_count == pytest.approx(plain.parameter_count, rel=0.005)
    assert real.mlp_width == 424


def test_scaled_residuals_begin_as_plain_ones(tree):
    plain, scaled = build(tree), build(tree, residual="scaled")
    params = groups.init(plain.model, jax.random.key(0))
    factors = groups.init(scaled.model, jax.random.key(0))
    chex.assert_trees_all_equal(hidden(plain, params), hidden(scaled, factors))
    assert scaled.model.parameter_count == plain.model.parameter_count + 2 * 6


def test_shared_parts_equal_the_same_parts_written_out(tree):
    """Share attention and MLP between two neighbours; copies in both give the same function."""
    shared, plain = build(tree, share_attention=2, share_mlp=2), build(tree)
    params = groups.init(shared.model, jax.random.key(0))
    assert shared.model.parameter_count == sum(x.size for x in jax.tree.leaves(params))
    written_out = {name: group for name, group in params.items() if not name.startswith(("attention", "mlp"))}
    for name, _, _ in plain.model.named_stacks:
        parts = {
            kind: jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), params[name.replace("blocks", kind, 1)])
            for kind in ("attention", "mlp")
        }
        written_out[name] = written_out[name] | parts
    np.testing.assert_allclose(hidden(shared, params), hidden(plain, written_out), rtol=1e-5, atol=1e-6)


def test_a_shared_part_freezes_with_its_blocks(tree):
    c = build(tree, share_mlp=2)
    key = plan.key(c, plan.build(c).stages[2])._replace(noise=Noise())
    frozen_groups = step.frozen_groups_of(c.model, key, step.init(c).params)
    assert frozen_groups == {"blocks_0_1", "mlp_0_1"}


def test_drop_path_drops_whole_sequences_and_keeps_the_mean():
    branch = jnp.ones((4000, 2, 3))
    dropped = np.asarray(noise.drop_path(branch, 0.25, jax.random.key(0)))
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean() == pytest.approx(1, abs=0.05)
    assert noise.drop_path(branch, 0.25, None) is branch
    assert noise.drop_path(branch, 0.0, jax.random.key(0)) is branch


def test_activation_noise_has_the_deviation_it_is_given():
    jittered = np.asarray(noise.jitter(jnp.zeros((200, 200)), 0.1, jax.random.key(0)))
    assert jittered.std() == pytest.approx(0.1, rel=0.02)
    assert abs(jittered.mean()) < 0.002
    x = jnp.ones(3)
    assert noise.jitter(x, 0.0, jax.random.key(0)) is noise.jitter(x, 0.1, None) is x


@pytest.mark.parametrize("noise", [Noise(drop_path=0.5), Noise(activation=0.5)], ids=str)
def test_noise_spares_frozen_blocks(tree, noise):
    c = build(tree)
    params = groups.init(c.model, jax.random.key(0))
    network = groups.merge(c.model, params)
    streams = [
        network(TOKENS, np.ones_like(TOKENS), frozen_blocks=2, noise=noise, rng=jax.random.key(seed), dtype=F32).stream
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(streams[0][2], streams[1][2])
    assert float(jnp.abs(streams[0][4] - streams[1][4]).max()) > 0


@pytest.mark.slow
def test_every_enhancement_trains_and_deep_supervision_drops_its_heads(tuning, base, train, tmp_path):
    """Train four steps with deep supervision and noise, from a plain checkpoint."""
    tuning["phase"][0] |= {"deep_supervision": 0.3, "drop_path": 0.1, "activation_noise": 0.1, "freeze": [[0.0, 0]]}
    reference = train(copy.deepcopy(tuning) | {"workdir": str(tmp_path / "whole")})
    rows = [row for row in metrics(reference) if "loss" in row]
    assert all(row["objective"] == pytest.approx(row["loss"] + 0.3 * row["deep_supervision"], rel=1e-4) for row in rows)
    closed, _ = store.load(reference / "phases" / "fine_tune")
    assert set(closed["params"]) == set(store.load(base / "phases" / "grammar")[0]["params"])
    rolling, _ = store.load(reference / "checkpoints" / "4")
    assert {"head_2", "head_4"} <= set(rolling["params"])
    cut = copy.deepcopy(tuning) | {"workdir": str(tmp_path / "cut")}
    train(cut, stop_after=2)
    assert state_of(train(cut) / "phases" / "fine_tune") == state_of(reference / "phases" / "fine_tune")


def test_deep_supervision_without_room_for_a_head_is_refused(tuning):
    tuning["phase"][0] |= {"deep_supervision": 0.3, "freeze": [[0.0, 4]]}
    with pytest.raises(InputError, match=r"deep_supervision: no stack ends between its frozen blocks and the top"):
        config_module.parse(tuning, "x")


def test_departures_from_the_playbook_are_listed(tree):
    assert config_module.departures(config_module.load("configs/llm60.toml")) == []
    tree["phase"][0] |= {"warmup": 0.2, "mlp_dropout": 0.3}
    tree["train"] |= {"document_mask": False, "remat": "none"}
    tree["optimizer"] = {"name": "adamw"}
    departures = "\n".join(config_module.departures(config_module.parse(tree, "x")))
    for field in ("phase.grammar.warmup: 0.2", "mlp_dropout: 0.3", "train.document_mask", "optimizer.name: adamw",
                  "train.remat", "train.tokens_per_step"):  # fmt: skip
        assert field in departures
