"""Data parallelism on the two CPU devices that conftest.py sets up."""

import chex
import numpy as np
import pytest

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import facts
from llm60_jax.machine.signals import Interrupts
from llm60_jax.run import loop
from llm60_jax.training import parallel, phase_groups, programs, step


def on(devices, tree, **train):
    return config_module.parse({**tree, "train": {**tree["train"], "devices": devices, **train}}, "x")


def losses(c, steps, stage=0):
    """Return loss, objective and gradient norm of each step, and the last state."""
    compiled = programs.CompiledSteps(c)
    key = plan.key(c, plan.build(c).stages[stage])
    rng = np.random.default_rng(0)
    state, numbers = phase_groups.begin(c, c.phase[0], step.init(c)), []
    for _ in range(steps):
        shape = (key.accumulation, key.micro_batch, key.context)
        batch = {name: rng.integers(4, 300, shape, np.int32) for name in ("tokens", "targets")}
        batch |= {"segments": np.sort(rng.integers(1, 4, shape, np.int32)), "weights": rng.random(shape, np.float32)}
        state, metrics = compiled[key](state, compiled.put(batch), np.float32(1e-3), step.NO_LIMIT)
        numbers.append([float(metrics.loss), float(metrics.objective), float(metrics.grad_norm)])
    return np.array(numbers), state


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2])
def test_two_devices_train_as_one_does(tree, stage):
    """Losses agree to 1e-5 with noise: a micro-batch's noise depends on its number in the step."""
    tree["phase"][0] |= {"mlp_dropout": 0.1}
    (alone, one), (together, two) = losses(on(1, tree), 5, stage), losses(on(2, tree), 5, stage)
    np.testing.assert_allclose(together[:, :2], alone[:, :2], rtol=1e-5)
    np.testing.assert_allclose(together[:, 2], alone[:, 2], rtol=1e-3)
    chex.assert_trees_all_close(two.params, one.params, rtol=1e-3, atol=1e-4)


def test_devices_split_the_micro_batches(tree):
    c = on(2, tree)
    key = plan.key(c, plan.build(c).stages[0])
    traced = str(programs.trace(c, key).jaxpr)
    assert f"length={key.accumulation // 2}" in traced
    assert traced.count("psum") > 0


def test_each_device_gets_its_share_of_a_batch(tree):
    batch = {"tokens": np.arange(24, dtype=np.int32).reshape(4, 2, 3)}
    for devices in (1, 2):
        (tokens,) = programs.CompiledSteps(on(devices, tree)).put(batch).values()
        pieces = [np.asarray(shard.data) for shard in sorted(tokens.addressable_shards, key=lambda one: one.device.id)]
        assert [piece.tolist() for piece in pieces] == [part.tolist() for part in np.split(batch["tokens"], devices)]


def test_a_state_is_seen_on_one_device_without_a_copy():
    replicas = parallel.Replicas(2)
    state = {"a": np.arange(4.0), "b": np.ones(3)}
    spread = replicas.spread(state)
    assert all(len(x.devices()) == 2 for x in spread.values())
    seen = replicas.first(spread)
    assert all(len(x.devices()) == 1 for x in seen.values())
    again = replicas.spread({**seen, "b": np.zeros(3)})
    assert again["a"] is spread["a"]
    assert not np.asarray(again["b"]).any()


@pytest.mark.slow
def test_a_run_on_two_devices_continues_on_one(tree, tmp_path):
    tree["phase"] = tree["phase"][:1]
    tree["tokenizer"]["phases"] = ["grammar"]
    c = on(2, tree)
    loop.launch(c, Interrupts(), "again")
    loop.launch(on(1, tree), Interrupts(), "again")  # finds everything done
    newest = next(iter(sorted((tmp_path / "run" / "phases").iterdir())))
    assert newest.name == c.phase[0].name


def test_too_many_devices_and_uneven_shares_are_refused(tree):
    with pytest.raises(MachineError, match=r"train\.devices is 5, and this machine has 2"):
        facts.versions(5)
    with pytest.raises(InputError, match=r"which train\.devices = 3 does not divide"):
        on(3, tree)
