"""The words of a run's training text and how often each occurs: what is known, what is rare."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.evaluate import prose
from llm60_jax.machine import files, manifest
from llm60_jax.machine.progress import Track

RAREST = 0.03  # of the running text is made up of rare words, as in the last bin of `validation.rarity_bins`
_FILE = "words.txt"
_VERSION = 1
_MOST = 2_000_000  # words counted at once; beyond, those met once so far are forgotten
_LONGEST = 40  # letters; what is longer is no word


class Words(NamedTuple):
    """The most frequent come first."""

    counts: dict[str, int]
    rare: frozenset[str]


def prepare(corpora: Mapping[str, Corpus], data_dir: Path, track: Track) -> Words:
    """Counts the words of the training text of all phases, or finds them counted below `data_dir`/words.

    Raises MachineError if the folder cannot be written.
    """
    identity = {"corpora": sorted(found.digest for found in corpora.values()), "version": _VERSION}
    folder = Path(data_dir) / "words" / files.digest_of(identity)[:16]

    def build(scratch: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        for name, found in corpora.items():
            for record in track(found.read("train"), f"{name}: counting words", len(found.ids("train"))):
                counts.update(word for word in prose.words(record["text"]) if len(word) <= _LONGEST)
                if len(counts) > _MOST:
                    counts = Counter({word: count for word, count in counts.items() if count > 1})
        lines = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        text = "".join(f"{word}\t{count}\n" for word, count in lines)
        (scratch / _FILE).write_text(text, encoding="utf-8")
        return {"words": counts.total(), "types": len(counts)}

    manifest.build_once(folder, identity, build, "words of the training text")
    with (folder / _FILE).open(encoding="utf-8") as file:
        pairs = (line.rstrip("\n").split("\t") for line in file)
        return of({word: int(count) for word, count in pairs})


def of(counts: dict[str, int]) -> Words:
    """Rare are the least frequent words that together make up 3 % of the running text. `counts` must fall."""
    left, rare = RAREST * sum(counts.values()), []
    for word in reversed(counts):
        left -= counts[word]
        if left < 0:
            break
        rare.append(word)
    return Words(counts, frozenset(rare))
