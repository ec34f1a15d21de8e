"""The native kernels against plain XLA: values, gradients, counts, and what they refuse."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm60_jax import generate
from llm60_jax.config import Model, Optimizer
from llm60_jax.kernels import calls, choice, library
from llm60_jax.model import groups, layers, losses, native
from llm60_jax.plan import Noise, StepKey, flops, tap_depths
from llm60_jax.plan import native as claims
from llm60_jax.training import optim, step

F32, BF16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)


@pytest.fixture(autouse=True, scope="module")
def kernels():
    """The kernels of this processor; without them there is nothing to test."""
    chosen = choice.chosen("auto", "cpu")
    if chosen.kernels != "native":
        pytest.skip(chosen.reason)
    before = library.active()
    library.activate(chosen)
    yield chosen
    library.activate(before)


def model(dim=64, heads=2, hidden=96, layers=2, **others):
    sizes = {"vocab_size": 400, "stacks": (layers,), "max_context": 512}
    return Model(layers=layers, dim=dim, heads=heads, hidden_dim=hidden, **(sizes | others))


def perturbed(config):
    """Parameters away from their initial values, so that every gradient is of some size."""
    params = groups.init(config, jax.random.key(0))
    leaves, treedef = jax.tree.flatten(params)
    rngs = jax.random.split(jax.random.key(1), len(leaves))
    return treedef.unflatten([x + 0.05 * jax.random.normal(rng, x.shape) for x, rng in zip(leaves, rngs, strict=True)])


def rows(config, B, T):
    rng = np.random.default_rng(B * 1000 + T)
    tokens = rng.integers(4, config.vocab_size, (2, B, T)).astype(np.int32)
    segments = np.sort(rng.integers(1, 4, (B, T)), axis=1).astype(np.int32)
    weights = rng.uniform(0.5, 1.5, (B, T)).astype(np.float32)
    weights[:, -1] = 0 if T > 1 else 1
    return {"tokens": tokens[0], "targets": tokens[1], "segments": segments, "weights": weights}


def objective(config, batch, kernels, dtype, frozen=0, noise=Noise(), remat="products"):
    """A function of parameters, evidence and sums: the loss, and counts of the forward passes."""

    def loss(params, evidence, sums):
        network = groups.merge(config, params)
        rng = None if noise == Noise() else jax.random.key(5)
        outputs = network(
            batch["tokens"], batch["segments"], frozen_blocks=frozen, remat=remat, noise=noise, rng=rng, dtype=dtype,
            kernels=kernels, evidence=evidence, sums=sums,
        )  # fmt: skip
        hidden = outputs.hidden_BTD.reshape(-1, config.dim)
        table, targets, weights = network.embedding[...], batch["targets"].ravel(), batch["weights"].ravel()
        sums = losses.next_token(hidden, table, targets, weights, dtype, kernels)
        return sums.weighted / weights.sum(), (outputs.counts + sums.counts, outputs.mask_coverage)

    return loss


def gradients(config, batch, kernels, dtype, **options):
    """The loss with its counts, and the gradients with the counts of the backward pass."""
    params = perturbed(config)

    def weights(params):
        return native.of_stacks(groups.merge(config, params), options.get("frozen", 0))

    loss = objective(config, batch, kernels, dtype, **options)
    function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    zeros, pulled_back = jax.vjp(weights, params)
    value, (grads, counts, sums) = function(params, native.no_evidence(), jax.tree.map(jnp.zeros_like, zeros))
    return value, (jax.tree.map(jnp.add, grads, pulled_back(sums)[0]), counts)


def compared(config, batch, **options):
    """`gradients` by plain XLA in float32, by plain XLA in bfloat16, and by the kernels in bfloat16."""
    sides = (("xla", F32), ("xla", BF16), ("native", BF16))
    return [gradients(config, batch, kernels, dtype, **options) for kernels, dtype in sides]


def errors(gradients, right):
    """The relative error of each gradient that is not zero."""
    leaves = zip(jax.tree.leaves(gradients), jax.tree.leaves(right), strict=True)
    return np.asarray([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in leaves if np.linalg.norm(b)])


SHAPES = {
    "the playbook's widths": (model(320, 5, 640), 2, 128, {}),
    "gated, padded": (model(hidden=96, mlp="swiglu"), 3, 37, {}),
    "heads of 32": (model(128, 4, 256), 2, 64, {}),
    "heads of 128": (model(256, 2, 64), 1, 100, {}),
    "rows of one": (model(), 64, 1, {}),
    "a row longer than the head's round": (model(vocab_size=5000), 3, 512, {}),
    "learned residuals": (model(layers=3, stacks=(2, 1), residual="scaled"), 2, 32, {}),
    "shared attention": (model(layers=4, stacks=(2, 2), share_attention=2), 2, 48, {}),
    "dropout": (model(), 3, 64, {"noise": Noise(mlp=0.3)}),
    "dropout, gated": (model(mlp="swiglu"), 3, 40, {"noise": Noise(mlp=0.3)}),
    "all noise that is claimed": (model(), 2, 64, {"noise": Noise(mlp=0.1, embedding=0.1)}),
    "frozen blocks": (model(layers=3, stacks=(2, 1)), 2, 64, {"frozen": 2}),
    "full remat": (model(), 2, 40, {"remat": "full", "noise": Noise(mlp=0.3)}),
    "attention kept": (model(mlp="swiglu"), 2, 40, {"remat": "attention"}),
}


@pytest.mark.parametrize(("config", "B", "T", "options"), SHAPES.values(), ids=SHAPES)
def test_loss_and_gradients_are_those_of_plain_xla(config, B, T, options):
    batch = rows(config, B, T)
    ((right, _), (exact, _)), ((_, (_, covered)), (rounded, _)), ((loss, (counts, coverage)), (own, more)) = compared(
        config, batch, **options
    )
    assert abs(loss - right) < 1e-4 * abs(right) + 1e-5
    # Gradients are as far from float32 as XLA's are; in a single leaf of so small a model chance has a part.
    ratios = errors(own, exact) / errors(rounded, exact)
    assert np.exp(np.log(ratios).mean()) < 1.03
    assert ratios.max() < 1.6
    assert float(coverage) == pytest.approx(float(covered), rel=1e-6)
    frozen = options.get("frozen", 0)
    live, forward = config.layers - frozen, native.total(counts)
    planned = live * claims.live_block_flops(config, B, T, options.get("remat", "products"))
    planned += frozen * claims.block_flops(config, B, T) + claims.head_flops(config, B * T, trains=True)
    assert forward[0] + native.total(more)[0] == planned
    elements = B * T * live * config.mlp_width
    rate = options.get("noise", Noise()).mlp
    assert forward[2] == pytest.approx(rate * elements, abs=6 * (elements * rate) ** 0.5)
    _, pairs, dropped = native.total(more)
    causal = B * live * config.heads * T * (T + 1) / 2 * (2 if options.get("remat") == "full" else 1)
    assert (pairs / causal, dropped) == (pytest.approx(float(covered), rel=1e-6), forward[2])


def test_what_is_computed_again_equals_what_is_kept():
    config = model(mlp="swiglu")
    batch, noise = rows(config, 2, 72), Noise(mlp=0.2)
    kept, *others = (
        gradients(config, batch, "native", BF16, noise=noise, remat=remat)[1][0]
        for remat in ("none", "products", "attention", "full")
    )
    for again in others:
        jax.tree.map(np.testing.assert_array_equal, kept, again)


@pytest.mark.parametrize(
    ("config", "T", "noise"),
    [(model(320, 5, 640), 128, Noise()), (model(layers=1), 64, Noise(mlp=0.5))],
    ids=["the playbook's widths", "the very elements that dropout zeroes"],
)
def test_float32_is_exact(config, T, noise):
    batch = rows(config, 2, T)
    (_, (exact, _)), (_, (own, _)) = (gradients(config, batch, k, F32, noise=noise) for k in ("xla", "native"))
    assert errors(own, exact).max() < 1e-5


def test_losses_of_single_tokens():
    rng = np.random.default_rng(0)
    hidden, table = rng.normal(size=(70, 64)).astype(np.float32), rng.normal(size=(1037, 64)).astype(np.float32)
    targets = rng.integers(0, 1037, 70).astype(np.int32)
    both = [losses.token_losses(hidden, table, targets, F32, kernels) for kernels in ("xla", "native")]
    np.testing.assert_allclose(*both, rtol=1e-5)


def test_a_loss_that_is_no_number_stays_one():
    hidden = np.zeros((3, 64), np.float32)
    hidden[1, 5] = np.nan
    nll = losses.token_losses(hidden, np.ones((64, 64), np.float32), np.arange(3, dtype=np.int32), F32, "native")
    assert np.isnan(nll).tolist() == [False, True, False]


def test_an_activation_that_is_no_number_reaches_the_loss():
    config = model()
    params = perturbed(config)
    poisoned = {**params, "embedding": params["embedding"].at[7].set(jnp.nan)}
    batch = rows(config, 1, 32)
    batch["tokens"][0, 3] = 7
    loss, _ = jax.jit(objective(config, batch, "native", BF16))(poisoned, native.no_evidence(), None)
    assert np.isnan(loss)


@functools.cache
def counts_of(operations):
    limbs = np.zeros((3, calls.LIMBS), np.float32)
    for place in range(calls.LIMBS):
        limbs[0, place] = (operations >> (8 * place)) & 0xFF
    return limbs


def test_counts_add_up_exactly():
    total = 3 * counts_of(2**50 + 12345) + 1000 * counts_of(2**44 - 1)
    assert native.total(total) == [3 * (2**50 + 12345) + 1000 * (2**44 - 1), 0, 0]


# --- What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (model(48, 2, 96), "model.dim is 48"),
        (model(64, 4, 96), "heads 16 wide"),
        (model(192, 2, 96), "heads 96 wide"),
        (model(), None),
        (model(hidden=100), None),
    ],
)
def test_the_claims_name_what_they_refuse(config, fault):
    found = claims.unclaimed(config)
    assert found is None if fault is None else fault in found


HOSTILE = {
    "another rank": (0, lambda x: x[0]),
    "another length of rows": (0, lambda x: x[:, :-1]),
    "another type": (3, lambda segments: segments.astype(np.float32)),
    "too few segments": (3, lambda segments: segments[:1]),
    "norms of another width": (4, lambda scale: scale[:, :32]),
    "packed weights cut short": (9, lambda panels: panels[:, :-1]),
    "nothing at all": (0, lambda x: x[:0]),
}


@pytest.mark.parametrize(("argument", "change"), HOSTILE.values(), ids=HOSTILE)
def test_a_call_refuses_arrays_that_do_not_fit(argument, change):
    L, B, T, D, F = 2, 2, 32, 64, 96
    norm = np.ones((L, D), np.float32)
    arguments = [np.ones((B, T, D), np.float32), *[np.ones((T, 16), np.float32)] * 2, np.ones((B, T), np.int32)]
    arguments += [norm] * 4 + [np.zeros((L, 2), np.uint32)]
    arguments += [np.zeros((L, i * o), np.uint32) for i, o in ((D, 3 * D), (D, D), (D, F), (F, D))]
    shapes = [(B, T, D), (L - 1, B, T, D), *[(0,)] * 5, (3, calls.LIMBS)]
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    attributes = {"heads": 2, "hidden": F, "dropout_width": F, "threshold": 0}
    settings = {**{name: np.int64(x) for name, x in attributes.items()}, "gated": False, "scale": np.float32(1)}
    call = jax.ffi.ffi_call("llm60_stack_forward_float32", results)
    jax.block_until_ready(call(*arguments, **settings))
    arguments[argument] = change(arguments[argument])
    with pytest.raises(jax.errors.JaxRuntimeError, match="native kernels: "):
        jax.block_until_ready(call(*arguments, **settings))


@pytest.mark.parametrize("target", [-1, 50, 2**30])
def test_the_head_refuses_a_target_outside_the_vocabulary(target):
    hidden, table = np.ones((2, 32), np.float32), np.ones((50, 32), np.float32)
    with pytest.raises(jax.errors.JaxRuntimeError, match="outside the vocabulary"):
        jax.block_until_ready(losses.token_losses(hidden, table, np.asarray([0, target], np.int32), F32, "native"))


# --- Newton-Schulz steps ----------------------------------------------------------------------------


def orthogonal(x):
    """Five steps of Jordan (2024) in float64, times the norm."""
    norm = np.linalg.norm(x)
    y = x.astype(float) / (norm + 1e-8)
    for _ in range(5):
        square = y @ y.T
        y = 3.4445 * y + (-4.7750 * square + 2.0315 * square @ square) @ y
    return norm * y


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize(("shape", "matrices"), [((3, 64, 192), 3), ((2, 96, 64), 2), ((1, 50, 140), 2)])
def test_matrices_are_orthogonalised_each_by_itself(shape, matrices, dtype, tolerance):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    x[0] = 0
    expected = np.stack([np.hstack([orthogonal(part) for part in np.split(layer, matrices, axis=1)]) for layer in x])
    actual = native.orthogonalized(jnp.asarray(x), matrices, jnp.dtype(dtype))
    assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)
    assert not np.asarray(actual[0]).any()


def test_one_state_of_muon_serves_both_kernels():
    config = model(layers=3, stacks=(2, 1))
    params, optimizer = perturbed(config), Optimizer(name="muon")
    matrices = functools.partial(groups.matrices, config)
    ours = functools.partial(native.orthogonalized, dtype=F32)
    rules = [optim.make(optimizer, groups.is_stacked, matrices, kind) for kind in (None, ours)]

    def moved(tx, state):
        return jax.jit(functools.partial(optim.update, tx, ()))(jnp.float32(1e-2), params, state, params)

    before = rules[0].init(params)
    chex.assert_trees_all_equal(before, rules[1].init(params))
    (_, state), (_, after) = (moved(tx, before) for tx in rules)
    chex.assert_trees_all_close(state, after, rtol=1e-5, atol=1e-8)
    (xla, _), (own, _) = (moved(tx, after) for tx in rules)
    chex.assert_trees_all_close(xla, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernels", ["xla", "native"])
def test_what_orthogonalises_is_what_computes_the_step(tiny, kernels):
    config = dataclasses.replace(tiny, optimizer=Optimizer(name="muon"))
    key = StepKey(32, 2, 2, 0, False, "products", Noise(), kernels=kernels)
    params = groups.abstract_params(config.model)
    tx = step.optimizer(config, key)
    update = jax.jit(functools.partial(optim.update, tx, ()))
    program = update.lower(jnp.float32(1e-2), params, jax.eval_shape(tx.init, params), params).as_text()
    assert ("llm60_orthogonalize_" in program) == (kernels == "native")


@pytest.mark.parametrize("shape", [(2, 40, 1, 32), (2, 32, 3, 40), (2, 32, 32)])
def test_orthogonalising_refuses_widths_that_do_not_fit(shape):
    call = jax.ffi.ffi_call("llm60_orthogonalize_float32", jax.ShapeDtypeStruct(shape, jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="native kernels: "):
        jax.block_until_ready(call(np.ones(shape, np.float32)))


# --- Whole steps, and text --------------------------------------------------------------------------

STEPS = {
    "micro-batches": (model(), {"accumulation": 3}),
    "heads below the top": (model(layers=4, stacks=(2, 2)), {"deep_supervision": 0.3}),
    "a frozen embedding": (model(layers=3, stacks=(2, 1)), {"frozen_blocks": 2, "embedding_frozen": True}),
    "a cached prefix": (model(layers=3, stacks=(2, 1)), {"frozen_blocks": 2, "prefix_cached": True}),
    "shared parts": (model(layers=4, stacks=(2, 2), share_attention=2, share_mlp=2, residual="scaled"), {}),
}


@pytest.mark.parametrize(("config", "changes"), STEPS.values(), ids=STEPS)
def test_the_gradients_of_a_step_are_those_of_plain_xla(config, changes):
    key = StepKey(32, 2, 2, 0, False, "products", Noise(mlp=0.1), dtype="float32")._replace(**changes)
    params = perturbed(config)
    for depth in tap_depths(config, key):
        params[f"head_{depth}"] = {"scale": jnp.ones(config.dim), "bias": jnp.zeros(config.dim)}
    batch = [rows(config, 2, 32) for _ in range(key.accumulation)]
    micro = {name: np.stack([part[name] for part in batch]) for name in batch[0]}
    if key.prefix_cached:
        rng = np.random.default_rng(1)
        micro["prefix"] = jnp.asarray(rng.normal(size=(*micro["tokens"].shape, config.dim)), jnp.bfloat16)
    frozen = step.frozen_groups_of(config, key, params)
    live, fixed = ({n: g for n, g in params.items() if (n in frozen) == out} for out in (False, True))
    shared = live, fixed, jnp.float32(micro["weights"].sum()), jnp.float32(100), jax.random.key(3)
    results = []
    for kernels in ("xla", "native"):
        gradients = jax.jit(step._accumulated(config, key._replace(kernels=kernels)))
        results.append(gradients(shared, (micro, jnp.arange(key.accumulation))))
    (right, (_, coverage, _), (exact, _)), (loss, (_, own_coverage, counts), (own, more)) = results
    assert float(loss) == pytest.approx(float(right), rel=1e-5)
    assert float(own_coverage) == pytest.approx(float(coverage), rel=1e-5)
    assert errors(own, exact).max() < 2e-5
    native_key = key._replace(kernels="native")
    assert native.total(counts)[0] + native.total(more)[0] == flops.step_flops(config, native_key)


@pytest.mark.parametrize(
    "config", [model(), model(96, 3, 100, mlp="swiglu", residual="scaled")], ids=["plain", "gated"]
)
def test_a_token_is_written_as_plain_xla_writes_it(config):
    network = groups.merge(config, perturbed(config))
    rng, S = np.random.default_rng(0), 9
    caches = {
        name: tuple(jnp.zeros((stop - start, 3, config.heads, S, config.head_dim)) for _ in range(2))
        for name, start, stop in config.named_stacks
    }
    cos, sin = layers.rope_tables(S, config.head_dim, config.rope_base)
    both = {"xla": caches, "native": caches}

    @functools.partial(jax.jit, static_argnums=0)
    def written(kernels, x_BD, rope, caches, at):
        extend, logits = generate._STEPS[kernels]
        after = {}
        for name, _, _ in config.named_stacks:
            x_BD, after[name] = extend(getattr(network, name), x_BD, rope, caches[name], at, S)
        return logits(network, network.norm(x_BD)), after

    for position in range(S):
        x_BD, seen = rng.normal(size=(3, config.dim)).astype(np.float32), {}
        for kernels, old in both.items():
            rope = cos[position], sin[position]
            seen[kernels], both[kernels] = written(kernels, x_BD, rope, old, jnp.int32(position))
        np.testing.assert_allclose(seen["native"], seen["xla"], rtol=1e-4, atol=1e-5)
