"""The chunked loss equals plain cross-entropy, and never holds all logits."""

import chex
import jax
import jax.numpy as jnp
import pytest

from llm60_jax.model import losses

F32, BF16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)


def problem(count, vocabulary=50, dim=16):
    keys = jax.random.split(jax.random.key(count), 4)
    hidden = jax.random.normal(keys[0], (count, dim))
    embedding = jax.random.normal(keys[1], (vocabulary, dim))
    targets = jax.random.randint(keys[2], (count,), 0, vocabulary)
    weights = (jax.random.uniform(keys[3], (count,)) > 0.2) * 1.5
    return hidden, embedding, targets, weights


def reference(hidden, embedding, targets, weights):
    logits = jax.nn.log_softmax(hidden @ embedding.T)
    return -(jnp.take_along_axis(logits, targets[:, None], 1)[:, 0] * weights).sum()


@pytest.mark.parametrize("count", [1, 7, 256, 300, 512, 521, 1024])  # 521 is prime, so its chunks need padding
def test_value_and_gradient_equal_plain_cross_entropy(count):
    hidden, embedding, targets, weights = problem(count)

    def ours(hidden, embedding):
        return 3.0 * losses.next_token(hidden, embedding, targets, weights, F32).weighted

    value, gradients = jax.jit(jax.value_and_grad(ours, (0, 1)))(hidden, embedding)
    expected_value, expected = jax.value_and_grad(lambda h, e: 3.0 * reference(h, e, targets, weights), (0, 1))(
        hidden, embedding
    )
    assert float(value) == pytest.approx(float(expected_value), rel=1e-5)
    chex.assert_trees_all_close(gradients, expected, rtol=1e-3, atol=1e-4)
    undifferentiated = float(jax.jit(ours)(hidden, embedding))
    assert undifferentiated == pytest.approx(float(expected_value), rel=1e-5)


def test_bfloat16_gradients_are_close():
    hidden, embedding, targets, weights = problem(512)
    ours = jax.grad(lambda h, e: losses.next_token(h, e, targets, weights, BF16).weighted, (0, 1))
    gradients = jax.jit(ours)(hidden, embedding)
    expected = jax.grad(lambda h, e: reference(h, e, targets, weights), (0, 1))(hidden, embedding)
    for got, want in zip(gradients, expected, strict=True):
        assert jnp.linalg.norm(got - want) / jnp.linalg.norm(want) < 0.02


@pytest.mark.parametrize("count", [7, 300, 4096, 4100])
def test_a_gpu_takes_larger_chunks_and_finds_the_same(count, monkeypatch):
    arguments = problem(count)

    def terms():
        ours = jax.value_and_grad(lambda h, e: losses.next_token(h, e, *arguments[2:], F32).weighted, (0, 1))
        return ours(*arguments[:2])

    expected = terms()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chex.assert_trees_all_close(terms(), expected, rtol=1e-4, atol=1e-4)
    lengths = {c: losses._chunked(jnp.zeros(c)).shape for c in (512, 4096, 4100)}
    assert lengths == {512: (1, 512), 4096: (1, 4096), 4100: (2, 2050)}


def test_all_logits_never_exist():
    hidden, embedding, targets, weights = problem(4096, vocabulary=4000)
    program = jax.jit(jax.grad(lambda h, e: losses.next_token(h, e, targets, weights).weighted, (0, 1)))
    temporaries = program.lower(hidden, embedding).compile().memory_analysis().temp_size_in_bytes
    assert temporaries < 4096 * 4000 * 4 / 3
