"""Operations of matrix products: the count in the program equals the formula."""

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


def counted(program, *arguments):
    """Return the operations of a function's matrix products, counted in its program."""
    return sum(counted_flops.by_part(jax.make_jaxpr(program)(*arguments)).values())


def counted_step(c, key):
    """Return the operations of a train step's matrix products, counted in its program."""
    return sum(counted_flops.by_part(programs.trace(c, key).jaxpr).values())


def test_products_are_counted_with_their_repetitions():
    def program(x, ws):
        x = jax.lax.scan(lambda x, w: (jax.jit(lambda: x @ w)(), None), x, ws)[0]
        return jnp.einsum("bij,bjk->bik", x[None], x.T[None])

    assert counted(program, shape(3, 8), shape(7, 8, 8)) == 7 * 2 * 3 * 8 * 8 + 2 * 3 * 8 * 3


def test_a_loop_without_a_count_is_refused():
    def program(x):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="trip count"):
        counted(program, shape(4, 4))


@pytest.mark.slow
def test_freezing_removes_exactly_the_backward_and_recomputation_of_the_frozen_blocks(tiny):
    """A frozen block has a forward. A live block has also a backward and a recomputation.

    The backward is twice the forward. The recomputation leaves out the block's last product.
    """
    m, tokens, context = tiny.model, 128, 16
    down = 2 * tokens * m.dim * m.hidden_dim  # a block's last product, which remat does not repeat
    forward = 2 * tokens * (4 * m.dim**2 + 2 * m.dim * m.hidden_dim) + 4 * tokens * context * m.dim
    product = 2 * tokens * m.vocab_size * m.dim
    first = plan.key(tiny, plan.build(tiny).stages[0])
    for frozen in (0, 2, 4):
        live = m.layers - frozen
        key = first._replace(frozen_blocks=frozen)
        scores = 2 * tokens * context * m.dim  # the backward pass repeats them
        assert counted_step(tiny, key) == m.layers * forward + live * (3 * forward + scores - down) + 3 * product
        if frozen:  # a frozen embedding saves its gradient's product, a prefix cache the frozen forward
            frozen_embedding = key._replace(embedding_frozen=True)
            cached = frozen_embedding._replace(prefix_cached=True)
            assert counted_step(tiny, frozen_embedding) == counted_step(tiny, key) - product
            assert counted_step(tiny, cached) == counted_step(tiny, frozen_embedding) - frozen * forward


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


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "phase"), VARIANTS, ids=str)
def test_the_formula_equals_the_count_for_every_enhancement(tree, architecture, phase):
    tree = copy.deepcopy(tree) | {"baseline": "x"}
    tree["model"] |= architecture
    tree["phase"][2] |= phase
    c = config_module.parse(tree, "x")
    stages = plan.build(c).phase_stages("fine_tune")
    for stage, remat in [(stages[0], "full"), (stages[0], "attention"), (stages[-1], "products"), (stages[-1], "none")]:
        key = plan.key(c, stage)._replace(remat=remat)
        for noise in (key.noise, Noise(attention=0.1)):
            assert flops.step_flops(c.model, key._replace(noise=noise)) == counted_step(c, key._replace(noise=noise))


@pytest.mark.slow
@pytest.mark.parametrize("context", [16, 128, 200, 512])
def test_attention_counts_the_keys_of_each_chunk(tiny, context):
    key = plan.key(tiny, plan.build(tiny).stages[0])._replace(context=context)
    assert flops.step_flops(tiny.model, key) == counted_step(tiny, key)


@pytest.mark.slow
def test_devices_split_the_operations(tiny):
    key = plan.key(tiny, plan.build(tiny).stages[0])
    assert key.accumulation % 2 == 0
    shared = key._replace(sharing=key.sharing._replace(devices=2))
    assert counted_step(tiny, shared) == counted_step(tiny, key) == flops.step_flops(tiny.model, key)


@pytest.mark.slow
def test_noise_costs_no_product(tiny):
    key = plan.key(tiny, plan.build(tiny).stages[0])
    assert counted_step(tiny, key) == counted_step(tiny, key._replace(noise=Noise()))


def test_freezing_saves_what_the_playbook_says():
    """Playbook, section 7: freezing cuts the backprop cost of a phase by 40 to 60 %."""
    c = config_module.load("configs/llm60.toml")
    backward = whole = 0
    for stage in plan.build(c).phase_stages("grammar"):
        key = plan.key(c, stage)
        forward = flops.step_flops(c.model, key._replace(frozen_blocks=60, prefix_cached=False))
        backward += stage.steps * (flops.step_flops(c.model, key) - forward)
        whole += stage.steps * (flops.step_flops(c.model, key._replace(frozen_blocks=0)) - forward)
    assert 0.40 <= 1 - backward / whole <= 0.60
