"""What can be counted in a text: its vocabulary, its slips, its loops. Of generated text and of human text alike, so
that one stands beside the other. Pure functions.

Measures of vocabulary do not depend on the length of the text: MTLD (McCarthy and Jarvis 2010) and HD-D (McCarthy and
Jarvis 2007). Slips are counted for 1,000 words.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_MTLD = 0.72  # the type-token ratio at which a factor is complete
_DRAWS = 42  # words of a random sample, for HD-D
_LONGEST_LOOP = 8  # words
# Repeated on purpose: "the man that that concerned", "he had had enough", "very, very old".
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
    """Of some texts together. Fields after `hdd` are slips, for 1,000 words."""

    words: int
    mtld: float  # 0 where a text is too short
    hdd: float  # mean share that a type has in a random sample of 42 words: expected types / 42
    rare_types: float  # share of types that are known and rare
    invented_words: float  # that are not known
    doubled_words: float
    wrong_articles: float  # "a" where the sound asks for "an", and the other way round
    unclosed_quotes: float
    unfinished_sentences: float  # paragraphs that end without a mark of the end
    looped_words: float  # in a run of up to eight words that comes three times in a row or more

    def to_tree(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]


def measure(texts: Iterable[tuple[str, bool]], known: Collection[str], rare: Collection[str]) -> Prose:
    """Measures texts.

    Args:
      texts: each with whether it was cut off; its last sentence then counts for nothing.
      known: all words of the training text.
      rare: those of them that are rare in it.
    """
    total: list[str] = []
    slips: Counter[str] = Counter()
    for text, cut in texts:
        whole = _whole_sentences(text) if cut else text
        found = words(whole)
        total += found
        slips["invented_words"] += sum(word not in known for word in found)
        slips["doubled_words"] += doubled(whole)
        slips["wrong_articles"] += wrong_articles(whole)
        slips["unclosed_quotes"] += sum(unclosed(paragraph) for paragraph in _paragraphs(whole))
        slips["unfinished_sentences"] += sum(not _is_finished(paragraph) for paragraph in _paragraphs(whole))
        slips["looped_words"] += looped(found)
    types = set(total)
    rates = {name: 1000 * slips[name] / max(1, len(total)) for name in SLIPS}
    return Prose(len(total), mtld(total), hdd(total), len(types & set(rare)) / max(1, len(types)), **rates)


SLIPS = tuple(field.name for field in dataclasses.fields(Prose))[4:]


def mtld(found: Sequence[str]) -> float:
    """The mean length of runs of words that keep a type-token ratio above 0.72, read forwards and backwards."""
    if len(found) < 10:
        return 0.0
    return (_mtld(found) + _mtld(found[::-1])) / 2


def _mtld(found: Sequence[str]) -> float:
    factors, types, count = 0.0, set[str](), 0
    for word in found:
        count += 1
        types.add(word)
        if len(types) / count <= _MTLD:
            factors, types, count = factors + 1, set(), 0
    if count:
        factors += (1 - len(types) / count) / (1 - _MTLD)
    return len(found) / factors if factors else float(len(found))


def hdd(found: Sequence[str]) -> float:
    """The expected share of types in 42 words drawn without putting back: hypergeometric."""
    total = len(found)
    if total < _DRAWS:
        return 0.0
    every = _log_choose(total, _DRAWS)
    expected = 0.0
    for count, types in Counter(Counter(found).values()).items():
        none = math.exp(_log_choose(total - count, _DRAWS) - every) if total - count >= _DRAWS else 0.0
        expected += types * (1 - none)
    return expected / _DRAWS


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def doubled(text: str) -> int:
    """Words that stand twice with nothing but a space between."""
    return sum(match[1].lower() not in _DOUBLES for match in _TWICE.finditer(text))


def wrong_articles(text: str) -> int:
    """Indefinite articles that do not suit the sound of the next word, as far as its spelling tells."""
    count = 0
    for article, word in re.findall(r"\b([Aa]n?) ([^\W\d_]{2,})", text):
        if word.isupper():  # "an FBI agent", "a USB port": names of letters
            continue
        vowel = bool(_SILENT_H.match(word)) or (word[0].lower() in "aeiou" and not _ONE_SOUND.match(word))
        count += vowel != (len(article) == 2)
    return count


def unclosed(paragraph: str) -> bool:
    """Whether a double quotation mark is opened and not closed, or the other way round."""
    return paragraph.count('"') % 2 == 1 or paragraph.count("\u201c") != paragraph.count("\u201d")


def looped(found: Sequence[str]) -> int:
    """Words that belong to a run which comes three times in a row or more."""
    marked = [False] * len(found)
    for length in range(1, _LONGEST_LOOP + 1):
        same = 0  # how long the text has been what it was `length` words before
        for place in range(length, len(found)):
            same = same + 1 if found[place] == found[place - length] else 0
            if same >= 2 * length:
                marked[place - 3 * length + 1 : place + 1] = [True] * (3 * length)
    return sum(marked)


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, roughly: they end at a mark before a space and a capital letter or a quotation mark."""
    for paragraph in _paragraphs(text):
        for sentence in re.split(r"(?<=[.!?])[\"'\u201d\u2019]? +(?=[\"'\u201c\u2018A-Z])", paragraph):
            if sentence.strip():
                yield sentence.strip()


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n") if paragraph.strip()]


def _is_finished(paragraph: str) -> bool:
    return paragraph.rstrip(_CLOSERS).endswith(_ENDS)


def _whole_sentences(text: str) -> str:
    """A text up to its last mark of the end."""
    end = max(text.rfind(mark) for mark in _ENDS)
    while 0 <= end < len(text) - 1 and text[end + 1] in _CLOSERS:
        end += 1
    return text[: end + 1]
