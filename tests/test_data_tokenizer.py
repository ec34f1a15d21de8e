"""The tokenizer: round trip, determinism, sampling, caching, errors."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from llm60_jax import config as config_module
from llm60_jax.data.clean.cleaning import clean
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.tokens import tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine.progress import silent

SYLLABLES = ["ka", "lo", "mi", "ter", "ban", "sen", "du", "ri", "ost", "ven"]


class FakeCorpus(Corpus):
    """A corpus whose training documents are in memory."""

    def read(self, split: Any) -> Iterator[dict[str, str]]:
        assert split == "train", "the tokenizer must not see validation text"
        return iter(self.ledger["records"])


def words(seed: int, count: int) -> str:
    pick = random.Random(seed)
    return " ".join("".join(pick.choices(SYLLABLES, k=pick.randint(1, 4))) for _ in range(count))


def fake(phase: str, texts: list[str], digest: str = "d") -> Corpus:
    records = [{"id": f"{number:03}", "text": text} for number, text in enumerate(texts)]
    ledger = {"records": records, "splits": {"train": {"characters": sum(map(len, texts))}}}
    return FakeCorpus(phase, digest, Path(), Path(), Path(), ledger)


def settings(**changes: Any) -> config_module.Config:
    tree = {
        "workdir": "w",
        "model": {
            "vocab_size": 400, "layers": 1, "stacks": [1], "dim": 8, "heads": 1, "hidden_dim": 8, "max_context": 8,
        },
        "tokenizer": {"phases": ["one"]},
        "train": {"micro_batch": [[8, 1]]},
        "phase": [
            {
                "name": name, "tokens": 1, "context": [[0.0, 8]], "freeze": [[0.0, 0]], "learning_rate": [0.1, 0.1],
                "sources": [{"kind": "folder", "path": "x"}],
            }
            for name in ("one", "two")
        ],
    }  # fmt: skip
    for path, value in changes.items():
        table, field = path.split("__")
        tree[table][field] = value  # type: ignore[index]
    return config_module.parse(tree, "test")


TEXTS = [words(seed, 60) + "\n\n" + words(seed + 1000, 20) + " 1945." for seed in range(40)]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tokenizer.Tokenizer:
    return tokenizer.prepare(settings(), {"one": fake("one", TEXTS)}, tmp_path_factory.mktemp("data"), silent)


@given(st.text())
@example("<s> </s> <pad> <unk> <0x0A> \u2581")
@example("one\n\ntwo\n\n\n three")
@example("\u6f22\u5b57 \U0001f600 caf\u00e9")
def test_cleaned_text_survives_a_round_trip(learnt: tokenizer.Tokenizer, text: str) -> None:
    ids = learnt.encode(clean(text))
    assert learnt.decode(ids) == clean(text)
    assert not {learnt.pad, learnt.unk, learnt.bos, learnt.eos} & set(ids)
    assert all(0 <= token < learnt.vocab_size for token in ids)


@given(st.text(alphabet=" \nab1", max_size=20))
def test_blanks_and_newlines_survive_anywhere(learnt: tokenizer.Tokenizer, text: str) -> None:
    assert learnt.decode(learnt.encode(text)) == text


def test_a_word_is_the_same_token_at_the_start_of_a_paragraph(learnt: tokenizer.Tokenizer) -> None:
    word = learnt.encode("kalo")
    newline = learnt.encode("\n")
    assert len(newline) == 1
    assert learnt.encode("kalo kalo\n\nkalo") == word + word + newline * 2 + word


def test_digits_are_split_and_control_ids_are_skipped(learnt: tokenizer.Tokenizer) -> None:
    assert len(learnt.encode("1945")) >= 4
    ids = learnt.encode("kalo mi")
    assert learnt.decode([learnt.bos, *ids, learnt.eos, learnt.pad, learnt.unk]) == "kalo mi"
    assert (learnt.pad, learnt.unk, learnt.bos, learnt.eos) == (0, 1, 2, 3)
    assert learnt.vocab_size == 400
    with pytest.raises(IndexError):
        learnt.decode([400])


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_learning_twice_gives_the_same_bytes(tmp_path: Path, model_type: str) -> None:
    changed = settings(tokenizer__model_type=model_type, model__vocab_size=320)
    made = [
        tokenizer.prepare(changed, {"one": fake("one", TEXTS)}, tmp_path / name, silent).path.read_bytes()
        for name in ("a", "b")
    ]
    assert made[0] == made[1]


def test_second_run_learns_nothing_and_other_inputs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = tokenizer._learn

    def spy(lines: list[str], vocab_size: int, model_type: str) -> bytes:
        calls.append(vocab_size)
        return real(lines, vocab_size, model_type)

    monkeypatch.setattr(tokenizer, "_learn", spy)
    first = tokenizer.prepare(settings(), {"one": fake("one", TEXTS)}, tmp_path, silent)
    again = tokenizer.prepare(settings(), {"one": fake("one", TEXTS)}, tmp_path, silent)
    assert (again.path, again.sha256, calls) == (first.path, first.sha256, [400])
    first.path.write_bytes(first.path.read_bytes()[:-1])
    assert tokenizer.prepare(settings(), {"one": fake("one", TEXTS)}, tmp_path, silent).sha256 == first.sha256
    tokenizer.prepare(settings(), {"one": fake("one", TEXTS, "other")}, tmp_path, silent)
    tokenizer.prepare(settings(model__vocab_size=401), {"one": fake("one", TEXTS)}, tmp_path, silent)
    assert calls == [400, 400, 400, 401]


def test_the_sample_is_bounded_and_shared_in_proportion() -> None:
    corpora = [fake("one", ["a" * 10] * 30), fake("two", ["b" * 10] * 10)]
    assert len(list(tokenizer._sample(corpora, 1_000, silent))) == 40
    sample = list(tokenizer._sample(corpora, 200, silent))
    assert sample == ["a" * 10] * 15 + ["b" * 10] * 5


def test_long_lines_reach_the_trainer_in_pieces(tmp_path: Path) -> None:
    line = words(1, 20_000)  # sentencepiece alone would silently drop a line of this length
    made = tokenizer.prepare(settings(), {"one": fake("one", [line])}, tmp_path, silent)
    assert len(made.encode(line)) < 0.6 * len(line)
    assert max(len(piece) for piece in tokenizer._lines(iter([line]))) <= 4_000


def test_too_large_a_vocabulary_names_the_largest_that_works(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.vocab_size: 60,000 is too many .* works is (\d+)") as caught:
        tokenizer.prepare(settings(model__vocab_size=60_000), {"one": fake("one", TEXTS)}, tmp_path, silent)
    largest = int(str(caught.value).split("works is ")[1].split(";")[0])
    made = tokenizer.prepare(settings(model__vocab_size=largest), {"one": fake("one", TEXTS)}, tmp_path, silent)
    assert made.vocab_size == largest
    assert len(list((tmp_path / "tokenizers").iterdir())) == 1


def test_too_small_a_vocabulary_names_the_least() -> None:
    letters = [" ".join(chr(code) for code in range(0x100, 0x180))] * 20
    with pytest.raises(InputError, match=r"model\.vocab_size: 320 is too few; this text needs at least \d+"):
        tokenizer._learn(letters, 320, "bpe")


def test_load_refuses_files_that_are_not_our_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(DamageError, match="cannot read the tokenizer"):
        tokenizer.Tokenizer.load(tmp_path / "missing.model")
    for content in (b"", b"garbage" * 20):
        (tmp_path / "bad.model").write_bytes(content)
        with pytest.raises(DamageError, match=r"bad\.model"):
            tokenizer.Tokenizer.load(tmp_path / "bad.model")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(tmp_path / "other"), vocab_size=50, minloglevel=3
    )
    with pytest.raises(DamageError, match="not one that this program learnt"):
        tokenizer.Tokenizer.load(tmp_path / "other.model")
