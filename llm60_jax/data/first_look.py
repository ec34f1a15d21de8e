"""A first look at the text of a configuration, before any long work.

It finds missing sources and too little text of one's own, and estimates the tokens of phases whose
length is given in epochs.
"""

from collections.abc import Mapping
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
    sizes = {phase.name: corpus.source_bytes(phase) for phase in phases}
    looked_at: dict[str, int] = {}
    for phase in sorted(phases, key=lambda phase: sizes[phase.name] or 0):
        size = sizes[phase.name]
        if size is None or (phase.epochs is None and size > _SMALL_BYTES):
            continue
        text = prepared(config, phase, track, data_dir)
        if text.problem:
            raise InputError(text.problem)
        looked_at[phase.name] = round(text.ledger["splits"]["train"]["characters"] / _CHARACTERS_PER_TOKEN)
    to_come = {
        phase.name: round(sum(s.max_characters for s in phase.sources if s.kind == "hub") / _CHARACTERS_PER_TOKEN)
        for phase in phases
        if sizes[phase.name] is None
    }
    return Look(counted(config, looked_at | to_come), looked_at)


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
