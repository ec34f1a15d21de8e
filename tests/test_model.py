"""The Transformer: parameters, causality, packing, remat, freezing and noise."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PROJECT

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Model
from llm60_jax.model import groups, matmul

SMALL = Model(
    vocab_size=320, layers=4, stacks=(2, 2), dim=32, heads=2, hidden_dim=48, max_context=64
)  # hidden_dim 48, so that no leaf is square
F32 = jnp.dtype(jnp.float32)


@pytest.fixture(scope="module")
def params():
    return groups.init(SMALL, jax.random.key(0))


def logits(params, tokens, segments=None, **options):
    """Return the small model's logits [B, T, V], in float32 by default."""
    options = {"dtype": F32} | options
    segments = np.ones_like(tokens) if segments is None else segments

    @jax.jit
    def run(params, tokens, segments):
        network = groups.merge(SMALL, params)
        return network.logits(network(tokens, segments, **options).hidden_BTD, F32)

    return np.asarray(run(params, jnp.asarray(tokens), jnp.asarray(segments)))


def test_parameter_count_of_the_real_model():
    model = config_module.load(PROJECT / "configs" / "llm60.toml").model
    shapes = groups.abstract_params(model)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 59_469_440 == model.parameter_count
    assert {name: group for name, group in shapes.items() if name.startswith("blocks")}.keys() == {
        "blocks_0_19",
        "blocks_20_39",
        "blocks_40_59",
    }


def test_initialisation_follows_the_table(params):
    wide = Model(vocab_size=2048, layers=8, stacks=(8,), dim=128, heads=2, hidden_dim=256, max_context=64)
    fresh = groups.init(wide, jax.random.key(1))
    blocks, residual = fresh["blocks_0_7"], 0.02 / math.sqrt(16)
    for leaf, std in [
        (fresh["embedding"], 0.02),
        (blocks["attention"]["qkv"]["kernel"], 0.02),
        (blocks["mlp"]["up"]["kernel"], 0.02),
        (blocks["attention"]["out"]["kernel"], residual),
        (blocks["mlp"]["down"]["kernel"], residual),
    ]:
        assert float(leaf.std()) == pytest.approx(std, rel=0.02)
        assert abs(float(leaf.mean())) < std / 50
        assert leaf.dtype == jnp.float32
    for norm in (fresh["norm"], blocks["attention_norm"], blocks["mlp_norm"]):
        assert bool((norm["scale"] == 1).all())
        assert not norm["bias"].any()
    assert bool((blocks["mlp"]["up"]["kernel"][0] != blocks["mlp"]["up"]["kernel"][1]).all())
    chex.assert_trees_all_equal(params, groups.init(SMALL, jax.random.key(0)))


def test_the_scale_of_the_embedding_is_of_the_blocks_input_alone(params):
    """Of an embedding that is 8 times as large the blocks see the same, and the head 8 times as much."""
    tokens = np.random.default_rng(0).integers(4, SMALL.vocab_size, (2, 16)).astype(np.int32)
    scaled = dataclasses.replace(SMALL, embedding_scale=8.0)
    outputs = groups.merge(scaled, params)(tokens, np.ones_like(tokens), dtype=F32)
    larger = groups.merge(SMALL, params | {"embedding": 8 * params["embedding"]})
    np.testing.assert_array_equal(outputs.hidden_BTD, larger(tokens, np.ones_like(tokens), dtype=F32).hidden_BTD)
    np.testing.assert_array_equal(
        8 * groups.merge(scaled, params).logits(outputs.hidden_BTD, F32), larger.logits(outputs.hidden_BTD, F32)
    )


def test_a_changed_token_changes_no_earlier_logit(params):
    tokens = np.random.default_rng(0).integers(0, 320, (2, 24))
    before = logits(params, tokens)
    for position in (1, 11, 23):
        changed = tokens.copy()
        changed[:, position] = (changed[:, position] + 7) % 320
        after = logits(params, changed)
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert np.abs(after[:, position] - before[:, position]).max() > 1e-3


def test_packed_documents_equal_the_same_documents_alone(params):
    rng = np.random.default_rng(1)
    documents = [rng.integers(0, 320, length) for length in (5, 1, 17, 9)]
    row = np.concatenate(documents)[None]
    numbers = np.concatenate([np.full(len(d), i + 1) for i, d in enumerate(documents)])[None]
    packed = logits(params, row, numbers)[0]
    start = 0
    for document in documents:
        alone = logits(params, document[None])[0]
        np.testing.assert_allclose(packed[start : start + len(document)], alone, atol=1e-5)
        start += len(document)
    unmasked = logits(params, row)[0]  # without the mask they differ
    assert np.abs(unmasked[6:] - packed[6:]).max() > 1e-3


def grads(params, frozen_blocks=0, remat="none", noise=plan.Noise(), rng=None):
    tokens = np.random.default_rng(2).integers(0, 320, (2, 16))

    @jax.jit
    def run(params, rng):
        def loss(params):
            network = groups.merge(SMALL, params)
            hidden = network(
                tokens, np.ones_like(tokens), frozen_blocks=frozen_blocks, remat=remat, noise=noise, rng=rng
            )
            return jnp.square(network.logits(hidden.hidden_BTD)).mean()

        return jax.value_and_grad(loss)(params)

    return run(params, rng)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", "attention", "products"])
@pytest.mark.parametrize("noise", [plan.Noise(), plan.Noise(0.1, 0.1, 0.1)])
def test_remat_changes_no_gradient(params, remat, noise):
    key = jax.random.key(3)
    (loss, ours), (expected_loss, expected) = grads(params, 0, remat, noise, key), grads(params, 0, "none", noise, key)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    chex.assert_trees_all_close(ours, expected, rtol=2e-2, atol=1e-6)


def test_remat_saves_memory():
    tokens = np.zeros((2, 16), np.int32)

    def temporary_bytes(remat):
        def loss(params):
            return groups.merge(SMALL, params)(tokens, tokens + 1, remat=remat).hidden_BTD.sum()

        return (
            jax.jit(jax.grad(loss)).lower(groups.abstract_params(SMALL)).compile().memory_analysis().temp_size_in_bytes
        )

    memory = [temporary_bytes(remat) for remat in ("full", "attention", "products", "none")]
    assert memory == sorted(set(memory))


def test_nothing_below_the_boundary_has_a_gradient(params):
    _, gradients = grads(params, frozen_blocks=2)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients["blocks_0_1"]))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients["blocks_2_3"]))
    # The embedding trains through the head only, as if its hidden states were constant.
    tokens = np.random.default_rng(2).integers(0, 320, (2, 16))
    hidden = jax.jit(lambda p: groups.merge(SMALL, p)(tokens, np.ones_like(tokens)).hidden_BTD)(params)
    head_only = jax.grad(
        lambda e: jnp.square(matmul.matmul_nt(hidden.reshape(-1, 32), e, jnp.dtype("bfloat16"))).mean()
    )
    np.testing.assert_allclose(gradients["embedding"], jax.jit(head_only)(params["embedding"]), rtol=1e-5, atol=1e-9)


def test_noise_needs_a_key_and_spares_frozen_blocks(params):
    tokens = np.random.default_rng(2).integers(0, 320, (2, 16))
    noise, key = plan.Noise(0.2, 0.1, 0.1), jax.random.key(5)
    plain = logits(params, tokens)
    np.testing.assert_array_equal(logits(params, tokens, noise=noise), plain)
    noisy = logits(params, tokens, noise=noise, rng=key)
    assert np.abs(noisy - plain).max() > 1e-3
    np.testing.assert_array_equal(logits(params, tokens, noise=noise, rng=key), noisy)
    partly = logits(params, tokens, noise=noise, rng=key, frozen_blocks=2)
    assert np.abs(partly - plain).max() > 1e-3
    assert np.abs(partly - noisy).max() > 1e-3
    np.testing.assert_array_equal(logits(params, tokens, noise=noise, rng=key, frozen_blocks=4), plain)
