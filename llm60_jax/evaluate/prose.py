"""Counts in a text: vocabulary, slips, loops. Generated and human text are measured alike.

The measures of vocabulary do not depend on the length of the text: MTLD (McCarthy and Jarvis 2010)
and HD-D (McCarthy and Jarvis 2007). Slips are counted per 1,000 words. All functions are pure.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_MTLD_RATIO = 0.72  # type-token ratio at which a factor is complete
_HDD_SAMPLE = 42  # words of a random sample
_LONGEST_LOOP = 8  # words
# often repeated on purpose: "the man that that concerned", "he had had enough", "very, very old"
_DOUBLES = frozenset("that had very so long never no far many again".split())
_TWICE = re.compile(r"\b([^\W\d_]+) \1\b(?!['\u2019])", re.IGNORECASE)
_ONE_SOUND = re.compile(
    r"(?:one|once|ones|oneself)$|eu|ewe|us[aeu]|ut[aeio]|unan|uni(?!n|d|m[^o])|ubiq|ukr|ura", re.IGNORECASE
)
_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)", re.IGNORECASE)
_ENDS = tuple(".!?:;\u2026")
_CLOSERS = "\"'\u201d\u2019)]"


@dataclasses.dataclass(frozen=True)
class Prose:
    """The counts of all texts together. The last six fields are slips per 1,000 words."""

    words: int
    mtld: float  # 0 for a text that is too short
    hdd: float  # expected distinct words in a random sample of 42 words, / 42
    rare_types: float  # share of distinct words that are known and rare
    invented_words: float  # words that are not known
    doubled_words: float
    wrong_articles: float  # "a" for "an" or "an" for "a"
    unclosed_quotes: float
    unfinished_sentences: float  # paragraphs without a final punctuation mark
    looped_words: float  # words in phrases of 1 to 8 words, three or more times in a row

    def to_tree(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dataclasses.asdict(self)


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]


def measure(texts: Iterable[tuple[str, bool]], known: Collection[str], rare: Collection[str]) -> Prose:
    """Measure texts.

    Args:
      texts: each with whether it was cut off; then its unfinished last sentence does not count.
      known: all words of the training text.
      rare: the known words that are rare in it.
    """
    all_words: list[str] = []
    slips: Counter[str] = Counter()
    for text, is_cut in texts:
        whole = _whole_sentences(text) if is_cut else text
        text_words = words(whole)
        all_words += text_words
        slips["invented_words"] += sum(word not in known for word in text_words)
        slips["doubled_words"] += doubled(whole)
        slips["wrong_articles"] += wrong_articles(whole)
        slips["unclosed_quotes"] += sum(unclosed(paragraph) for paragraph in _paragraphs(whole))
        slips["unfinished_sentences"] += sum(not _is_finished(paragraph) for paragraph in _paragraphs(whole))
        slips["looped_words"] += looped(text_words)
    types = set(all_words)
    rates = {name: 1000 * slips[name] / max(1, len(all_words)) for name in SLIPS}
    rare_types = len(types & set(rare)) / max(1, len(types))
    return Prose(len(all_words), mtld(all_words), hdd(all_words), rare_types, **rates)


SLIPS = tuple(field.name for field in dataclasses.fields(Prose))[4:]


def mtld(tokens: Sequence[str]) -> float:
    """Return the mean length of stretches with a type-token ratio above 0.72, read both ways."""
    if len(tokens) < 10:
        return 0.0
    return (mtld_one_way(tokens) + mtld_one_way(tokens[::-1])) / 2


def mtld_one_way(tokens: Sequence[str]) -> float:
    """Return MTLD in one reading direction."""
    factors, types, count = 0.0, set[str](), 0
    for word in tokens:
        count += 1
        types.add(word)
        if len(types) / count <= _MTLD_RATIO:
            factors, types, count = factors + 1, set(), 0
    if count:
        factors += (1 - len(types) / count) / (1 - _MTLD_RATIO)
    return len(tokens) / factors if factors else float(len(tokens))


def hdd(tokens: Sequence[str], sample: int = _HDD_SAMPLE) -> float:
    """Return the expected share of distinct words in `sample` words.

    The words are drawn without replacement, so their counts are hypergeometric.
    """
    total = len(tokens)
    if total < sample:
        return 0.0
    log_samples = _log_choose(total, sample)
    expected = 0.0
    for count, types in Counter(Counter(tokens).values()).items():
        absent = math.exp(_log_choose(total - count, sample) - log_samples) if total - count >= sample else 0.0
        expected += types * (1 - absent)
    return expected / sample


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def doubled(text: str) -> int:
    """Count the words that are repeated after a single space."""
    return sum(match[1].lower() not in _DOUBLES for match in _TWICE.finditer(text))


def wrong_articles(text: str) -> int:
    """Count the indefinite articles that do not suit the next word's sound, by its spelling."""
    count = 0
    for article, word in re.findall(r"\b([Aa]n?) ([^\W\d_]{2,})", text):
        if word.isupper():  # "an FBI agent", "a USB port": spoken as letters
            continue
        vowel = bool(_SILENT_H.match(word)) or (word[0].lower() in "aeiou" and not _ONE_SOUND.match(word))
        count += vowel != (len(article) == 2)
    return count


def unclosed(paragraph: str) -> bool:
    """Return whether the opening and closing double quotation marks do not match."""
    return paragraph.count('"') % 2 == 1 or paragraph.count("\u201c") != paragraph.count("\u201d")


def looped(tokens: Sequence[str]) -> int:
    """Count the words of phrases that occur three or more times in a row."""
    in_loop = [False] * len(tokens)
    for length in range(1, _LONGEST_LOOP + 1):
        same = 0  # words in a row that equal the word `length` places before
        for place in range(length, len(tokens)):
            same = same + 1 if tokens[place] == tokens[place - length] else 0
            if same >= 2 * length:
                in_loop[place - 3 * length + 1 : place + 1] = [True] * (3 * length)
    return sum(in_loop)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text, roughly.

    A sentence ends at a mark before a space and a capital letter or a quotation mark.
    """
    for paragraph in _paragraphs(text):
        for sentence in re.split(r"(?<=[.!?])[\"'\u201d\u2019]? +(?=[\"'\u201c\u2018A-Z])", paragraph):
            if sentence.strip():
                yield sentence.strip()


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n") if paragraph.strip()]


def _is_finished(paragraph: str) -> bool:
    return paragraph.rstrip(_CLOSERS).endswith(_ENDS)


def _whole_sentences(text: str) -> str:
    """Return the text up to the end of its last sentence."""
    end = max(text.rfind(mark) for mark in _ENDS)
    while 0 <= end < len(text) - 1 and text[end + 1] in _CLOSERS:
        end += 1
    return text[: end + 1]
