"""What a dry run can tell of the text: how much each phase has, and whether that is enough.

Small phases are cleaned in a scratch folder, as the run will clean them. Of large ones a sample of
files is cleaned. Nothing is downloaded, and nothing stays.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config import Config, Phase, Source
from llm60_jax.data import first_look, prepare
from llm60_jax.data.corpus import corpus, pieces
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.first_look import PhaseFiles
from llm60_jax.data.read import sources, unread
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.read.sources import InputFile, Listing
from llm60_jax.data.tokens import tokenizer
from llm60_jax.machine.progress import Track

SMALL_BYTES = 2_000_000  # of a phase's files: cleaned within some seconds
SAMPLE_BYTES = 1_000_000  # of a larger phase, cleaned as a sample
_HASHED_BYTES = 500_000_000  # of a phase whose prepared text is looked for
_LEARNT_CHARACTERS = 5_000_000  # of text that a dry run learns a vocabulary from
_CHARACTERS_PER_PIECE = 100  # of a vocabulary that text surely suffices for
HEADINGS = ("phase", "files", "MB", "not read", "tokens of text", "to train on", "epochs", "judged by")


class Looked(NamedTuple):
    """What was found out about the text of a phase."""

    files: PhaseFiles
    characters: int  # of the training text, estimated unless `text` is here
    judged_by: str
    text: Corpus | None = None  # if all of it is clean

    @property
    def phase(self) -> Phase:
        return self.files.phase

    @property
    def tokens(self) -> int:
        """Estimated tokens of the training text."""
        return first_look.tokens_of(self.characters)

    @property
    def others(self) -> list[str]:
        """The names of files that no reader reads."""
        return [name for _, listing in self.files.here for name in listing.others]


def look(config: Config, phases: Sequence[Phase], track: Track, scratch: Path) -> list[Looked]:
    """Look at the text of some phases, the smallest first.

    Raise InputError if a source is missing, or if a phase has too little text.
    """
    found = first_look.listed(config, phases)
    first_look.shared(config, found)
    looked = {files.phase.name: of_phase(config, files, track, scratch) for files in first_look.smallest_first(found)}
    return [looked[phase.name] for phase in phases]


def counted(config: Config, looked: Sequence[Looked]) -> Config:
    """Return the configuration with an estimate of the tokens of phases that are given in epochs."""
    return first_look.counted(config, {one.phase.name: one.tokens for one in looked})


def require_enough(
    config: Config, looked: Sequence[Looked], inherited: Mapping[str, Any], track: Track, scratch: Path
) -> list[str]:
    """Compare the phases and learn the vocabulary, as far as all their text is here and small.

    Args:
      inherited: the `record` of the checkpoint that the run starts from.

    Returns:
      What was left to the run.

    Raises:
      InputError: too little text is left for a phase, or for the vocabulary.
    """
    corpora = {one.phase.name: one.text for one in looked if one.text is not None}
    left = []
    if len(corpora) == len(looked):
        corpora = prepare.kept_apart(config, corpora, inherited)
        for text in corpora.values():
            first_look.require_enough(text)
    else:
        left.append("documents that two phases share")
    if config.tokenizer is not None:
        chosen = [one for one in looked if one.phase.name in config.tokenizer.phases]
        characters, size = sum(one.characters for one in chosen), config.model.vocab_size
        if characters <= _LEARNT_CHARACTERS and all(one.text is not None for one in chosen):
            tokenizer.prepare(config, corpora, scratch, track)
        elif characters < _CHARACTERS_PER_PIECE * size:
            left.append(f"whether the text suffices for model.vocab_size = {size:,}")
    return left


def rows(config: Config, looked: Sequence[Looked]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each phase, under `HEADINGS`.

    Args:
      config: with the tokens of every phase.
    """
    for one in looked:
        phase = config.phase_named(one.phase.name)
        yield (
            phase.name,
            f"{sum(len(listing.files) for _, listing in one.files.here):,}",
            f"{one.files.size / 1e6:,.2f}",
            f"{len(one.others):,}",
            f"about {_rounded(one.tokens):,}",
            f"{phase.tokens:,}",
            f"{phase.tokens / one.tokens:.1f}" if one.tokens else "-",
            one.judged_by,
        )


def notes(config: Config, looked: Sequence[Looked]) -> list[str]:
    """Return lines on what is not read, what two phases share, what is to be downloaded, and many epochs."""
    found = [one.files for one in looked]
    lines = [*first_look.passed_over(found), *first_look.shared(config, found)]
    for one in looked:
        name, tokens = one.phase.name, config.phase_named(one.phase.name).tokens
        if one.others:
            lines.append(f"phase {name}: not read: {'; '.join(unread.advice(one.others))}")
        for source in one.files.to_download:
            size = f"up to {source.max_characters:,} characters"
            lines.append(f"phase {name}: {source.name} will be downloaded into {source.path}, {size}")
        if tokens > prepare.MANY_EPOCHS * one.tokens:
            lines.append(f"phase {name}: more than {prepare.MANY_EPOCHS} epochs teach little; add text, or train less")
    return lines


def _rounded(number: int) -> int:
    """Return a number to three digits."""
    return round(number, 3 - len(str(number)))


def of_phase(config: Config, files: PhaseFiles, track: Track, scratch: Path) -> Looked:
    """Look at the text of one phase. Raise InputError if it is too little."""
    if files.to_download:
        characters = files.size + sum(source.max_characters for source in files.to_download)
        return Looked(files, characters, "the size of its download")
    text = _prepared_before(config, files, track)
    how = "its prepared text"
    if text is None and files.size <= SMALL_BYTES:
        text, how = first_look.prepared(config, files.phase, track, scratch), "all of it, cleaned"
    if text is not None:
        first_look.require_enough(text)
        return Looked(files, text.ledger["splits"]["train"]["characters"], how, text)
    return _sampled(files, track)


def _prepared_before(config: Config, files: PhaseFiles, track: Track) -> Corpus | None:
    """Return the text of a phase that an earlier start has prepared."""
    folder = Path(config.data_dir)
    if files.size > _HASHED_BYTES or not (folder / "processed").is_dir():
        return None
    return corpus.found(files.phase, folder, track, config.evaluation_text)


# --- Samples ---------------------------------------------------------------------------------------------------------


def _sampled(files: PhaseFiles, track: Track) -> Looked:
    """Estimate the text of a phase from some files of each source."""
    budget = SAMPLE_BYTES // len(files.here)
    chosen = [(source, listing, _spread(listing, budget)) for source, listing in files.here]
    number = sum(len(some) for _, _, some in chosen)
    every = ((source, file) for source, _, some in chosen for file in some)
    tracked = track(every, f"{files.phase.name}: cleaning a sample of its files", number)
    read = {id(file): _kept(files.phase, source, file, budget) for source, file in tracked}
    characters = size = 0
    for _, listing, some in chosen:
        of_bytes, kept = (sum(read[id(file)][place] for file in some) for place in (0, 1))
        characters += round(sum(file.size for file in listing.files) * kept / max(1, of_bytes))
        size += of_bytes
    return Looked(files, characters, f"a sample of {number:,} files, {size / 1e6:.2f} MB")


def _spread(listing: Listing, budget: int) -> list[InputFile]:
    """Return files from all parts of a source, in a fixed order, until they have enough bytes."""
    count = len(listing.files)
    order = sorted(range(count), key=lambda number: (number * 0.6180339887) % 1)
    sizes = itertools.accumulate(listing.files[number].size for number in order)
    before = itertools.chain([0], sizes)
    return [listing.files[number] for number, size in zip(order, before, strict=False) if size < budget]


def _kept(phase: Phase, source: Source, file: InputFile, budget: int) -> tuple[int, int]:
    """Return the bytes of a file that were read, and the characters that the rules of a phase keep of them.

    A large file is read from its beginning; its characters then count as bytes.
    """
    ledger, kept = Ledger(""), 0
    for document in sources.read(source, [file], ledger):
        kept += sum(len(piece.text) for piece in pieces.screen(document, phase.exclude, None, ledger).pieces)
        if ledger.characters_in >= budget:
            return min(file.size, ledger.characters_in), kept
    return file.size, kept
