import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm60_jax import layers

F32, BF16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_and_their_gradients_equal_autodiff_in_float32(batch, transposed):
    a, g = normal(0, *batch, 5, 7), normal(2, *batch, 5, 4)
    b = normal(1, *batch, *((4, 7) if transposed else (7, 4)))
    ours = (lambda a, b: layers.matmul_nt(a, b, F32)) if transposed else (lambda a, b: layers.matmul(a, b, F32))
    reference = lambda a, b: a @ (b.swapaxes(-1, -2) if transposed else b)  # noqa: E731
    for function in (ours, reference):
        value, pull = jax.vjp(jax.jit(function), a, b)
        results = (value, *pull(g))
        if function is ours:
            expected = results
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), expected, results)


def test_bfloat16_products_give_float32_and_close_gradients():
    a, b = normal(0, 64, 96), normal(1, 96, 32)
    value, grads = jax.jit(jax.value_and_grad(lambda a, b: layers.matmul(a, b, BF16).sum(), (0, 1)))(a, b)
    exact = jax.grad(lambda a, b: (a @ b).sum(), (0, 1))(a, b)
    assert value.dtype == jnp.float32
    for got, want in zip(grads, exact, strict=True):
        assert got.dtype == jnp.float32
        assert jnp.linalg.norm(got - want) / jnp.linalg.norm(want) < 0.01


def test_dropout_is_off_without_a_key_and_unbiased_with_one():
    x = jnp.ones((200, 200))
    assert layers.dropout(x, 0.5, None) is x
    assert layers.dropout(x, 0.0, jax.random.key(0)) is x
    noisy = layers.dropout(x, 0.1, jax.random.key(0))
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
    mask = np.asarray(layers.document_mask(jnp.array([[1, 1, 2, 0, 0]])))[0, 0]
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
