"""Which footnotes hold words of their author."""

import re

_WORD = re.compile(r"[^\W_]+")
_ENDS_SENTENCE = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]{0,3}$")
_ADDRESS = re.compile(r"\bhttps?://\S+|\bwww\.\S+")
_CITATION = re.compile(
    r"\bpp?\. ?\d|\bvol\. ?\d|\bno\. ?\d|\bed(?:s|ited)?\b\.? by|\beds?\.|\bibid\b|\bop\. cit|\bloc\. cit|\bdoi\b"
    r"|\bisbn\b|\bpress\b|\(\d{4}\)|, \d{4}[.)]|\bretrieved\b|\baccessed\b|https?://|\bcf\.|^see (?:also )?[A-Z]",
    re.IGNORECASE,
)


def says_something(note: str) -> bool:
    """Whether a note holds words of the author: a sentence, not only a source or an address."""
    own = _ADDRESS.sub("", note)
    words = _WORD.findall(own)
    small = sum(word[0].islower() for word in words)
    least = 12 if _CITATION.search(note) else 3
    return small >= least and 2 * small >= len(words) and bool(_ENDS_SENTENCE.search(own.strip()) or small >= 8)
