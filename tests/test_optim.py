"""Adafactor and Muon follow their papers, per layer; frozen groups keep every bit."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from llm60_jax.config import Model, Optimizer
from llm60_jax.model import groups
from llm60_jax.training import optim

PLAIN = Optimizer(weight_decay=0.0)
MODEL = Model(vocab_size=320, layers=2, stacks=(2,), dim=32, heads=2, hidden_dim=48, max_context=64)


def stacked(name):
    return name.startswith("blocks")


def plain(name):
    return False


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def adafactor_by_hand(gradients, clip=1.0):
    """Return a matrix's update directions, before the learning rate, over successive gradients.

    Shazeer and Stern 2018, algorithm 4, with decay 1 - t^-0.8 and without parameter scaling.
    """
    rows = columns = 0.0
    updates = []
    for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
        beta = 1 - t**-0.8
        squares = g**2 + 1e-30
        rows = beta * rows + (1 - beta) * squares.mean(axis=1)
        columns = beta * columns + (1 - beta) * squares.mean(axis=0)
        v = np.outer(rows, columns) / rows.mean()
        u = g / np.sqrt(v)
        updates.append(-u / max(1.0, np.sqrt((u**2).mean()) / clip))
    return updates


def run(tx, params, gradients, rate=0.1):
    """Return parameters and state after successive gradients."""
    state = tx.init(params)
    for grads in gradients:
        params, state = optim.update(tx, (), jnp.float32(rate), grads, state, params)
    return params, state


def test_a_factored_matrix_follows_the_paper():
    w, gradients = normal(0, 48, 40), [normal(i, 48, 40) * i for i in (1, 2, 3)]
    params, _ = run(optim.make(PLAIN, stacked), {"embedding": w}, [{"embedding": g} for g in gradients])
    expected = np.asarray(w) + 0.1 * sum(adafactor_by_hand(gradients))
    np.testing.assert_allclose(params["embedding"], expected, rtol=1e-4, atol=1e-5)


def test_the_state_of_a_matrix_is_factored():
    state = optim.make(PLAIN, stacked).init({"blocks": {"kernel": jnp.zeros((6, 320, 960))}})
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert {(6, 320), (6, 960)} <= shapes
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 6 * 2 * (320 + 960)


def test_a_vector_keeps_full_second_moments():
    w, gradients = normal(0, 40), [normal(i, 40) for i in (1, 2)]
    params, _ = run(optim.make(PLAIN, stacked), {"norm": w}, [{"norm": g} for g in gradients])
    v, expected = 0.0, np.asarray(w, np.float64)
    for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
        beta = 1 - t**-0.8
        v = beta * v + (1 - beta) * (g**2 + 1e-30)
        u = g / np.sqrt(v)
        expected -= 0.1 * u / max(1.0, np.sqrt((u**2).mean()))
    np.testing.assert_allclose(params["norm"], expected, rtol=1e-4, atol=1e-5)


def test_a_stack_equals_its_separate_layers():
    """One layer's gradient is huge; its clipping must not touch the others."""
    layers = 5
    w = normal(0, layers, 40, 36)
    scales = jnp.array([1.0, 1.0, 1000.0, 0.01, 1.0])[:, None, None]
    gradients = [normal(1, layers, 40, 36) * scales, normal(2, layers, 40, 36) / scales]
    together, _ = run(optim.make(Optimizer(), stacked), {"blocks": w}, [{"blocks": g} for g in gradients])
    for layer in range(layers):
        alone, _ = run(optim.make(Optimizer(), plain), {"blocks": w[layer]}, [{"blocks": g[layer]} for g in gradients])
        np.testing.assert_allclose(together["blocks"][layer], alone["blocks"], rtol=1e-6, atol=1e-7)


def test_weight_decay_is_decoupled_times_the_rate_and_spares_vectors():
    tx = optim.make(Optimizer(weight_decay=0.01), stacked)
    params = {"embedding": normal(0, 40, 40), "norm": normal(1, 40)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    after, _ = run(tx, params, [zeros], rate=0.1)
    np.testing.assert_allclose(after["embedding"], params["embedding"] * (1 - 0.1 * 0.01), rtol=1e-6)
    np.testing.assert_array_equal(after["norm"], params["norm"])
    unchanged, _ = run(tx, params, [zeros], rate=0.0)
    chex.assert_trees_all_equal(unchanged, params)


def test_frozen_groups_stay_bit_for_bit_and_thaw():
    tx = optim.make(Optimizer(), stacked)
    params = {name: normal(i, 2, 40, 40) for i, name in enumerate(("blocks_0_1", "blocks_2_3"))} | {
        "norm": normal(9, 4)
    }
    grads = jax.tree.map(lambda x: x + 1, params)
    _, state = run(tx, params, [grads])
    live_grads = {name: g for name, g in grads.items() if name != "blocks_0_1"}
    new_params, new_state = optim.update(tx, {"blocks_0_1"}, jnp.float32(0.1), live_grads, state, params)
    chex.assert_trees_all_equal(new_params["blocks_0_1"], params["blocks_0_1"])
    chex.assert_trees_all_equal(new_state["blocks_0_1"], state["blocks_0_1"])
    chex.assert_trees_all_equal_structs(new_state, state)
    for name in ("blocks_2_3", "norm"):
        assert bool((new_params[name] != params[name]).any())
    counts = {name: optax.tree_utils.tree_get(new_state[name], "count") for name in new_state}
    assert counts["blocks_0_1"].tolist() == [1, 1]
    assert counts["blocks_2_3"].tolist() == [2, 2]
    thawed, _ = optim.update(tx, (), jnp.float32(0.1), grads, new_state, new_params)
    assert bool((thawed["blocks_0_1"] != params["blocks_0_1"]).any())


def test_global_norm():
    assert optim.global_norm({"a": jnp.array([3.0]), "b": {"c": jnp.array([4.0])}}) == 5.0


def test_adamw_is_optax_adamw_with_decay_on_matrices():
    config = Optimizer(name="adamw", weight_decay=0.01)
    params = {"norm": {"scale": jnp.ones(40)}, "embedding": {"kernel": normal(0, 64, 48)}}
    ours, theirs = optim.make(config, plain), optax.adamw(1e-2, *config.betas, weight_decay=0.01, mask=_matrices)
    state, reference, expected = ours.init(params), theirs.init(params), params
    for step in range(3):
        grads = jax.tree.map(lambda p, s=step: normal(s + 1, *p.shape), params)
        params, state = optim.update(ours, (), jnp.float32(1e-2), grads, state, params)
        updates, reference = theirs.update(grads, reference, expected)
        expected = optax.apply_updates(expected, updates)
    chex.assert_trees_all_close(params, expected, rtol=1e-6, atol=1e-8)


def test_muon_moves_each_matrix_of_the_stacks_by_an_orthogonal_one():
    """Jordan 2024: all singular values of an update are nearly equal, whatever the gradient's are. Its size is that of
    Liu et al. 2025: an RMS of 0.2 times the rate."""
    config = Optimizer(name="muon", weight_decay=0.0)
    shapes = {"wide": (32, 96), "tall": (96, 32)}
    params = {"blocks_0_2": {name: jnp.zeros((3, *shape)) for name, shape in shapes.items()}}
    spread = jnp.geomspace(1.0, 0.1, 32)  # of the gradients' singular values, about
    grads = {"blocks_0_2": {"wide": normal(1, 3, 32, 96) * spread[:, None], "tall": normal(2, 3, 96, 32) * spread}}
    moved, _ = run(optim.make(config, stacked), params, [grads], rate=0.1)
    for name, shape in shapes.items():
        for layer, gradient in zip(moved["blocks_0_2"][name], grads["blocks_0_2"][name], strict=True):
            singular = np.linalg.svd(layer, compute_uv=False) / (0.1 * 0.2 * np.sqrt(max(shape)))
            assert 0.5 < singular.min() < singular.max() < 1.4
            assert float(jnp.sum(layer * gradient)) < 0
    alone = {"blocks_0_2": jax.tree.map(lambda x: x[1:2], grads["blocks_0_2"])}
    only, _ = run(optim.make(config, stacked), jax.tree.map(lambda x: x[1:2], params), [alone], rate=0.1)
    chex.assert_trees_all_close(only, jax.tree.map(lambda x: x[1:2], moved), rtol=1e-4, atol=1e-7)


def test_muon_takes_queries_keys_and_values_for_matrices_of_their_own():
    config = Optimizer(name="muon", weight_decay=0.01)
    kernels = [normal(seed, 2, 32, 32) for seed in range(3)]
    gradients = [normal(seed + 3, 2, 32, 32) * scale for seed, scale in enumerate((1.0, 10.0, 0.1))]

    def moved(parts, grads, matrices):
        params, grads = ({"blocks_0_1": {"qkv": {"kernel": jnp.concatenate(x, -1)}}} for x in (parts, grads))
        return run(optim.make(config, stacked, matrices), params, [grads, grads])[0]["blocks_0_1"]["qkv"]["kernel"]

    together = moved(kernels, gradients, functools.partial(groups.matrices, MODEL))
    alone = [moved([kernel], [grad], lambda path: 1) for kernel, grad in zip(kernels, gradients, strict=True)]
    np.testing.assert_allclose(together, jnp.concatenate(alone, -1), rtol=1e-4, atol=1e-6)
    joint = moved(kernels, gradients, lambda path: 1)
    assert float(jnp.abs(joint - together).max()) > 1e-3
    assert groups.matrices(MODEL, ["attention", "qkv", "a"]) == 1  # an adapter
    assert groups.matrices(MODEL, ["mlp", "up", "kernel"]) == 1
    assert groups.matrices(dataclasses.replace(MODEL, mlp="swiglu"), ["mlp", "up", "kernel"]) == 2


def test_under_muon_embedding_and_final_norm_go_by_adafactor():
    params = {"embedding": normal(0, 64, 48), "norm": {"scale": jnp.ones(48)}}
    gradients = [jax.tree.map(lambda p, s=step: normal(s, *p.shape), params) for step in (1, 2, 3)]
    muon, adafactor = (
        run(optim.make(Optimizer(name=name), stacked), params, gradients) for name in ("muon", "adafactor")
    )
    chex.assert_trees_all_equal(muon, adafactor)


def _matrices(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)
