"""Profiles of steps: traces, parts, passes and tables."""

import json
from pathlib import Path

import pytest
from conftest import few_pairs, metrics, to_toml

import launch
from llm60_jax import plan
from llm60_jax.plan import flops
from llm60_jax.training import costs, counted_flops, profiling, programs

TEXT = """HloModule jit_train_step, is_scheduled=true

%fused (p.0: f32[8,4]) -> f32[8,4] {
  %p.0 = f32[8,4]{1,0} parameter(0)
  ROOT %add.7 = f32[8,4]{1,0} add(%p.0, %p.0), metadata={op_name="jit(f)/jvp(while)/body/norm/add"}
}

ENTRY %main {
  %dot.3 = f32[8,16]{1,0} dot(%a, %b), metadata={op_name="jit(f)/transpose(jvp())/while/body/attention/dot_general"}
  %while.2 = (s32[], f32[8,4]{1,0}) while(%tuple), condition=%c, body=%b
  ROOT %fusion.12 = f32[8,4]{1,0} fusion(%dot.3), kind=kLoop, calls=%fused
}
"""


def test_a_printed_program_is_parsed():
    instructions = profiling.instructions(TEXT)
    assert instructions["dot.3"] == ("dot", "f32[8,16]", "jit(f)/transpose(jvp())/while/body/attention/dot_general")
    assert instructions["while.2"].kind == "while"
    assert instructions["fusion.12"] == ("fusion", "f32[8,4]", "")
    assert instructions["add.7"].kind == "add"


@pytest.mark.parametrize(
    ("path", "part", "way"),
    [
        ("jit(train_step)/jvp()/while/body/closed_call/attention/dot_general", "attention", "forward"),
        ("transpose(jvp())/while/body/closed_call/checkpoint/mlp/dot_general", "mlp", "backward"),
        ("transpose(jvp())/while/body/checkpoint/rematted_computation/norm/reduce_sum", "norm", "again"),
        ("jit(train_step)/jvp(head)/while/body/closed_call/exp", "head", "forward"),
        ("jit(train_step)/optimizer/cond/branch_1_fun/mul", "optimizer", "forward"),
        ("jit(train_step)/while/body/dynamic_slice", "other", "forward"),
    ],
)
def test_a_path_of_scopes_names_part_and_pass(path, part, way):
    assert (counted_flops.part_of(path), profiling.way_of(path)) == (part, way)


@pytest.mark.parametrize(
    ("spans", "window", "idle"),
    [([], 0, 0), ([(1, 2)], 1, 0), ([(3, 4), (0, 1)], 4, 2), ([(0, 5), (1, 2), (6, 7), (6, 9)], 9, 1)],
)
def test_idle_time_is_time_without_any_operation(spans, window, idle):
    assert profiling.window_and_idle(spans) == (window, idle)


@pytest.mark.slow
def test_operations_by_part_add_up_to_the_formula(tiny):
    stages = plan.build(tiny).stages
    for stage in (stages[0], stages[-1]):
        key = plan.key(tiny, stage)
        by_part = counted_flops.by_part(programs.trace(tiny, key).jaxpr)
        assert sum(by_part.values()) == flops.step_flops(tiny.model, key)
        assert set(by_part) == {"attention", "mlp", "head"}
        live, tokens = tiny.model.layers - stage.frozen_blocks, tiny.train.tokens_per_step
        products = 2 * (32 * 64 + 64 * 32)  # of one block's MLP
        # A live block also has two backward products for each, and remat repeats `up`.
        assert by_part["mlp"] == tokens * (6 * products + live * (2 * products + products // 2))


@pytest.mark.slow
def test_a_trace_becomes_tables_by_part_operation_and_memory(tiny, tmp_path):
    steps = costs.Steps(tiny, tiny.phase[0])
    key = plan.key(tiny, plan.build(tiny).stages[0])
    steps.time(key)
    with profiling.recording(tmp_path):
        with profiling.data():
            costs.made_up_batch(tiny, key)
        steps.time(key)
    text = profiling.write(tmp_path, steps.compiled, key, 1)
    profile = profiling.profile(tmp_path, steps.compiled, key, 1)
    for part in ("attention", "mlp", "norm", "head", "optimizer", "data"):
        assert profile.of(part) > 0, part
        assert f"\n{part} " in text
    assert profile.of("attention", "again") > 0  # remat is full
    assert profile.seconds == pytest.approx(sum(map(profile.of, {*counted_flops.PARTS, "other", "data"})))
    assert 0 < profile.window_seconds < 60
    assert 0 <= profile.idle_seconds < profile.window_seconds
    assert profile.memory == steps.compiled.memory(key)
    assert all(operation.name.split(".")[0] not in ("while", "call") for operation in profile.operations)
    written = json.loads((tmp_path / "profile.json").read_text())
    assert written["flops"] == steps.compiled.flops_by_part[key]
    assert "HloModule" in (tmp_path / "program.txt").read_text()
    assert list(tmp_path.rglob("perfetto_trace.json.gz"))


@pytest.mark.slow
def test_a_run_records_the_given_steps(tree, tmp_path, monkeypatch, capsys):
    short = tree["phase"][0] | {"context": [[0.0, 16]], "freeze": [[0.0, 0]]}
    (tmp_path / "c.toml").write_text(to_toml(tree | {"phase": [short], "tokenizer": {"phases": ["grammar"]}}))
    tiny_file = tmp_path / "c.toml"

    few_pairs(monkeypatch)
    assert launch.main([str(tiny_file), "--profile", "4:5"]) == 0
    out = capsys.readouterr().out
    assert "profile of 2 steps" in out
    folder = Path(tree["workdir"]) / "profile" / "4-5"
    assert {"profile.txt", "profile.json", "program.txt"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "profile.json").read_text())["steps"] == 2
    assert len([row for row in metrics(Path(tree["workdir"])) if "loss" in row]) == 10  # training is unaffected
    # A second time there is nothing left to record.
    assert launch.main([str(tiny_file), "--profile", "4:5"]) == 2
    assert "the run stands at step 10 of 10" in capsys.readouterr().err


@pytest.mark.parametrize("span", ["5", "5:", "6:5", "0:3", "a:b", "-1:2"])
def test_a_malformed_span_is_refused(tiny_file, span, capsys):
    with pytest.raises(SystemExit) as stop:
        launch.main([str(tiny_file), f"--profile={span}"])
    assert stop.value.code == 2
    assert "--profile" in capsys.readouterr().err


def test_the_command_to_resume_records_nothing():
    command = ["launch.py", "c.toml", "--profile", "4:5", "--back-to=3", "--set", "seed=1"]
    assert launch._to_go_on(command) == ["launch.py", "c.toml", "--set", "seed=1"]
