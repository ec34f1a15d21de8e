"""A model that grows: blocks are added as copies at a stage boundary, and everything else goes on as it was."""

import copy
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import PROJECT, few_pairs, metrics, shared_programs, state_of, tiny_tree, without_time
from hypothesis import given, settings
from hypothesis import strategies as st

from llm60_jax import checkpoint, plan
from llm60_jax import config as config_module
from llm60_jax.config import Model
from llm60_jax.errors import InputError, MachineError, TrainingError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import flops
from llm60_jax.record import store
from llm60_jax.run import ancestry, loop
from llm60_jax.training import growing, programs, step


def growing_tree(folder: Path, **changes: object) -> dict:
    """Ten steps by Muon: two blocks, four from step 4 on, six from step 6 on; the context grows at step 8."""
    tree = tiny_tree(folder)
    phase = tree["phase"][0] | {"context": [[0.0, 16], [0.8, 32]], "freeze": [[0.0, 0]]}
    phase |= {"grow": [[0.0, 2], [0.4, 4], [0.6, 6]]} | changes
    return tree | {
        "phase": [phase],
        "tokenizer": {"phases": ["grammar"]},
        "architecture": "growing",
        "baseline": "x",
        "optimizer": {"name": "muon"},
    }


@pytest.fixture(autouse=True)
def _has_a_baseline(monkeypatch):
    monkeypatch.setattr(ancestry, "check_baseline", lambda config: None)


@pytest.fixture(scope="module")
def whole(texts, tmp_path_factory):
    """A run that never stopped."""
    tree = growing_tree(texts) | {"workdir": str(tmp_path_factory.mktemp("growing") / "run")}
    config = config_module.parse(tree, "x")
    with pytest.MonkeyPatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        patch.setattr(ancestry, "check_baseline", lambda config: None)
        loop.launch(config, Interrupts(), "again")
    return tree, Path(config.workdir)


@pytest.mark.parametrize("stop_after", [3, 4, 5, 6, 8])
def test_a_run_that_stops_and_goes_on_has_the_same_bits(whole, train, tmp_path, stop_after):
    tree, reference = whole
    tree = copy.deepcopy(tree) | {"workdir": str(tmp_path / "run")}
    train(tree, stop_after)
    workdir = train(tree)
    assert state_of(workdir / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


def test_every_stage_trains_the_blocks_that_there_are(whole):
    rows = metrics(whole[1])
    steps = [row for row in rows if "loss" in row]
    assert [row["blocks"] for row in steps] == [2] * 4 + [4] * 2 + [6] * 4
    assert [len(row["segment_grad_norms"]) for row in steps] == [1] * 4 + [2] * 2 + [3] * 4
    proofs = [row["proof"] for row in rows if "proof" in row]
    assert [proof["blocks_with_gradient"] for proof in proofs] == [2, 4, 6, 6]
    assert [proof["blocks_copied"] for proof in proofs] == [0, 2, 2, 0]
    assert proofs[0]["matmul_flops"] < proofs[1]["matmul_flops"] < proofs[2]["matmul_flops"]
    looks = [row["drift"].keys() for row in rows if "drift" in row]
    assert list(map(len, looks)) == [1] * 4 + [2] + [3] * 2  # the first look after a growth has nothing to compare with


def test_the_checkpoint_before_a_growth_is_kept_and_holds_a_smaller_model(whole):
    workdir = whole[1]
    before = checkpoint.open_(workdir / "checkpoints" / "4")
    assert json.loads((workdir / "checkpoints" / "4" / "meta.json").read_text())["permanent"]
    assert (before.model.layers, before.config.model.layers) == (2, 6)
    assert checkpoint.open_(workdir / "checkpoints" / "6").model.layers == 4
    assert checkpoint.open_(workdir).model.layers == 6
    model, tokenizer = checkpoint.load(workdir / "checkpoints" / "4")
    tokens = np.array([tokenizer.encode("The quiet river")], np.int32)
    assert model(tokens, np.ones_like(tokens)).stream.keys() == {2}


def test_groups_to_come_keep_every_bit_until_they_are_added(whole):
    fresh = step.init(config_module.parse(whole[0], "x")).params
    before = checkpoint.open_(whole[1] / "checkpoints" / "4").params
    jax.tree.map(np.testing.assert_array_equal, before["blocks_2_3"], fresh["blocks_2_3"])
    assert not np.array_equal(before["blocks_0_1"]["mlp"]["up"]["kernel"], fresh["blocks_0_1"]["mlp"]["up"]["kernel"])


SHAPES = st.lists(st.integers(1, 3).map(lambda n: 2 * n), min_size=2, max_size=4)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.sampled_from([1, 2]), st.data())
def test_block_n_becomes_a_copy_of_block_n_modulo_the_trained_ones(stacks, shared, data):
    sizes = {"vocab_size": 320, "dim": 8, "heads": 1, "hidden_dim": 8, "max_context": 8, "share_attention": shared}
    model = Model(layers=sum(stacks), stacks=tuple(stacks), **sizes)
    at = data.draw(st.integers(1, len(stacks) - 1))
    until = data.draw(st.integers(at + 1, len(stacks)))
    before, blocks = sum(stacks[:at]), sum(stacks[:until])
    names = {name: (start, stop) for name, start, stop in model.named_stacks}
    attention = {name.replace("blocks", "attention"): span for name, span in names.items()} if shared > 1 else {}

    def numbered(span: tuple[int, int], every: int) -> dict:
        return {"a": np.arange(*span, every, dtype=np.int32)[:, None]}  # each block holds its own number

    params = {name: numbered(span, 1) for name, span in names.items()}
    params |= {name: numbered(span, shared) for name, span in attention.items()} | {"norm": {"a": np.int32([-1])}}
    opt_state = jax.tree.map(lambda x: x + 1000, params)
    old = step.TrainState(params, opt_state, *(np.int32(0),) * 3)
    new = growing.grown(model, old, before, blocks)
    for grouped, offset in ((new.params, 0), (new.opt_state, 1000)):
        for name, (start, stop) in names.items():
            copied = [n % before if before <= n < blocks else n for n in range(start, stop)]
            assert np.asarray(grouped[name]["a"])[:, 0].tolist() == [n + offset for n in copied]
        for name, (start, stop) in attention.items():
            copied = [n % before if before <= n < blocks else n for n in range(start, stop, shared)]
            assert np.asarray(grouped[name]["a"])[:, 0].tolist() == [n + offset for n in copied]
    assert growing.copies(model, new.params, before, blocks) == blocks - before
    assert growing.copies(model, params, before, blocks) == 0
    assert new.params["norm"] is params["norm"]


def test_a_growth_that_does_not_happen_stops_the_run(texts, train, tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "grown", lambda model, state, before, blocks: state)
    tree = growing_tree(texts) | {"workdir": str(tmp_path / "run")}
    with pytest.raises(TrainingError, match="2 blocks added as copies planned, 0 found"):
        train(tree)


def test_a_growth_whose_checkpoint_cannot_be_saved_does_not_begin(texts, train, tmp_path, monkeypatch):
    from llm60_jax.record.checkpoints import Checkpoints

    def refuse(self, kept, meta):
        raise MachineError("no space left on device")

    monkeypatch.setattr(Checkpoints, "save_rolling", refuse)
    with pytest.raises(MachineError, match="before the model grows from 2 to 4 blocks"):
        train(growing_tree(texts) | {"workdir": str(tmp_path / "run")})


def test_a_plan_whose_number_of_blocks_is_impossible_is_damage(whole, tmp_path, monkeypatch):
    folder = whole[1] / "checkpoints" / "4"
    real = store.read_meta

    def read(path):
        meta = real(path)
        return meta | {"plan": [row | {"blocks": 3} for row in meta["plan"]]}

    monkeypatch.setattr(store, "read_meta", read)
    with pytest.raises(checkpoint.DamageError, match="its plan has 3 blocks"):
        checkpoint.open_(folder)


def test_the_plan_of_a_growing_phase(texts):
    config = config_module.parse(growing_tree(texts), "x")
    built = plan.build(config)
    assert [(stage.steps, stage.context, stage.blocks) for stage in built.stages] == [
        (4, 16, 2), (2, 16, 4), (2, 16, 6), (2, 32, 6),
    ]  # fmt: skip
    assert [built.grows_from(stage) for stage in built.stages] == [None, 2, 4, None]
    assert [built.blocks_after(done) for done in range(11)] == [2] * 5 + [4] * 2 + [6] * 4
    due = [plan.due(config, built, config.phase[0], number) for number in range(10)]
    assert [number for number in range(10) if due[number].turn] == [4, 6]
    assert all(due[number].save for number in (4, 6))


def test_the_operations_of_a_growing_step_are_counted_as_predicted(texts):
    config = config_module.parse(growing_tree(texts), "x")
    key = plan.key(config, plan.build(config).stages[0])
    assert key.blocks == 2
    by_part = programs.counted_flops.by_part(programs.trace(config, key).jaxpr)
    assert by_part["optimizer"] > 0  # Muon's own products, which are none of the model's
    counted = sum(by_part.values()) - by_part["optimizer"]
    assert counted == flops.step_flops(config.model, key) < flops.step_flops(config.model, key._replace(blocks=None))


def test_growth_saves_what_freezing_saves():
    """One third of the blocks for half of the tokens, against the playbook's 20 and 40 frozen blocks."""
    frozen = config_module.load(PROJECT / "configs" / "llm60.toml")
    tree = config_module.to_tree(frozen)
    tree |= {"architecture": "growing", "baseline": "x"}
    tree["phase"][0] |= {"freeze": [[0.0, 0]], "grow": [[0.0, 20], [0.5, 60]]}
    grown = config_module.parse(tree, "x")

    def cost(config):
        built = plan.build(config)
        return sum(stage.steps * flops.step_flops(config.model, plan.key(config, stage)) for stage in
                   built.phase_stages("grammar"))  # fmt: skip

    assert cost(grown) == pytest.approx(cost(frozen), rel=0.1)


def test_losses_before_a_growth_set_no_limit_after_it(whole):
    """More blocks begin with a higher loss; a limit from before would refuse each step."""
    before, after = (checkpoint.open_(whole[1] / "checkpoints" / name).meta["progress"] for name in ("6", "8"))
    assert [number for number, _ in before.objectives] == [5, 6]
    assert [number for number, _ in after.objectives] == [7, 8]


REFUSED = {
    "architecture = 'growing'": ({}, {"architecture": "fixed"}),
    "Never change architecture": ({}, {"architecture": "fixed"}),
    "Never add complexity before baseline": ({}, {"baseline": None}),
    "needs a first phase that grows": ({"grow": []}, {}),
    "the first fraction must be 0": ({"grow": [[0.1, 2], [0.5, 6]]}, {}),
    "blocks are only added": ({"grow": [[0.0, 4], [0.5, 2]]}, {}),
    "no stack ends at 3 blocks": ({"grow": [[0.0, 3], [0.5, 6]]}, {}),
    "needs two sizes or more": ({"grow": [[0.0, 6]]}, {}),
    "the phase ends with 4 blocks": ({"grow": [[0.0, 2], [0.5, 4]]}, {}),
    "a run with `start` does not grow": ({"grow": []}, {"start": "runs/other/phases/grammar", "tokenizer": None}),
    "a phase that grows does not freeze": ({"freeze": [[0.0, 0], [0.7, 2]]}, {}),
    "deep_supervision = 0": ({"deep_supervision": 0.1}, {}),
}


def test_the_plateau_is_measured_of_the_whole_model_alone(texts):
    """A loss from before the last blocks came would pass for a fall, and no converged phase would open its gate."""
    for last in (0.6, 0.7, 0.9):
        tree = growing_tree(texts, tokens=100 * 128, grow=[[0.0, 2], [0.4, 4], [last, 6]], context=[[0.0, 16]])
        schedule = plan.build(config_module.parse(tree, "x"))
        marks = [step for step in range(schedule.steps + 1) if schedule.is_late_mark("grammar", step)]
        assert len(marks) >= 4
        assert {schedule.blocks_after(mark) for mark in marks} == {6}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_grow_is_refused(texts, message):
    phase, others = REFUSED[message]
    with pytest.raises(InputError, match=message):
        config_module.parse(growing_tree(texts, **phase) | others, "x")


def test_only_the_first_phase_grows(texts):
    tree = growing_tree(texts)
    tree["phase"].append(tree["phase"][0] | {"name": "vocabulary"})
    with pytest.raises(InputError, match=r"phase\.vocabulary\.grow: only random weights grow"):
        config_module.parse(tree, "x")


def test_a_model_of_some_stacks_has_the_groups_of_the_whole(tiny):
    model = tiny.model
    assert model.lowest(None) is model.lowest(6) is model
    assert dataclasses.asdict(model.lowest(4)) == dataclasses.asdict(model) | {"layers": 4, "stacks": (2, 2)}
