"""A first look at the text of a configuration, before any long work.

It finds missing sources and too little text of one's own, and estimates the tokens of phases whose
length is given in epochs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from llm60_jax import config as config_module
from llm60_jax.config import Config, Phase
from llm60_jax.data.corpus import corpus
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import Track

_SMALL_BYTES = 20_000_000  # of a phase's files: cleaned within half a minute
_CHARACTERS_PER_TOKEN = 4.2  # of English, with a vocabulary of some thousand tokens


class Look(NamedTuple):
    """What the sources of a configuration show before any long work.

    `config` has an estimate of the tokens where the file gives epochs. `tokens` estimates the
    training text of the phases looked at, by their names.
    """

    config: Config
    tokens: dict[str, int]

    def describe(self) -> list[str]:
        """Return a line for each phase that was looked at: its tokens and its epochs."""
        return [
            f"phase {phase.name}: {phase.tokens:,} tokens, about {phase.tokens / self.tokens[phase.name]:.1f} epochs "
            f"of about {self.tokens[phase.name]:,} tokens"
            for phase in self.config.phase
            if self.tokens.get(phase.name)
        ]


def look(config: Config, track: Track, *, epochs_only: bool = False, data_dir: Path | None = None) -> Look:
    """Check all sources, and clean the text of the small phases, the smallest first.

    So missing files and too little text of one's own are found before anything is downloaded and
    before hours of cleaning. The next call, and `prepare`, find the text cleaned.

    Args:
      epochs_only: look only at phases whose length is given in epochs.
      data_dir: where the clean text goes, instead of the configuration's.

    Raises:
      InputError: a source is missing, or a phase has too little text.
    """
    phases = [phase for phase in config.phase if phase.epochs is not None or not epochs_only]
    looked_at: dict[str, int] = {}
    to_come: dict[str, int] = {}
    for phase, size in smallest_first(phases):
        if size is None:
            characters = sum(source.max_characters for source in phase.sources if source.kind == "hub")
            to_come[phase.name] = round(characters / _CHARACTERS_PER_TOKEN)
        elif phase.epochs is not None or size <= _SMALL_BYTES:
            text = prepared(config, phase, track, data_dir)
            require_enough(text)
            looked_at[phase.name] = round(text.ledger["splits"]["train"]["characters"] / _CHARACTERS_PER_TOKEN)
    return Look(counted(config, looked_at | to_come), looked_at)


def smallest_first(phases: Iterable[Phase]) -> list[tuple[Phase, int | None]]:
    """Return phases with the bytes of their source files, those to be downloaded (None) last.

    Raises InputError if a source is missing.
    """
    sized = [(phase, corpus.source_bytes(phase)) for phase in phases]
    return sorted(sized, key=lambda pair: (pair[1] is None, pair[1] or 0))


def require_enough(text: Corpus) -> None:
    """Raise InputError if a phase has too little text."""
    if text.problem:
        raise InputError(text.problem)


def counted(config: Config, tokens: Mapping[str, int]) -> Config:
    """Return the configuration with the tokens of the phases that are given in epochs.

    Args:
      tokens: of the training text, by phase.
    """
    tree = config_module.to_tree(config)
    for phase in tree["phase"]:
        if phase["epochs"] is not None and phase["name"] in tokens:
            phase["tokens"] = max(1, round(phase["epochs"] * tokens[phase["name"]]))
    return config_module.parse(tree, "the configuration with counted tokens")


def prepared(config: Config, phase: Phase, track: Track, data_dir: Path | None = None) -> Corpus:
    """Prepare the text of one phase, or find it prepared.

    Args:
      data_dir: where the clean text goes, instead of the configuration's.
    """
    folder, evaluation = data_dir or Path(config.data_dir), config.evaluation_text
    return corpus.prepare(phase, folder, track, processes=config.processes, evaluation=evaluation)
