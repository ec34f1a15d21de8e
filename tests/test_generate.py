import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm60_jax import generate, model
from llm60_jax.config import Model

SMALL = Model(vocab_size=320, layers=4, segments=(2, 2), dim=32, heads=2, hidden_dim=48, max_context=64)


@pytest.fixture(scope="module")
def params():
    # Far larger than initial weights, so that the likeliest tokens differ and the choice is not a near tie.
    return jax.tree.map(lambda x: 8 * x, model.init(SMALL, jax.random.key(0)))


def decode(params, rows, temperature=0.0, top_k=0, eos=319, seed=0):
    rows = jnp.asarray(rows, jnp.int32)
    return np.asarray(
        generate.decode(SMALL, params, rows, jax.random.key(seed), jnp.float32(temperature), top_k=top_k, eos=eos)
    )


def test_the_cache_changes_nothing(params):
    """Greedy decoding with the cache picks what the whole forward pass finds likeliest at every position."""
    prompts = np.full((2, 24), -1)
    prompts[0, :5], prompts[1, :9] = [2, 7, 8, 9, 10], [2, 11, 12, 13, 14, 15, 16, 17, 18]
    out = decode(params, prompts)
    network = model.merge(SMALL, params)
    float32 = jnp.dtype(jnp.float32)
    hidden = network(out, np.ones_like(out), dtype=float32).hidden_BTD
    best = np.asarray(network.logits(hidden, float32).argmax(-1))
    for row, length in enumerate((5, 9)):
        np.testing.assert_array_equal(out[row, :length], prompts[row, :length])
        np.testing.assert_array_equal(out[row, length:], best[row, length - 1 : -1])


def test_sampling_repeats_with_its_seed_and_respects_top_k(params):
    prompts = np.full((3, 20), -1)
    prompts[:, :2] = [2, 7]
    a, b, c = (decode(params, prompts, temperature=5.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    greedy = decode(params, prompts)
    np.testing.assert_array_equal(decode(params, prompts, temperature=5.0, top_k=1), greedy)


def test_a_finished_row_stays_finished(params):
    prompts = np.full((1, 12), -1)
    prompts[0, :3] = [2, 7, 9]
    first = decode(params, prompts)[0, 3]
    assert decode(params, prompts, eos=int(first))[0, 3:].tolist() == [first] * 9
