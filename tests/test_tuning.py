"""`micro_batch = "auto"`: its choice, its memory budget and its cache."""

import itertools
import json
import math

import jax
import pytest
import tune
from conftest import metrics, to_toml

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError, Interrupted, MachineError
from llm60_jax.machine import facts, memory
from llm60_jax.machine.progress import silent
from llm60_jax.plan import StepKey, flops
from llm60_jax.training import costs, tuning

MB = 10**6


@pytest.fixture
def auto(tree, tmp_path):
    tree["train"] |= {"micro_batch": "auto", "remat": "auto", "tokens_per_step": 2048}
    for phase in tree["phase"]:
        phase["tokens"] = 10 * 2048
    return tree | {"data_dir": str(tmp_path / "data")}


class FakeSteps:
    """Steps with time and memory by a formula, on a device that may have less memory than it says."""

    timed: list[StepKey]
    asked: list[StepKey]  # of programs, once for each candidate
    room = {"compile": math.inf, "step": math.inf}  # noqa: RUF012 - bytes; replaced by tests, never changed
    renewed = 0

    def __init__(self, config, phase):
        self.compiled = self

    def __getitem__(self, key):
        FakeSteps.asked.append(key)
        self._require("compile", key)
        return key

    def _require(self, work, key):
        if self.temporary_bytes(key) > self.room[work]:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 79458052604032 bytes.")

    def renew(self):
        FakeSteps.renewed += 1

    def release(self, keep):
        pass

    def temporary_bytes(self, key):
        kept = {"full": 1, "attention": 2, "products": 4, "none": 20}[key.remat]
        return key.micro_batch * key.context * kept * 10_000

    def time(self, key):
        self._require("step", key)
        FakeSteps.timed.append(key)
        size = key.micro_batch * key.context
        slowness = {"full": 1.2, "attention": 1.1, "products": 1.0, "none": 0.9 if key.frozen_blocks else 1.3}[
            key.remat
        ]
        return slowness * (1 + abs(size - 512) / 512), 0.0


@pytest.fixture
def fake_steps(monkeypatch):
    FakeSteps.timed, FakeSteps.asked, FakeSteps.renewed = [], [], 0
    monkeypatch.setattr(costs, "Steps", FakeSteps)
    monkeypatch.setattr(tuning.memory, "in_use", lambda: 100 * MB)
    return FakeSteps


def test_the_fastest_is_chosen_for_every_context_and_stage(auto, fake_steps):
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    assert dict(found.train.micro_batch) == {16: 32, 32: 16, 64: 8}  # 512 tokens each
    assert not found.train.is_auto
    for phase in found.phase:
        stages = plan.build(found).phase_stages(phase.name)
        assert [stage.remat for stage in stages] == ["none" if stage.frozen_blocks else "products" for stage in stages]
    assert all(key.tokens == 2048 for key in fake_steps.timed)  # only whole steps


def test_the_memory_budget_holds(auto, fake_steps):
    auto["train"]["memory_gb"] = 0.115  # 15 MB beside the state; 512 tokens take 20.5 under `products`
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    for key in costs.keys_of(found, plan.build(found)):
        assert 100 * MB + FakeSteps.temporary_bytes(found, key) <= 115 * MB
    assert dict(found.train.micro_batch) == {16: 16, 32: 8, 64: 4}
    auto["train"]["memory_gb"] = 0.101
    with pytest.raises(MachineError, match=r"train.memory_gb: nothing fits into 0.1 GB: at context 16"):
        tuning.settled(config_module.parse(auto, "auto"), silent)


@pytest.mark.parametrize(("work", "renewed"), [("compile", False), ("step", True)])
def test_a_candidate_for_which_the_device_has_no_room_drops_out(auto, fake_steps, monkeypatch, work, renewed):
    """The device has less room than its count of the memory says."""
    monkeypatch.setitem(FakeSteps.room, work, 15 * MB)  # 512 tokens take 20.5 under `products`
    answer = tuning.tuned(config_module.parse(auto, "auto"), silent)[1]
    assert dict(answer.micro_batch) == {16: 16, 32: 8, 64: 4}
    failed = [trial for trial in answer.trials if trial.tokens_per_second is None]
    assert {(trial.micro_batch * trial.context, trial.remat) for trial in failed} >= {(1024, "products"), (256, "none")}
    assert all(FakeSteps.temporary_bytes(None, key) <= 15 * MB for key in fake_steps.timed)
    assert bool(fake_steps.renewed) == renewed  # the failed step has given its state away


def test_another_error_than_a_lack_of_memory_ends_the_search(auto, fake_steps, monkeypatch):
    def fail(self, key):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(FakeSteps, "time", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        tuning.settled(config_module.parse(auto, "auto"), silent)


def test_memory_that_runs_out_in_a_later_round_drops_the_candidate(auto, fake_steps, monkeypatch):
    """The winner of all other tests has room for its first step only."""
    real, seen = FakeSteps.time, []

    def time(self, key):
        seen.append(key)
        if (key.context, key.micro_batch, key.remat) == (16, 32, "products") and seen.count(key) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return real(self, key)

    monkeypatch.setattr(FakeSteps, "time", time)
    answer = tuning.tuned(config_module.parse(auto, "auto"), silent)[1]
    assert dict(answer.micro_batch) == {16: 16, 32: 16, 64: 8}
    assert fake_steps.renewed


def test_only_a_candidate_that_was_slower_is_left_when_the_others_have_no_room(auto, fake_steps, monkeypatch):
    real, seen = FakeSteps.time, []

    def time(self, key):
        seen.append(key)
        if seen.count(key) > 1 and real(self, key)[0] < 1.9:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return real(self, key)

    monkeypatch.setattr(FakeSteps, "time", time)
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    assert dict(found.train.micro_batch).keys() == {16, 32, 64}


def test_where_nothing_fits_as_it_is_sized_a_policy_that_keeps_less_is_tried(auto, fake_steps):
    auto["train"]["memory_gb"] = 0.103  # 3 MB: 256 tokens take 10.2 under `products`, and 2.6 under `full`
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    assert dict(found.train.micro_batch) == {16: 16, 32: 8, 64: 4}
    assert {key.remat for key in costs.keys_of(found, plan.build(found))} == {"full"}


def test_on_a_gpu_the_whole_step_without_recomputation_comes_first(auto, fake_steps, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(
        FakeSteps, "time", lambda self, key: (key.accumulation + {"none": 0.0, "products": 0.1}.get(key.remat, 0.2), 0)
    )
    answer = tuning.tuned(config_module.parse(auto, "auto"), silent)[1]
    first = fake_steps.asked[0]
    assert (first.tokens, first.accumulation, first.remat) == (2048, 1, "none")
    assert dict(answer.micro_batch) == {16: 128, 32: 64, 64: 32}
    sizes = {trial.micro_batch * trial.context for trial in answer.trials}
    assert sizes == {2048, 1024}  # half the step was clearly slower, so nothing smaller ran


def test_the_budget_is_the_memory_of_the_device_that_computes(auto, monkeypatch):
    c = config_module.parse(auto, "auto")
    assert tuning.budget(c) == facts.memory_bytes() // 2
    gpu = type("Gpu", (), {"memory_stats": lambda self: {"bytes_limit": 10**10, "bytes_in_use": 7}})()
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert tuning.budget(c) == facts.memory_bytes() // 2  # it is not known to be used
    monkeypatch.setattr(facts, "_device", "NVIDIA H200")
    assert tuning.budget(c) == 9 * 10**9
    assert memory.in_use() == 7
    assert memory.peak() == facts.peak_bytes()  # this device does not count it
    assert tuning.budget(config_module.parse(auto | {"train": auto["train"] | {"memory_gb": 2.0}}, "x")) == 2 * 10**9


def test_figures_of_another_device_or_number_of_cores_are_not_mixed(auto, fake_steps, monkeypatch):
    asked = config_module.parse(auto, "auto")
    key = costs.keys_of(asked, plan.build(asked))[0]
    costs.remember(asked, {key: costs.Cost((1.0,), 0, 0)})
    tuning.settled(asked, silent)
    assert costs.recall(asked, plan.build(asked))
    assert not tuning.recalled(asked).train.is_auto
    auto["train"]["memory_gb"] = 1.0  # so that the budget does not tell the devices apart
    other = config_module.parse(auto, "auto")
    tuning.settled(other, silent)
    for name, value in (("_device", "NVIDIA H200"), ("cores", lambda: 999)):
        with monkeypatch.context() as patch:
            patch.setattr(facts, name, value)
            patch.setattr(memory, "_counted", lambda name: 0)
            assert not costs.recall(asked, plan.build(asked))
            assert tuning.recalled(other) == other
    assert not tuning.recalled(other).train.is_auto


def test_what_is_said_is_kept(auto, fake_steps):
    auto["train"]["remat"] = "full"
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    assert {key.remat for key in fake_steps.timed} == {"full"}
    assert all(phase.remat == () for phase in found.phase)
    assert found.train.remat == "full"
    auto["train"] |= {"remat": "auto", "micro_batch": [[16, 4], [32, 2], [64, 1]]}
    auto["phase"][0]["remat"] = [[0.0, "attention"]]
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    assert dict(found.train.micro_batch) == {16: 4, 32: 2, 64: 1}
    assert found.phase[0].remat == ((0.0, "attention"),)
    assert len(found.phase[1].remat) == len(found.phase[1].breakpoints)


def test_the_answer_is_remembered_for_what_it_was_found_for(auto, fake_steps):
    asked = config_module.parse(auto, "auto")
    assert tuning.recalled(asked) == asked
    found = tuning.settled(asked, silent)
    count = len(fake_steps.timed)
    assert tuning.settled(asked, silent) == found == tuning.recalled(asked)
    assert len(fake_steps.timed) == count
    for change in ({"memory_gb": 5.0}, {"remat": "full"}, {"devices": 2}, {"dtype": "float32"}):
        other = config_module.parse(auto | {"train": auto["train"] | change}, "other")
        assert tuning.recalled(other) == other
    elsewhere = config_module.parse(auto | {"workdir": "elsewhere", "seed": 3}, "elsewhere")
    assert tuning.recalled(elsewhere).train.micro_batch == found.train.micro_batch


@pytest.mark.parametrize(
    "entry",
    [{}, [], None, {"micro_batch": [[16, 3]], "remat": {}}, {"micro_batch": "x", "remat": {}}, {"micro_batch": []}],
)
def test_a_malformed_cache_entry_is_measured_anew(auto, fake_steps, entry, tmp_path):
    asked = config_module.parse(auto, "auto")
    found = tuning.settled(asked, silent)
    (path,) = (tmp_path / "data").rglob("tuned.json")
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), entry)))
    assert tuning.recalled(asked) == asked
    assert tuning.settled(asked, silent) == found


def stopped_after(count: int):
    """A `Track` that Ctrl-C ends after `count` items."""

    def track(items, description, total=None, remaining=None):
        for number, item in enumerate(items):
            if number == count:
                raise Interrupted("interrupted by SIGINT", 2)
            yield item

    return track


@pytest.mark.parametrize("count", [0, 1, 3, 7, 12, 20])
def test_an_interrupted_search_goes_on_and_finds_the_same(auto, fake_steps, count, tmp_path):
    asked = config_module.parse(auto, "auto")
    whole = tuning.tuned(config_module.parse(auto | {"data_dir": str(tmp_path / "other")}, "other"), silent)[1]
    steps, candidates = len(fake_steps.timed), list(fake_steps.asked)
    with pytest.raises(Interrupted):
        tuning.tuned(asked, stopped_after(count))
    assert tuning.recalled(asked) == asked
    before = len(fake_steps.timed) - steps
    assert tuning.tuned(asked, silent)[1] == whole
    assert fake_steps.asked == 2 * candidates  # each once, before the interruption or after it
    after = len(fake_steps.timed) - steps - before
    assert after <= steps - before + 7  # only the rounds of the race under way are taken again, each program warmed
    count_now = len(fake_steps.timed)
    tuning.tuned(asked, silent)  # a finished search is measured anew
    assert len(fake_steps.timed) - count_now == steps


def test_a_search_begins_anew_if_it_is_asked_to(auto, fake_steps):
    asked = config_module.parse(auto, "auto")
    with pytest.raises(Interrupted):
        tuning.tuned(asked, stopped_after(20))
    fake_steps.timed.clear()
    tuning.tuned(asked, silent, anew=True)
    anew = len(fake_steps.timed)
    fake_steps.timed.clear()
    tuning.tuned(asked, silent)
    assert len(fake_steps.timed) == anew


def test_what_cannot_win_does_not_run(auto, fake_steps):
    """A size beyond a clearly slower one, and a policy that lost where it stood better."""
    found = tuning.tuned(config_module.parse(auto, "auto"), silent)[1]
    sizes = {trial.micro_batch * trial.context for trial in found.trials}
    assert 2048 in sizes  # it was the first size after 1,024, and clearly slower
    assert 128 not in sizes
    first, second = [
        {trial.remat for trial in found.trials if trial.context == 16 and trial.frozen_blocks == frozen}
        for frozen in (0, 2)
    ]
    assert first == {"full", "attention", "products", "none"}
    assert second == {"attention", "products", "none"}  # `full` lost by 1.2; `none` won, but only once blocks froze
    assert len(found.trials) < tuning.forecast(config_module.parse(auto, "auto"), 2).programs


def test_the_time_left_is_told_by_operations(auto, fake_steps, monkeypatch):
    monkeypatch.setattr(
        FakeSteps, "time", lambda self, key: (flops.step_flops(self.config.model, key) / 1e6, 0.0), raising=True
    )
    monkeypatch.setattr(FakeSteps, "__init__", lambda self, config, phase: setattr(self, "config", config))
    monkeypatch.setattr(FakeSteps, "compiled", property(lambda self: self), raising=False)
    told = []

    def track(items, description, total, remaining):
        assert remaining() == 0  # nothing is known before the first step
        for item in items:
            yield item
            told.append(remaining())

    c = config_module.parse(auto, "auto")
    tuning.tuned(c, track)
    whole = sum(2 * flops.step_flops(c.model, key) for key in tuning._possible(c)) / 1e6
    assert 0.8 * whole < told[0] < whole
    assert all(later <= earlier + 0.03 * whole for earlier, later in itertools.pairwise(told))
    assert told[-1] < 0.1 * whole


def test_steps_that_were_measured_before_give_a_forecast(auto):
    c = config_module.parse(auto, "auto")
    assert tuning.forecast(c, 2).seconds == 0
    key = costs.keys_of(c, plan.build(c))[0]
    costs.remember(c, {key: costs.Cost((flops.step_flops(c.model, key) / 1e6,), 0, 0)})
    programs = tuning._possible(c)
    whole = sum(2 * flops.step_flops(c.model, program) for program in programs) / 1e6
    assert tuning.forecast(c, 2) == (len(programs), pytest.approx(whole))


def test_less_memory_wins_among_equals(auto, fake_steps, monkeypatch):
    monkeypatch.setattr(FakeSteps, "time", lambda self, key: (1.0, 0.0))
    found = tuning.settled(config_module.parse(auto, "auto"), silent)
    assert {key.remat for key in costs.keys_of(found, plan.build(found))} == {"full"}
    assert dict(found.train.micro_batch) == {16: 16, 32: 8, 64: 4}  # 256 tokens, the minimum


def test_an_untuned_plan_has_micro_batches_of_1024_tokens(auto):
    c = config_module.parse(auto, "auto")
    assert {stage.micro_batch * stage.context for stage in plan.build(c).stages} == {1024}
    assert {stage.remat for stage in plan.build(c).stages} == {"full"}
    c = config_module.parse(auto | {"train": auto["train"] | {"devices": 8}}, "auto")
    assert {stage.accumulation for stage in plan.build(c).stages} == {8}


@pytest.mark.parametrize("value", ['"automatic"', "3", '[["a", 1]]', "[[16]]"])
def test_malformed_micro_batches_are_refused(auto, value, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(to_toml(auto))
    with pytest.raises(InputError, match=r"train\.micro_batch"):
        config_module.load(path, [f"train.micro_batch={value}"])


@pytest.mark.slow
def test_a_run_tunes_first_and_a_resumed_run_keeps_its_values(auto, fake_steps, train):
    auto["train"]["tokens_per_step"] = 256
    auto["phase"] = auto["phase"][:1]
    auto["tokenizer"] = {"phases": ["grammar"]}
    auto["phase"][0] |= {"tokens": 6 * 256, "context": [[0.0, 64]], "freeze": [[0.0, 0]]}
    workdir = train(auto, stop_after=3)
    stored = json.loads((workdir / "config.json").read_text())["config"]["train"]
    assert stored["micro_batch"] == [[64, 4]]
    count = len(fake_steps.timed)
    assert count
    train(auto)
    assert len(fake_steps.timed) == count
    assert not json.loads((workdir / "config.json").read_text())["changes"]
    assert metrics(workdir)[-1]["step"] == 6


def test_the_tool_prints_settings_for_a_configuration(auto, fake_steps, tmp_path, capsys):
    del auto["train"]["micro_batch"], auto["train"]["remat"]
    auto["train"]["micro_batch"] = [[16, 4], [32, 2], [64, 1]]
    path = tmp_path / "c.toml"
    path.write_text(to_toml(auto))
    assert tune.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "train.micro_batch = [[16, 32], [32, 16], [64, 8]]" in out
    settings = [line.replace(" = ", "=", 1) for line in out.splitlines() if line.startswith(("train.", "phase."))]
    loaded = config_module.load(path, settings)
    assert dict(loaded.train.micro_batch) == {16: 32, 32: 16, 64: 8}
    assert tune.main([str(path), "--memory-gb", "0.101"]) == 5
    assert "nothing fits" in capsys.readouterr().err
    assert tune.main([str(path), "--json", "--set", "train.remat=full"]) == 0
    assert {one["remat"] for one in json.loads(capsys.readouterr().out)["trials"]} == {"full"}
    assert tune.main([str(path), "--memory-gb", "-1"]) == 2
    assert "--memory-gb: -1" in capsys.readouterr().err
