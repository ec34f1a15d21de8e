"""The doctor names each symptom from what a run records, and is silent where nothing is wrong."""

import itertools
import json
import math
import random
import re
import shlex

import doctor as tool
import doctor_trial
import numpy as np
import pytest
from conftest import PROJECT, to_toml
from made_runs import longer, made, symptoms

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.data.tokens import bigrams
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import terminal
from llm60_jax.record import doctor, history, report


def field(run, phase, name):
    return [row[name] for row in run.rows if row["phase"] == phase and name in row]


def test_silence_on_a_healthy_run(healthy):
    assert symptoms(healthy) == []


def test_a_run_that_has_just_begun_has_nothing_wrong(healthy):
    for count in (0, 1, 5, 12):
        assert symptoms(healthy._replace(rows=healthy.rows[:count], gates={})) == []


def test_a_run_of_an_earlier_version_is_read_as_far_as_it_goes(healthy):
    rows = [row for row in healthy.rows if "data" not in row and "depth" not in row]
    for row in rows:
        row.get("stage_end", {}).pop("seconds", None)
        row.get("stage_end", {}).pop("order", None)
    assert symptoms(healthy._replace(rows=rows)) == []
    assert "<html" in report.page(healthy._replace(rows=rows))


def refusal(broken, batch="00000007.npz"):
    return {"loss": "nan", "grad_norm": "nan", "limit": None, "batch": batch, "broken": broken}


def test_a_broken_batch_is_not_blamed_on_the_learning_rate(healthy):
    row = {"step": 7, "tokens": 896, "phase": "grammar", "stage": 0, "refused": refusal(["weights"])}
    [finding] = doctor.examine(healthy._replace(rows=[*healthy.rows, row]))
    assert finding.symptom == "NaN in a batch"
    assert "bad_batches/00000007.npz" in finding.evidence
    assert "learning_rate" not in finding.fix


@pytest.mark.parametrize("count", [1, 2, 3])
def test_spikes_are_blamed_on_the_rate_when_there_are_several(healthy, count):
    rows = [
        {"step": 7 + n, "tokens": 896, "phase": "grammar", "stage": 0, "refused": refusal([])} for n in range(count)
    ]
    assert symptoms(healthy._replace(rows=[*healthy.rows, *rows])) == [("grammar", "spikes")] * (count == 3)


def test_a_stage_that_was_not_in_effect_is_reported_until_the_run_continues(healthy):
    reason = "phase grammar, stage 1: the plan is not in effect: the document mask leaves 1.0 open"
    stop = {"step": 0, "tokens": 0, "phase": "grammar", "stage": 0, "stopped": reason}
    [finding] = doctor.examine(healthy._replace(rows=[*healthy.rows[:2], stop], gates={}))
    assert finding.symptom == "not what was planned"
    assert finding.evidence == "the document mask leaves 1.0 open"
    assert symptoms(healthy._replace(rows=[*healthy.rows[:2], stop, *healthy.rows[2:]])) == []


def stuck(run):
    for row in run.rows:
        if row["phase"] == "grammar":
            for name in {"loss", "validation_loss"} & row.keys():
                row[name] = 5.0


def test_an_extreme_rate_explains_a_run_that_learns_nothing(tree, tmp_path):
    tree["phase"][0] |= {"learning_rate": [0.3, 0.1], "tokens": 50 * 128}
    run = made(tree, tmp_path)
    stuck(run)
    [finding] = doctor.examine(run)
    assert (finding.phase, finding.symptom) == ("grammar", "diverges")
    assert "phase.grammar.learning_rate=[1.0e-03,3.3e-04]" in finding.fix


def test_a_loss_that_rises_under_one_context_diverges(tree, tmp_path):
    tree["phase"][0] |= {"context": [[0.0, 16]], "tokens": 50 * 128}
    run = made(tree, tmp_path)
    for row in run.rows:
        if row["phase"] == "grammar" and row["step"] > 40 and "loss" in row:
            row["loss"] += 1.5
    assert ("grammar", "diverges") in symptoms(run)


def test_no_progress_is_reported_where_nothing_else_explains_it(healthy):
    stuck(healthy)
    assert symptoms(healthy) == [("grammar", "no progress")]


def test_a_loss_that_still_falls_is_not_stuck_under_any_rate(tree, tmp_path):
    tree["phase"][0] |= {"learning_rate": [0.3, 0.1], "tokens": 50 * 128}
    run = made(tree, tmp_path)
    stuck(run)
    for row in run.rows:
        if row["phase"] == "grammar" and "loss" in row:
            row["loss"] += 1.0 - row["step"] / 50
    assert symptoms(run) == []


def test_an_embedding_frozen_too_early_explains_a_run_that_learns_nothing(tree, tmp_path):
    tree["phase"][0] |= {"embedding": "frozen", "tokens": 50 * 128, "learning_rate": [1e-3, 3e-4]}
    run = made(tree, tmp_path)
    stuck(run)
    [finding] = doctor.examine(run)
    assert finding.symptom == "no progress"
    assert "phase.grammar.embedding=head_only" in finding.fix


def test_a_phase_that_has_hardly_begun_is_not_judged(tree, tmp_path):
    tree["phase"] = [tree["phase"][0] | {"tokens": 500 * 128, "learning_rate": [1e-3, 3e-4]}]
    tree["tokenizer"]["phases"] = ["grammar"]
    run = made(tree, tmp_path)
    stuck(run)
    for steps, expected in ((100, []), (200, [("grammar", "no progress")])):
        rows = [row for row in run.rows if row["step"] <= steps]
        assert symptoms(run._replace(rows=rows, gates={})) == expected


def test_word_salad_differs_from_shuffled_tokens(healthy):
    chance = {"repeated": 0.3, "by_chance": 0.3, "tokens": 32_768, "gain": 0.0}
    for account in field(healthy, "grammar", "stage_end"):
        account["order"] = chance
    stuck(healthy)
    assert symptoms(healthy) == [("grammar", "shuffled tokens")]
    field(healthy, "grammar", "data")[0]["word_order"] = chance
    assert symptoms(healthy) == [("grammar", "word salad")]
    few_words = {"repeated": 1.0, "by_chance": 1.0, "tokens": 32_768, "gain": 0.0}
    field(healthy, "grammar", "data")[0].update({"word_order": few_words, "order": few_words})
    assert symptoms(healthy) == [("grammar", "no progress")]


def test_duplicated_text(healthy):
    field(healthy, "grammar", "data")[0].update(duplicate_share=0.9, epochs=12.0)
    assert symptoms(healthy) == [("grammar", "duplicated text")]


def test_a_foreign_tokenizer_needs_enough_text_to_be_sure(healthy):
    facts = field(healthy, "grammar", "data")[0]
    facts.update(whole_word_share=0.15, unused_share=0.6)
    assert symptoms(healthy) == [("grammar", "foreign tokenizer")]
    facts["tokens"] = 1_000
    assert symptoms(healthy) == []


def test_overfitting_is_not_blamed_on_dropout(healthy):
    field(healthy, "fine_tune", "data")[0]["epochs"] = 100.0
    for row in healthy.rows:
        if row["phase"] == "fine_tune" and "loss" in row:
            row["loss"] -= 1.0
    [finding] = doctor.examine(healthy)
    assert (finding.phase, finding.symptom) == ("fine_tune", "overfitting")
    assert "not too much dropout" in finding.cause


def test_forgetting(tree, tmp_path):
    for phase in tree["phase"]:
        phase |= {"tokens": 50 * 128, "gate": {"max_forgetting": 0.5}}
    run = made(tree, tmp_path)
    last = [row for row in run.rows if row["phase"] == "vocabulary" and "earlier_phases" in row][-1]
    last["earlier_phases"]["grammar"]["validation_loss"] = 3.9
    assert symptoms(run) == [("vocabulary", "forgetting")]


def test_grammar_that_the_gate_refused(healthy):
    checks = [
        {"name": "grammar: agreement", "found": 0.4, "asked": "at least 0.7", "passed": False, "remedy": ""},
        {"name": "grammar: articles", "found": None, "asked": "at least 0.7", "passed": False, "remedy": ""},
    ]
    healthy.gates["grammar"].update(passed=False, checks=checks)
    [finding] = doctor.examine(healthy)
    assert finding.symptom == "poor grammar"
    assert "agreement 40% (at least 0.7)" in finding.evidence


def test_repetition(healthy):
    healthy.gates["grammar"]["evidence"]["generated"]["looped_words"] = 300.0
    assert symptoms(healthy) == [("grammar", "repetition")]


def test_blocks_frozen_from_the_start_are_blamed_only_when_nothing_is_learnt(tree, tmp_path):
    tree["phase"][0] |= {"tokens": 50 * 128, "freeze": [[0.0, 4]], "learning_rate": [1e-3, 3e-4]}
    run = made(tree, tmp_path)
    assert symptoms(run) == []
    stuck(run)
    assert symptoms(run) == [("grammar", "untrained blocks")]


def test_a_schedule_by_choice_is_a_departure_and_no_finding(tree, tmp_path):
    tree["phase"][0] |= {"freeze": [[0.0, 0]], "context": [[0.0, 64]], "tokens": 50 * 128}
    run = made(tree, tmp_path)
    assert symptoms(run) == []
    departures = config_module.departures(run.config)
    assert "phase.grammar.context: 64 from the first token to the last; section 6 asks for [[0.0, 16]" in departures[0]
    assert "phase.grammar.freeze: no block ever freezes" in departures[1]
    assert "by choice: phase.grammar.context: 64" in tool.as_text(run)
    assert tool.as_json(run)["departures"] == departures
    tree["phase"][0]["freeze"] = [[0.0, 4]]
    (line,) = [line for line in config_module.departures(config_module.parse(tree, "x")) if ".freeze: " in line]
    assert "blocks 1 to 4 of 6 are frozen from step 0" in line


@pytest.mark.parametrize("path", sorted(PROJECT.glob("configs/*.toml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_that_runs_well_has_no_finding(path, tmp_path):
    tree = config_module.to_tree(config_module.load(path))
    per_step = tree["train"]["tokens_per_step"]
    for phase in tree["phase"]:
        phase |= {"tokens": 50 * per_step, "epochs": None}
    assert symptoms(made(tree, tmp_path)) == []


@pytest.mark.parametrize("stacks", [[2, 2, 2], [2, 4], [1, 5], [1, 1, 4]])
def test_the_model_can_do_the_freezing_that_is_proposed(tree, tmp_path, stacks):
    tree["model"]["stacks"] = stacks
    for phase in tree["phase"]:
        phase |= {"tokens": 50 * 128, "freeze": [[0.0, stacks[0]]], "learning_rate": [1e-3, 3e-4]}
    run = made(tree, tmp_path)
    stuck(run)
    [finding] = doctor.examine(run)
    assert finding.symptom == "untrained blocks"
    tree["phase"][0]["freeze"] = json.loads(finding.fix.split("freeze=")[1].split("'")[0])
    config_module.parse(tree, "x")


def test_where_the_time_went(healthy):
    account = field(healthy, "grammar", "stage_end")[2]
    account["seconds"]["data"] = 40.0
    [finding] = doctor.examine(healthy)
    assert finding.symptom == "starved for data"
    assert "stage 3 waited 40.0 s" in finding.evidence
    account["seconds"].update(data=0.2, compile=300.0)
    assert symptoms(healthy) == [("grammar", "compiles too long")]
    account["seconds"].update(compile=1.0, evaluation=600.0)
    [finding] = doctor.examine(healthy)
    assert finding.symptom == "trains too little of its time"
    assert "train.evaluate_every=20" in finding.fix
    shares = doctor.time_of(healthy, healthy.config.phase[1])
    assert math.isclose(sum(share.share for share in shares if not share.name.startswith("of them")), 1.0)


def test_a_machine_that_lacks_something_for_the_native_kernels(tree, tmp_path):
    lacking = {"lacks": "no C++ compiler was found; install one"}
    assert symptoms(made(longer(tree), tmp_path)._replace(**lacking)) == []  # heads that the kernels do not claim
    tree["model"]["heads"] = 1
    [finding] = doctor.examine(made(tree, tmp_path)._replace(**lacking))
    assert (finding.symptom, finding.phase) == ("slower than it could be", "fine_tune")
    assert finding.cause == "no C++ compiler was found; install one"
    assert "about 1.5 times as fast" in finding.evidence


@pytest.mark.parametrize(
    ("record", "lacks"), [({}, ""), ({"kernels": {"lacks": "a compiler"}}, "a compiler"), ({"kernels": {}}, "")]
)
def test_what_a_machine_lacks_is_read_from_the_run(tree, tmp_path, record, lacks):
    (tmp_path / "config.json").write_text(json.dumps({"config": tree, "digests": {}, "changes": [], **record}))
    assert history.read(tmp_path).lacks == lacks


def test_a_damaged_record_of_kernels_is_named(tree, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"config": tree, "kernels": 3}))
    with pytest.raises(DamageError, match=r"config\.json: unreadable"):
        history.read(tmp_path)


def test_depth_that_does_nothing(healthy):
    depth = field(healthy, "grammar", "depth")[0]
    depth["contributions"][:3] = [0.001, 0.002, 0.003]
    [finding] = doctor.examine(healthy)
    assert finding.symptom == "dead blocks"
    assert "3 of 6 blocks" in finding.evidence
    assert finding.evidence.endswith("1-3")
    depth["contributions"][:3] = [0.3] * 3
    depth["losses"] = [6.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert symptoms(healthy) == [("grammar", "useless depth")]


# --- What to do ------------------------------------------------------------------------------------------------------


def changed(run, name, **fields):
    for account in field(run, "grammar", name):
        account.update(fields)


def risen(run):
    for row in run.rows:
        if row["phase"] == "grammar" and row["step"] > 40 and "loss" in row:
            row["loss"] += 1.5


def of_chance(run):
    changed(run, "data", word_order={"by_chance": 0.3, "gain": 0.0})


def overfitted(run):
    changed(run, "data", epochs=100.0)
    for row in run.rows:
        if row["phase"] == "grammar" and "loss" in row:
            row["loss"] -= 1.0


def forgotten(run):
    [row for row in run.rows if "earlier_phases" in row and row["phase"] == "vocabulary"][-1]["earlier_phases"][
        "grammar"
    ]["validation_loss"] = 300.0


def refused_by_the_gate(run):
    check = {"name": "grammar: agreement", "found": 0.4, "asked": "at least 0.7", "passed": False, "remedy": ""}
    run.gates["grammar"].update(passed=False, checks=[check])


def looped(run):
    run.gates["grammar"]["evidence"]["generated"]["looped_words"] = 300.0


def refused(run):
    position = {"tokens": 896, "phase": "grammar", "stage": 0}
    run.rows.extend({"step": 7 + n, **position, "refused": refusal([])} for n in range(3))


def not_finite(run):
    run.rows.append({"step": 7, "tokens": 896, "phase": "grammar", "stage": 0, "refused": refusal(["weights"])})


def stopped(run):
    reason = "phase grammar, stage 1: the plan is not in effect: the document mask leaves 1.0 open"
    run.rows.append({"step": 7, "tokens": 896, "phase": "grammar", "stage": 0, "stopped": reason})


def seconds(**spent):
    return lambda run: [account["seconds"].update(spent) for account in field(run, "grammar", "stage_end")]


def shuffled(run):
    changed(run, "stage_end", order={"by_chance": 0.3, "gain": 0.0})


FAULTS = {
    "not what was planned": stopped,
    "NaN in a batch": not_finite,
    "spikes": refused,
    "diverges": risen,
    "word salad": of_chance,
    "shuffled tokens": shuffled,
    "no progress": stuck,
    "duplicated text": lambda run: changed(run, "data", duplicate_share=0.9, epochs=12.0),
    "foreign tokenizer": lambda run: changed(run, "data", whole_word_share=0.15, unused_share=0.6),
    "untrained blocks": stuck,
    "starved for data": seconds(data=400.0),
    "compiles too long": seconds(compile=3000.0),
    "trains too little of its time": seconds(evaluation=6000.0),
    "dead blocks": lambda run: changed(run, "depth", contributions=[0.001] * 6),
    "useless depth": lambda run: changed(run, "depth", losses=[6.0, *[3.0] * 6]),
    "overfitting": overfitted,
    "forgetting": forgotten,
    "poor grammar": refused_by_the_gate,
    "repetition": looped,
}
# Settings of the first phase under which a remedy could repeat what is there, or not fit to it.
CHOICES = {
    "plain": {},
    "warmed up": {"warmup": 0.1},
    "no warm-up": {"warmup": 0.0},
    "in epochs": {"epochs": 3.0},
    "in many epochs": {"epochs": 1000.0},
    "dropout": {"mlp_dropout": 0.1},
    "a high rate": {"learning_rate": [0.9, 0.8]},
    "a waiting freeze": {"freeze_when": "converged", "freeze_delay": 0.4, "freeze": [[0.0, 2], [0.5, 4]]},
    "own remat": {"remat": [[0.0, "full"], [0.3, "none"]]},
    "frozen": {"freeze": [[0.0, 2], [0.6, 4]], "remat": [[0.0, "full"], [0.6, "none"]]},
    "cached": {"freeze": [[0.0, 2]], "context": [[0.0, 16]], "rows": "fixed", "embedding": "frozen",
               "prefix_cache": True},
    "one context": {"context": [[0.0, 16]]},
    "sampling": {},
}  # fmt: skip
SHOWN_BY = {"untrained blocks": "frozen", "diverges": "one context"}  # all others by "plain"


def settings_in(fix):
    """The settings that a remedy names, as a shell would read them."""
    return [word.rstrip(",;") for before, word in itertools.pairwise(shlex.split(fix)) if before == "--set"]


def value_of(tree, setting):
    """The value that a configuration has now at the field of a setting."""
    for key in setting.partition("=")[0].split("."):
        tree = next(entry for entry in tree if entry["name"] == key) if isinstance(tree, list) else tree[key]
    return tree


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("fault", FAULTS)
def test_remedies_change_the_configuration_and_fit_to_it(tree, tmp_path, fault, choice):
    for phase in tree["phase"]:
        phase |= {"tokens": 50 * 128, "learning_rate": [1e-3, 3e-4]}
    tree["phase"][0] |= CHOICES[choice]
    if choice == "sampling":
        tree["sampling"] |= {"repetition_penalty": 1.2, "top_p": 0.95}
    run = made(tree, tmp_path)
    FAULTS[fault](run)
    findings = doctor.examine(run)
    if choice == SHOWN_BY.get(fault, "plain"):
        assert fault in [finding.symptom for finding in findings]
    now = config_module.to_tree(run.config)
    for phase in now["phase"]:
        phase.pop("tokens" if phase["epochs"] else "epochs")
    (tmp_path / "now.toml").write_text(to_toml(without_none(now)))
    for finding in findings:
        settings = settings_in(finding.fix)
        wanted = config_module.to_tree(config_module.load(tmp_path / "now.toml", settings))
        for setting in settings:
            assert value_of(wanted, setting) != value_of(config_module.to_tree(run.config), setting), finding.fix


def without_none(tree):
    if isinstance(tree, dict):
        return {name: without_none(value) for name, value in tree.items() if value is not None}
    return [without_none(value) for value in tree] if isinstance(tree, list) else tree


def test_the_doctor_says_nothing_of_training_before_the_first_step(tree, tmp_path):
    tree["phase"][0] |= {"freeze": [[0.0, 2]], "context": [[0.0, 16]], "tokens": 50 * 128, "learning_rate": [0.9, 0.8]}
    run = made(tree, tmp_path)
    stuck(run)
    begun = [row for row in run.rows if row["step"] == 0]
    assert {name for row in begun for name in row} >= {"data", "validation_loss"}
    assert symptoms(run._replace(rows=begun, gates={})) == []


def test_a_finding_puts_cause_and_remedy_where_they_belong():
    finding = doctor.Finding("symptom", "grammar", "evidence", "cause", "remedy")
    assert finding.explain() == ("grammar: symptom\n  measured: evidence\n  likely cause: cause\n  what to do: remedy")


# --- What is measured ------------------------------------------------------------------------------------------------


def test_order_tells_text_from_shuffled_text():
    rng = np.random.default_rng(1)
    follows = rng.integers(4, 500, (500, 3))  # each token is followed by one of three
    tokens = np.zeros((64, 256), np.int32)
    tokens[:, 0] = rng.integers(4, 500, 64)
    for t in range(1, 256):
        tokens[:, t] = follows[tokens[:, t - 1], rng.integers(0, 3, 64)]
    segments = np.ones_like(tokens)
    assert bigrams.order(tokens, segments).gain > 0.5
    shuffled = rng.permutation(tokens.reshape(-1)).reshape(tokens.shape)
    assert abs(bigrams.order(shuffled, segments).gain) < 0.03
    assert bigrams.order(tokens[:4], segments[:4]) is None
    assert bigrams.order(tokens, np.zeros_like(segments)) is None
    assert bigrams.of_batches([]) is None


def test_words_that_were_shuffled_have_no_order():
    rng = random.Random(1)
    follows, words, texts = [[rng.randrange(500) for _ in range(3)] for _ in range(500)], [0], []
    for _ in range(60):
        for _ in range(300):
            words.append(rng.choice(follows[words[-1]]))
        texts.append(" ".join(f"word{number}" for number in words[-300:]))
    assert bigrams.of_words(texts).gain > 0.5
    other = [f"{rng.randint(0, 999)}" for _ in range(20_000)]
    assert abs(bigrams.of_words([" ".join(other)]).gain) < 0.05
    assert bigrams.of_words(["too few words"]) is None
    assert bigrams.of_words([]) is None


@pytest.mark.slow
def test_a_run_records_what_the_doctor_reads(tree, train):
    few = {"context": [[0.0, 16], [0.5, 32]], "freeze": [[0.0, 0], [0.5, 2]]}
    tree["phase"] = [phase | few for phase in tree["phase"][:2]]
    run = train(tree)
    read = history.read(run)
    for phase in read.config.phase:
        [row] = read.of(phase, "data")
        assert row["step"] == plan.build(read.config).phase_span(phase.name)[0]
        assert 0 < row["data"]["epochs"] < 1
        assert 0 < row["data"]["unigram_entropy"] < math.log(360)
        [depth] = [row["depth"] for row in read.of(phase, "depth")]
        assert len(depth["contributions"]) == 6
        assert len(depth["losses"]) == 7
        final = read.of(phase, "validation_loss")[-1]["validation_loss"]
        assert abs(depth["losses"][-1] - final) < 0.1  # the same text, or nearly
        assert {"steps", "compile", "data"} <= read.of(phase, "stage_end")[0]["stage_end"]["seconds"].keys()
        assert {"gate", "saving"} <= read.of(phase, "phase_end")[0]["phase_end"]["seconds"].keys()
    assert symptoms(read) == []
    assert (run / report.NAME).read_text(encoding="utf-8") == report.page(read)


@pytest.mark.slow
def test_a_fault_is_reported_during_the_run(tree, train, monkeypatch, capsys):
    from llm60_jax.data.tokens import loader

    tree["phase"] = [tree["phase"][0] | {"context": [[0.0, 16], [0.5, 32]], "freeze": [[0.0, 0], [0.5, 2]]}]
    tree["tokenizer"] = {"phases": ["grammar"]}
    real = loader.batches

    def batches(*arguments):
        for number, batch in enumerate(real(*arguments)):
            if number == 2:
                batch["weights"] = np.full_like(batch["weights"], np.nan)
            yield batch

    class Stream:
        def __init__(self, *arguments):
            self.rest = batches(*arguments)

        def __next__(self):
            return next(self.rest)

        def get_state(self):
            return {}

    monkeypatch.setattr(loader, "batches", Stream)
    run = train(tree)
    output = capsys.readouterr().out
    assert output.count("doctor: grammar: NaN in a batch") == 1
    assert output.count("\ndoctor: ") == 1
    assert tool.main([str(run), "--json"]) == 0
    tree_of_tool = json.loads(capsys.readouterr().out)
    assert [finding["symptom"] for finding in tree_of_tool["findings"]] == ["NaN in a batch"]
    assert tool.main([str(run)]) == 0
    assert "what to do: " in capsys.readouterr().out


@pytest.mark.slow
def test_a_doctor_that_fails_does_not_end_the_run(tree, train, monkeypatch):
    tree["phase"] = [tree["phase"][0] | {"context": [[0.0, 16]], "freeze": [[0.0, 0]]}]
    tree["tokenizer"] = {"phases": ["grammar"]}
    monkeypatch.setattr(doctor, "examine", lambda _: 1 / 0)
    run = train(tree)
    assert (run / "phases" / "grammar").is_dir()
    assert "ZeroDivisionError" in (run / "log.txt").read_text()


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DamageError, match=r"config\.json"):
        history.read(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError):
        history.read(tmp_path)


# --- The report ------------------------------------------------------------------------------------------------------


def test_the_report_escapes_what_it_shows(healthy):
    nasty = "<script>alert(1)</script>"
    text = {"prompt": nasty, "text": nasty, "tokens": 3, "ended": True, "seed": 1, "kind": "short"}
    sample = {"step": 5, "phase": "grammar", "tokens_per_second": 10.0, "texts": [text]}
    healthy.gates["grammar"].update(passed=False, override=nasty)
    page = report.page(healthy._replace(samples=[sample]))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert "http" not in page  # nothing is fetched


def test_the_report_shows_every_section(healthy):
    page = report.page(healthy)
    for title in ("Phases", "Loss", "Schedule", "Grammar", "Gates", "Text trained on", "Depth", "Time and memory"):
        assert f"<h2>{title}</h2>" in page
    assert "nan" not in page.lower().replace("finance", "")
    assert report.summary(healthy, healthy.config.phase[1]).startswith("phase vocabulary in short:")
    assert "<html" in report.page(healthy._replace(rows=[], gates={}))


def test_the_report_tells_each_phase_s_first_loss_from_its_last(healthy):
    cells = re.sub("<[^>]+>", " ", report.page(healthy)).split()
    for phase in healthy.config.phase:
        start = next(at for at, cell in enumerate(cells) if cell == phase.name and cells[at + 1] == "6,400")
        assert cells[start + 2 : start + 8] == ["5.100", "3.100", "±", "0.050", "2.000", "60.0%"]


# --- The trial -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nan_in_a_batch", "rate_x100", "frozen_from_the_start", "healthy_3", "healthy_5"])
def test_trials_are_valid_configurations(name, tmp_path):
    tree = doctor_trial.base(tmp_path, tmp_path / "data")
    doctor_trial.TRIALS[name].change(tree, tmp_path)
    assert plan.build(config_module.parse(tree, name)).steps > 0


@pytest.mark.parametrize(
    ("symptoms_of", "code"),
    [
        ({"word_salad": ("word salad",), "healthy_1": ()}, 0),
        ({"word_salad": (), "healthy_1": ()}, 1),
        ({"word_salad": ("word salad",), "healthy_1": ("spikes",)}, 1),
        ({"word_salad": (), "never_ramped": ("phase.grammar.context",)}, 0),  # one of several may be missed
    ],
)
def test_the_trial_s_verdict(symptoms_of, code, tmp_path, monkeypatch, capsys):
    def run(name, folder, data_dir, interrupts):
        return doctor_trial.Diagnosis(name, doctor_trial.TRIALS[name].named, symptoms_of[name], "")

    monkeypatch.setattr(doctor_trial, "run", run)
    only = [argument for name in symptoms_of for argument in ("--only", name)]
    assert doctor_trial.main(["--folder", str(tmp_path), *only]) == code
    assert doctor_trial.main(["--folder", str(tmp_path), "--only", "nothing"]) == 2
    assert "there is no trial 'nothing'" in capsys.readouterr().err


def test_the_trial_prints_json_alone(tmp_path, monkeypatch, capsys):
    def run(name, folder, data_dir, interrupts):
        terminal.say("step 1")
        return doctor_trial.Diagnosis(name, (), (), "")

    monkeypatch.setattr(doctor_trial, "run", run)
    command = ["--folder", str(tmp_path), "--only", "healthy_1"]
    assert doctor_trial.main([*command, "--json"]) == 0
    assert [case["name"] for case in json.loads(capsys.readouterr().out)] == ["healthy_1"]
    assert doctor_trial.main(command) == 0
    assert "step 1" in capsys.readouterr().out
