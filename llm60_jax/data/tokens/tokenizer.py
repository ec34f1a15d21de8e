"""The tokenizer of a run: a sentencepiece model, learnt from the training text of chosen phases.

Every line begins with sentencepiece's word mark, so a word has the same token at the start of a
paragraph as inside one. The newline has its own token. Rare characters become byte tokens, so any
cleaned text survives a round trip.
"""

import enum
import hashlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece

from llm60_jax import config as config_module
from llm60_jax.data.clean import cleaning
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files, manifest
from llm60_jax.machine.progress import Track

PAD, UNK, BOS, EOS = 0, 1, 2, 3  # the same in every tokenizer of this project

_CONTROL = frozenset((PAD, UNK, BOS, EOS))
_FILE = "tokenizer.model"
_VERSION = 1  # raise with any change of the settings in `_learn`
_LINE_CHARACTERS = 4_000  # longer lines are cut for learning; a character has at most 4 bytes
_LOG = logging.getLogger("llm60_jax")


class Kind(enum.IntEnum):
    """What a token is, by sentencepiece's own numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    BYTE = 6


class Entry(NamedTuple):
    """A token as the model file holds it."""

    piece: str  # "\u2581the", with the word mark; "<s>"; "<0x41>"
    score: float  # of BPE minus the rank of its merge, of unigram a log-probability
    kind: Kind


class Tokenizer:
    """Text to token ids and back, made by `Tokenizer.load`.

    `sha256` is the digest of the model file.
    """

    def __init__(self, path: Path, sha256: str, processor: sentencepiece.SentencePieceProcessor):
        self.path = path
        self.sha256 = sha256
        self.bos, self.eos, self.pad, self.unk = BOS, EOS, PAD, UNK
        self._processor = processor
        self._newline = processor.piece_to_id("\n")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load a model file.

        Raises DamageError if it is missing or this module did not write it.
        """
        path = Path(path)
        try:
            model = path.read_bytes()
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except OSError as error:
            raise DamageError(f"{path}: cannot read the tokenizer: {error.strerror or error}") from None
        except RuntimeError:
            raise DamageError(f"{path}: not a sentencepiece model; delete its folder to learn it again") from None
        ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
        if ids != (PAD, UNK, BOS, EOS) or processor.piece_to_id("\n") == UNK:
            raise DamageError(
                f"{path}: a sentencepiece model, but not one that this program learnt; "
                "delete its folder to learn it again"
            )
        return cls(path, hashlib.sha256(model).hexdigest(), processor)

    @property
    def vocab_size(self) -> int:
        return int(self._processor.vocab_size())

    def pieces(self) -> list[str]:
        """Return the text of each token; "" for control tokens and byte tokens."""
        processor = self._processor
        return [
            "" if token in _CONTROL or processor.is_byte(token) else processor.id_to_piece(token)
            for token in range(self.vocab_size)
        ]

    def entries(self) -> list[Entry]:
        """Return all tokens by id, as exporters write them."""
        processor = self._processor
        return [
            Entry(processor.id_to_piece(token), processor.get_score(token), self._kind(token))
            for token in range(self.vocab_size)
        ]

    @property
    def is_bpe(self) -> bool:
        """Whether the tokens were learnt as byte pairs. Only their scores are whole numbers."""
        return all(entry.score.is_integer() for entry in self.entries() if entry.kind == Kind.NORMAL)

    @property
    def byte_tokens(self) -> np.ndarray:
        """Whether each token spells a byte of a rare character: bool [V]."""
        return np.array([self._processor.is_byte(token) for token in range(self.vocab_size)])

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without BOS and EOS."""
        ids: list[int] = []
        for number, line in enumerate(self._processor.encode(text.split("\n"), out_type=int, num_threads=1)):
            if number:
                ids.append(self._newline)
            ids.extend(line)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, skipping control ids.

        Raises IndexError for an id outside the vocabulary.
        """
        lines: list[list[int]] = [[]]
        for token in ids:
            if token == self._newline:
                lines.append([])
            elif token not in _CONTROL:
                lines[-1].append(int(token))
        return "\n".join(self._processor.decode(line) if line else "" for line in lines)

    def _kind(self, token: int) -> Kind:
        if token == UNK:
            return Kind.UNKNOWN
        if token in _CONTROL:
            return Kind.CONTROL
        if token == self._newline:
            return Kind.USER_DEFINED
        return Kind.BYTE if self._processor.is_byte(token) else Kind.NORMAL


def prepare(config: config_module.Config, corpora: Mapping[str, Corpus], data_dir: Path, track: Track) -> Tokenizer:
    """Learn the tokenizer below `data_dir`/tokenizers, or find it there.

    Args:
      config: uses `tokenizer` and `model.vocab_size`.
      corpora: phase name -> corpus, for at least the phases of `config.tokenizer.phases`.

    Raises:
      InputError: the vocabulary is too large or too small for the text.
      MachineError: `data_dir` cannot be written.
    """
    settings = config.tokenizer
    assert settings is not None, "a run that starts from a checkpoint brings its tokenizer"
    vocab_size = config.model.vocab_size
    chosen = [corpora[name] for name in settings.phases]
    identity = {
        "corpora": [corpus.digest for corpus in chosen],
        "model_type": settings.model_type,
        "vocab_size": vocab_size,
        "sample_characters": settings.sample_characters,
        "version": _VERSION,
    }

    def build(scratch: Path) -> dict[str, Any]:
        lines = list(_lines(_sample(chosen, settings.sample_characters, track)))
        characters = sum(map(len, lines))
        _LOG.info("learning a vocabulary of %s tokens from %s characters", f"{vocab_size:,}", f"{characters:,}")
        (scratch / _FILE).write_bytes(_learn(lines, vocab_size, settings.model_type))
        return {"characters": characters, "lines": len(lines)}

    folder = Path(data_dir) / "tokenizers" / files.digest_of(identity)[:16]
    manifest.build_once(folder, identity, build, "tokenizer")
    return Tokenizer.load(folder / _FILE)


def _sample(corpora: Sequence[Corpus], limit: int, track: Track) -> Iterator[str]:
    """Yield training documents, at most `limit` characters, in proportion to the corpora's sizes.

    A corpus gives its smallest ids: an even and repeatable sample of its sources.
    """
    totals = [corpus.ledger["splits"]["train"]["characters"] for corpus in corpora]
    for corpus, total in zip(corpora, totals, strict=True):
        quota = limit * total // max(limit, sum(totals))
        lengths = {record["id"]: len(record["text"]) for record in corpus.read("train")}
        chosen: set[str] = set()
        for name in sorted(lengths):
            if lengths[name] <= quota:
                quota -= lengths[name]
                chosen.add(name)
        records = corpus.read("train")
        for record in track(records, f"{corpus.phase}: reading for the tokenizer", len(lengths)):
            if record["id"] in chosen:
                yield record["text"]


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Yield lines for sentencepiece, cut to its length limit: it silently skips longer ones."""
    for text in texts:
        for line in text.split("\n"):
            yield from cleaning.cut(line, _LINE_CHARACTERS)


def _learn(lines: list[str], vocab_size: int, model_type: str) -> bytes:
    """Return the bytes of the model file.

    Takes a list: sentencepiece hides the exceptions of a generator.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            user_defined_symbols=["\n"],
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=8 * _LINE_CHARACTERS,  # bytes
            num_threads=1,  # the model stores the count, and unigram sums depend on it
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _explain(str(error), vocab_size) from None
    return model.getvalue()


def _explain(message: str, vocab_size: int) -> InputError:
    """Turn sentencepiece's message into an error about the configuration."""
    if largest := re.search(r"too high.*<= (\d+)", message):
        return InputError(
            f"model.vocab_size: {vocab_size:,} is too many for this text; the largest value that works is "
            f"{largest[1]}; lower it, or give the phases of tokenizer.phases more text"
        )
    if smallest := re.search(r"smaller than required_chars\D*\d+ vs (\d+)", message):
        return InputError(
            f"model.vocab_size: {vocab_size:,} is too few; this text needs at least {smallest[1]}; raise it"
        )
    return InputError(f"tokenizer: sentencepiece cannot learn from this text with these settings: {message}")
