"""Token shards: content, caching, damage."""

import json
import logging
import random
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import WORDS

from llm60_jax.config import FolderSource, Phase
from llm60_jax.data.corpus import corpus
from llm60_jax.data.tokens import shards, tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import manifest
from llm60_jax.machine.progress import silent


def learn(folder: Path, vocab_size: int) -> tokenizer.Tokenizer:
    pick = random.Random(0)
    lines = [" ".join(pick.choices(WORDS, k=12)) for _ in range(200)]
    path = folder / f"{vocab_size}.model"
    path.write_bytes(tokenizer._learn(lines, vocab_size, "bpe"))
    return tokenizer.Tokenizer.load(path)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tokenizer.Tokenizer:
    return learn(tmp_path_factory.mktemp("tokenizer"), 320)


@pytest.fixture
def prepared(tmp_path: Path) -> corpus.Corpus:
    pick = random.Random(1)
    (tmp_path / "text").mkdir()
    lines = [json.dumps({"text": " ".join(pick.choices(WORDS, k=20))}) for _ in range(60)]
    (tmp_path / "text" / "a.jsonl").write_text("\n".join(lines))
    phase = Phase(
        name="grammar",
        tokens=1,
        context=((0.0, 8),),
        freeze=((0.0, 0),),
        learning_rate=(1e-3, 1e-4),
        sources=(FolderSource(kind="folder", path=str(tmp_path / "text")),),
    )
    return corpus.prepare(phase, tmp_path / "data", silent)


def folder_of(data_dir: Path) -> Path:
    (folder,) = (data_dir / "tokenized").iterdir()
    return folder


def test_a_shard_holds_every_document_between_bos_and_eos(
    tmp_path: Path, prepared: corpus.Corpus, tokens: tokenizer.Tokenizer
) -> None:
    made = shards.prepare(prepared, tokens, tmp_path / "data", silent)
    for split, shard in (("train", made.train), ("validation", made.validation)):
        texts = [record["text"] for record in prepared.read(split)]  # type: ignore[arg-type]
        stored = [shard.tokens[a:b].tolist() for a, b in zip(shard.offsets, shard.offsets[1:], strict=False)]
        assert stored == [[tokens.bos, *tokens.encode(text), tokens.eos] for text in texts]
        assert shard.bytes.tolist() == [len(text.encode()) for text in texts]
        assert (shard.documents, shard.token_count) == (len(texts), sum(map(len, stored)))
        assert shard.tokens.dtype == np.dtype("<u2")
        assert not shard.tokens.flags.writeable
    facts = json.loads((folder_of(tmp_path / "data") / "manifest.json").read_text())["facts"]
    assert facts["train"]["tokens"] == made.train.token_count


def test_second_run_tokenizes_nothing(
    tmp_path: Path, prepared: corpus.Corpus, tokens: tokenizer.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shards.prepare(prepared, tokens, tmp_path / "data", silent)

    def refuse(*_: Any) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(tokenizer.Tokenizer, "encode", refuse)
    again = shards.prepare(prepared, tokens, tmp_path / "data", silent)
    assert again.digest == first.digest
    assert np.array_equal(again.train.tokens, first.train.tokens)


@pytest.mark.parametrize("name", ["train.tokens.bin", "train.offsets.npy", "validation.bytes.npy"])
@pytest.mark.parametrize("damage", ["flip", "shorten", "delete"])
def test_a_damaged_shard_is_rebuilt(
    tmp_path: Path,
    prepared: corpus.Corpus,
    tokens: tokenizer.Tokenizer,
    name: str,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shards.prepare(prepared, tokens, tmp_path / "data", silent)
    path = folder_of(tmp_path / "data") / name
    good = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(good[:-1] + (bytes([good[-1] ^ 1]) if damage == "flip" else b""))
    with pytest.raises(DamageError, match=name.replace(".", r"\.")):
        manifest.verify(path.parent)
    with caplog.at_level(logging.WARNING, logger="llm60_jax"):
        shards.prepare(prepared, tokens, tmp_path / "data", silent)
    assert path.read_bytes() == good
    assert [line for line in caplog.messages if "token shards of phase 'grammar'" in line and name in line]


def test_another_tokenizer_gets_its_own_shards_and_the_old_remain(
    tmp_path: Path, prepared: corpus.Corpus, tokens: tokenizer.Tokenizer
) -> None:
    first = shards.prepare(prepared, tokens, tmp_path / "data", silent)
    old = folder_of(tmp_path / "data")
    assert shards.open_(old, manifest.verify(old)).digest == first.digest
    other = learn(tmp_path, 330)
    assert shards.prepare(prepared, other, tmp_path / "data", silent).digest != first.digest
    assert len(list((tmp_path / "data" / "tokenized").iterdir())) == 2
    assert shards.open_(old, manifest.verify(old)).digest == first.digest


def test_a_vocabulary_beyond_uint16_is_refused(tmp_path: Path, prepared: corpus.Corpus) -> None:
    with pytest.raises(InputError, match=r"model\.vocab_size: 65,537 is above 65,536"):
        shards.prepare(prepared, mock.Mock(vocab_size=65_537), tmp_path / "data", silent)


def save(folder: Path, offsets: np.ndarray, sizes: np.ndarray, tokens: int) -> Path:
    np.save(folder / "train.offsets.npy", offsets)
    np.save(folder / "train.bytes.npy", sizes)
    np.save(folder / "train.prompts.npy", np.zeros(len(sizes), np.int64))
    (folder / "train.tokens.bin").write_bytes(b"\0\0" * tokens)
    return folder


@pytest.mark.parametrize(
    ("offsets", "sizes", "tokens"),
    [
        ([0, 3, 6], [1, 1], 7),  # a token beyond the last offset
        ([0, 3, 6], [1, 1, 1], 6),  # a byte count too many
        ([1, 3, 6], [1, 1], 6),
        ([0, 4, 3, 6], [1, 1, 1], 6),  # falling
        ([0], [], 0),
    ],
)
def test_arrays_that_do_not_match_are_damage(tmp_path: Path, offsets: list[int], sizes: list[int], tokens: int) -> None:
    save(tmp_path, np.array(offsets, np.int64), np.array(sizes, np.int64), tokens)
    with pytest.raises(DamageError, match=r"do not match; delete the folder|cannot mmap an empty file"):
        shards._open_split(tmp_path, "train")


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    save(tmp_path, np.array([0, 3], object), np.array([1], np.int64), 3)
    with pytest.raises(DamageError, match="not an array of numbers"):
        shards._open_split(tmp_path, "train")
