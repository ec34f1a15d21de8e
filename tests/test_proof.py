"""Break every mechanism of a stage on purpose; the run must stop."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import metrics, tiny_tree

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.data import prepare
from llm60_jax.data.tokens import packing
from llm60_jax.data.tokens.tokenizer import BOS
from llm60_jax.errors import TrainingError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.model import attention
from llm60_jax.plan import flops
from llm60_jax.record import store
from llm60_jax.run import loop, measures
from llm60_jax.training import counted_flops, optim, proof, step

TINY = config_module.parse(tiny_tree(Path("x")), "x")
MODEL = TINY.model


@pytest.fixture
def stage(tiny):
    """A stage with context 16 and two of six blocks frozen."""
    return plan.build(tiny).stages[1]


@pytest.fixture
def one_stage(tree):
    """A run of one stage of two steps, two of six blocks frozen; its first step shows faults."""
    tree |= {"tokenizer": {"phases": ["grammar"]}, "seed": 2}  # whose first rows hold ends of documents
    tree["phase"] = [tree["phase"][0] | {"tokens": 2 * 128, "context": [[0.0, 64]], "freeze": [[0.0, 2]]}]
    return config_module.parse(tree, "x")


def key_of(stage):
    return plan.key(TINY, stage)


def evidence(stage, **changes):
    """Return the evidence of a stage in effect, with changes."""
    good = proof.Observed(
        context=stage.context,
        blocks_with_gradient=tuple(range(stage.frozen_blocks, 6)),
        mask_coverage=0.4,
        leaks=0,
        weights=(1.0, 1.0),
        groups_changed=("a", "b"),
        matmul_flops=flops.step_flops(MODEL, key_of(stage)),
        state_bytes_updated=10,
        state_bytes_untouched=5,
    )
    return dataclasses.replace(good, **changes)


EXPECTED = proof.Expected(coverage=0.4, reweighted=False, live=("a", "b"))


def test_a_stage_in_effect_passes(stage):
    proof.check(stage, MODEL, key_of(stage), EXPECTED, evidence(stage))
    rate_0 = dataclasses.replace(EXPECTED, live=())
    proof.check(stage, MODEL, key_of(stage), rate_0, evidence(stage, groups_changed=()))
    dropping = dataclasses.replace(EXPECTED, every_block=False)  # drop-path may skip a block for a whole step
    proof.check(stage, MODEL, key_of(stage), dropping, evidence(stage, blocks_with_gradient=(2, 5)))
    with pytest.raises(TrainingError, match="blocks 2 to 5 planned, in 1 to 2 found"):
        proof.check(stage, MODEL, key_of(stage), dropping, evidence(stage, blocks_with_gradient=(1, 2)))
    proof.check_frozen(stage, {"x": "a"}, {"x": "a"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context": 64}, "planned, 64 in the program"),
        ({"blocks_with_gradient": (0, 1, 2, 3, 4, 5)}, "blocks 2 to 5 planned, in 0 to 5 found"),
        ({"blocks_with_gradient": (2, 3, 5)}, "2 to 5 planned, in 3 of them"),
        ({"blocks_with_gradient": ()}, "in none found"),
        ({"mask_coverage": 1.0}, r"over 0\.4000 of the causal pairs planned, 1\.0000 in the program"),
        ({"matmul_flops": 10**9}, "planned with 2 of 6 blocks frozen, 1,000,000,000 in the program"),
        ({"leaks": 3}, "no position may see another document or a later position, 3 do"),
        ({"weights": (0.5, 2.0)}, r"equal weights of tokens planned, 0\.500 to 2\.000 found"),
        ({"groups_changed": ("a",)}, "training of a, b planned, of a found"),
        ({"groups_changed": ()}, "training of a, b planned, of nothing found"),
    ],
)
def test_each_difference_from_the_plan_stops_the_run(stage, changes, words):
    with pytest.raises(TrainingError, match=words) as caught:
        proof.check(stage, MODEL, key_of(stage), EXPECTED, evidence(stage, **changes))
    assert caught.value.exit_code == 6


def test_changed_frozen_leaves_stop_the_run(stage):
    with pytest.raises(TrainingError, match=r"1 of 2 frozen leaves changed; the first is y, .* from a to b"):
        proof.check_frozen(stage, {"x": "a", "y": "a"}, {"x": "a", "y": "b"})


@pytest.mark.slow
def test_the_program_reports_what_it_does(tiny):
    state = step.init(tiny)
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state))
    for stage in plan.build(tiny).phase_stages("grammar")[::2]:
        key = plan.key(tiny, stage)
        shape = (key.accumulation, key.micro_batch, key.context)
        rng = np.random.default_rng(0)
        batch = {name: rng.integers(0, 360, shape, dtype=np.int32) for name in ("tokens", "targets")}
        batch["tokens"] = np.where(rng.random(shape) < 0.2, BOS, batch["tokens"] | 4)  # 4: none is special
        batch["segments"] = np.cumsum(batch["tokens"] == BOS, axis=-1, dtype=np.int32) + 1
        batch["weights"] = np.ones(shape, np.float32)
        traced = jax.jit(lambda s, b, key=key: step.train_step(tiny, key, s, b, jnp.float32(1e-3))).trace(state, batch)
        after, metrics = traced.lower().compile()(state, batch)
        frozen_groups = step.frozen_groups_of(tiny.model, key, state.params)
        counted = sum(counted_flops.by_part(traced.jaxpr).values())
        observed = proof.gather(metrics, counted, 0, state.opt_state, digests(state), digests(after))
        same = batch["segments"][..., :, None] == batch["segments"][..., None, :]
        expected = np.tril(same).sum() / (same[..., 0, 0].size * key.context * (key.context + 1) / 2)
        assert proof.mask_coverage(batch["tokens"], True) == pytest.approx(expected, rel=1e-12)
        assert proof.mask_coverage(batch["tokens"], False) == 1
        live_groups = tuple(sorted(state.params.keys() - frozen_groups))
        proof.check(stage, MODEL, key, proof.Expected(expected, False, live_groups), observed)
        assert observed.state_bytes_updated + observed.state_bytes_untouched == total
        assert (observed.state_bytes_untouched > 0) == (stage.frozen_blocks > 0)


def digests(state):
    """Return the digests of each group's parameters and optimizer state."""
    return {
        name: (store.state_sha256(group, None), store.state_sha256(state.opt_state[name], None))
        for name, group in state.params.items()
    }


@pytest.mark.slow
def test_a_run_records_the_proof_of_each_stage(tree):
    tree["phase"], tree["tokenizer"] = tree["phase"][:1], {"phases": ["grammar"]}
    c = config_module.parse(tree, "x")
    loop.launch(c, Interrupts(), "again")
    proofs = [(row["phase"], row["stage"], row["proof"]) for row in metrics(Path(c.workdir)) if "proof" in row]
    stages = plan.build(c).stages
    assert [(phase, index) for phase, index, _ in proofs] == [(s.phase, s.index) for s in stages]
    assert [p["context"] for *_, p in proofs] == [s.context for s in stages]
    assert [p["blocks_with_gradient"] for *_, p in proofs] == [6 - s.frozen_blocks for s in stages]
    log = Path(c.workdir, "log.txt").read_text(encoding="utf-8")
    assert "grammar 5/5: in effect: context 64, gradient in 2 of 6 blocks" in log


def test_a_freeze_that_does_not_reach_the_program_stops_the_run(one_stage, monkeypatch):
    real = plan.key

    def thawed(config, stage):
        return real(config, stage)._replace(frozen_blocks=0)

    monkeypatch.setattr(plan, "key", thawed)
    with pytest.raises(TrainingError, match="gradient in blocks 2 to 5 planned, in 0 to 5 found"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_frozen_parameters_that_move_stop_the_run(one_stage, monkeypatch):
    real = optim.update

    def leaky(tx, frozen_groups, rate, grads, state, params):
        new_params, new_state = real(tx, frozen_groups, rate, grads, state, params)
        moved = {name: jax.tree.map(lambda x: x * 0.999, new_params[name]) for name in frozen_groups}
        return {**new_params, **moved}, new_state

    monkeypatch.setattr(optim, "update", leaky)
    with pytest.raises(TrainingError, match=r"planned, of blocks_0_1, blocks_2_3, blocks_4_5, embedding, norm found"):
        loop.launch(one_stage, Interrupts(), "again")
    monkeypatch.setattr(proof, "check", lambda *_: None)  # the end of the stage checks again
    words = "2 of 6 blocks are frozen, but 6 of 33 frozen leaves changed; the first is blocks_0_1/0/"
    with pytest.raises(TrainingError, match=words):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_a_gradient_that_leaks_below_the_boundary_stops_the_run(one_stage, monkeypatch):
    """Frozen parameters stay, but the gradient crosses every frozen block to the embedding."""
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    with pytest.raises(TrainingError, match=r"in a step planned with 2 of 6 blocks frozen, .* in the program"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_a_mask_without_documents_stops_the_run(one_stage, monkeypatch):
    def causal(segments_BT):
        length = segments_BT.shape[1]
        return jnp.broadcast_to(np.tri(length, dtype=bool), (len(segments_BT), 1, length, length))

    monkeypatch.setattr(attention, "document_mask", causal)
    with pytest.raises(TrainingError, match=r"of the causal pairs planned, 1\.0000 in the program"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_packing_that_joins_documents_stops_the_run(one_stage, monkeypatch):
    real = packing._Stream.read
    monkeypatch.setattr(packing._Stream, "read", lambda *a: (row := real(*a)) | {"segments": row["segments"] * 0 + 1})
    with pytest.raises(TrainingError, match=r"of the causal pairs planned, 1\.0000 in the program"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
@pytest.mark.parametrize("open_to", ["documents", "future"])
def test_attention_that_ignores_its_mask_stops_the_run(one_stage, monkeypatch, open_to):
    """The mask is right, but attention ignores it; a new jit compiles the broken function."""
    real = attention.attend

    def attend(q, k, v, seen, dtype, *rest):
        mask = jnp.ones_like(seen.mask_B1TS)
        if open_to == "documents":
            mask &= np.tri(q.shape[2], dtype=bool)
        return real(q, k, v, seen._replace(mask_B1TS=mask, mask_B1ST=mask.swapaxes(2, 3)), dtype, *rest)

    monkeypatch.setattr(attention, "attend", attend)
    monkeypatch.setattr(
        measures,
        "_EVAL",
        jax.jit(lambda *a, **k: step.eval_step(*a, **k), static_argnums=(0, 1), static_argnames=("dtype", "kernels")),
    )
    with pytest.raises(TrainingError, match=r"no position may see another document or a later position, \d+ do"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_an_update_that_does_nothing_stops_the_run(one_stage, monkeypatch):
    monkeypatch.setattr(optim, "update", lambda tx, frozen_groups, rate, grads, state, params: (params, state))
    with pytest.raises(TrainingError, match=r"training of blocks_2_3, .*, norm planned, of nothing found"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_a_group_missing_from_the_update_stops_the_run(one_stage, monkeypatch):
    real = optim.update

    def partial(tx, frozen_groups, rate, grads, state, params):
        new_params, new_state = real(tx, frozen_groups, rate, grads, state, params)
        return {**new_params, "blocks_4_5": params["blocks_4_5"]}, new_state

    monkeypatch.setattr(optim, "update", partial)
    with pytest.raises(TrainingError, match="planned, of blocks_2_3, embedding, norm found"):
        loop.launch(one_stage, Interrupts(), "again")


@pytest.mark.slow
def test_weights_that_do_not_arrive_stop_the_run(one_stage, tree, monkeypatch):
    tree["phase"][0]["reweight"] = {}
    monkeypatch.setattr(prepare.Prepared, "token_weights", lambda self, phase: None)
    with pytest.raises(TrainingError, match=r"different weights of tokens planned, 1\.000 to 1\.000 found"):
        loop.launch(config_module.parse(tree, "x"), Interrupts(), "again")
