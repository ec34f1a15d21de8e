"""The bench as a user calls it, on a tiny model."""

import importlib.util
import json

import bench
import bench_jax
import pytest
import quiet
from conftest import to_toml

from llm60_jax.kernels import choice, library


@pytest.fixture
def command(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(quiet, "busy_seconds", lambda: 0.0)  # tests run beside one another
    (tmp_path / "c.toml").write_text(to_toml(tree))
    return [str(tmp_path / "c.toml"), "--rounds", "2"]


@pytest.mark.slow
def test_stages_are_measured_and_hours_projected(command, capsys):
    assert bench.main([*command, "--stages", "1,3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    first, second = report["stages"]
    assert (first["stage"], second["stage"], second["frozen"]) == (1, 3, 2)
    for row in report["stages"]:
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["step_seconds"])
        assert row["ceiling_share"] == pytest.approx(row["flops_per_second"] / row["ceiling_flops_per_second"])
        assert row["compile_seconds"] > 0
        assert row["peak_bytes"] > row["temporary_bytes"] > 0
        assert row["optimizer_share"] > 0
        assert row["input_share"] > 0
        assert row["ratio"] is row["torch_tokens_per_second"] is row["xla_ratio"] is None
        assert row["kernels"] in ("native", "xla")
        assert row["disturbed_rounds"] == 0
    assert first["matmul_flops"] > second["matmul_flops"]
    assert report["whole_playbook_ratio"] is report["generation"] is report["losses"] is None
    assert report["hours"]["grammar"] > 0
    assert report["not_in_hours"][:3] == ["grammar 2", "grammar 4", "grammar 5"]


def test_hours_weigh_every_stage_by_its_steps(tiny):
    rows = [{"context": 16, "frozen": 0, "blocks": 6, "step_seconds": 3600.0}]
    stages = bench.plan.build(tiny).stages
    measured = [stage for stage in stages if (stage.context, stage.frozen_blocks) == (16, 0)]
    projected, left_out = bench.projected_hours(tiny, rows)
    assert projected["grammar"] == sum(stage.steps for stage in measured if stage.phase == "grammar")
    assert len(left_out) == len(stages) - len(measured) > 0


@pytest.mark.slow
def test_the_same_steps_are_timed_in_plain_xla(command, capsys, monkeypatch):
    monkeypatch.setattr(bench, "_PLAIN", "train.remat=none")  # another program for the second side
    assert bench.main([*command, "--stages", "2", "--against-xla", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["stages"][0]["xla_ratio"] > 0
    assert report["stages"][0]["ratio"] is None
    assert report["losses"]["xla"] == pytest.approx(report["losses"]["jax"], rel=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra torch")
def test_the_same_model_in_pytorch_has_the_same_loss(command, capsys):
    assert bench.main([*command, "--against-torch", "--variants", "eager,remat", "--json"]) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert "stage 1: preparing PyTorch: 2 in" in output.err
    assert report["losses"]["torch"] == pytest.approx(report["losses"]["jax"], rel=1e-3)
    assert report["whole_playbook_ratio"] > 0
    assert report["flat_torch_variant"] in ("eager", "remat")
    assert report["generation"]["tokens_per_second"] > 0
    for row in report["stages"]:
        assert row["ratio"] == row["ratios"][row["torch_variant"]]
        assert row["torch_tokens_per_second"] > 0
        assert all(1 <= figures["rounds"] <= 2 for figures in row["torch"].values())


@pytest.mark.filterwarnings("ignore")  # inside torch.compile
def test_all_variants_of_pytorch_compute_the_same(tree):
    """Loss and every gradient, with dropout off, a document mask and targets that do not count."""
    pytest.importorskip("torch")
    import numpy as np
    import torch
    import torch_side
    import worker_process

    from llm60_jax import config as config_module
    from llm60_jax.training import step

    assert tuple(torch_side.VARIANTS) == bench.VARIANTS
    c = config_module.parse(tree, "tree")
    facts = worker_process.facts_of(c, c.phase[0])
    worker = torch_side.TorchWorker({**facts, "dropout": 0.0}, bench_jax.flat(c.model, step.init(c).params))
    worker.stage(64, 1, 2)
    worker.batch[1][0, 0, :7] = -100
    tokens, targets, segments = (x[0] for x in worker.batch)
    results = {}
    for name, variant in torch_side.VARIANTS.items():
        with torch.autocast("cpu", torch.bfloat16):
            loss = worker.model(tokens, segments, targets, worker.rope, 1, variant)
        loss.backward()
        live = {key: p for key, p in worker.model.named_parameters() if p.requires_grad}
        results[name] = loss.item(), {key: p.grad.numpy().copy() for key, p in live.items()}
        worker.model.zero_grad()
    loss, gradients = results["eager"]
    for name, (other_loss, others) in results.items():
        assert other_loss == pytest.approx(loss, rel=1e-4), name
        for key, gradient in gradients.items():
            assert np.linalg.norm(others[key] - gradient) < 0.02 * np.linalg.norm(gradient), (name, key)
    assert worker.step("written")["loss"] == pytest.approx(worker.step("eager")["loss"], abs=2e-2)


def test_the_register_peak_is_told_where_there_are_native_kernels():
    chosen = choice.chosen("auto", "cpu")
    assert (bench_jax.register_peak() is None) == (chosen.library is None)
    assert library.register_peak(choice.Choice("xla", "x"), 2) is None


def test_wrong_requests_are_one_message(command, capsys, monkeypatch):
    assert bench.main([*command, "--stages", "9"]) == 2
    assert "has stages 1 to" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bench.main([*command, "--against-torch"]) == 2
    assert "pip install -e '.[torch]'" in capsys.readouterr().err
    for option, value, words in (
        ("--variants", "fast", "some of eager, remat, compiled, written"),
        ("--rounds", "0", "--rounds: 0"),
        ("--foreign-percent", "0", "--foreign-percent: 0"),
        ("--stages", "one", "numbers separated by commas"),
    ):
        assert bench.main([*command, option, value]) == 2
        assert words in capsys.readouterr().err


def test_both_sides_train_alike(tree):
    """From the same weights, on the same rows, by the same rule: what quality for equal time rests
    on."""
    pytest.importorskip("torch")
    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch
    import torch_side
    import worker_process

    from llm60_jax import config as config_module
    from llm60_jax.plan import Noise, StepKey
    from llm60_jax.training import costs, step

    c = config_module.parse(tree, "tree")
    key = StepKey(64, 1, 2, 0, False, "none", Noise())
    batch, state = costs.made_up_batch(c, key), step.init(c)
    batch["weights"][0, 0, :7] = 0
    facts = worker_process.facts_of(c, c.phase[0])
    worker = torch_side.TorchWorker({**facts, "dropout": 0.0}, bench_jax.flat(c.model, state.params))
    worker.optimizer = torch_side.Adafactor(worker._set_up(64, 0), **facts["optimizer"])
    worker.optimizer.rate = 1e-3
    arrays = [torch.from_numpy(batch[name]) for name in ("tokens", "targets", "segments")]
    arrays[1] = torch.where(torch.from_numpy(batch["weights"]) > 0, arrays[1], -100)
    train = jax.jit(lambda state: step.train_step(c, key, state, batch, jnp.float32(1e-3)))
    before = bench_jax.flat(c.model, state.params)
    for _ in range(4):
        state, metrics = train(state)
        theirs = worker._step([x.long() for x in arrays], torch_side.VARIANTS["eager"])
        assert theirs == pytest.approx(float(metrics.loss), abs=2e-3)
    ours, theirs = bench_jax.flat(c.model, state.params), worker.model.give()
    assert ours.keys() == theirs.keys()
    for name, start in before.items():
        a, b = ours[name] - start, theirs[name] - start
        assert (a * b).sum() > 0.97 * np.linalg.norm(a) * np.linalg.norm(b), name
        assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=0.05)
    back = bench_jax.unflat(c.model, ours)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), back, state.params)))


def test_quality_for_equal_time_is_judged_by_one_scorer(tree, tmp_path, capsys):
    pytest.importorskip("torch")
    import quality

    (tmp_path / "c.toml").write_text(to_toml(tree | {"phase": tree["phase"][:1], "tokenizer": {"phases": ["grammar"]}}))
    command = [str(tmp_path / "c.toml"), "--minutes", "0.02", "--seeds", "5", "--dir", str(tmp_path / "q"), "--json"]
    assert quality.main(command) == 0
    report = json.loads(capsys.readouterr().out)
    ours, theirs = report["rows"]
    assert (ours["side"], theirs["side"], ours["seed"]) == ("ours", "torch", 5)
    assert theirs["variant"] in ("eager", "compiled")
    assert theirs["seconds"] == pytest.approx(ours["seconds"], abs=1.0)
    assert report["summary"]["difference"]["mean"] == ours["bits_per_byte"] - theirs["bits_per_byte"]
    assert 1 < ours["bits_per_byte"] < 8
    assert 1 < theirs["bits_per_byte"] < 8
    # A second time: finished trainings stay.
    assert quality.main(command) == 0
    assert json.loads(capsys.readouterr().out) == report
    assert quality.main([command[0], "--seeds", "a"]) == 2
    assert "--seeds: 'a'" in capsys.readouterr().err


@pytest.mark.slow
def test_each_optimization_is_measured_with_and_without(tree, tmp_path, capsys):
    import optimizations

    short = tree["phase"][0] | {"context": [[0.0, 16], [0.5, 64]], "freeze": [[0.0, 0], [0.5, 1]]}
    tree |= {"phase": [short], "tokenizer": {"phases": ["grammar"]}}
    tree["model"] |= {"layers": 2, "stacks": [1, 1]}
    (tmp_path / "c.toml").write_text(to_toml(tree))
    assert optimizations.main([str(tmp_path / "c.toml"), "--rounds", "1", "--no-jit", "--json"]) == 0
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    for name in (
        "bfloat16",
        "remat full",
        "remat products",
        "freezing",
        "context ramp",
        "cache of 1",
        "text in",
    ):
        assert any(what.startswith(name) for what in rows), name
    for row in rows.values():
        assert row["times"] == pytest.approx(row["seconds_without"] / row["seconds"])
    packing = [rows[f"packing, context {context}"]["times"] for context in (16, 64)]
    assert 1 < packing[0] < packing[1]  # the longer the row, the more of it a short document leaves empty
