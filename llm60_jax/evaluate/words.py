"""The words of a run's training text and their counts: which are known, and which are rare."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.evaluate import prose
from llm60_jax.machine import files, manifest
from llm60_jax.machine.progress import Track

RARE_SHARE = 0.03  # share of rare words in the running text, as in `validation.rarity_bins`
_FILE = "words.txt"
_VERSION = 1
_MAX_TYPES = 2_000_000  # distinct words in memory; beyond, words counted once so far are dropped
_MAX_LETTERS = 40  # longer strings are not counted as words


class Words(NamedTuple):
    """Counts by word, the most frequent first, and the rare words."""

    counts: dict[str, int]
    rare: frozenset[str]


def prepare(corpora: Mapping[str, Corpus], data_dir: Path, track: Track) -> Words:
    """Count the words of the training text of all phases, or read the counts cached in
    `data_dir`/words.

    Raises MachineError if the folder cannot be written.
    """
    identity = {"corpora": sorted(corpus.digest for corpus in corpora.values()), "version": _VERSION}
    folder = Path(data_dir) / "words" / files.digest_of(identity)[:16]

    def build(scratch: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        for name, corpus in corpora.items():
            for record in track(corpus.read("train"), f"{name}: counting words", len(corpus.ids("train"))):
                counts.update(word for word in prose.words(record["text"]) if len(word) <= _MAX_LETTERS)
                if len(counts) > _MAX_TYPES:
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
    """Return the words of `counts`, which must be sorted from the most frequent.

    Rare are the least frequent words that together make up 3 % of the running text.
    """
    remaining, rare = RARE_SHARE * sum(counts.values()), []
    for word in reversed(counts):
        remaining -= counts[word]
        if remaining < 0:
            break
        rare.append(word)
    return Words(counts, frozenset(rare))
