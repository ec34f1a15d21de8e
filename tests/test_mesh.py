"""One mesh for any number of devices: the same bits from one, two and four, and what each of them holds."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PROJECT, metrics, state_of
from jax.sharding import PartitionSpec

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import facts
from llm60_jax.model import pieces
from llm60_jax.plan import Sharing
from llm60_jax.record import store
from llm60_jax.run import loop
from llm60_jax.training import mesh, phase_groups, programs, step


def on(tree, devices, **train):
    """A configuration that cuts its steps into four micro-batches."""
    four = {"micro_batch": [[16, 2], [32, 1], [64, 1]], "tokens_per_step": 256, "slots": 4}
    return config_module.parse({**tree, "train": {**tree["train"], **four, "devices": devices, **train}}, "x")


def trained(c, steps, stage=0):
    """Return loss, objective and gradient norm of each step, and the last state, whole."""
    compiled = programs.CompiledSteps(c)
    key = plan.key(c, plan.build(c).stages[stage])
    rng = np.random.default_rng(0)
    phase = c.phase_named(plan.build(c).stages[stage].phase)
    state = mesh.place(phase_groups.begin(c, phase, step.init(c)), key.sharing)
    numbers = []
    for _ in range(steps):
        shape = (key.accumulation, key.micro_batch, key.context)
        batch = {name: rng.integers(4, 300, shape, np.int32) for name in ("tokens", "targets")}
        batch |= {"segments": np.sort(rng.integers(1, 4, shape, np.int32)), "weights": rng.random(shape, np.float32)}
        state, metrics = compiled[key](state, mesh.put(batch, key.sharing), np.float32(1e-2), step.NO_LIMIT)
        numbers.append([float(metrics.loss), float(metrics.objective), float(metrics.grad_norm)])
    return numbers, mesh.whole(state)


def memory(c, stage=0):
    """Return the bytes of a stage's program on each device: of its arguments, and of its temporaries."""
    compiled, key = programs.CompiledSteps(c), plan.key(c, plan.build(c).stages[stage])
    assert compiled[key]
    found = compiled.memory(key)
    return found["arguments"], found["temporaries"]


def digest(c, stage=0):
    numbers, state = trained(c, 4, stage)
    return numbers, store.state_sha256(state, None)


# --- Sums ------------------------------------------------------------------------------------------------------------


def sums(devices, slots, values):
    """Sums of some values [micro-batches, n], each device's micro-batches one after the other."""

    def one_after_the_other(shared, part):
        return jax.lax.scan(lambda total, x: (total + shared * x, None), jnp.zeros(part.shape[1:]), part)[0]

    sharing = Sharing(devices=devices)
    return np.asarray(jax.jit(mesh.summed(one_after_the_other, sharing, slots))(jnp.float32(1), values))


def test_slots_are_summed_as_a_balanced_tree_on_any_number_of_devices():
    values = np.random.default_rng(0).standard_normal((16, 1000), np.float32)
    slot = [values[4 * n] + values[4 * n + 1] + values[4 * n + 2] + values[4 * n + 3] for n in range(4)]
    expected = (slot[0] + slot[1]) + (slot[2] + slot[3])
    for devices in (1, 2, 4):
        np.testing.assert_array_equal(sums(devices, 4, values), expected)
    assert (sums(1, 0, values) != expected).any()  # one after the other, as before there were slots
    assert (sums(2, 0, values) != sums(1, 0, values)).any()


def test_one_device_and_four_have_the_same_bits(tree):
    """bfloat16 products, dropout, and weights that are no powers of two."""
    tree["phase"][0] |= {"mlp_dropout": 0.1}
    one, four = (digest(on(tree, devices)) for devices in (1, 4))
    assert one == four


@pytest.mark.slow
def test_sums_in_any_order_differ_between_numbers_of_devices(tree):
    """The negative control of the test above."""
    (_, one), (_, four) = (digest(on(tree, devices, slots=0)) for devices in (1, 4))
    assert one != four


@pytest.mark.slow
def test_a_later_stage_has_the_same_bits(tree):
    """At another context, and with frozen blocks."""
    one, two, four = (digest(on(tree, devices), stage=2) for devices in (1, 2, 4))
    assert one == two == four


_AT_FULL_OPTIMIZATION = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_mesh
single = [[16, 4], [32, 2], [64, 1]]
one, four = (test_mesh.digest(test_mesh.on(json.loads(sys.argv[2]), n, micro_batch=single), stage=2) for n in (1, 4))
sys.exit(f"{one} {four}" if one != four else 0)
"""


@pytest.mark.slow
def test_a_single_micro_batch_on_each_device_has_the_same_bits_where_xla_optimizes(tree):
    """The other tests compile quickly. Full optimization joins a product and the sum after it, if it may."""
    command = [sys.executable, "-c", _AT_FULL_OPTIMIZATION, str(PROJECT / "tests"), json.dumps(tree)]
    done = subprocess.run(command, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_weights_that_devices_hold_together_change_no_bit(tree):
    assert digest(on(tree, 1)) == digest(on(tree, 4, fsdp=2))


# --- Weights in pieces ----------------------------------------------------------------------------------------------


def test_a_weight_in_pieces_travels_as_bfloat16_and_its_gradient_as_float32():
    rng = np.random.default_rng(0)
    weight, factors = rng.standard_normal((8, 6), np.float32), rng.standard_normal((4, 8, 6), np.float32)
    sharing = Sharing(devices=4, fsdp=4, gather="layer", slots=0)
    cut = PartitionSpec("fsdp")

    def gradient(piece, own):
        def function(piece):
            table = pieces.whole(piece, weight.shape, jnp.dtype(jnp.bfloat16))
            return jnp.sum(table * own[0]), table

        (_, table), found = jax.value_and_grad(function, has_aux=True)(piece)
        return table / 4, found

    summed = mesh.summed(gradient, sharing, 0, held=cut, sums=(mesh.WHOLE, cut))
    table, found = jax.jit(summed)(weight, factors)
    np.testing.assert_array_equal(table, weight.astype(jnp.bfloat16).astype(np.float32))
    np.testing.assert_allclose(found, factors.sum(0), rtol=1e-6)
    assert {shard.data.shape for shard in found.addressable_shards} == {(2, 6)}


def test_a_weight_that_is_whole_stays_the_same_array():
    weight = jnp.ones((3, 4))
    assert pieces.whole(weight, (3, 4), jnp.dtype(jnp.bfloat16)) is weight


@pytest.mark.slow
def test_gathering_by_layer_trains_alike_in_less_memory(tree):
    """Equal to rounding: devices add gradients as they scatter them. The stage has frozen blocks."""
    tree["train"]["dtype"], stage = "float32", 1
    one, _ = trained(on(tree, 1), 4, stage)
    _, at_rest = memory(on(tree, 2, fsdp=2), stage)
    arguments = []
    for devices, fsdp in ((1, 1), (4, 2), (4, 4)):
        c = on(tree, devices, fsdp=fsdp, gather="layer")
        numbers, _ = trained(c, 4, stage)
        np.testing.assert_allclose(numbers, one, rtol=1e-5)
        held, temporaries = memory(c, stage)
        arguments.append(held)
        assert devices == 1 or temporaries < 0.6 * at_rest
    state = phase_groups.abstract(on(tree, 1), None)
    matrices = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1)
    batch = 16 * 256  # bytes: four arrays of 32 bits
    assert arguments[0] - arguments[1] == pytest.approx(matrices / 2 + batch * 3 / 4, rel=0.05)
    assert arguments[0] - arguments[2] == pytest.approx(matrices * 3 / 4 + batch * 3 / 4, rel=0.05)


@pytest.mark.slow
def test_all_that_a_phase_can_add_is_gathered_by_layer(tree):
    """Shared parts, adapters and heads below the top. Adapters train on blocks that are cut themselves."""
    tree["train"]["dtype"] = "float32"
    tree |= {"baseline": "x"}
    tree["model"] |= {"share_mlp": 2, "mlp": "swiglu", "residual": "scaled"}
    tree["phase"][0] |= {"deep_supervision": 0.3}
    lora = {"rank": 4, "alpha": 4.0, "targets": ["attention.qkv", "attention.out"]}
    tree["phase"][2] |= {"lora": lora, "context": [[0.0, 16]], "freeze": [[0.0, 2]]}
    for phase in (0, 2):
        c = on(tree, 1)
        stage = next(n for n, stage in enumerate(plan.build(c).stages) if stage.phase == c.phase[phase].name)
        one, _ = trained(c, 3, stage)
        four, _ = trained(on(tree, 4, fsdp=4, gather="layer"), 3, stage)
        np.testing.assert_allclose(four, one, rtol=1e-5)


# --- Who holds what --------------------------------------------------------------------------------------------------


def test_matrices_are_cut_along_their_longest_axis_and_vectors_are_not(tiny):
    sharing = Sharing(devices=4, fsdp=2)
    state = phase_groups.abstract(tiny, None)
    cut = mesh.of_state(state, sharing)
    assert cut.params["embedding"].spec == PartitionSpec("fsdp")
    name = next(name for name in state.params if name.startswith("blocks_"))
    blocks = state.params[name], cut.params[name]
    for leaf, sharding in zip(*map(jax.tree.leaves, blocks), strict=True):
        longest = int(np.argmax(leaf.shape[1:])) + 1
        expected = PartitionSpec(*[None] * longest, "fsdp") if leaf.ndim > 2 else mesh.WHOLE
        assert sharding.spec == expected
    assert cut.step.spec == cut.reference.spec == mesh.WHOLE
    whole = mesh.of_state(state, Sharing(devices=4))
    assert {sharding.spec for sharding in jax.tree.leaves(whole)} == {mesh.WHOLE}


def test_a_state_is_cut_and_whole_again(tiny):
    state = step.init(tiny)
    placed = mesh.place(state, Sharing(devices=4, fsdp=4))
    embedding = placed.params["embedding"]
    pieces = [shard.data.shape for shard in embedding.addressable_shards]
    assert pieces == [(embedding.shape[0] // 4, embedding.shape[1])] * 4
    assert store.state_sha256(mesh.whole(placed), None) == store.state_sha256(state, None)


def test_each_device_gets_its_share_of_a_batch():
    batch = {"tokens": np.arange(24, dtype=np.int32).reshape(4, 2, 3)}
    for devices in (1, 2, 4):
        (tokens,) = mesh.put(batch, Sharing(devices=devices)).values()
        pieces = [np.asarray(shard.data) for shard in sorted(tokens.addressable_shards, key=lambda one: one.device.id)]
        assert [piece.tolist() for piece in pieces] == [part.tolist() for part in np.split(batch["tokens"], devices)]


def test_more_devices_than_slots_make_as_many_and_six_make_none(tree):
    def slots(devices, wanted):
        tree["train"] |= {"micro_batch": [[16, 2], [32, 1], [64, 1]], "tokens_per_step": 64 * 24}
        return plan.sharing(
            config_module.parse(tree | {"train": tree["train"] | {"devices": devices, "slots": wanted}}, "x")
        ).slots

    assert [slots(devices, 4) for devices in (1, 4, 8, 6)] == [4, 4, 8, 0]
    assert [slots(devices, 0) for devices in (1, 4)] == [0, 0]


def test_the_slots_of_a_step_divide_its_micro_batches(tree):
    for micro_batches, slots in ((1, 1), (6, 2), (8, 4), (12, 4)):
        assert plan.step_key.slots_of(micro_batches, 4) == slots
    assert plan.step_key.slots_of(8, 0) == 0


# --- Runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("gather", ["step", "layer"])
def test_a_run_in_pieces_is_saved_and_continues_whole(tree, train, tmp_path, gather):
    tree["phase"] = [tree["phase"][0] | {"tokens": 4 * 256, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}]
    tree["tokenizer"]["phases"] = ["grammar"]
    tree["train"]["dtype"] = "float32"
    ends = {}
    for name, fsdp in (("whole", 1), ("pieces", 2)):
        tree["workdir"] = str(tmp_path / name)
        run = train(config_module.to_tree(on(tree, 2, fsdp=fsdp, gather=gather)), stop_after=2)
        ends[name] = train(config_module.to_tree(on(tree, 1))), state_of(run / "checkpoints" / "2")
    (whole, middle), (cut, cut_middle) = ends.values()
    if gather == "step":
        assert cut_middle == middle
        assert state_of(cut / "phases" / "grammar") == state_of(whole / "phases" / "grammar")
    losses = [[row["loss"] for row in metrics(run) if "loss" in row] for run in (whole, cut)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_devices_that_cannot_share_a_step_are_refused(tree):
    assert facts.counted_devices("all") == 4
    with pytest.raises(MachineError, match=r"train\.devices is 5, and this machine has 4"):
        facts.counted_devices(5)
    with pytest.raises(InputError, match=r"which train\.devices = 3 does not divide"):
        on(tree, 3)
    with pytest.raises(InputError, match=r"train\.fsdp: 4 does not divide the 2 devices"):
        on(tree, 2, fsdp=4)
    with pytest.raises(InputError, match="slots: a power of two, or 0; got 3"):
        on(tree, 1, slots=3)
    with pytest.raises(InputError, match=r"256 tokens has 4 rows .* and there are 8\. Set train\.devices = 4"):
        on(tree, 8)


def test_a_run_says_where_bits_depend_on_the_number_of_devices(tree):
    def said(devices, **train):
        return " ".join(loop._shared(on(tree, devices, **train)))

    assert "rounding" not in said(2)
    assert "train.slots = 0: the sums" in said(2, slots=0)


def test_a_run_says_which_devices_are_idle(tree):
    assert plan.idle(on(tree, 4), 4) is None
    assert plan.idle(on(tree, 2), 4) == "2 of 4 devices are idle, because train.devices is 2"
    assert "a step of 256 tokens keeps at most 4 busy" in plan.idle(on(tree, 4), 16)
