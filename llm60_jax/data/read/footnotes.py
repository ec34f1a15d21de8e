"""Which footnotes hold words of their author."""

import re

_SENTENCE = re.compile(r"\w+\W+\w+\W+\w+\W.{0,20000}[.!?][\"'\u201d\u2019)]*$", re.DOTALL)
_CITATION = re.compile(r"(?:see|cf\.?|ibid\.?|op\. cit\.?|https?:)\b.{0,120}$", re.IGNORECASE | re.DOTALL)


def is_sentence(note: str) -> bool:
    """Whether a note is a sentence of its author, not a bare citation or an address."""
    words = re.findall(r"[^\W\d_]+", note)
    small = sum(word.islower() for word in words)
    return 2 * small > len(words) and bool(_SENTENCE.match(note)) and not _CITATION.match(note)
