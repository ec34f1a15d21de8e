"""All data of a run, from its sources to token shards.

Each step is cached by the digests of its inputs.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax import plan
from llm60_jax.config import RULE_2, Config, Phase
from llm60_jax.data import first_look
from llm60_jax.data.clean import canaries, private
from llm60_jax.data.clean.dedup import Sketches
from llm60_jax.data.corpus import corpus, joining
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.tokens import bigrams, fertility, loader, shards, tokenizer, weights
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.errors import InputError
from llm60_jax.machine import unfinished
from llm60_jax.machine.progress import Track

MANY_EPOCHS = 4  # more passes over the same text teach little
_LOG = logging.getLogger("llm60_jax")
_BUILT_IN = ("processed", "screened", "screened/*", "tokenized", "tokenizers", "words", "measured/*", "compiled/*")
_FIT_DOCUMENTS = 200  # held-out documents that the vocabulary is measured on
_WINDOW = 256  # consecutive tokens in a sample of the training text


class Prepared(NamedTuple):
    """What training reads.

    `digests` names each part of it: "data of phase NAME" and "tokenizer".
    """

    config: Config  # with the tokens of every phase, also where the file gives epochs
    corpora: dict[str, Corpus]
    shards: dict[str, shards.PhaseShards]
    tokenizer: tokenizer.Tokenizer
    digests: dict[str, str]
    inherited: dict[str, Any]  # `record` of the checkpoint that the run starts from
    held_out: dict[str, TokenShard]  # validation text by phase; phases of earlier runs first

    def before(self, phase: str) -> list[str]:
        """Return the names of `held_out` before a phase: text that the phase may forget."""
        names = list(self.held_out)
        return names[: names.index(phase)]

    def describe(self, phase: Phase) -> str:
        """Return a phase's size and epochs, for the terminal."""
        shard = self.shards[phase.name].train
        passes = loader.epochs(shard, phase.tokens)
        size = (
            f"phase {phase.name}: {shard.documents:,} documents, {shard.token_count:,} tokens to train on; "
            f"{phase.tokens:,} tokens are {passes:.2f} epochs"
        )
        if passes > MANY_EPOCHS:
            field = "tokens" if phase.epochs is None else "epochs"
            size += (
                f". More than {MANY_EPOCHS} epochs teach little and the model learns the text by heart: "
                f"add text, or lower phase.{phase.name}.{field}"
            )
        return size

    def facts(self, phase: Phase) -> dict[str, Any]:
        """Return figures of a phase's text for the doctor and the report, as JSON values."""
        text, shard = self.corpora[phase.name], self.shards[phase.name].train
        counts = np.bincount(shard.tokens, minlength=self.tokenizer.vocab_size)
        shares = counts[counts > 0] / counts.sum()
        fit = fertility.fit(
            islice((record["text"] for record in text.read("validation")), _FIT_DOCUMENTS), self.tokenizer
        ).to_tree()
        ledgers = text.ledgers
        characters_in = max(1, sum(ledger.characters_in for ledger in ledgers))
        duplicated = sum(
            ledger.characters_dropped.get(reason, 0) for ledger in ledgers for reason in ("duplicate", "near_duplicate")
        )
        token_order = _order(shard)
        word_order = bigrams.of_words(
            record["text"] for split in ("validation", "train") for record in text.read(split)
        )
        return {
            "documents": shard.documents,
            "tokens": shard.token_count,
            "epochs": loader.epochs(shard, phase.tokens),
            "kept_share": sum(ledger.characters_kept for ledger in ledgers) / characters_in,
            "duplicate_share": duplicated / characters_in,
            "bytes_per_token": fit["bytes_per_token"],
            "whole_word_share": fit["whole_word_share"],
            "unused_share": fertility.unused([shard], self.tokenizer)["share"],
            "unigram_entropy": float(-(shares * np.log(shares)).sum()),  # nats a token
            "order": token_order.to_tree() if token_order else None,
            "word_order": word_order.to_tree() if word_order else None,
        }

    def private(self, phase: Phase) -> dict[str, int]:
        """Count private strings by kind in a phase's text; {} without the extra `privacy`."""
        with contextlib.suppress(InputError):
            return dict(private.count(record["text"] for record in self.corpora[phase.name].read("train")))
        return {}

    def token_weights(self, phase: Phase) -> np.ndarray | None:
        """Return the loss weight of each target token, float32 [V]; None without `reweight`."""
        if phase.reweight is None:
            return None
        counts = self.target_counts(phase.name)
        return weights.token_weights(counts, self.tokenizer.pieces(), phase.reweight)

    def target_counts(self, phase: str) -> np.ndarray:
        """Count how often each token is a target in a phase's training text, int64 [V]."""
        return weights.target_counts(self.shards[phase].train, self.tokenizer.vocab_size)

    def record(self) -> dict[str, Any]:
        """Return corpus folder -> its phase and left-out ids, for this run and earlier runs.

        A checkpoint stores it. A later run then keeps its fine-tuning text apart from all text
        that the model has seen.
        """
        entries = {
            text.folder.name: {"phase": name, "left_out": sorted(text.left_out)} for name, text in self.corpora.items()
        }
        # Both runs have these folders. One may have trained on documents that the other left out.
        for folder in entries.keys() & self.inherited.keys():
            common = set(entries[folder]["left_out"]) & set(self.inherited[folder]["left_out"])
            entries[folder] = {**entries[folder], "left_out": sorted(common)}
        return {**self.inherited, **entries}


def prepare(
    config: Config,
    track: Track,
    check: Callable[[Mapping[str, str]], None],
    start: tuple[Path, dict[str, Any]] | None = None,
) -> Prepared:
    """Prepare all phases of a configuration, or find them prepared.

    Args:
      config: uses the sources, the tokenizer's settings and `data_dir`.
      track: shows progress and may interrupt.
      check: receives the digests as soon as they exist, and may raise before the next step.
      start: the tokenizer of the checkpoint that the run starts from, and its `record`.

    Raises:
      InputError: text is missing or too little, or `check` refuses it.
      MachineError: a file cannot be read or written.
    """
    data_dir, inherited = Path(config.data_dir), start[1] if start else {}
    corpora = prepare_text(config, track, inherited, first_look.require_enough)
    for text in corpora.values():  # less may be left once all phases are kept apart
        first_look.require_enough(text)
    digests = {f"data of phase {name}": text.digest for name, text in corpora.items()}
    check(digests)
    words = tokenizer.Tokenizer.load(start[0]) if start else tokenizer.prepare(config, corpora, data_dir, track)
    digests["tokenizer"] = words.sha256
    check(digests)
    planted = {phase.name: canaries.texts(config.seed, phase.name, phase.canaries) for phase in config.phase}
    prepared = {name: shards.prepare(text, words, data_dir, track, planted[name]) for name, text in corpora.items()}
    held_out = _held_out_before(config, inherited, words)
    held_out |= {name: phase_shards.validation for name, phase_shards in prepared.items()}
    counted = first_look.counted(
        config, {name: phase_shards.train.token_count for name, phase_shards in prepared.items()}
    )
    return Prepared(counted, corpora, prepared, words, digests, inherited, held_out)


def _held_out_before(config: Config, inherited: Mapping[str, Any], words: tokenizer.Tokenizer) -> dict[str, TokenShard]:
    """Return the validation text of earlier runs' phases, as far as it is still here.

    Each has as many tokens as an evaluation may score.
    """
    held_out: dict[str, TokenShard] = {}
    for name, entry in inherited.items():
        text = corpus.recorded(Path(config.data_dir), name, entry)
        if not text.validation.exists():
            _LOG.warning(
                "%s: missing, so this run cannot show what it forgets of phase %s", text.folder, entry["phase"]
            )
            continue
        label = entry["phase"]
        while label in held_out or any(label == phase.name for phase in config.phase):
            label += " before"
        held_out[label] = shards.in_memory(
            text.read("validation"), words, config.train.validation_tokens or plan.MOST_SCORED
        )
    return {label: shard for label, shard in held_out.items() if shard.documents}


def prepare_text(
    config: Config,
    track: Track,
    inherited: Mapping[str, Any],
    check: Callable[[Corpus], None] = lambda text: None,
) -> dict[str, Corpus]:
    """Prepare the clean text of all phases, without documents that must be kept apart.

    This is the first half of `prepare`. A corpus may be too small: its `problem` says so. What
    killed processes have left unfinished in `data_dir` is removed.

    Args:
      inherited: the `record` of the checkpoint that the run starts from.
      check: receives each phase's text, the smallest phase first, before the next one is cleaned
        or downloaded.
    """
    _remove_unfinished(config)
    made: dict[str, Corpus] = {}
    found = first_look.listed(config, config.phase)
    first_look.shared(config, found)
    for files in first_look.smallest_first(found):
        text = made[files.phase.name] = first_look.prepared(config, files.phase, track)
        check(text)
    corpora = {phase.name: made[phase.name] for phase in config.phase}
    return _without_validation_text(_keep_apart(config, corpora, inherited))


def _remove_unfinished(config: Config) -> None:
    """Remove what killed processes have left in the folders of prepared text, and warn."""
    data_dir = Path(config.data_dir)
    downloads = [Path(source.path) for phase in config.phase for source in phase.sources if source.kind == "hub"]
    removed = unfinished.remove([data_dir, *(place for kind in _BUILT_IN for place in data_dir.glob(kind)), *downloads])
    if removed:
        _LOG.warning("%s: %s", data_dir, removed)


def _keep_apart(config: Config, corpora: dict[str, Corpus], inherited: Mapping[str, Any]) -> dict[str, Corpus]:
    """Apply golden rule 2, near-duplicates included.

    Fine-tuning text leaves the phases before fine-tuning. Text that the checkpoint was trained on
    leaves the fine-tuning text.
    """
    tuning = [phase.name for phase in config.phase if config.goal(phase) == "fine_tune"]
    apart = dict(corpora)
    if inherited:
        seen = _seen(Path(config.data_dir), inherited)
        for name in tuning:
            text = corpora[name]
            apart[name] = text.without(_alike(text, seen), f"the model was trained on them before; {RULE_2}")
    if len(tuning) == len(corpora):
        return apart
    reserved = _joined(
        [_known(apart[name].folder, split, apart[name].left_out) for name in tuning for split in joining.SPLITS]
    )
    why = f"reserved for fine-tuning; {RULE_2}"
    return {name: text if name in tuning else text.without(_alike(text, reserved), why) for name, text in apart.items()}


def _without_validation_text(corpora: dict[str, Corpus]) -> dict[str, Corpus]:
    """Remove near-duplicates of a phase's validation text from the other phases' training."""
    validation = {name: _known(text.folder, "validation", text.left_out) for name, text in corpora.items()}
    apart = {}
    for name, text in corpora.items():
        others = _joined([known for other, known in validation.items() if other != name])
        near = _alike(text, others, ("train",))
        apart[name] = text.without(near, "near-duplicates of other phases' validation text")
    return apart


def _order(shard: TokenShard) -> bigrams.Order | None:
    """Measure the order of tokens in a sample of the training text: windows, evenly spread."""
    windows = min(bigrams.SAMPLE, shard.token_count) // _WINDOW
    if not windows:
        return None
    starts = np.linspace(0, shard.token_count - _WINDOW, windows).astype(np.int64)
    places = starts[:, None] + np.arange(_WINDOW)
    segments = np.searchsorted(shard.offsets, places, side="right")
    return bigrams.order(np.asarray(shard.tokens)[places].astype(np.int32), segments.astype(np.int32))


class KnownText(NamedTuple):
    """The ids and sketches of texts that a corpus is compared with."""

    ids: set[str]
    sketches: Sketches


def _seen(data_dir: Path, inherited: Mapping[str, Any]) -> KnownText:
    """Return the training text of earlier runs' phases.

    Logs a warning for each corpus that is missing.
    """
    texts = []
    for name, entry in inherited.items():
        folder = data_dir / "processed" / name
        if (folder / "train.sizes.npy").exists():
            texts.append(_known(folder, "train", entry["left_out"]))
        else:
            message = "%s: missing, so this run cannot check whether phase %s was trained on its text; %s"
            _LOG.warning(message, folder, entry["phase"], RULE_2)
    return _joined(texts)


def _known(folder: Path, split: joining.Split, left_out: Collection[str]) -> KnownText:
    """Return a split of a corpus, without some documents."""
    ids, sketches = corpus.read_sketches(folder, split)
    left_out = frozenset(left_out)
    return KnownText(set(ids) - left_out, sketches.chosen(np.array([name not in left_out for name in ids], bool)))


def _joined(parts: Sequence[KnownText]) -> KnownText:
    hashes = [np.empty(0, np.uint64), *(part.sketches.hashes for part in parts)]
    sizes = [np.empty(0, np.int64), *(part.sketches.sizes for part in parts)]
    ids = {name for part in parts for name in part.ids}
    return KnownText(ids, Sketches(np.concatenate(hashes), np.concatenate(sizes)))


def _alike(text: Corpus, known: KnownText, splits: Sequence[joining.Split] = joining.SPLITS) -> set[str]:
    """Return the ids of a corpus's known documents: the same, or half or more in common."""
    alike: set[str] = set()
    for split in splits:
        names, sketches = text.sketches(split)
        near = sketches.like(known.sketches)
        alike |= {name for name, is_near in zip(names, near, strict=True) if is_near or name in known.ids}
    return alike
