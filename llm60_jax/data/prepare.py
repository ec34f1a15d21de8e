"""All data of a run, from its sources to token shards, each step cached by the digests of what it reads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from llm60_jax.config import Config, Phase
from llm60_jax.data import corpus, loader, shards, tokenizer
from llm60_jax.data.progress import Track


class Prepared(NamedTuple):
    """What training reads. `digests` names each part of it: "data of phase NAME" and "tokenizer"."""

    corpora: dict[str, corpus.Corpus]
    shards: dict[str, shards.PhaseShards]
    tokenizer: tokenizer.Tokenizer
    digests: dict[str, str]

    def describe(self, phase: Phase) -> str:
        """What a phase trains on, for a person: its sources, its size, how many epochs its tokens mean."""
        shard = self.shards[phase.name].train
        sources = [f"{phase.name}: {line}" for line in self.corpora[phase.name].summary()]
        size = (
            f"phase {phase.name}: {shard.documents:,} documents, {shard.token_count:,} tokens to train on; "
            f"{phase.tokens:,} tokens are {loader.epochs(shard, phase.tokens):.2f} epochs"
        )
        return "\n".join([*sources, size])


def prepare(config: Config, track: Track, check: Callable[[Mapping[str, str]], None]) -> Prepared:
    """Prepares all phases of a configuration, or finds them prepared.

    Args:
      config: the sources, the tokenizer's settings and `data_dir` are used.
      track: shows progress and may interrupt.
      check: is given the digests as soon as they are known and may refuse them, before the work that builds on them.

    Raises:
      InputError: text that is missing, too little, or refused by `check`.
      MachineError: a file cannot be read or written.
    """
    data_dir = Path(config.data_dir)
    corpora = {phase.name: corpus.prepare(phase, data_dir, track) for phase in config.phase}
    digests = {f"data of phase {name}": found.digest for name, found in corpora.items()}
    check(digests)
    words = tokenizer.prepare(config, corpora, data_dir, track)
    digests["tokenizer"] = words.sha256
    check(digests)
    prepared = {name: shards.prepare(found, words, data_dir, track) for name, found in corpora.items()}
    return Prepared(corpora, prepared, words, digests)
