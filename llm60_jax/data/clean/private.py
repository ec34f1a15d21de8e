"""Private strings in a text: addresses, numbers, keys. Needs the extra `privacy`.

Their form finds them. Where a check exists it must pass: telephone numbering plans, check digits of
cards and accounts, the entropy of keys.
"""

import ipaddress
import math
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from llm60_jax.errors import InputError
from llm60_jax.machine import shipped

_REGIONS = ("US", "GB")  # for telephone numbers without a country code

_EMAIL = re.compile(r"\b[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,5}[A-Za-z]{2,24}\b")
_PASSWORD = re.compile(r"\b[a-z][a-z+]{1,12}://[^\s/:@]{1,64}:[^\s/:@]{1,128}@")
_KEYS = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    r"|\bgh[pousr]_[A-Za-z0-9]{36,255}\b"  # GitHub
    r"|\bglpat-[A-Za-z0-9_-]{20,64}\b"  # GitLab
    r"|\bxox[abeprs]-[A-Za-z0-9-]{10,255}\b"  # Slack
    r"|\bAIza[A-Za-z0-9_-]{35}\b"  # Google
    r"|\b[sr]k[-_](?:live_|test_|proj-|ant-)?[A-Za-z0-9_-]{20,255}\b"  # Stripe, OpenAI, Anthropic
    r"|\bhf_[A-Za-z0-9]{30,64}\b"  # Hugging Face
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"  # a JSON web token
)
_RANDOM = re.compile(r"(?<![\w/+-])[A-Za-z0-9+/_-]{24,255}={0,2}(?![\w/+-])")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){3,8}\b")
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_IP = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_STREET = re.compile(
    r"\b\d{1,5}[A-Za-z]? (?:(?:North|South|East|West|N\.|S\.|E\.|W\.) )?(?:[A-Z][\w'\u2019.-]{1,20} ){1,3}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Square|Terrace|Court|Ct|Crescent|Close|Way)\b"
)
_WORD = re.compile(r"[^\W\d_]+|\d")
_MIN_RANDOM_BITS = 3.5  # per character of a key: English and names have less, hex digits 3.7


class Private(NamedTuple):
    """A private string and its place in a text."""

    kind: str
    start: int
    end: int
    text: str

    @property
    def masked(self) -> str:
        """The string with most of it hidden, for display."""
        return f"{self.text[:2]}…{self.text[-1:]} ({len(self.text)} characters)"


def find(text: str) -> list[Private]:
    """Return the private strings of a text in order. None overlaps another.

    Raises InputError if the extra `privacy` is not installed.
    """
    strings: list[Private] = []
    for kind, spans in _KINDS.items():
        for start, end in spans(text):
            if all(end <= other.start or other.end <= start for other in strings):
                strings.append(Private(kind, start, end, text[start:end]))
    return sorted(strings, key=lambda private: private.start)


def count(texts: Iterable[str]) -> Counter[str]:
    """Count the private strings of each kind in some texts."""
    return Counter(private.kind for text in texts for private in find(text))


def described(counts: Mapping[str, int]) -> list[str]:
    """Return counts of private strings in words: "2 e-mail addresses", "1 key"."""
    plural = {name: f"{name}es" if name.endswith("s") else f"{name}s" for name in counts}
    return [f"{n:,} {kind if n == 1 else plural[kind]}" for kind, n in counts.items()]


def alike(secret: str, words: Sequence[str], rng: random.Random) -> str:
    """Return a random string of the same form.

    Digits become other digits, words become words of `words` (which are in lower case), and letters
    that form no word become other letters.
    """

    def replacement(match: re.Match[str]) -> str:
        part = match[0]
        if part.isdigit():
            return rng.choice(string.digits)
        if len(part) < 4 or not (part.islower() or part.istitle() or part.isupper()):
            return "".join(_letter(letter, rng) for letter in part)
        word = rng.choice(words) if words else "".join(_letter(letter, rng) for letter in part.lower())
        return word.title() if part.istitle() else word.upper() if part.isupper() else word

    return _WORD.sub(replacement, secret)


def _letter(letter: str, rng: random.Random) -> str:
    return rng.choice(string.ascii_uppercase if letter.isupper() else string.ascii_lowercase)


def _spans(pattern: re.Pattern[str], check: Callable[[str], bool] = bool) -> Callable[[str], Iterator[tuple[int, int]]]:
    """Return a function that yields the spans of a pattern that pass a check."""
    return lambda text: (match.span() for match in pattern.finditer(text) if check(match[0]))


def _phones(text: str) -> Iterator[tuple[int, int]]:
    try:
        import phonenumbers
    except ImportError:
        message = f"finding private strings needs two small packages: {shipped.extra('privacy')}"
        raise InputError(message) from None
    for region in _REGIONS:
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.VALID):
            yield match.start, match.end


def _is_card(text: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", text)
    return len(set(digits)) > 1 and luhn.is_valid(digits)


def _is_account(text: str) -> bool:
    from stdnum import iban

    return iban.is_valid(text)


def _is_social_security(text: str) -> bool:
    from stdnum.us import ssn

    return ssn.is_valid(text)


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_random(text: str) -> bool:
    """Whether a long word has the characters and entropy of a key, unlike paths and numbers."""
    if 12 * text.count("/") > len(text):
        return False
    kinds = sum(any(map(kind, text)) for kind in (str.islower, str.isupper, str.isdigit))
    mixed = kinds == 3 or (kinds == 2 and any(map(str.isdigit, text)) and len(text) >= 32)
    shares = [n / len(text) for n in Counter(text).values()]
    return mixed and -sum(share * math.log2(share) for share in shares) > _MIN_RANDOM_BITS


# In order of precedence: a string that overlaps one of an earlier kind is not counted again.
_KINDS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "password": _spans(_PASSWORD),
    "e-mail address": _spans(_EMAIL),
    "key": _spans(_KEYS),
    "account number": _spans(_IBAN, _is_account),
    "card number": _spans(_CARD, _is_card),
    "social security number": _spans(_SSN, _is_social_security),
    "telephone number": _phones,
    "IP address": _spans(_IP, _is_address),
    "street address": _spans(_STREET),
    "random key": _spans(_RANDOM, _is_random),
}
