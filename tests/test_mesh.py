"""One mesh for any number of devices: the same bits from one, two and four, and what each of them holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import without_time  # noqa: F401  (its import sets up four CPU devices)
from jax.sharding import PartitionSpec

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import facts
from llm60_jax.machine.signals import Interrupts
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
    state = mesh.place(phase_groups.begin(c, c.phase[0], step.init(c)), key.sharing)
    numbers = []
    for _ in range(steps):
        shape = (key.accumulation, key.micro_batch, key.context)
        batch = {name: rng.integers(4, 300, shape, np.int32) for name in ("tokens", "targets")}
        batch |= {"segments": np.sort(rng.integers(1, 4, shape, np.int32)), "weights": rng.random(shape, np.float32)}
        state, metrics = compiled[key](state, mesh.put(batch, key.sharing), np.float32(1e-2), step.NO_LIMIT)
        numbers.append([float(metrics.loss), float(metrics.objective), float(metrics.grad_norm)])
    return numbers, mesh.whole(state)


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
@pytest.mark.parametrize("stage", [1, 2])
def test_later_stages_have_the_same_bits(tree, stage):
    one, two, four = (digest(on(tree, devices), stage) for devices in (1, 2, 4))
    assert one == two == four


@pytest.mark.slow
def test_weights_that_devices_hold_together_change_no_bit(tree):
    one, *others = (digest(on(tree, devices, fsdp=fsdp)) for devices, fsdp in ((1, 1), (2, 2), (4, 2)))
    assert others == [one, one]


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
def test_a_run_on_two_devices_continues_on_one(tree, tmp_path):
    tree["phase"] = tree["phase"][:1]
    tree["tokenizer"]["phases"] = ["grammar"]
    c = on(tree, 2)
    loop.launch(c, Interrupts(), "again")
    loop.launch(on(tree, 1), Interrupts(), "again")  # finds everything done
    newest = next(iter(sorted((tmp_path / "run" / "phases").iterdir())))
    assert newest.name == c.phase[0].name


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
