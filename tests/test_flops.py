import copy

import jax
import jax.numpy as jnp
import pytest

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.plan import Noise, flops
from llm60_jax.training import counted_flops, programs


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def test_products_are_counted_with_their_repetitions():
    def program(x, ws):
        x = jax.lax.scan(lambda x, w: (jax.jit(lambda: x @ w)(), None), x, ws)[0]
        return jnp.einsum("bij,bjk->bik", x[None], x.T[None])

    assert counted_flops.matmul_flops(program, shape(3, 8), shape(7, 8, 8)) == 7 * 2 * 3 * 8 * 8 + 2 * 3 * 8 * 3


def test_a_loop_without_a_count_is_refused():
    def program(x):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="trip count"):
        counted_flops.matmul_flops(program, shape(4, 4))


def counted(c, key):
    return counted_flops.count(programs.trace(c, key).jaxpr)


def test_freezing_removes_exactly_the_backward_and_recomputation_of_the_frozen_blocks(tiny):
    """Per live block: a forward, the recomputation of all of it but the last product, a backward of twice the forward.
    Per frozen block: a forward."""
    m, tokens, context = tiny.model, 128, 16
    down = 2 * tokens * m.dim * m.hidden_dim  # the last product of a block, which the backward does not need again
    forward = 2 * tokens * (4 * m.dim**2 + 2 * m.dim * m.hidden_dim) + 4 * tokens * context * m.dim
    product = 2 * tokens * m.vocab_size * m.dim
    first = plan.key(tiny, plan.build(tiny).stages[0])
    for frozen in (0, 2, 4):
        live = m.layers - frozen
        key = first._replace(frozen_blocks=frozen)
        scores = 2 * tokens * context * m.dim  # the backward pass computes them once more
        assert counted(tiny, key) == m.layers * forward + live * (3 * forward + scores - down) + 3 * product
        if frozen:  # a frozen embedding saves the product that its gradient is
            still = key._replace(embedding_frozen=True)
            assert counted(tiny, still) == counted(tiny, key) - product
            # and with what the frozen blocks compute at hand, they do not run
            assert counted(tiny, still._replace(prefix_cached=True)) == counted(tiny, still) - frozen * forward


VARIANTS = [
    ({}, {}),
    ({"mlp": "swiglu"}, {}),
    ({"residual": "scaled"}, {}),
    ({"share_attention": 2}, {}),
    ({"share_mlp": 2}, {"embedding": "frozen"}),
    ({}, {"deep_supervision": 0.1, "drop_path": 0.1, "activation_noise": 0.1}),
    ({}, {"lora": {"targets": ["mlp.up"]}}),
    ({"mlp": "swiglu", "residual": "scaled"}, {"lora": {}, "freeze": [[0.0, 2], [0.5, 4]]}),
    ({"mlp": "swiglu", "residual": "scaled", "share_attention": 2, "share_mlp": 2}, {"deep_supervision": 0.1}),
]


@pytest.mark.parametrize(("architecture", "way"), VARIANTS, ids=str)
def test_the_formula_counts_what_every_program_has(tree, architecture, way):
    tree = copy.deepcopy(tree) | {"baseline": "x"}
    tree["model"] |= architecture
    tree["phase"][2] |= way
    c = config_module.parse(tree, "x")
    stages = plan.build(c).phase_stages("fine_tune")
    for stage, remat in [(stages[0], "full"), (stages[0], "attention"), (stages[-1], "products"), (stages[-1], "none")]:
        key = plan.key(c, stage)._replace(remat=remat)
        for noise in (key.noise, Noise(attention=0.1)):
            assert flops.step_flops(c.model, key._replace(noise=noise)) == counted(c, key._replace(noise=noise))


@pytest.mark.parametrize("context", [16, 128, 200, 512])
def test_attention_costs_what_its_chunks_may_see(tiny, context):
    key = plan.key(tiny, plan.build(tiny).stages[0])._replace(context=context)
    assert flops.step_flops(tiny.model, key) == counted(tiny, key)


def test_devices_share_the_operations_out(tiny):
    key = plan.key(tiny, plan.build(tiny).stages[0])
    assert key.accumulation % 2 == 0
    assert counted(tiny, key._replace(devices=2)) == counted(tiny, key) == flops.step_flops(tiny.model, key)


def test_noise_costs_no_product(tiny):
    key = plan.key(tiny, plan.build(tiny).stages[0])
    assert counted(tiny, key) == counted(tiny, key._replace(noise=Noise()))


def test_freezing_saves_what_the_playbook_says():
    """Section 7: a 40 to 60 % reduction in backprop cost, over a phase of the real model."""
    c = config_module.load("configs/llm60.toml")
    backward = whole = 0
    for stage in plan.build(c).phase_stages("grammar"):
        key = plan.key(c, stage)
        forward = flops.step_flops(c.model, key._replace(frozen_blocks=60, prefix_cached=False))
        backward += stage.steps * (flops.step_flops(c.model, key) - forward)
        whole += stage.steps * (flops.step_flops(c.model, key._replace(frozen_blocks=0)) - forward)
    assert 0.40 <= 1 - backward / whole <= 0.60
