"""Token shards: a corpus as arrays on disk.

A document is stored as BOS, its token ids, EOS. An answer is stored as BOS, question, separator,
answer, EOS, with the number of tokens between BOS and the answer.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax.data.corpus.corpus import SPLITS, Corpus, Split
from llm60_jax.data.read.instructions import SEPARATOR
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files, manifest
from llm60_jax.machine.progress import Track

_FORMAT = 3  # raise with any change of the folder's content
_TOKEN = np.dtype("<u2")


@dataclass(frozen=True)
class TokenShard:
    """The documents of one split.

    Document d is `tokens[offsets[d]:offsets[d + 1]]`, BOS and EOS included.
    """

    tokens: np.ndarray  # uint16 [token_count], a read-only memory map
    offsets: np.ndarray  # int64 [documents + 1], from 0 to token_count
    bytes: np.ndarray  # int64 [documents], UTF-8 bytes of each text, without questions
    prompts: np.ndarray  # int64 [documents], tokens of question and separator, not learnt; else 0

    @property
    def documents(self) -> int:
        return len(self.bytes)

    @property
    def token_count(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class PhaseShards:
    """Both splits of a phase.

    `digest` determines their content: it covers the corpus and the tokenizer.
    """

    digest: str
    train: TokenShard
    validation: TokenShard
    source_tokens: dict[str, int]  # in both splits together, by the source's name in the ledger


def prepare(
    corpus: Corpus, tokenizer: Tokenizer, data_dir: Path, track: Track, planted: Sequence[str] = ()
) -> PhaseShards:
    """Write the shards of a corpus below `data_dir`/tokenized, or find them there.

    Args:
      planted: documents added to the training text (canaries.py).

    Raises:
      InputError: the vocabulary does not fit uint16.
      MachineError: `data_dir` cannot be written.
    """
    if tokenizer.vocab_size > np.iinfo(_TOKEN).max + 1:
        raise InputError(
            f"model.vocab_size: {tokenizer.vocab_size:,} is above 65,536, the most that token shards hold; lower it"
        )
    identity = {
        "corpus": corpus.digest,
        "tokenizer": tokenizer.sha256,
        "vocab_size": tokenizer.vocab_size,
        "token": _TOKEN.str,
        "format": _FORMAT,
    }
    if planted:
        identity["planted"] = files.digest_of(list(planted))
    folder = Path(data_dir) / "tokenized" / f"{corpus.phase}-{files.digest_of(identity)[:16]}"

    def build(scratch: Path) -> dict[str, Any]:
        return {split: _write_split(corpus, split, tokenizer, scratch, track, planted) for split in SPLITS}

    record = manifest.build_once(folder, identity, build, f"token shards of phase '{corpus.phase}'")
    return open_(folder, record)


def in_memory(records: Iterable[Mapping[str, str]], tokenizer: Tokenizer, max_tokens: int | None = None) -> TokenShard:
    """Tokenize records into a shard in memory.

    Args:
      records: each has a "text" and, for an answer, a "prompt".
      max_tokens: the document that exceeds it is the last one; None takes all.
    """
    ids: list[list[int]] = []
    sizes, prompts = [], []
    for record in records:
        tokens, prompt = _encoded(record, tokenizer)
        ids.append(tokens)
        sizes.append(len(record["text"].encode("utf-8")))
        prompts.append(prompt)
        if max_tokens is not None and sum(map(len, ids)) > max_tokens:
            break
    offsets = np.cumsum([0, *map(len, ids)])
    all_tokens = np.concatenate([np.empty(0, _TOKEN), *(np.asarray(tokens, _TOKEN) for tokens in ids)])
    return TokenShard(all_tokens, offsets, np.array(sizes, np.int64), np.array(prompts, np.int64))


def open_(folder: Path, record: dict[str, Any]) -> PhaseShards:
    """Open the shards in a verified folder. `record` is its manifest.

    Raises:
      DamageError: the arrays cannot be read or do not match one another.
    """
    train, validation = (_open_split(folder, split) for split in SPLITS)
    source_tokens = sum((Counter(record["facts"][split]["sources"]) for split in SPLITS), Counter[str]())
    return PhaseShards(files.digest_of(record["identity"]), train, validation, dict(source_tokens))


def _encoded(record: Mapping[str, str], tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Return a document's tokens (BOS, question, text, EOS), and the question's length."""
    prompt = tokenizer.encode(record["prompt"] + SEPARATOR) if "prompt" in record else []
    return [tokenizer.bos, *prompt, *tokenizer.encode(record["text"]), tokenizer.eos], len(prompt)


def _write_split(
    corpus: Corpus, split: Split, tokenizer: Tokenizer, scratch: Path, track: Track, planted: Sequence[str]
) -> dict[str, Any]:
    source_tokens: Counter[str] = Counter()
    offsets, sizes, prompts = [0], [], []
    canaries = [{"text": text, "source": "canaries"} for text in planted] if split == "train" else []
    documents = len(corpus.ids(split)) + len(canaries)
    records = itertools.chain(corpus.read(split), canaries)
    with (scratch / f"{split}.tokens.bin").open("wb") as out:
        for record in track(records, f"{corpus.phase}: tokenizing {split}", documents):
            ids, prompt = _encoded(record, tokenizer)
            out.write(np.asarray(ids, dtype=_TOKEN).tobytes())
            offsets.append(offsets[-1] + len(ids))
            sizes.append(len(record["text"].encode("utf-8")))
            prompts.append(prompt)
            source_tokens[record["source"]] += len(ids)
    for name, values in (("offsets", offsets), ("bytes", sizes), ("prompts", prompts)):
        np.save(scratch / f"{split}.{name}.npy", np.asarray(values, dtype=np.int64), allow_pickle=False)
    return {"documents": len(sizes), "tokens": offsets[-1], "bytes": sum(sizes), "sources": dict(source_tokens)}


def _open_split(folder: Path, split: Split) -> TokenShard:
    path = folder / f"{split}.tokens.bin"
    try:
        offsets, sizes, prompts = (
            files.read_array(folder / f"{split}.{name}.npy") for name in ("offsets", "bytes", "prompts")
        )
        tokens = np.memmap(path, dtype=_TOKEN, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DamageError(f"{folder}: the arrays of split '{split}' cannot be opened: {error}") from None
    consistent = (
        offsets.dtype == sizes.dtype == prompts.dtype == np.int64
        and offsets.ndim == sizes.ndim == prompts.ndim == 1
        and len(offsets) == len(sizes) + 1 == len(prompts) + 1 >= 2
        and offsets[0] == 0
        and offsets[-1] == len(tokens)
        and bool(np.all(np.diff(offsets) >= 2 + prompts))  # every document has BOS and EOS
        and bool(np.all(prompts >= 0))
    )
    if not consistent:
        raise DamageError(f"{path}: offsets, byte counts and tokens do not match; delete the folder {folder}")
    return TokenShard(tokens, offsets, sizes, prompts)
