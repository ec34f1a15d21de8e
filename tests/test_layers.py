"""Layers, attention and matrix products equal their definitions, and so do their derivatives."""

import contextlib
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from llm60_jax.model import attention, layers, matmul, noise

F32, BF16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_and_their_gradients_equal_autodiff_in_float32(batch, transposed):
    a, g = normal(0, *batch, 5, 7), normal(2, *batch, 5, 4)
    b = normal(1, *batch, *((4, 7) if transposed else (7, 4)))
    ours = (lambda a, b: matmul.matmul_nt(a, b, F32)) if transposed else (lambda a, b: matmul.matmul(a, b, F32))
    reference = lambda a, b: a @ (b.swapaxes(-1, -2) if transposed else b)  # noqa: E731
    results = []
    for function in (ours, reference):
        value, pull = jax.vjp(jax.jit(function), a, b)
        results.append((value, *pull(g)))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-5)


def test_bfloat16_products_give_float32_and_close_gradients():
    a, b = normal(0, 64, 96), normal(1, 96, 32)
    value, grads = jax.jit(jax.value_and_grad(lambda a, b: matmul.matmul(a, b, BF16).sum(), (0, 1)))(a, b)
    exact = jax.grad(lambda a, b: (a @ b).sum(), (0, 1))(a, b)
    assert value.dtype == jnp.float32
    for got, want in zip(grads, exact, strict=True):
        assert got.dtype == jnp.float32
        assert jnp.linalg.norm(got - want) / jnp.linalg.norm(want) < 0.01


def test_float32_products_ask_for_float32_and_bfloat16_ones_for_nothing():
    """A GPU would take TF32. A CPU ignores it, to the last bit: see the next test."""

    def precisions(dtype):
        program = jax.make_jaxpr(jax.value_and_grad(lambda a, b: matmul.matmul(a, b, dtype).sum(), (0, 1)))
        jaxpr = program(normal(0, 3, 4, 5), normal(1, 3, 5, 6))
        return [e.params["precision"] for e in jaxpr.eqns if e.primitive.name == "dot_general"]

    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert precisions(F32) == [highest] * 3
    assert precisions(BF16) == [None] * 3


@pytest.mark.parametrize("shape", [(5, 7, 4), (300, 64, 96), (2, 33, 257, 129)])
def test_on_a_cpu_the_precision_of_float32_changes_no_bit(shape, monkeypatch):
    *batch, m, k, n = shape
    a, b, g = normal(0, *batch, m, k), normal(1, *batch, k, n), normal(2, *batch, m, n)

    def results():
        value, pull = jax.vjp(jax.jit(lambda a, b: matmul.matmul(a, b, F32)), a, b)
        return [np.asarray(x) for x in (value, *pull(g))]

    ours = results()
    real = jax.lax.dot_general
    monkeypatch.setattr(jax.lax, "dot_general", lambda *a, precision, **more: real(*a, **more))
    for x, y in zip(ours, results(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_dropout_is_off_without_a_key_and_unbiased_with_one():
    x = jnp.ones((200, 200))
    assert noise.dropout(x, 0.5, None) is x
    assert noise.dropout(x, 0.0, jax.random.key(0)) is x
    noisy = noise.dropout(x, 0.1, jax.random.key(0))
    assert set(np.unique(np.round(np.asarray(noisy), 3))) == {0.0, np.float32(round(1 / 0.9, 3))}
    assert float(noisy.mean()) == pytest.approx(1.0, abs=0.01)


def test_rotary_scores_depend_on_distance_only():
    q, k = normal(0, 1, 1, 1, 8), normal(1, 1, 1, 1, 8)
    cos, sin = layers.rope_tables(40, 8, 10_000.0)

    def score(i, j):
        rotated = layers.rotate(q, cos[i : i + 1], sin[i : i + 1]), layers.rotate(k, cos[j : j + 1], sin[j : j + 1])
        return float((rotated[0] * rotated[1]).sum())

    assert score(5, 2) == pytest.approx(score(33, 30), abs=1e-5)
    assert abs(score(5, 2) - score(5, 4)) > 1e-3


def test_document_mask_by_hand():
    mask = np.asarray(attention.document_mask(jnp.array([[1, 1, 2, 0, 0]])))[0, 0]
    assert mask.astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_layer_norm_matches_its_definition():
    norm = layers.LayerNorm(16)
    x = 3 * normal(0, 4, 16) + 2
    expected = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x), expected, atol=1e-5)


def agree(function, reference, *arguments, tolerance=1e-5):
    """Assert that values and gradients of both agree, under one random cotangent."""
    value, pull = jax.vjp(jax.jit(function), *arguments)
    expected, expected_pull = jax.vjp(jax.jit(reference), *arguments)
    cotangents = jax.tree.map(lambda x: normal(9, *x.shape), expected)
    gradients = pull(jax.tree.map(lambda g, x: g.astype(x.dtype), cotangents, value))
    for ours, theirs in zip(
        jax.tree.leaves((value, gradients)), jax.tree.leaves((expected, expected_pull(cotangents))), strict=True
    ):
        gap = jnp.linalg.norm((ours - theirs).ravel()) / (jnp.linalg.norm(theirs.ravel()) + 1e-9)
        assert gap < tolerance, f"{gap:.2g} apart"


def test_hand_written_derivatives_are_those_of_autodiff():
    x, scale, bias = 3 * normal(0, 6, 16) + 1, normal(1, 16), normal(2, 16)

    def norm(x, scale, bias):
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias

    agree(layers.layer_norm, norm, x, scale, bias)
    agree(layers.gelu, lambda x: jax.nn.gelu(x, approximate=True), 4 * x)


def test_heads_are_split_rotated_and_brought_back():
    cos, sin = layers.rope_tables(6, 8, 10_000.0)

    def reference(qkv):
        q, k, v = (part.reshape(2, 6, 3, 8).swapaxes(1, 2) for part in jnp.split(qkv, 3, axis=-1))
        return layers.rotate(q, cos, sin), layers.rotate(k, cos, sin), v

    agree(lambda x: layers.split_heads(x, cos, sin, 3, F32), reference, normal(0, 2, 6, 72))
    x = normal(1, 2, 3, 6, 8)
    np.testing.assert_array_equal(layers.merge_heads(x), np.moveaxis(np.asarray(x), 1, 2).reshape(2, 6, 24))


@pytest.mark.parametrize("length", [1, 16, 128, 129, 300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 1e-5), (BF16, 0.02)])
def test_attention_in_chunks_is_attention_by_its_definition(length, dtype, tolerance):
    """Test documents that end anywhere, and padding at the end."""
    q, k, v = (normal(i, 2, 3, length, 16) for i in range(3))
    positions = np.arange(length)
    segments = np.stack([1 + positions // 37, np.where(positions > 0.9 * length, 0, 5)])
    seen = attention.sight(jnp.asarray(segments))
    agree(
        lambda q, k, v: attention.attend(q, k, v, seen, dtype).astype(jnp.float32),
        lambda q, k, v: attention.plain(q, k, v, seen.mask_B1TS, F32),
        *(q, k, v),
        tolerance=tolerance,
    )


def test_noise_of_different_keys_and_places_is_independent():
    bits = np.stack([np.asarray(noise.random_bits(jax.random.key(seed), (64, 128))) for seed in range(32)])
    ones = np.unpackbits(bits.view(np.uint8).reshape(32, 64, -1), axis=-1)
    assert abs(ones.mean() - 0.5) < 0.001
    assert abs(ones.mean((0, 1)) - 0.5).max() < 0.06  # of every bit at every place
    flat = (bits.astype(np.float64) / 2**32 - 0.5).reshape(32, -1)
    correlations = np.corrcoef(flat) - np.eye(32)
    assert abs(correlations).max() < 0.05
    assert abs(np.corrcoef(flat[:, 1:].ravel(), flat[:, :-1].ravel())[0, 1]) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_fused_kernels_are_attention_by_its_definition(platform):
    """Run the kernels on the CPU by their interpreters."""
    q, k, v = (normal(i, 1, 2, 128, 64) for i in range(3))
    segments = np.where(np.arange(128) < 70, 1, np.where(np.arange(128) < 120, 2, 0))
    seen = attention.sight(jnp.asarray(segments[None], jnp.int32))
    fused = functools.partial(attention.on_gpu, interpret=True) if platform == "gpu" else attention.on_tpu
    with pltpu.force_tpu_interpret_mode() if platform == "tpu" else contextlib.nullcontext():
        agree(
            lambda q, k, v: fused(q, k, v, seen),
            lambda q, k, v: attention.plain(q, k, v, seen.mask_B1TS, F32),
            *(q, k, v),
        )


def test_the_platform_chooses_the_kernel(monkeypatch):
    assert not attention.is_fused(128, BF16)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert attention.is_fused(512, "bfloat16")
    assert not attention.is_fused(200, BF16)
    assert not attention.is_fused(512, F32)  # it would have the precision of TF32
    dtypes = []
    monkeypatch.setitem(attention.FUSED_KERNELS, "gpu", lambda q, k, v, seen: (dtypes.append(q.dtype), q)[1])
    x = normal(0, 1, 1, 128, 16)
    assert attention.attend(x, x, x, attention.sight(jnp.ones((1, 128), jnp.int32)), BF16).dtype == BF16
    assert dtypes == [BF16]
