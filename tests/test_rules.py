"""The six golden rules of the playbook (section 15): the code enforces each."""

import copy
import dataclasses
import random
import re
import shutil

import pytest
from conftest import state_of

from llm60_jax import config as config_module
from llm60_jax.data import prepare
from llm60_jax.data.corpus.joining import SPLITS
from llm60_jax.errors import DamageError, GateError, InputError
from llm60_jax.machine.progress import silent
from llm60_jax.record import store
from llm60_jax.run import ancestry, closing


def refusal(tree):
    with pytest.raises(InputError) as caught:
        config_module.parse(tree, "x")
    return str(caught.value)


@pytest.fixture
def short(tree):
    """Two phases of two steps."""
    tree["phase"] = [
        phase | {"tokens": 256, "context": [[0.0, 16]], "freeze": [[0.0, 0]]} for phase in tree["phase"][:2]
    ]
    return tree


# 1. Always checkpoint between phases.


def test_1_a_phase_does_not_begin_before_the_previous_one_is_saved(short, train, monkeypatch):
    monkeypatch.setattr(closing, "close", lambda *_: True)
    with pytest.raises(DamageError, match=r"phases/grammar"):
        train(short)


@pytest.mark.slow
def test_1_a_checkpoint_that_changed_after_its_phase_stops_the_run(short, train, monkeypatch):
    """At its end the second phase proves that the first phase's checkpoint is unchanged."""
    real = closing.enter

    def enter(run, phase):
        real(run, phase)
        if phase.name == "vocabulary":
            meta = run.checkpoints.phase("grammar") / "meta.json"
            meta.write_bytes(meta.read_bytes().replace(b"step", b"stop", 1))

    monkeypatch.setattr(closing, "enter", enter)
    with pytest.raises(DamageError, match=r"phases/grammar: damaged: meta.json: its content differs"):
        train(short)


# 2. Never mix fine-tuning data into pretraining.


@pytest.fixture
def overlapping(tree, texts, tmp_path):
    """The folder of the grammar phase also holds the fine-tuning text."""
    both = tmp_path / "both"
    shutil.copytree(texts / "text" / "grammar", both)
    for path in (texts / "text" / "fine_tune").iterdir():
        shutil.copyfile(path, both / f"own-{path.name}")
    tree["phase"][0]["sources"] = [{"kind": "folder", "path": str(both)}]
    tree["data_dir"] = str(tmp_path / "data")
    return tree


def test_2_fine_tuning_text_leaves_the_earlier_phases(overlapping):
    c = config_module.parse(overlapping, "x")
    prepared = prepare.prepare(c, silent, lambda digests: None)
    tuning = {record["text"] for split in SPLITS for record in prepared.corpora["fine_tune"].read(split)}
    grammar = {record["text"] for split in SPLITS for record in prepared.corpora["grammar"].read(split)}
    assert tuning
    assert grammar
    assert not tuning & grammar
    assert 55 <= len(grammar) <= 60  # a few of the generated texts resemble one another
    message = r"\d\d documents left out: reserved for fine-tuning; 'Never mix fine-tuning data into pretraining'"
    assert re.search(message, " ".join(prepared.corpora["grammar"].summary()))
    shards = prepared.shards["grammar"]
    assert shards.train.documents + shards.validation.documents == len(grammar)


def test_2_edited_copies_count_too(tree, texts, tmp_path):
    """Grammar has a half copy of one fine-tuning text, and a longer text that contains another."""
    long = [" ".join(random.Random(n).choices([f"word{i}" for i in range(900)], k=300)) for n in range(100)]
    for name, part in (("grammar", long[:60]), ("fine_tune", long[60:])):
        (tmp_path / name).mkdir()
        for number, text in enumerate(part):
            (tmp_path / name / f"{number}.txt").write_text(text)
    copy_of, short = long[60].split(), long[61].split()[:100]
    (tmp_path / "grammar" / "copy.txt").write_text(" ".join([*copy_of[:200], "and", "so", "on"]))
    (tmp_path / "fine_tune" / "1.txt").write_text(" ".join(short))
    holder = random.Random(1000).choices([f"word{i}" for i in range(900)], k=600)
    (tmp_path / "grammar" / "holder.txt").write_text(" ".join([*holder[:300], *short, *holder[300:]]))
    for phase in tree["phase"]:
        if phase["name"] != "vocabulary":
            phase["sources"] = [{"kind": "folder", "path": str(tmp_path / phase["name"])}]
    tree["data_dir"] = str(tmp_path / "data")
    c = config_module.parse(tree, "x")
    prepared = prepare.prepare(c, silent, lambda digests: None)
    texts = {r["id"]: r["text"] for split in SPLITS for r in _everything(prepared, "grammar", split)}
    left_out = {texts[name].split()[0] for name in prepared.corpora["grammar"].left_out}
    assert left_out == {copy_of[0], holder[0]}
    trained = {prepared.corpora["grammar"].folder.name: {"phase": "grammar", "left_out": []}}
    seen = prepare._seen(tmp_path / "data", trained)
    # One of the two may have been held out: held-out text is not seen text.
    assert 1 <= len(prepare._alike(prepared.corpora["fine_tune"], seen)) <= 2
    missing = prepare._seen(tmp_path / "data", {"nowhere": {"phase": "grammar", "left_out": []}})
    assert not missing.ids  # a warning only


def _everything(prepared, phase, split):
    return dataclasses.replace(prepared.corpora[phase], left_out=frozenset()).read(split)


def test_2_validation_text_of_one_phase_trains_no_other(tree, tmp_path):
    """Both phases have the same texts, slightly edited in the second: no text may be on both sides."""
    texts = [random.Random(n).choices([f"word{i}" for i in range(900)], k=300) for n in range(80)]
    for name in ("grammar", "vocabulary"):
        (tmp_path / name).mkdir()
        for number, words in enumerate(texts):
            end = ["and", "so", "on"] if name == "vocabulary" else []
            (tmp_path / name / f"{number}.txt").write_text(" ".join([*words, *end]))
    for phase in tree["phase"][:2]:
        phase["sources"] = [{"kind": "folder", "path": str(tmp_path / phase["name"])}]
    tree["data_dir"] = str(tmp_path / "data")
    corpora = prepare.prepare_text(config_module.parse(tree, "x"), silent, {})
    first = {
        (name, split): {record["text"][:40] for record in corpora[name].read(split)}
        for name in ("grammar", "vocabulary")
        for split in SPLITS
    }
    assert not first["grammar", "train"] & first["vocabulary", "validation"]
    assert not first["vocabulary", "train"] & first["grammar", "validation"]
    assert len(first["grammar", "validation"]) == len(first["vocabulary", "validation"]) == 8
    assert any("near-duplicates of other phases' validation text" in note for note in corpora["grammar"].notes)


def test_2_text_that_the_start_checkpoint_has_seen_leaves_the_fine_tuning(tuning, base, texts, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(texts / "text" / "fine_tune", mixed)
    for path in sorted((texts / "text" / "grammar").iterdir())[:30]:
        shutil.copyfile(path, mixed / f"seen-{path.name}")
    tuning["phase"][0]["sources"] = [{"kind": "folder", "path": str(mixed)}]
    c = config_module.parse(tuning, "x")
    start = ancestry.start(c)
    prepared = prepare.prepare(c, silent, lambda digests: None, (start.tokenizer, start.meta["corpora"]))
    seen = {record["text"] for record in prepared.corpora["fine_tune"].read("train")}
    trained = {path.read_text().strip() for path in (texts / "text" / "grammar").iterdir()}
    held_out = len([t for t in trained if t in seen])
    assert held_out <= 20  # the earlier run held these out: its model has not seen them
    assert "the model was trained on them before" in " ".join(prepared.corpora["fine_tune"].summary())


@pytest.mark.slow
def test_2_text_of_earlier_ancestors_counts_too(tuning, base, train, texts, tmp_path):
    """The text of a run leaves the fine-tuning text of a run two generations later."""
    second = train(copy.deepcopy(tuning) | {"workdir": str(tmp_path / "second")})
    mixed = tmp_path / "mixed"
    shutil.copytree(texts / "text" / "vocabulary", mixed)
    for path in (texts / "text" / "grammar").iterdir():
        shutil.copyfile(path, mixed / f"seen-{path.name}")
    left_out = {}
    for name, start in (("first", base / "phases" / "grammar"), ("second", second / "phases" / "fine_tune")):
        tuning["phase"][0]["sources"] = [{"kind": "folder", "path": str(mixed)}]
        c = config_module.parse(tuning | {"start": str(start)}, "x")
        begun = ancestry.start(c)
        ancestor = (begun.tokenizer, begun.meta["corpora"])
        left_out[name] = prepare.prepare(c, silent, lambda digests: None, ancestor).corpora["fine_tune"].left_out
    assert 50 <= len(left_out["first"]) <= 60  # all that was not held out, and what resembles it
    assert left_out["second"] == left_out["first"]


# 3 and 4. Clean data beats more data: unreadable documents are repaired, or dropped and counted
# (test_data_corpus.py, test_data_sources.py); repeated text causes a note.


def test_3_and_4_text_that_is_repeated_too_often_causes_a_note(tree):
    tree["phase"][0]["tokens"] = 1_000_000
    c = config_module.parse(tree, "x")
    prepared = prepare.prepare(c, silent, lambda digests: None)
    assert "More than 4 epochs teach little and the model learns the text by heart" in prepared.describe(c.phase[0])
    assert "More than 4" not in prepared.describe(c.phase[1])


# 5. Never change architecture mid-training (for a run's own directory see test_workdir.py).


@pytest.mark.parametrize("change", [{"mlp": "swiglu"}, {"rope_base": 500.0}, {"layers": 4, "stacks": [2, 2]}])
def test_5_a_run_from_a_checkpoint_keeps_its_architecture(tuning, change):
    tuning["model"] |= change
    tuning["baseline"] = "unused"
    with pytest.raises(InputError, match=r"model\.\w+: .* 'Never change architecture mid-training' \(playbook, rule 5"):
        ancestry.start(config_module.parse(tuning, "x"))


def test_5_a_run_from_a_checkpoint_keeps_its_tokenizer(tuning, base, tmp_path):
    shutil.copytree(base, tmp_path / "moved")
    tuning["start"] = str(tmp_path / "moved" / "phases" / "grammar")
    assert ancestry.start(config_module.parse(tuning, "x")).tokenizer.is_file()
    model = tmp_path / "moved" / "tokenizer" / "tokenizer.model"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(DamageError, match=r"tokenizer.model: its digest is"):
        ancestry.start(config_module.parse(tuning, "x"))
    tuning["tokenizer"] = {"phases": ["fine_tune"]}
    assert "the checkpoint in start brings its own" in refusal(tuning)


def test_5_a_run_from_a_checkpoint_keeps_its_optimizer(tuning):
    tuning["optimizer"] = {"name": "adamw"}
    with pytest.raises(InputError, match=r"optimizer\.name: adafactor in .*, adamw here"):
        ancestry.start(config_module.parse(tuning, "x"))


@pytest.mark.slow
def test_5_a_moved_start_is_accepted_and_another_checkpoint_is_not(tuning, base, train, tmp_path):
    first = tmp_path / "first"
    shutil.copytree(base, first)
    tuning["start"] = str(first / "phases" / "grammar")
    train(tuning, stop_after=2)
    tuning["start"] = str(first.rename(tmp_path / "moved") / "phases" / "grammar")
    other = copy.deepcopy(tuning)
    other["workdir"] = str(tmp_path / "other")
    unlike = tmp_path / "unlike"  # the texts of the fixtures are too similar
    unlike.mkdir()
    for number in range(60):
        (unlike / f"{number}.txt").write_text(
            " ".join(random.Random(number).choices(["on", "no", "so", "go", "to"], k=90))
        )
    other["phase"][0]["sources"] = [{"kind": "folder", "path": str(unlike)}]
    train(other)  # another model of the same size
    with pytest.raises(InputError, match=r"start: .* and this run began from .*first.*; name that one"):
        train(tuning | {"start": str(tmp_path / "other" / "phases" / "fine_tune")})
    workdir = train(tuning)
    assert list(store.read_meta(workdir / "phases" / "fine_tune")["progress"].ancestors) == [tuning["start"]]


def test_5_a_start_has_any_path_and_lies_in_another_run(tuning, base, monkeypatch):
    monkeypatch.chdir(base / "phases")
    assert ancestry.start(config_module.parse(tuning | {"start": "grammar"}, "x")).tokenizer.is_file()
    with pytest.raises(InputError, match="lies in the run directory itself"):
        ancestry.start(config_module.parse(tuning | {"start": "grammar", "workdir": str(base)}, "x"))


@pytest.mark.slow
def test_5_a_phase_that_another_run_closed_is_no_evidence(short, train, tmp_path):
    workdir = train(short, stop_after=1)
    other = copy.deepcopy(short) | {"workdir": str(tmp_path / "other")}
    shutil.copytree(train(other) / "phases" / "vocabulary", workdir / "phases" / "grammar")
    with pytest.raises(DamageError, match="ends at step 4, and the phase at 2"):
        train(short)


def test_5_a_start_must_be_the_end_of_a_phase(tuning, base, tmp_path):
    for place, words in [(tmp_path, "is no checkpoint"), (base / "checkpoints" / "2", "a checkpoint inside a phase")]:
        with pytest.raises(InputError, match=words):
            ancestry.start(config_module.parse(tuning | {"start": str(place)}, "x"))


# 6. Never add complexity before baseline trains.

ENHANCEMENTS = [
    ("model", {"mlp": "swiglu"}),
    ("model", {"residual": "scaled"}),
    ("model", {"share_attention": 2}),
    ("model", {"share_mlp": 2}),
    ("phase", {"deep_supervision": 0.1}),
    ("phase", {"drop_path": 0.1}),
    ("phase", {"activation_noise": 0.1}),
]


@pytest.mark.parametrize(("where", "change"), ENHANCEMENTS, ids=str)
def test_6_enhancements_are_refused_in_phase_1_without_a_baseline(tree, where, change):
    (tree["model"] if where == "model" else tree["phase"][0]).update(change)
    message = refusal(tree)
    assert next(iter(change)) in message
    assert "'Never add complexity before baseline trains' (playbook, rule 6)" in message
    tree["baseline"] = "runs/plain"
    config_module.parse(tree, "x")


def test_6_later_phases_may_have_enhancements(tree):
    tree["phase"][1] |= {"deep_supervision": 0.1, "drop_path": 0.1, "activation_noise": 0.1}
    config_module.parse(tree, "x")
    tree["phase"][1]["goal"] = "grammar"
    assert "Never add complexity" in refusal(tree)


def test_6_a_baseline_is_a_finished_run_of_the_same_size(tree, base, tmp_path, train):
    tree["model"]["mlp"] = "swiglu"
    ancestry.check_baseline(config_module.parse(tree | {"baseline": str(base)}, "x"))
    for other, words in [
        ({"baseline": str(tmp_path)}, "no run directory with a config.json; 'Never add complexity"),
        ({"baseline": str(base), "model": tree["model"] | {"dim": 64}}, "model.dim is 32 there and 64 here"),
    ]:
        with pytest.raises(InputError, match=words):
            ancestry.check_baseline(config_module.parse(tree | other, "x"))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(base, unfinished)
    shutil.rmtree(unfinished / "phases" / "grammar")
    with pytest.raises(InputError, match="phase grammar is not closed; 'Never add complexity"):
        train(tree | {"baseline": str(unfinished)})


@pytest.mark.slow
def test_the_start_checkpoint_stays_unchanged(tuning, base, train):
    before = state_of(base / "phases" / "grammar")
    files = {p: p.read_bytes() for p in (base / "phases").rglob("*") if p.is_file()}
    workdir = train(copy.deepcopy(tuning))
    assert state_of(base / "phases" / "grammar") == before != state_of(workdir / "phases" / "fine_tune")
    assert {p: p.read_bytes() for p in (base / "phases").rglob("*") if p.is_file()} == files
    # An unreachable gate keeps the phase open.
    tuning["workdir"] += "-2"
    tuning["phase"][0]["gate"] = {"min_fall": 100.0}
    with pytest.raises(GateError):
        train(tuning)
