"""All data of a run, from its sources to token shards, each step cached by the digests of what it reads."""

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.config import RULE_2, Config, Phase
from llm60_jax.data.clean import canaries, private
from llm60_jax.data.clean.dedup import Sketches
from llm60_jax.data.corpus import account, corpus, joining
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.tokens import bigrams, fertility, loader, shards, tokenizer, weights
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import Track

log = logging.getLogger("llm60_jax")
MANY_EPOCHS = 4  # passes beyond which text teaches less and less
_FIT_DOCUMENTS = 200  # of the held-out text, by which the vocabulary is judged
_WINDOW = 256  # tokens that stand side by side in a sample of the training text


class Prepared(NamedTuple):
    """What training reads. `digests` names each part of it: "data of phase NAME" and "tokenizer"."""

    corpora: dict[str, Corpus]
    shards: dict[str, shards.PhaseShards]
    tokenizer: tokenizer.Tokenizer
    digests: dict[str, str]
    inherited: dict[str, Any]  # `record` of the checkpoint that the run starts from
    held_out: dict[str, TokenShard]  # what every phase is validated with, those of earlier runs first

    def before(self, phase: str) -> list[str]:
        """Names of `held_out` that come before a phase: what it may forget."""
        names = list(self.held_out)
        return names[: names.index(phase)]

    def describe(self, phase: Phase) -> str:
        """What a phase trains on, for a person: its sources, its size, how many epochs its tokens mean."""
        shard = self.shards[phase.name].train
        sources = [f"{phase.name}: {line}" for line in self.corpora[phase.name].summary()]
        passes = loader.epochs(shard, phase.tokens)
        size = (
            f"phase {phase.name}: {shard.documents:,} documents, {shard.token_count:,} tokens to train on; "
            f"{phase.tokens:,} tokens are {passes:.2f} epochs"
        )
        if passes > MANY_EPOCHS:
            size += f". More than {MANY_EPOCHS} teach little and are learnt by heart: add text, or lower the tokens"
        return "\n".join([*sources, size])

    def facts(self, phase: Phase) -> dict[str, Any]:
        """What a phase trains on, in figures: what the doctor and the report rest on. JSON values."""
        found, shard = self.corpora[phase.name], self.shards[phase.name].train
        counts = np.bincount(shard.tokens, minlength=self.tokenizer.vocab_size)
        shares = counts[counts > 0] / counts.sum()
        fit = fertility.fit(
            islice((r["text"] for r in found.read("validation")), _FIT_DOCUMENTS), self.tokenizer
        ).to_tree()
        accounts = account.ledgers(found)
        read = max(1, sum(one.characters_in for one in accounts))
        again = sum(
            one.characters_dropped.get(reason, 0) for one in accounts for reason in ("duplicate", "near_duplicate")
        )
        tokens = _order(shard)
        words = bigrams.of_words(r["text"] for split in ("validation", "train") for r in found.read(split))
        return {
            "documents": shard.documents,
            "tokens": shard.token_count,
            "epochs": loader.epochs(shard, phase.tokens),
            "kept_share": sum(one.characters_kept for one in accounts) / read,
            "duplicate_share": again / read,
            "bytes_per_token": fit["bytes_per_token"],
            "whole_word_share": fit["whole_word_share"],
            "unused_share": fertility.unused([shard], self.tokenizer)["share"],
            "unigram_entropy": float(-(shares * np.log(shares)).sum()),  # nats a token
            "order": tokens.to_tree() if tokens else None,
            "word_order": words.to_tree() if words else None,
        }

    def private(self, phase: Phase) -> dict[str, int]:
        """How many private strings of each kind the text of a phase has; none without the extra `privacy`."""
        with contextlib.suppress(InputError):
            return dict(private.count(record["text"] for record in self.corpora[phase.name].read("train")))
        return {}

    def token_weights(self, phase: Phase) -> np.ndarray | None:
        """The loss weight of each token as a target, float32 [V]; None where a phase does not reweight."""
        if phase.reweight is None:
            return None
        counts = self.target_counts(phase.name)
        return weights.token_weights(counts, self.tokenizer.pieces(), phase.reweight)

    def target_counts(self, phase: str) -> np.ndarray:
        """How often each token is a target in a phase's training text, int64 [V]."""
        return weights.target_counts(self.shards[phase].train, self.tokenizer.vocab_size)

    def record(self) -> dict[str, Any]:
        """What a later run needs to know to keep its fine-tuning text apart from all text that the model has seen, in
        this run and in those before it: by the folder of each corpus, its phase and the documents left out."""
        own = {
            found.folder.name: {"phase": name, "left_out": sorted(found.left_out)}
            for name, found in self.corpora.items()
        }
        again = own.keys() & self.inherited.keys()
        for folder in again:  # what one of the two runs left out the other may have trained on
            common = set(own[folder]["left_out"]) & set(self.inherited[folder]["left_out"])
            own[folder] = {**own[folder], "left_out": sorted(common)}
        return {**self.inherited, **own}


def prepare(
    config: Config,
    track: Track,
    check: Callable[[Mapping[str, str]], None],
    start: tuple[Path, dict[str, Any]] | None = None,
) -> Prepared:
    """Prepares all phases of a configuration, or finds them prepared.

    Args:
      config: the sources, the tokenizer's settings and `data_dir` are used.
      track: shows progress and may interrupt.
      check: is given the digests as soon as they are known and may refuse them, before the work that builds on them.
      start: the tokenizer of the checkpoint that the run begins from, and what is `record`ed in it.

    Raises:
      InputError: text that is missing, too little, or refused by `check`.
      MachineError: a file cannot be read or written.
    """
    data_dir, trained = Path(config.data_dir), start[1] if start else {}
    corpora = prepare_text(config, track, trained)
    for found in corpora.values():
        if found.problem:
            raise InputError(found.problem)
    digests = {f"data of phase {name}": found.digest for name, found in corpora.items()}
    check(digests)
    words = tokenizer.Tokenizer.load(start[0]) if start else tokenizer.prepare(config, corpora, data_dir, track)
    digests["tokenizer"] = words.sha256
    check(digests)
    planted = {phase.name: canaries.texts(config.seed, phase.name, phase.canaries) for phase in config.phase}
    prepared = {name: shards.prepare(found, words, data_dir, track, planted[name]) for name, found in corpora.items()}
    held_out = _held_out_before(config, trained, words) | {name: one.validation for name, one in prepared.items()}
    return Prepared(corpora, prepared, words, digests, trained, held_out)


def _held_out_before(config: Config, trained: Mapping[str, Any], words: tokenizer.Tokenizer) -> dict[str, TokenShard]:
    """What the phases of earlier runs were validated with, as far as it is here and a run scores it."""
    found = {}
    for name, entry in trained.items():
        text = corpus.recorded(Path(config.data_dir), name, entry)
        if not text.validation.exists():
            log.warning("%s: not here, so what is forgotten of phase %s does not show", text.folder, entry["phase"])
            continue
        label = entry["phase"]
        while label in found or any(label == phase.name for phase in config.phase):
            label += " before"
        found[label] = shards.in_memory(text.read("validation"), words, config.train.validation_tokens)
    return {label: shard for label, shard in found.items() if shard.documents}


def prepare_text(config: Config, track: Track, trained: Mapping[str, Any]) -> dict[str, Corpus]:
    """The clean text of all phases, each without what must be kept apart from it; the first half of `prepare`.

    Args:
      trained: what the checkpoint that the run begins from has `record`ed.

    A corpus may turn out too small to train on: its `problem` says so.
    """
    corpora = {
        phase.name: corpus.prepare(
            phase, Path(config.data_dir), track, processes=config.processes, evaluation=config.evaluation_text
        )
        for phase in config.phase
    }
    return _without_validation_text(_keep_apart(config, corpora, trained))


def _keep_apart(config: Config, corpora: dict[str, Corpus], trained: Mapping[str, Any]) -> dict[str, Corpus]:
    """Golden rule 2, near-duplicates included: what is there for fine-tuning leaves the text of the phases before it;
    what a checkpoint has been trained on already leaves the text for fine-tuning."""
    tuning = [phase.name for phase in config.phase if config.goal(phase) == "fine_tune"]
    kept = dict(corpora)
    if trained:
        seen = _seen(Path(config.data_dir), trained)
        for name in tuning:
            found = corpora[name]
            kept[name] = found.without(_alike(found, seen), f"the model has been trained on them before; {RULE_2}")
    if len(tuning) == len(corpora):
        return kept
    own = _joined([_text(kept[name].folder, split, kept[name].left_out) for name in tuning for split in joining.SPLITS])
    why = f"they are there for fine-tuning; {RULE_2}"
    return {name: found if name in tuning else found.without(_alike(found, own), why) for name, found in kept.items()}


def _without_validation_text(corpora: dict[str, Corpus]) -> dict[str, Corpus]:
    """No phase trains on text that is near to what another one is validated with."""
    held_out = {name: _text(found.folder, "validation", found.left_out) for name, found in corpora.items()}
    kept = {}
    for name, found in corpora.items():
        others = _joined([text for other, text in held_out.items() if other != name])
        near = _alike(found, others, ("train",))
        kept[name] = found.without(near, "they are near to what other phases are validated with")
    return kept


def _order(shard: shards.TokenShard) -> bigrams.Order | None:
    """The order of a sample of the training text: stretches of it, evenly spread."""
    most = min(bigrams.SAMPLE, shard.token_count) // _WINDOW
    if not most:
        return None
    starts = np.linspace(0, shard.token_count - _WINDOW, most).astype(np.int64)
    places = starts[:, None] + np.arange(_WINDOW)
    segments = np.searchsorted(shard.offsets, places, side="right")
    return bigrams.order(np.asarray(shard.tokens)[places].astype(np.int32), segments.astype(np.int32))


class SeenText(NamedTuple):
    """Texts that others are held against."""

    ids: set[str]
    sketches: Sketches


def _seen(data_dir: Path, trained: Mapping[str, Any]) -> SeenText:
    """What the phases of earlier runs were trained on."""
    found = []
    for name, entry in trained.items():
        folder = data_dir / "processed" / name
        if (folder / "train.sizes.npy").exists():
            found.append(_text(folder, "train", entry["left_out"]))
        else:
            told = "%s: not here, so it cannot be checked whether phase %s saw this text; %s"
            log.warning(told, folder, entry["phase"], RULE_2)
    return _joined(found)


def _text(folder: Path, split: joining.Split, left_out: Collection[str]) -> SeenText:
    """What a split of a corpus holds, some documents left out."""
    ids, sketches = corpus.read_sketches(folder, split)
    left_out = frozenset(left_out)
    return SeenText(set(ids) - left_out, sketches.chosen(np.array([name not in left_out for name in ids], bool)))


def _joined(parts: Sequence[SeenText]) -> SeenText:
    hashes = [np.empty(0, np.uint64), *(part.sketches.hashes for part in parts)]
    sizes = [np.empty(0, np.int64), *(part.sketches.sizes for part in parts)]
    ids = {name for part in parts for name in part.ids}
    return SeenText(ids, Sketches(np.concatenate(hashes), np.concatenate(sizes)))


def _alike(found: Corpus, known: SeenText, splits: Sequence[joining.Split] = joining.SPLITS) -> set[str]:
    """Those documents of a corpus that are known: the same, or one holding half of the other or more."""
    alike: set[str] = set()
    for split in splits:
        names, sketches = found.sketches(split)
        near = sketches.like(known.sketches)
        alike |= {name for name, is_near in zip(names, near, strict=True) if is_near or name in known.ids}
    return alike
