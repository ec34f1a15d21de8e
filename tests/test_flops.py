import jax
import jax.numpy as jnp
import pytest

from llm60_jax import flops, plan, step
from llm60_jax.layers import Noise


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def test_products_are_counted_with_their_repetitions():
    def program(x, ws):
        x = jax.lax.scan(lambda x, w: (jax.jit(lambda: x @ w)(), None), x, ws)[0]
        return jnp.einsum("bij,bjk->bik", x[None], x.T[None])

    assert flops.matmul_flops(program, shape(3, 8), shape(7, 8, 8)) == 7 * 2 * 3 * 8 * 8 + 2 * 3 * 8 * 3


def test_a_loop_without_a_count_is_refused():
    def program(x):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="trip count"):
        flops.matmul_flops(program, shape(4, 4))


def counted(c, frozen, embedding_frozen=False):
    stage = plan.build(c).stages[0]
    key = step.StepKey.of(stage, c.phase[0], c)._replace(
        frozen=frozen, embedding_frozen=embedding_frozen, noise=Noise()
    )
    ids = jax.ShapeDtypeStruct((key.accumulation, key.micro_batch, key.context), jnp.int32)
    batch = dict.fromkeys(("tokens", "targets", "segments"), ids)
    batch["weights"] = jax.ShapeDtypeStruct(ids.shape, jnp.float32)
    program = lambda s, b, r: step.train_step(c, key, s, b, r)  # noqa: E731
    return flops.matmul_flops(program, step.abstract_state(c), batch, shape())


def test_freezing_removes_exactly_the_backward_and_recomputation_of_the_frozen_blocks(tiny):
    """Per live block: a forward, the recomputation of all of it but the last product, a backward of twice the forward.
    Per frozen block: a forward."""
    m, tokens, context = tiny.model, 128, 16
    down = 2 * tokens * m.dim * m.hidden_dim  # the last product of a block, which the backward does not need again
    forward = 2 * tokens * (4 * m.dim**2 + 2 * m.dim * m.hidden_dim) + 4 * tokens * context * m.dim
    head = 6 * tokens * m.vocab_size * m.dim
    weighted_sum = 2 * tokens  # of the losses, a product too
    for frozen in (0, 2, 4):
        live = m.layers - frozen
        assert counted(tiny, frozen) == m.layers * forward + live * (3 * forward - down) + head + weighted_sum
    # The head's own gradient is formed together with the loss, so freezing the embedding too saves no product.
    assert counted(tiny, 4, embedding_frozen=True) == counted(tiny, 4)
