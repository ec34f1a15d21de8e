"""The train step: accumulation, live parameters, noise, refused steps, compiled programs."""

import dataclasses
import gc
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import shared_programs

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError
from llm60_jax.model import groups
from llm60_jax.plan import Noise
from llm60_jax.training import mesh, phase_groups, programs, step


def batch_for(key, seed=0):
    rng = np.random.default_rng(seed)
    shape = (key.accumulation, key.micro_batch, key.context)
    batch = {name: rng.integers(0, 360, shape, dtype=np.int32) for name in ("tokens", "targets")}
    batch["segments"] = np.cumsum(rng.random(shape) < 0.1, axis=-1, dtype=np.int32) + 1
    batch["weights"] = (rng.random(shape) < 0.9).astype(np.float32)
    return batch


def keys(tiny):
    return [plan.key(tiny, s) for s in plan.build(tiny).phase_stages("grammar")]


def run(tiny, key, state, batch, limit=step.NO_LIMIT):
    """Run one step by a program that the tests share; leave `state` intact."""
    with pytest.MonkeyPatch.context() as patch:
        shared_programs(patch)
        program = programs.CompiledSteps(tiny)[key]
    return program(jax.tree.map(jnp.copy, state), batch, np.float32(1e-2), np.float32(limit))


@pytest.mark.slow
def test_accumulated_micro_batches_equal_one_large_batch(tiny):
    quiet = keys(tiny)[0]._replace(noise=Noise())
    state = step.init(tiny)
    batch = batch_for(quiet)
    results = []
    for accumulation in (1, 2, 8):
        key = quiet._replace(accumulation=accumulation, micro_batch=8 // accumulation)
        shaped = {name: array.reshape(accumulation, -1, key.context) for name, array in batch.items()}
        results.append(run(tiny, key, state, shaped))
    for new_state, metrics in results[1:]:
        assert float(metrics.loss) == pytest.approx(float(results[0][1].loss), rel=1e-6)
        assert float(metrics.grad_norm) == pytest.approx(float(results[0][1].grad_norm), rel=1e-2)
        # Adafactor divides gradients by their own size, so small ones carry their rounding along.
        chex.assert_trees_all_close(new_state.params, results[0][0].params, atol=2e-4)


@pytest.mark.slow
def test_the_loss_is_the_mean_over_weighted_tokens(tiny):
    key = keys(tiny)[0]._replace(noise=Noise())
    state, batch = step.init(tiny), batch_for(keys(tiny)[0])
    _, metrics = run(tiny, key, state, batch)
    flat = {name: array.reshape(-1, key.context) for name, array in batch.items()}
    nll = np.asarray(jax.jit(lambda p, b: step.eval_step(tiny.model, None, p, b))(state.params, flat))
    mean = (nll * flat["weights"]).sum() / flat["weights"].sum()
    assert float(metrics.loss) == float(metrics.objective) == pytest.approx(mean, rel=1e-3)


def test_each_stage_moves_exactly_its_live_parameters(tiny):
    state = step.init(tiny)
    for key in keys(tiny):
        new_state, _ = run(tiny, key, state, batch_for(key))
        chex.assert_trees_all_equal_structs(new_state, state)
        assert int(new_state.step) == 1
        for name, _, stop in tiny.model.named_stacks:
            before = state.params[name], state.opt_state[name]
            after = new_state.params[name], new_state.opt_state[name]
            if stop <= key.frozen_blocks:
                chex.assert_trees_all_equal(after, before)
            else:
                assert all(
                    bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (after[0], before[0])), strict=True)
                )
        assert bool((new_state.params["embedding"] != state.params["embedding"]).any())


def test_a_layer_s_update_follows_its_own_gradients_alone(tiny):
    """Clipping acts on a layer, not on its stack: where one layer's gradients grow, the others move as before."""
    name, _, _ = tiny.model.named_stacks[0]
    rng, tx = np.random.default_rng(0), step.optimizer(tiny)
    shapes = {name: groups.abstract_params(tiny.model)[name]}
    params, grads = (jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes) for _ in range(2))

    @jax.jit
    def second_updates(first_layer_times):
        _, state = tx.update(grads, tx.init(params), params)
        grown = jax.tree.map(lambda g: jnp.concatenate([first_layer_times * g[:1], g[1:]]), grads)
        return tx.update(grown, state, params)[0]

    for quiet, loud in zip(*map(jax.tree.leaves, map(second_updates, (1.0, 1000.0))), strict=True):
        np.testing.assert_array_equal(loud[1:], quiet[1:])
        assert bool((loud[0] != quiet[0]).any())


@pytest.mark.slow
def test_a_frozen_embedding_stays(tiny):
    key = keys(tiny)[-1]._replace(embedding_frozen=True)
    state = step.init(tiny)
    new_state, _ = run(tiny, key, state, batch_for(key))
    chex.assert_trees_all_equal(new_state.params["embedding"], state.params["embedding"])
    chex.assert_trees_all_equal(new_state.opt_state["embedding"], state.opt_state["embedding"])


def test_embedding_policy_reaches_the_key_only_while_blocks_are_frozen(tree):
    tree["phase"][0]["embedding"] = "frozen"
    c = config_module.parse(tree, "x")
    assert [key.embedding_frozen for key in keys(c)] == [False, True, True, True, True]


@pytest.mark.slow
def test_one_compile_per_key_and_shared_between_phases(tiny):
    compiled = programs.CompiledSteps(tiny)
    state = step.init(tiny)
    for stage in plan.build(tiny).stages:
        key = plan.key(tiny, stage)
        program = compiled[key]
        assert compiled[key] is program
        for seed in (0, 1):
            state, _ = program(state, batch_for(key, seed), np.float32(1e-3), step.NO_LIMIT)
    assert len(compiled) == 5  # fifteen stages, three phases
    assert int(state.step) == 30


@pytest.mark.slow
def test_a_compiled_step_is_traced_once_whatever_step_and_rate(tiny):
    key = keys(tiny)[1]
    traced = chex.assert_max_traces(lambda s, b, r: step.train_step(tiny, key, s, b, r), n=1)
    jitted, state = jax.jit(traced), mesh.place(step.init(tiny), key.sharing)
    for rate in (1e-3, 2e-3):
        state, _ = jitted(state, mesh.put(batch_for(key), key.sharing), np.float32(rate))


@pytest.mark.slow
def test_noise_comes_from_seed_step_and_micro_batch(tiny):
    key = keys(tiny)[0]._replace(noise=Noise(mlp=0.3))
    state, batch = step.init(tiny), batch_for(keys(tiny)[0])
    loss = float(run(tiny, key, state, batch)[1].loss)
    assert float(run(tiny, key, state, batch)[1].loss) == loss
    later = dataclasses.replace(state, step=jnp.int32(5))
    other = dataclasses.replace(state, seed=jnp.uint32(8))
    assert float(run(tiny, key, later, batch)[1].loss) != loss
    assert float(run(tiny, key, other, batch)[1].loss) != loss


def test_abstract_state_matches_a_real_one(tiny):
    real, abstract = step.init(tiny), phase_groups.abstract(tiny, None)
    chex.assert_trees_all_equal_shapes_and_dtypes(real, abstract)
    chex.assert_trees_all_equal_structs(groups.abstract_params(tiny.model), real.params)


@pytest.mark.slow
def test_memory_grows_with_depth_by_gradients_and_block_inputs_only(tree):
    """Under full remat a block costs gradients (sum, new, update) and an input for each token."""
    temporaries = {}
    for layers in (15, 30, 60):
        deep = {"layers": layers, "stacks": [layers], "dim": 64, "heads": 1, "hidden_dim": 128}
        phases = [{**phase, "freeze": [[0.0, 0]]} for phase in tree["phase"]]
        c = config_module.parse(tree | {"model": tree["model"] | deep, "phase": phases}, "x")
        compiled, key = programs.CompiledSteps(c), keys(c)[0]
        assert compiled[key] is not None
        temporaries[layers] = compiled.temporary_bytes(key)
    block = 4 * (4 * 64**2 + 2 * 64 * 128 + 4 * 64)
    inputs = 4 * key.micro_batch * key.context * 64
    growth = (temporaries[60] - temporaries[30]) / 30
    assert growth <= 1.1 * (3 * block + inputs)
    assert (temporaries[30] - temporaries[15]) / 15 == pytest.approx(growth, rel=0.1)


@pytest.mark.parametrize("where", ["gradient", "weights of the loss"])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tiny, where):
    key = keys(tiny)[0]._replace(noise=Noise())
    state, batch = step.init(tiny), batch_for(keys(tiny)[0])
    if where == "gradient":
        poisoned = state.params | {"norm": {**state.params["norm"], "bias": jnp.full(32, jnp.nan)}}
        state = dataclasses.replace(state, params=poisoned)
    else:
        batch["weights"][0, 0, 0] = np.inf
    new, metrics = run(tiny, key, state, batch)
    assert not np.isfinite(float(metrics.grad_norm))
    assert not bool(metrics.applied)
    chex.assert_trees_all_equal(new, dataclasses.replace(state, step=jnp.int32(1)))


@pytest.mark.parametrize(("limit", "applied"), [(0, False), (100, True)])
def test_a_step_above_a_limit_is_not_applied(tiny, limit, applied):
    key = keys(tiny)[0]._replace(noise=Noise())
    state, batch = step.init(tiny), batch_for(keys(tiny)[0])
    new, metrics = run(tiny, key, state, batch, limit)
    assert bool(metrics.applied) is applied
    assert int(new.step) == 1
    same = all(bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, (new.params, state.params)), strict=True))
    assert same is not applied


@pytest.mark.parametrize("sound", [True, False])
def test_a_gpu_chooses_between_the_same_two_states_as_a_cpu(sound, monkeypatch):
    """It has no branch, and what is not finite on the other side does not matter."""
    before = {"a": jnp.arange(3.0), "count": jnp.int32(4)}
    after = {"a": jnp.array([5.0, jnp.nan if not sound else 6.0, 7.0]), "count": jnp.int32(5)}

    def choice(sound):
        return step._updated_if(sound, lambda: after, before)

    results = []
    for backend, branches in (("cpu", 1), ("gpu", 0)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert str(jax.make_jaxpr(lambda sound: choice(sound))(sound)).count("cond[") == branches
        results.append(jax.jit(lambda sound: choice(sound))(sound))
    chex.assert_trees_all_equal(*results, after if sound else before)


@pytest.mark.slow
def test_every_product_in_float32_asks_for_float32(tiny):
    """Left to JAX, a GPU would take TF32."""
    key = keys(tiny)[0]._replace(dtype="float32")
    state, rows = step.init(tiny), {name: x[0] for name, x in batch_for(key).items()}
    scoring = jax.make_jaxpr(lambda params, rows: step.eval_step(tiny.model, None, params, rows))(state.params, rows)
    for program in (programs.trace(tiny, key).jaxpr, scoring):
        text = str(program)
        assert text.count(" dot_general[") == text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 5


@pytest.mark.slow
def test_a_released_program_is_freed_and_can_be_compiled_again(tiny):
    compiled, (first, second, *_) = programs.CompiledSteps(tiny), keys(tiny)
    program = weakref.ref(compiled[first])
    compiled.prefetch(second)
    compiled.release({second})
    gc.collect()
    assert program() is None
    assert len(compiled) == 1
    state, batch = step.init(tiny), batch_for(first)
    _, metrics = compiled[first](state, batch, np.float32(1e-3), step.NO_LIMIT)
    assert np.isfinite(float(metrics.loss))


def test_each_stage_has_its_own_remat_policy(tree):
    tree["phase"][0]["remat"] = [[0.0, "none"], [0.5, "attention"], [0.7, "full"]]
    c = config_module.parse(tree, "x")
    assert [key.remat for key in keys(c)] == ["none", "none", "none", "attention", "full"]
    tree["phase"][0]["remat"] = [[0.0, "none"], [0.4, "attention"]]
    with pytest.raises(InputError, match=r"remat: \[0\.4\] are not fractions of context, freeze or grow"):
        config_module.parse(tree, "x")


@pytest.mark.slow
def test_products_in_float32_are_float32_throughout(tiny, tree):
    """The loss is nearly that of bfloat16."""
    key = keys(tiny)[0]._replace(noise=Noise())
    wide = key._replace(dtype="float32")
    float32 = config_module.parse(tree | {"train": tree["train"] | {"dtype": "float32"}}, "x")
    assert {key.dtype for key in keys(float32)} == {"float32"}
    text = str(programs.trace(tiny, wide).jaxpr)
    assert "bf16" not in text
    assert "bf16" in str(programs.trace(tiny, key).jaxpr)
    state, batch = step.init(tiny), batch_for(key)
    losses = [float(run(tiny, k, state, batch)[1].loss) for k in (key, wide)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
