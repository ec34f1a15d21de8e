"""Contributions of blocks, and the loss by depth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm60_jax.evaluate import depth
from llm60_jax.model import groups
from llm60_jax.training import step


@pytest.fixture
def rows(tiny):
    rng = np.random.default_rng(0)
    shape = (2, tiny.model.max_context)
    tokens = {name: rng.integers(4, tiny.model.vocab_size, shape, dtype=np.int32) for name in ("tokens", "targets")}
    segments = np.ones(shape, np.int32)
    segments[1, 40:] = 0
    return tokens | {"segments": segments, "weights": (segments > 0).astype(np.float32)}


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_the_last_loss_is_the_model_s_own(tiny, rows, scale):
    tiny = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, embedding_scale=scale))
    params = step.init(tiny).params
    result = depth.measure(tiny.model, params, rows)
    nll = step.eval_step(tiny.model, None, params, rows)
    assert result.losses[-1] == pytest.approx(float((nll * rows["weights"]).sum() / rows["weights"].sum()), abs=1e-5)
    assert len(result.losses) == tiny.model.layers + 1
    assert len(result.contributions) == tiny.model.layers


def test_a_block_that_adds_nothing_contributes_nothing(tiny, rows):
    params = jax.tree.map(jnp.copy, step.init(tiny).params)
    group = params["blocks_2_3"]
    for part, matrix in (("attention", "out"), ("mlp", "down")):
        kernel = group[part][matrix]["kernel"]
        group[part][matrix]["kernel"] = kernel.at[1].set(0)  # of block 3
    result = depth.measure(tiny.model, params, rows)
    assert result.contributions[3] == 0
    assert min(result.contributions[:3] + result.contributions[4:]) > 0
    assert result.losses[4] == result.losses[3]


def test_contributions_are_those_of_the_residual_stream(tiny, rows):
    """Compare with the streams that the model reports at the ends of stacks, with one live block in each."""
    params = jax.tree.map(jnp.copy, step.init(tiny).params)
    for name, _, _ in tiny.model.named_stacks:
        for part, matrix in (("attention", "out"), ("mlp", "down")):
            kernel = params[name][part][matrix]["kernel"]
            params[name][part][matrix]["kernel"] = 50 * kernel.at[1].set(0)
    network = groups.merge(tiny.model, params)
    stream = network(rows["tokens"], rows["segments"], dtype=jnp.dtype(jnp.float32)).stream
    before = {0: network.embedding[...][rows["tokens"]]} | stream
    is_text = (rows["segments"] > 0)[..., None]
    result = depth.measure(tiny.model, params, rows)
    for _, start, stop in tiny.model.named_stacks:
        size = [float(jnp.sqrt(jnp.square(x * is_text).sum())) for x in (stream[stop] - before[start], before[start])]
        assert result.contributions[start] == pytest.approx(size[0] / size[1], rel=1e-4)
        assert result.contributions[start + 1] == 0
