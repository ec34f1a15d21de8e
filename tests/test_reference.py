"""The references of the project's own runs, and the doctor's comparison with them."""

import json

import pytest
from conftest import PROJECT
from made_runs import symptoms

from llm60_jax import config as config_module
from llm60_jax.errors import DamageError, InputError
from llm60_jax.record import doctor, reference


def references_of(run):
    return [reference.measured(run, phase, "tiny", "a machine") for phase in run.config.phase]


def worse(run, phase, nats):
    """Return a run with higher held-out losses in one phase."""
    rows = [
        row | {"validation_loss": row["validation_loss"] + nats}
        if row["phase"] == phase and "validation_loss" in row
        else row
        for row in run.rows
    ]
    return run._replace(rows=rows)


@pytest.mark.parametrize(("nats", "found"), [(0.2, []), (0.4, [("vocabulary", "above the reference")]), (-0.4, [])])
def test_a_loss_far_above_our_own_run_is_named_with_both_values(healthy, monkeypatch, nats, found):
    references = references_of(healthy)
    monkeypatch.setattr(reference, "known", lambda: references)
    run = worse(healthy, "vocabulary", nats)
    assert symptoms(run) == found
    if found:
        [finding] = doctor.examine(run)
        assert "held-out loss 3.50 after 6,400 tokens of the phase; our own run of tiny had 3.10" in finding.evidence


def test_a_run_is_compared_on_the_line_between_two_measurements(healthy):
    first, *_ = references_of(healthy)
    a, b = first.points[1:3]
    assert reference.loss_at(first, (a.tokens + b.tokens) // 2) == pytest.approx((a.loss + b.loss) / 2)
    assert reference.loss_at(first, a.tokens) == a.loss
    assert reference.loss_at(first, first.points[-1].tokens) == first.points[-1].loss
    assert reference.loss_at(first, a.tokens - 1) is None  # no line from before the first step: the loss falls steeply
    assert reference.loss_at(first, first.points[-1].tokens + 1) is None


def test_only_the_same_training_on_the_same_text_is_compared(healthy, tree):
    references, (phase, second, _) = references_of(healthy), healthy.config.phase
    assert reference.matching(healthy, phase, references) == references[0]
    assert reference.matching(healthy, second, references) == references[1]
    for change in (
        lambda tree: tree["model"].update(hidden_dim=96),
        lambda tree: tree["phase"][0].update(learning_rate=[9e-4, 3e-4]),
        lambda tree: tree["train"].update(tokens_per_step=256),
        lambda tree: tree.update(optimizer={"name": "adamw"}),
    ):
        other = json.loads(json.dumps(tree))
        change(other)
        config = config_module.parse(other, "x")
        assert reference.matching(healthy._replace(config=config), config.phase[1], references) is None
    moved = json.loads(json.dumps(tree)) | {"seed": 9}
    moved["phase"][0]["sources"][0]["path"] = "elsewhere"
    config = config_module.parse(moved, "x")
    assert reference.matching(healthy._replace(config=config), config.phase[0], references) == references[0]
    rows = [row | {"data": row["data"] | {"tokens": 190_000}} if "data" in row else row for row in healthy.rows]
    assert reference.matching(healthy._replace(rows=rows), phase, references) is None


def test_a_run_that_does_not_say_enough_is_compared_with_nothing(healthy, tree, monkeypatch):
    references, phase = references_of(healthy), healthy.config.phase[0]
    monkeypatch.setattr(reference, "known", lambda: references)
    for gone in ("tokens", "unigram_entropy"):
        for value in ({}, {gone: None}):
            rows = json.loads(json.dumps(healthy.rows))
            for row in rows:
                if "data" in row:
                    del row["data"][gone]
                    row["data"] |= value
            assert reference.matching(healthy._replace(rows=rows), phase, references) is None
    extended = [*healthy.rows, {"step": 50, "tokens": 6400, "phase": "grammar", "stage": 4, "extension": {}}]
    assert reference.matching(healthy._replace(rows=extended), phase, references) is None
    lost = healthy._replace(rows=[row for row in healthy.rows if row["step"] != 0 or "data" in row])
    assert reference.points(lost, phase) == list(references[0].points[1:])  # a lost row moves no other
    with pytest.raises(InputError, match="lacks rows of phase grammar"):
        reference.measured(healthy._replace(rows=healthy.rows[:5]), phase, "tiny", "a machine")


def test_a_stage_too_short_to_have_a_speed_leaves_that_of_the_others(healthy):
    def stopped(row):
        end = row.get("stage_end")
        return row | {"stage_end": end | {"tokens_per_second": 0.0}} if end and row["stage"] == 1 else row

    phase = healthy.config.phase[0]
    rows = [stopped(row) for row in healthy.rows]
    assert reference.measured(healthy._replace(rows=rows), phase, "tiny", "a machine").tokens_per_second == 900


def test_references_come_back_from_their_file_and_damage_is_named(healthy, tmp_path, monkeypatch):
    references, path = references_of(healthy), tmp_path / "references.json"
    monkeypatch.setattr(reference, "FILE", path)
    path.write_text(json.dumps([entry._asdict() for entry in references]))
    assert reference.known() == references
    for text in ("[{]", "{}x", '[{"run": "x"}]', "[3]"):
        path.write_text(text)
        with pytest.raises(DamageError, match=r"references\.json: .* restore it"):
            reference.known()


def test_the_shipped_references_are_of_the_shipped_configurations():
    entries = reference.known()
    assert {entry.run for entry in entries} >= {"quickstart"}
    for entry in entries:
        config = config_module.load(PROJECT / "configs" / f"{entry.run}.toml")
        assert entry.training == reference.training(config, config.phase_named(entry.phase)), entry.run
        assert entry.points[-1].tokens == config.phase_named(entry.phase).tokens
