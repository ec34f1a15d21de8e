"""Minimal pairs: our own suite and its balance, scoring, BLiMP's files, and the tool."""

import json
import math
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from conftest import PROJECT, metrics

from llm60_jax import checkpoint
from llm60_jax.data.tokens import packing
from llm60_jax.errors import DamageError, InputError
from llm60_jax.evaluate import judgement, validation
from llm60_jax.evaluate.grammar import lexicon, scoring, suite
from llm60_jax.evaluate.grammar.scoring import PairScore
from llm60_jax.evaluate.grammar.suite import Pair
from llm60_jax.machine import files
from llm60_jax.machine.progress import silent
from llm60_jax.record import checkpoints

SUITE = suite.suite()
WORD = re.compile(r"[a-z']+")


def words(sentence: str) -> list[str]:
    return WORD.findall(sentence.lower())


def test_there_are_a_hundred_different_pairs_of_each_phenomenon() -> None:
    assert len(SUITE) == 17
    for name, pairs in SUITE.items():
        assert len(pairs) == len(set(pairs)) == suite.PAIRS
        assert {pair.phenomenon for pair in pairs} == {name}
        assert all(pair.good != pair.bad for pair in pairs)


def test_the_suite_is_the_same_everywhere() -> None:
    listed = [[pair.phenomenon, pair.good, pair.bad] for pairs in SUITE.values() for pair in pairs]
    assert files.digest_of(listed)[:16] == "694ca56936d9b725"


@pytest.mark.parametrize("name", SUITE)
def test_each_form_is_as_often_good_as_bad(name: str) -> None:
    good, bad = Counter[str](), Counter[str]()
    for pair in SUITE[name]:
        good.update(words(pair.good))
        bad.update(words(pair.bad))
    assert good == bad


@pytest.mark.parametrize("seed", range(5))
def test_a_model_of_word_frequencies_is_right_in_half_of_them(seed: int) -> None:
    """With a fixed probability for each word, exactly 50 % of every phenomenon are right, without ties."""
    rng = random.Random(seed)
    vocabulary = sorted({word for pairs in SUITE.values() for pair in pairs for s in pair[1:] for word in words(s)})
    probability = {word: rng.uniform(-12, -2) for word in vocabulary}

    def score(sentences: list[str]) -> np.ndarray:
        return np.array([sum(sorted(probability[word] for word in words(sentence))) for sentence in sentences])

    found = scoring.judge((pair for pairs in SUITE.values() for pair in pairs), score)
    assert {name: verdict.accuracy for name, verdict in found.items()} == dict.fromkeys(SUITE, 0.5)
    assert sum(verdict.ties for verdict in found.values()) == 0


@pytest.mark.parametrize("name", SUITE)
def test_a_pair_differs_only_in_what_it_tests(name: str) -> None:
    for pair in SUITE[name]:
        good, bad = words(pair.good), words(pair.bad)
        if len(good) == len(bad):
            assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1
        else:  # "wept" and "will weep"
            assert name == "tense"
            assert abs(len(good) - len(bad)) == 1
        assert pair.good[0].isupper()
        assert pair.good[-1] == pair.bad[-1] in ".?"


def test_forms_are_those_of_their_words() -> None:
    verbs = [*lexicon.INTRANSITIVE, *lexicon.SOCIAL, *lexicon.TRANSITIVE, *(verb for verb, _ in lexicon.IRREGULAR)]
    for verb in verbs:
        assert verb.third.startswith(verb.base[:-1])
        assert verb.third.endswith("s")
        assert verb.ing.endswith("ing")
    assert all(verb.past != verb.participle for verb, _ in lexicon.IRREGULAR)
    for noun in (*lexicon.PEOPLE, *lexicon.ANIMALS, *lexicon.THINGS, *lexicon.PLACES):
        assert noun.singular != noun.plural
        assert noun.singular[0] == noun.plural[0]


@pytest.mark.slow
def test_every_word_is_one_of_the_language() -> None:
    """No form of the lexicon is made up: all occur in the development texts, where these are available."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the development text is not here")
    known: set[str] = set()
    for path in [*folder.glob("phase1/*"), *folder.glob("phase2/*"), *folder.glob("blimp/*")]:
        known.update(words(path.read_text(encoding="utf-8", errors="replace").replace("\u2019", "'")))
    used = {word for pairs in SUITE.values() for pair in pairs for s in pair[1:] for word in words(s)}
    assert used <= known


class Model:
    """Scores a target by the two tokens before it, and only inside its row's segment."""

    def __init__(self, vocabulary: int):
        self.calls = 0
        self._table = np.random.default_rng(0).uniform(0.1, 9, (vocabulary, vocabulary)).astype(np.float32)

    def __call__(self, rows: packing.Rows) -> np.ndarray:
        self.calls += 1
        assert rows["tokens"].shape[0] * rows["tokens"].shape[1] <= 2048
        nll = self._table[rows["tokens"], rows["targets"]]
        nll[:, 1:] += 0.1 * self._table[rows["tokens"][:, :-1], rows["targets"][:, 1:]]
        return nll


@pytest.fixture
def judge(base: Path) -> checkpoint.Trained:
    return checkpoint.open_(base)


def test_a_sentence_is_the_sum_of_its_tokens_in_any_company(judge: checkpoint.Trained) -> None:
    tokenizer = judge.tokenizer
    model = Model(tokenizer.vocab_size)
    sentences = ["The river.", "The quiet captain opened the old window.", "A", "The river."]
    found = scoring.log_probabilities(sentences, tokenizer, model, 64, silent)
    for sentence, value in zip(sentences, found, strict=True):
        ids = [tokenizer.bos, *tokenizer.encode(sentence)]
        nll = 0.0
        for i in range(1, len(ids)):
            nll += float(model._table[ids[i - 1], ids[i]])
            nll += 0.1 * float(model._table[ids[i - 2], ids[i]]) if i > 1 else 0
        assert value == pytest.approx(-nll, rel=1e-6)
    assert found[0] == found[3]
    alone = [scoring.log_probabilities([text], tokenizer, model, 64, silent)[0] for text in sentences]
    assert alone == found.tolist()


def test_a_real_model_scores_a_sentence_as_a_row_of_its_own(judge: checkpoint.Trained) -> None:
    sentence = "The quiet river found the garden."
    (found,) = scoring.log_probabilities([sentence], judge.tokenizer, judge.score_rows, 64, silent)
    ids = np.array([judge.tokenizer.bos, *judge.tokenizer.encode(sentence)], np.int32)
    row = {"tokens": ids[None, :-1], "targets": ids[None, 1:], "segments": np.ones((1, len(ids) - 1), np.int32)}
    assert found == pytest.approx(-float(np.asarray(judge.score_rows(row), np.float64).sum()), rel=1e-5)


@pytest.mark.slow
def test_a_packed_sample_is_judged_like_sentences_alone(judge: checkpoint.Trained) -> None:
    pairs = [pair for phenomenon in SUITE.values() for pair in phenomenon[:6]]
    sample = scoring.Sample.of(pairs, judge.tokenizer, 64)
    assert sample.pairs == pairs
    assert sample.rows["tokens"].shape[1] == 64
    assert all(len(np.unique(sample.rows["segments"][sample.owners == n])) == 1 for n in range(2 * len(pairs)))

    def score(sentences: list[str]) -> np.ndarray:
        return scoring.log_probabilities(sentences, judge.tokenizer, judge.score_rows, 64, silent)

    alone = score([sentence for pair in pairs for sentence in pair[1:]])
    shapes = []

    def packed(rows: packing.Rows) -> Any:
        shapes.append(rows["tokens"].shape)
        return judge.score_rows(rows)

    found = sample.verdicts(packed, 8)
    assert set(shapes) == {(8, 64)}
    clear = {pair for pair, good, bad in zip(pairs, alone[::2], alone[1::2], strict=True) if abs(good - bad) > 1e-3}
    assert len(clear) > 90
    assert found == scoring.judge(pairs, lambda sentences: alone) or len(clear) < len(pairs)


def test_pairs_that_do_not_fit_are_left_out(judge: checkpoint.Trained) -> None:
    pairs = [pair for phenomenon in SUITE.values() for pair in phenomenon[:6]]
    sample = scoring.Sample.of(pairs, judge.tokenizer, 20)
    assert 0 < len(sample.pairs) < len(pairs)
    assert not scoring.Sample.of(pairs, judge.tokenizer, 2).verdicts(judge.score_rows, 8)


def test_a_run_records_a_grammar_curve(base: Path) -> None:
    rows = [row for row in metrics(base) if "minimal_pairs" in row]
    assert rows
    assert rows[-1]["step"] == 2
    for row in rows:
        assert list(row["minimal_pairs_by_phenomenon"]) == list(SUITE)
        assert 0 <= row["minimal_pairs"] <= 1


def test_sentences_that_cannot_be_scored_are_named(judge: checkpoint.Trained) -> None:
    for sentence in ("", "word " * 100):
        with pytest.raises(InputError, match="1 to 64 can be scored"):
            scoring.log_probabilities([sentence], judge.tokenizer, judge.score_rows, 64, silent)


def test_a_tie_is_no_success_and_is_reported() -> None:
    pairs = [Pair("a", "x", "y"), Pair("a", "y", "x"), Pair("b", "x", "x2"), Pair("b", "z", "y")]
    values = {"x": -1.0, "y": -2.0, "x2": -1.0, "z": -3.0}
    found = scoring.judge(pairs, lambda sentences: np.array([values[s] for s in sentences]))
    assert found == {"a": PairScore(2, 1, 0), "b": PairScore(2, 0, 1)}
    assert found["b"].accuracy == 0


@pytest.mark.parametrize(
    ("verdict", "lower"),
    [(PairScore(100, 60, 0), 0.5020), (PairScore(100, 50, 0), 0.4038), (PairScore(20, 20, 0), 0.8389)],
)
def test_the_lower_bound_is_wilsons(verdict: PairScore, lower: float) -> None:
    assert verdict.lower == pytest.approx(lower, abs=1e-4)


def write_blimp(folder: Path) -> Path:
    folder.mkdir()
    for name, term, count in (("one", "binding", 4), ("two", "binding", 2), ("three", "s-selection", 2)):
        lines = [
            {
                "sentence_good": f"Good {name} {i}.",
                "sentence_bad": f"Bad {name} {i}.",
                "UID": name,
                "linguistics_term": term,
            }
            for i in range(count)
        ]
        lines.append(lines[0] | {"sentence_bad": lines[0]["sentence_good"]})  # two equal ones
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_blimp_is_averaged_as_in_the_paper(tmp_path: Path) -> None:
    pairs, groups = scoring.read_blimp(write_blimp(tmp_path / "blimp"))
    assert len(pairs) == 8
    right = {"Good one 0.", "Good two 0.", "Good two 1.", "Good three 1."}
    found = scoring.blimp(
        scoring.judge(
            pairs, lambda sentences: np.array([2.0 if s in right else float(s[0] == "B") for s in sentences])
        ),
        groups,
    )
    assert found.paradigms["one"] == PairScore(4, 1, 0)
    assert found.groups == {"argument_structure": 0.5, "binding": (0.25 + 1) / 2}
    assert found.overall == pytest.approx((0.25 + 1 + 0.5) / 3)


@pytest.mark.parametrize("text", ["{broken", '{"UID": "x"}', "[1]"])
def test_files_that_are_not_blimp_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"--blimp: .*x\.jsonl"):
        scoring.read_blimp(tmp_path)
    with pytest.raises(InputError, match="no folder with BLiMP"):
        scoring.read_blimp(tmp_path / "nothing")


@pytest.mark.slow
def test_the_tool_judges_a_run_a_phase_and_a_text(base: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(suite, "suite", lambda: {name: pairs[:4] for name, pairs in SUITE.items()})
    text = tmp_path / "a.txt"
    text.write_text("The quiet river found the garden. " * 20)
    command = ["--blimp", str(write_blimp(tmp_path / "blimp")), "--text", str(text), "--json"]
    run, found = shutil.copytree(base, tmp_path / "run"), []  # the tool keeps BLiMP's scores in the run
    for path in (run, run / "phases" / "grammar"):
        assert evaluate.main([str(path), *command]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    one = found[0]
    assert set(one["groups"]) == {"argument_structure", "binding"}
    assert set(one["grammar"]) == set(SUITE)
    assert one["bits_per_byte"] == one["texts"][str(text)] > 0
    phase, state = run / "phases" / "grammar", checkpoint.open_(run).meta["state_sha256"]
    assert judgement.recorded(run, phase, state) == judgement.Blimp(one["overall"], one["groups"], 3, 8)
    assert judgement.recorded(run, phase, "0" * 64) is None  # of another state
    assert str(tmp_path) not in judgement.path_of(run, phase).read_text()
    assert evaluate.main([str(run), *command[2:-1]]) == 0
    told = capsys.readouterr().out
    assert f"{one['bits_per_byte']:.4f} bits per byte" in told
    assert "agreement_with_attractors" in told


def test_bits_per_byte_of_a_text_are_those_of_validation(
    judge: checkpoint.Trained, texts: Path, tmp_path: Path
) -> None:
    """The evaluation of a run and the tool score the same documents."""
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted((texts / "text" / "grammar").iterdir())[:5]:
        (folder / path.name).write_bytes(path.read_bytes())
    shard = judgement.encode(judge, folder)
    rows, size = packing.validation_rows(shard, judge.config.model.max_context, shard.token_count)
    expected = validation.score(
        lambda params, rows: judge.score_rows(rows), None, rows, size, np.zeros(judge.tokenizer.vocab_size, int)
    )
    nats = judgement.total_nats(judge, shard, silent)
    assert nats / math.log(2) / size == pytest.approx(expected.bits_per_byte, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 2, "neither a checkpoint nor a run directory"),
        (["BASE", "--blimp", "nowhere"], 2, "no folder with BLiMP"),
        (["BASE", "--text", "nowhere.txt"], 2, "no such file"),
    ],
)
def test_wrong_arguments_are_one_message(base: Path, arguments: list[str], code: int, words: str, capsys) -> None:
    assert evaluate.main([str(base) if one == "BASE" else one for one in arguments]) == code
    assert words in capsys.readouterr().err


def test_another_tokenizer_is_damage(base: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    model = copy / "tokenizer" / "tokenizer.model"
    model.write_bytes(model.read_bytes() + b"\x08\x00")
    with pytest.raises(DamageError, match=r"tokenizer\.model"):
        checkpoint.open_(copy)


@pytest.mark.slow
def test_unmerged_adapters_are_part_of_the_model(tuning: dict[str, Any], train, base: Path) -> None:
    tuning["phase"][0] |= {"lora": {"rank": 2}}
    run = train(tuning, stop_after=2)
    adapted, plain = checkpoint.open_(run), checkpoint.open_(base)
    assert adapted.lora is not None
    assert plain.lora is None
    merged = train(tuning)
    assert checkpoint.open_(merged).lora is None
    assert checkpoints.find(merged) == merged / "phases" / "fine_tune"
    rows = {name: np.ones((1, 8), np.int32) for name in ("tokens", "targets", "segments")}
    scores = [np.asarray(model.score_rows(rows)) for model in (adapted, plain)]
    assert not np.array_equal(*scores)
