"""Steps compiled for devices that are not here: what each holds and sends."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from conftest import PROJECT
from jax.sharding import PartitionSpec
from test_mesh import on

from llm60_jax import plan
from llm60_jax.errors import InputError, MachineError
from llm60_jax.model import attention, target
from llm60_jax.plan import Sharing
from llm60_jax.training import ahead, mesh, phase_groups, programs

MIB = 2**20
# The program of the most live blocks at the longest context alone, instead of five.
ONE_STAGE = [
    f"phase.{phase}.{setting}=[[0.0, {value}]]"
    for phase in ("grammar", "vocabulary", "fine_tune")
    for setting, value in (("context", 2048), ("freeze", 0))
] + ["model.stacks=[60]"]  # one loop to compile instead of three


def planned(*arguments, seconds=300):
    """The JSON of `plan.py --for`, in a process of its own: the number of CPU devices is settled once."""
    command = [sys.executable, PROJECT / "tools" / "plan.py", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sent(c, stage=0):
    key = plan.key(c, plan.build(c).stages[stage])
    return ahead.sent(programs.trace(c, key).jaxpr, phase_groups.abstract(c, key), key)


def test_collectives_in_loops_are_counted_with_their_bytes():
    """float32 [8, 6] is 192 bytes, and a ring of 4 sends three quarters of it."""

    def function(piece, _):
        def body(total, _):
            return total + jax.lax.all_gather(piece, "fsdp", tiled=True).sum(), None

        return jax.lax.scan(body, jnp.float32(0), None, length=5)[0]

    sharing = Sharing(devices=4, fsdp=4, gather="layer", slots=0)
    summed = mesh.summed(function, sharing, 0, held=PartitionSpec("fsdp"))
    traced = jax.jit(summed).trace(jnp.ones((8, 6)), jnp.ones(4))
    found = {}
    for name, repeats, size in ahead._collectives(traced.jaxpr.jaxpr, 1, {}):
        found[name] = repeats, repeats * size
    assert found == {"all_gather": (5, 5 * 192 * 3 / 4), "psum": (1, 4 * 2 * 3 / 4)}


def test_a_program_is_for_the_devices_it_is_aimed_at(monkeypatch):
    class Chip:
        platform, process_index = "tpu", 0

    assert target.platform() == "cpu"
    assert not attention.is_fused(128, "bfloat16")
    with target.aimed_at([Chip()]):
        assert target.platform() == "tpu"
        assert attention.is_fused(128, "bfloat16")
    assert target.devices() == tuple(jax.devices())


@pytest.mark.parametrize(("text", "kind"), [("cpu:x", InputError), ("cpu:0", InputError), ("cpu:5", MachineError)])
def test_devices_that_cannot_be_had_are_refused(text, kind):
    with pytest.raises(kind, match=text):
        ahead.devices(text)


@pytest.mark.slow
def test_what_a_step_sends_is_its_parameters(tree):
    """Data parallel, at rest, by layer. The tiny model has 6 blocks with 4 matrices, and 4 micro-batches a device."""
    tree["train"]["dtype"] = "bfloat16"
    tree["phase"] = [{**tree["phase"][0], "tokens": 10_240}]
    tree["tokenizer"]["phases"] = ["grammar"]
    make = functools.partial(on, tree, 4, tokens_per_step=1024, slots=0)
    state = phase_groups.abstract(make(), None)
    everything = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params))
    table = 4 * state.params["embedding"].size
    matrices = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim > 2)
    parallel, rest, layer = sent(make()), sent(make(fsdp=4)), sent(make(fsdp=4, gather="layer"))
    assert set(parallel) == {"psum"}
    assert parallel["psum"].bytes == pytest.approx(everything * 1.5, rel=0.01)
    assert rest["psum"] == parallel["psum"]
    assert rest["all_gather"].bytes == pytest.approx((table + matrices) * 0.75, rel=0.05)  # and factors
    micro_batches = 8
    # twice under remat, as bfloat16, and the embedding once, as float32
    assert layer["all_gather"].times == micro_batches * (2 * 6 * 4 + 1)
    assert layer["all_gather"].bytes == micro_batches * (2 * matrices / 2 + table) * 0.75
    assert layer["reduce_scatter"].times == micro_batches * (6 * 4 + 1)
    assert layer["reduce_scatter"].bytes == micro_batches * (matrices + table) * 0.75
    assert layer["psum"].bytes < 0.1 * parallel["psum"].bytes  # vectors


@pytest.mark.slow
def test_the_plan_for_accelerators_fits_64_devices_of_16_gb():
    result = planned("configs/llm60_1b.toml", "--for", "cpu:64", *(f"--set={text}" for text in ONE_STAGE))
    (program,) = result["programs"]
    assert result["devices"] == 64
    assert program["key"]["frozen_blocks"] == 0
    assert program["state_bytes"] < 1.2 * 4 * 1_323_543_552 / 16
    assert program["state_bytes"] < program["peak_bytes"] < 3072 * MIB  # gathered gradients alone would be 2,000 more
    assert program["sent"]["all_gather"][0] == 4 * (2 * 60 * 4 + 1)  # of 4 micro-batches a device


@pytest.mark.slow
def test_a_step_compiles_for_tpus():
    """libtpu is a compiler here, and needs no TPU. Attention is the fused kernel, which takes whole blocks of 128."""
    pytest.importorskip("libtpu")
    short = {"layers": 2, "stacks": [2], "dim": 128, "heads": 1, "hidden_dim": 256, "max_context": 128}
    sets = [f"model.{name}={value}" for name, value in short.items()]
    sets += ["train.micro_batch=[[128, 2]]", "train.fsdp=4", 'train.gather="layer"', "model.vocab_size=4096"]
    for phase in ("grammar", "vocabulary", "fine_tune"):
        sets += [f"phase.{phase}.context=[[0.0, 128]]", f"phase.{phase}.freeze=[[0.0, 0]]"]
    result = planned("configs/llm60.toml", "--for", "v5e:2x2", *(f"--set={text}" for text in sets))
    assert (result["devices"], result["kind"]) == (4, "TPU v5 lite")
    (program,) = result["programs"]
    assert 0 < program["state_bytes"] < program["peak_bytes"] < 64 * MIB
