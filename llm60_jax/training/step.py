"""The train step, the eval step and the training state.

A `StepKey` holds everything static about a train step; `programs` compiles one program a key.

Shape suffixes: G micro-batches, B sequences, T positions, N tokens (B x T, flat), D model width.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llm60_jax.config import Config, Lora, Model
from llm60_jax.config.schema import Dtype, Kernels
from llm60_jax.model import groups, layers, losses, native, pieces
from llm60_jax.plan import Noise, StepKey, tap_depths
from llm60_jax.training import mesh, optim

# tokens, targets, segments: int32 [G, B, T]; weights: float32 [G, B, T];
# prefix, only with a prefix cache: bfloat16 [G, B, T, D]
Batch = dict[str, Any]
NO_LIMIT = np.float32(np.inf)
PROBE_TOKENS = 1024  # held-out tokens whose representations evaluate/drift.py compares over time


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "opt_state", "step", "seed", "reference"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that training changes. All stages of a phase share one layout.

    Phases differ by the groups that adapters and deep supervision add (phase_groups.py).
    """

    params: groups.Params  # float32
    opt_state: Any
    step: jax.Array  # int32 scalar: steps over all phases, refused ones included
    seed: jax.Array  # uint32 scalar: root of all training noise; step and layer are folded into it
    reference: jax.Array  # float32 [stacks, tokens, D]: representations of the probe at the last look


class Metrics(NamedTuple):
    """The results of one step, on the device. The last five are evidence for proof.py."""

    applied: jax.Array  # bool, whether the update was made
    loss: jax.Array  # float32, nats, mean cross-entropy of the step's tokens, each counted once
    objective: jax.Array  # float32, the minimised value: weighted tokens, all loss terms
    terms: dict[str, jax.Array]  # like `loss`, for each loss term but the next token's
    grad_norm: jax.Array  # float32, over live parameters
    block_gradients: jax.Array  # float32 [blocks], each block's gradient norm, 0 without a gradient
    context: jax.Array  # int32, tokens in a row
    mask_coverage: jax.Array  # float32, share of the causal pairs of positions that attention may use
    weights: jax.Array  # float32 [2], least and largest weight of the tokens that count
    counts: jax.Array  # float32 [2, ...], what native kernels did in forward and backward passes; zeros without them


def init(config: Config) -> TrainState:
    """Return a fresh state at step 0, from the config's seed."""
    params = groups.init(config.model, jax.random.key(config.seed))
    opt_state = jax.jit(optimizer(config).init)(params)
    return TrainState(params, opt_state, jnp.int32(0), jnp.uint32(config.seed), reference(config.model))


def reference(config: Model) -> jax.Array:
    """Return the reference representations before the first look: zeros."""
    return jnp.zeros((len(config.stacks), probe_rows(config) * config.max_context, config.dim))


def probe_rows(config: Model) -> int:
    """Return the number of probe rows, each of `max_context` tokens."""
    return max(1, PROBE_TOKENS // config.max_context)


def frozen_groups_of(config: Model, key: StepKey, names: Collection[str]) -> frozenset[str]:
    """Return the parameter groups among `names` that the key's program does not train.

    These are the groups of stacks below the boundary, of stacks that are to come, heads on frozen
    blocks, and a frozen embedding. With adapters, they are all groups but the adapters of live stacks.
    """
    stacks = config.lowest(key.blocks).named_stacks
    live = {g for name, _, stop in stacks if stop > key.frozen_blocks for g in groups.stack_groups(name)}
    live |= {f"head_{depth}" for depth in tap_depths(config, key)} | {"norm"}
    if not key.embedding_frozen:
        live.add("embedding")
    if key.lora is not None:
        live = {name for name in live if name.startswith("lora_")}
    return frozenset(set(names) - live)


def train_step(
    config: Config, key: StepKey, state: TrainState, batch: Batch, learning_rate: jax.Array, limit: Any = NO_LIMIT
) -> tuple[TrainState, Metrics]:
    """Take one optimizer step on the live groups (playbook, sections 7 to 9).

    Gradients are summed over the micro-batches of all devices (mesh.py). A step with a non-finite loss
    or gradient, or a loss above the limit, changes no parameter and no optimizer state.

    Args:
      batch: arrays as in `Batch`. A weight is 0 where the target belongs to another document or
        must not be learned. `prefix` holds the frozen blocks' output.
      learning_rate: float32 scalar.
      limit: float32 scalar, the largest objective that is applied (spikes.py).

    Returns:
      The new state, and metrics on the device.
    """
    state, model = mesh.made_whole(state, key.sharing), config.model.lowest(key.blocks)
    frozen_groups = frozen_groups_of(config.model, key, state.params)
    live = {name: group for name, group in state.params.items() if name not in frozen_groups}
    fixed = {name: group for name, group in state.params.items() if name in frozen_groups}
    weights = batch["weights"]
    total_weight, total_tokens = mesh.summed(_weights, key.sharing, key.slots)((), weights)
    total_weight, total_tokens = jnp.maximum(total_weight, 1e-6), jnp.maximum(total_tokens, 1)
    rng = jax.random.fold_in(jax.random.key(state.seed), state.step)
    held_live, held_fixed = (mesh.within(params, key.sharing) for params in (live, fixed))
    gradients = mesh.summed(
        _accumulated(model, key),
        key.sharing,
        key.slots,
        held=(held_live, held_fixed, mesh.WHOLE, mesh.WHOLE, mesh.WHOLE),
        sums=(mesh.WHOLE, mesh.WHOLE, (held_live, mesh.WHOLE)),
    )
    shared = live, fixed, total_weight, total_tokens, rng
    objective, (terms, coverage, forward_counts), (grads, backward_counts) = gradients(
        shared, (batch, jnp.arange(key.accumulation))
    )
    with jax.named_scope("optimizer"):
        grad_norm = optim.global_norm(grads)
        sound = jnp.isfinite(objective) & jnp.isfinite(grad_norm) & (objective <= limit)
        params, opt_state = _updated_if(
            sound,
            lambda: optim.update(
                optimizer(config, key), frozen_groups, learning_rate, grads, state.opt_state, state.params
            ),
            (state.params, state.opt_state),
        )
    metrics = Metrics(
        applied=sound,
        loss=terms.pop("next_token"),
        objective=objective,
        terms=terms,
        grad_norm=grad_norm,
        block_gradients=_block_gradients(model, grads),
        context=jnp.int32(batch["tokens"].shape[-1]),
        mask_coverage=coverage,
        weights=jnp.stack([jnp.where(weights > 0, weights, jnp.inf).min(), weights.max()]),
        counts=jnp.stack([forward_counts, backward_counts]),
    )
    changed = {"params": params, "opt_state": opt_state, "step": state.step + 1}
    return mesh.made_whole(dataclasses.replace(state, **changed), key.sharing), metrics


def _weights(_: Any, weights_GBT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum of the weights of some micro-batches, float32, and the number of tokens that have one, int32."""

    def add(sums, weights_BT):
        return (sums[0] + mesh.sum_in_order(weights_BT), sums[1] + (weights_BT > 0).sum()), None

    return jax.lax.scan(add, (jnp.float32(0), jnp.int32(0)), weights_GBT)[0]


def _accumulated(config: Model, key: StepKey) -> Callable[..., Any]:
    """Return `gradients(shared, micro_batches)`, which sums over micro-batches.

    `shared` holds live groups, fixed groups, total weight, total tokens and a PRNG key;
    `micro_batches` holds the batch and the micro-batches' numbers in the step. The result is
    (objective, (loss terms, mask coverage, counts of the forward passes), (gradients of the live
    groups, counts of the backward passes)).
    """
    term_weights = {"next_token": 1.0, "deep_supervision": key.deep_supervision if tap_depths(config, key) else 0}

    def gradients(shared, micro_batches):
        live, fixed, total_weight, total_tokens, rng = shared
        # Native kernels sum the gradients of their stacks themselves; the others are summed here.
        own = {name: group for name, group in live.items() if key.kernels == "native" and groups.is_stacked(name)}
        others = {name: group for name, group in live.items() if name not in own}
        none = native.no_evidence()

        def stack_weights(own):
            network = groups.merge(config, {**others, **own, **fixed}, key.lora)
            return native.of_stacks(network, key.frozen_blocks) if own else {}

        def micro_loss(others, evidence, stack_sums, micro, index):
            micro_rng = None if key.noise == Noise() else jax.random.fold_in(rng, index)
            params = {**others, **own, **fixed}
            total, terms, coverage, counts = _losses(
                config, key, params, micro, micro_rng, term_weights, evidence, stack_sums
            )
            plain = {name: sums.plain / total_tokens for name, sums in terms.items()}
            return total / total_weight, (plain, coverage / key.accumulation, counts)

        def accumulate(carry, indexed):
            sums, stack_sums = carry
            of_all = jax.value_and_grad(micro_loss, argnums=(0, 1, 2), has_aux=True)
            (objective, aux), (grads, counts, stack_sums) = of_all(others, none, stack_sums, *indexed)
            with jax.named_scope("gradients"):
                return (jax.tree.map(jnp.add, sums, (objective, aux, (grads, counts))), stack_sums), None

        zero = jnp.float32(0)
        no_terms = {name: zero for name, weight in term_weights.items() if weight}
        start = zero, (no_terms, zero, none), (jax.tree.map(jnp.zeros_like, others), none)
        of_stacks, pulled_back = jax.vjp(stack_weights, own)
        carry = start, jax.tree.map(jnp.zeros_like, of_stacks)
        (objective, aux, (grads, counts)), stack_sums = jax.lax.scan(accumulate, carry, micro_batches)[0]
        return objective, aux, ({**grads, **pulled_back(stack_sums)[0]}, counts)

    return gradients


def _updated_if(sound: jax.Array, update: Callable[[], Any], before: Any) -> Any:
    """Return the result of an update if the step is sound, else what was before; both trees are alike.

    On a CPU a branch saves the pass over all weights that a choice for each number takes. Elsewhere
    the host would have to wait for the step's result to choose a branch.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.cond(sound, update, lambda: before)
    return jax.tree.map(lambda new, old: jnp.where(sound, new, old), update(), before)


def _losses(
    config: Model,
    key: StepKey,
    params: groups.Params,
    micro: Batch,
    rng: jax.Array | None,
    weights: dict[str, float],
    evidence: jax.Array,
    stack_sums: native.Sums,
) -> tuple[jax.Array, dict[str, losses.Sums], jax.Array, jax.Array]:
    """Return a micro-batch's objective and loss terms, as sums over tokens, mask coverage and counts."""
    table = pieces.whole(params["embedding"], (config.vocab_size, config.dim), jnp.dtype(jnp.float32))
    network, dtype = groups.merge(config, {**params, "embedding": table}, key.lora), jnp.dtype(key.dtype)
    outputs = network(
        micro["tokens"],
        micro["segments"],
        frozen_blocks=key.frozen_blocks,
        remat=key.remat,
        noise=key.noise,
        rng=rng,
        dtype=dtype,
        prefix_BTD=micro.get("prefix"),
        kernels=key.kernels,
        evidence=evidence,
        sums=stack_sums,
    )
    with jax.named_scope("head"):
        tapped = [layers.layer_norm(outputs.stream[d], **params[f"head_{d}"]) for d in tap_depths(config, key)]
        hidden_ND, *tapped_ND = (x.reshape(-1, config.dim) for x in (outputs.hidden_BTD, *tapped))
        targets_N, weights_N = micro["targets"].reshape(-1), micro["weights"].reshape(-1)
        table_VD = network.embedding[...]
        batch = losses.LossInputs(hidden_ND, tapped_ND, table_VD, targets_N, weights_N, dtype, key.kernels)
        total, terms = losses.objective(batch, weights)
    counts = sum((sums.counts for sums in terms.values()), outputs.counts)
    return total, terms, outputs.mask_coverage, counts


def _block_gradients(config: Model, grads: groups.Params) -> jax.Array:
    """Return the gradient norm of each block, float32 [blocks]; 0 where it has no gradient.

    A shared part counts for each block that uses it.
    """
    norms = []
    for name, start, stop in config.named_stacks:
        squares = jnp.zeros(stop - start)
        for group in groups.stack_groups(name):
            for leaf in jax.tree.leaves(grads.get(group, {})):
                leaf_squares = jnp.square(leaf).sum(tuple(range(1, leaf.ndim)))  # a reshape would gather pieces
                squares += jnp.repeat(leaf_squares, (stop - start) // len(leaf))
        norms.append(jnp.sqrt(squares))
    return jnp.concatenate(norms)


def eval_step(
    config: Model,
    lora: Lora | None,
    params: groups.Params,
    rows: Batch,
    dtype: Dtype = "float32",
    kernels: Kernels | None = None,
) -> jax.Array:
    """Return the cross-entropy of each target of rows [B, T], nats, float32 [B, T].

    Evaluation has no noise, and all its products are in float32. A proof scores with the `dtype` and
    `kernels` of a train step instead.
    """
    network, kind = groups.merge(config, params, lora), jnp.dtype(dtype)
    kernels = kernels or native.for_scoring(config, lora)
    hidden_BTD = network(rows["tokens"], rows["segments"], dtype=kind, kernels=kernels).hidden_BTD
    hidden_ND, targets_N = hidden_BTD.reshape(-1, config.dim), rows["targets"].reshape(-1)
    nll_N = losses.token_losses(hidden_ND, network.embedding[...], targets_N, kind, kernels)
    return nll_N.reshape(rows["targets"].shape)


def frozen_prefix(
    config: Model, frozen_blocks: int, dtype: Dtype, params: groups.Params, tokens_BT: Any, segments_BT: Any
) -> jax.Array:
    """Return the output of the lowest `frozen_blocks`, bfloat16 [B, T, D].

    The products are those of training; the result is rounded once.
    """
    network, kernels = groups.merge(config, params), native.for_scoring(config)
    outputs = network(tokens_BT, segments_BT, frozen_blocks=frozen_blocks, dtype=jnp.dtype(dtype), kernels=kernels)
    return outputs.stream[frozen_blocks].astype(jnp.bfloat16)


def optimizer(config: Config, key: StepKey | None = None) -> optax.GradientTransformation:
    """Return the configured optimizer over groups, for the programs of a key; the state is the same for every key."""
    orthogonalized = None
    if key is not None and key.kernels == "native":
        orthogonalized = functools.partial(native.orthogonalized, dtype=jnp.dtype(key.dtype))
    matrices = functools.partial(groups.matrices, config.model)
    return optim.make(config.optimizer, groups.is_stacked, matrices, orthogonalized)
