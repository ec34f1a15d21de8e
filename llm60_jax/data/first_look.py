"""A first look at the text of a configuration, before any long work.

It finds missing sources and too little text of one's own, and estimates the tokens of phases whose
length is given in epochs.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from llm60_jax import config as config_module
from llm60_jax.config import RULE_2, Config, HubSource, PackageSource, Phase, Source
from llm60_jax.data.corpus import corpus
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.read import folders, hub, sources
from llm60_jax.data.read.sources import Listing
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import Track

SMALL_BYTES = 20_000_000  # of a phase's files: cleaned within half a minute
_CHARACTERS_PER_TOKEN = 4.2  # of English, with a vocabulary of some thousand tokens


class PhaseFiles(NamedTuple):
    """What the sources of a phase hold, before anything is read."""

    phase: Phase
    listings: Sequence[Listing | None]  # of each source; None if it is not downloaded yet

    @property
    def here(self) -> list[tuple[Source, Listing]]:
        """The sources that are here, with their files."""
        pairs = zip(self.phase.sources, self.listings, strict=True)
        return [(source, listing) for source, listing in pairs if listing is not None]

    @property
    def to_download(self) -> list[HubSource]:
        """The sources that are not downloaded yet."""
        pairs = zip(self.phase.sources, self.listings, strict=True)
        return [source for source, listing in pairs if listing is None and isinstance(source, HubSource)]

    @property
    def size(self) -> int:
        """Bytes of the files that are here."""
        return sum(file.size for _, listing in self.here for file in listing.files)

    @property
    def identities(self) -> dict[tuple[int, int] | str, Source]:
        """The files that are here, with the source of each."""
        return {file.identity: source for source, listing in self.here for file in listing.files}


class Look(NamedTuple):
    """What the sources of a configuration show before any long work.

    `config` has an estimate of the tokens where the file gives epochs. `tokens` estimates the
    training text of the phases looked at, by their names. `notes` say what is passed over, and what
    two phases share.
    """

    config: Config
    tokens: dict[str, int]
    notes: Sequence[str] = ()

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
    wanted = [phase for phase in config.phase if phase.epochs is not None or not epochs_only]
    found = listed(config, wanted)
    notes = [*passed_over(found), *shared(config, found)]
    looked_at: dict[str, int] = {}
    to_come: dict[str, int] = {}
    for phase_files in smallest_first(found):
        phase = phase_files.phase
        if phase_files.to_download:
            to_come[phase.name] = tokens_of(sum(source.max_characters for source in phase_files.to_download))
        elif phase.epochs is not None or phase_files.size <= SMALL_BYTES:
            text = prepared(config, phase, track, data_dir)
            require_enough(text)
            looked_at[phase.name] = tokens_of(text.ledger["splits"]["train"]["characters"])
    return Look(counted(config, looked_at | to_come), looked_at, notes)


def tokens_of(characters: int) -> int:
    """Estimate the tokens of English text."""
    return round(characters / _CHARACTERS_PER_TOKEN)


def listed(config: Config, phases: Iterable[Phase]) -> list[PhaseFiles]:
    """List the sources of some phases.

    Raises InputError if one is missing, or if the run itself writes where it reads.
    """
    found = []
    for phase in phases:
        for source in phase.sources:
            _require_apart(config, phase, source)
        found.append(PhaseFiles(phase, [sources.listed(s) if _is_here(s) else None for s in phase.sources]))
    return found


def smallest_first(found: Iterable[PhaseFiles]) -> list[PhaseFiles]:
    """Sort phases by the bytes of their source files, those to be downloaded last."""
    return sorted(found, key=lambda files: (bool(files.to_download), files.size))


def passed_over(found: Iterable[PhaseFiles]) -> list[str]:
    """Return a line for each folder of which a part is not read: what, and why."""
    lines = [
        f"{place(source)}: passed over: {'; '.join(folders.describe(listing.passed_over))}"
        for files in found
        for source, listing in files.here
        if listing.passed_over
    ]
    return list(dict.fromkeys(lines))


def shared(config: Config, found: Sequence[PhaseFiles]) -> list[str]:
    """Return a line for each phase that loses files to fine-tuning, because both phases name them.

    Raises InputError for a phase that would lose all.
    """
    lines = []
    tuning = [files for files in found if config.goal(files.phase) == "fine_tune"]
    for files in found:
        for other in tuning if files not in tuning else []:
            ours, theirs = files.identities, other.identities
            common = ours.keys() & theirs.keys()
            if not common:
                continue
            name, tuned = files.phase.name, other.phase.name
            places = dict.fromkeys(place(table[key]) for table in (ours, theirs) for key in sorted(common, key=str)[:1])
            what = f"phases {name} and {tuned} both read {len(common):,} files ({' and '.join(places)})"
            if len(common) == len(ours) and not files.to_download:
                raise InputError(
                    f"phase.{name}.sources: {what}, and nothing is left for {name}: {RULE_2}; {corpus.APART}"
                )
            lines.append(f"{what}, which are left out of {name}: {RULE_2}")
    return lines


def place(source: Source) -> str:
    """Return a source as its user wrote it."""
    if isinstance(source, PackageSource):
        return f"the package {source.name}"
    return f"source path '{source.path}'"


def _is_here(source: Source) -> bool:
    return not isinstance(source, HubSource) or hub.is_complete(source)


def _require_apart(config: Config, phase: Phase, source: Source) -> None:
    """Raise InputError if the run writes its own files, or downloads, into the folder of a source."""
    if isinstance(source, PackageSource):
        return
    where, folder = f"phase.{phase.name}.sources: {place(source)}", Path(source.path).resolve()
    if folder == Path(config.workdir).resolve():
        raise InputError(f"{where} is the workdir too; give the run a directory of its own: --workdir DIR")
    for download in (s for p in config.phase for s in p.sources if isinstance(s, HubSource) and s != source):
        if not isinstance(source, HubSource) and Path(download.path).resolve().is_relative_to(folder):
            raise InputError(
                f"{where} holds the download of {download.name} ({download.path}), which would be read twice; give "
                "the download a folder outside"
            )


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
