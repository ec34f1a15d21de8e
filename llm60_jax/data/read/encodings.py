"""The encoding of a text, judged by its bytes."""

import codecs
import re

HEAD_BYTES = 4096  # enough to see UTF-16 without its mark

# Share of control characters among the bytes. Text in a single-byte encoding has hardly any, binary
# data about 10 %.
_MAX_CONTROL_SHARE = 0.01
# The marks of UTF-32 come first: that of UTF-16 is the beginning of one of them.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings of one byte a character, the likeliest first: a tie goes to the first.
_SINGLE = ("cp1252", "mac_roman", "cp850", "cp437", "iso8859_15")
_JUDGED = 20_000  # bytes beyond ASCII that are judged; more add no evidence

_COMMON = frozenset("éèêëàâäáãåçñöóôòõøüúûùïíîìæœßÿýðþÉÈÊÀÂÄÁÅÇÑÖÓÔØÜÚÎÍÆŒÞ")
_COMMONEST = frozenset("éèëàäåçñöüïÉÅÄÇÖÜ")  # in English text: names and borrowed words
_BEGINNING = frozenset("éàåäöüœæøñ")  # letters that begin a word of those
_OPENING = frozenset("\u201c\u2018\u201e\xab\xbf\xa1")
_CLOSING = frozenset("\u201d\u2019\xbb")
_DASHES = frozenset("\u2014\u2013")
_AFTER_TEXT = frozenset("\u2026\u2122\xae\u2020\u2021")
_BEFORE_DIGIT = frozenset("\xa3\u20ac$\xa2\xa7\xa5#\xb1\xd7")
_AFTER_DIGIT = frozenset("\xb0\xbd\xbc\xbe\xb2\xb3\xb9\u20ac\xa3\xa2\xa5\xd7\xba\xaa")
_LONE = frozenset("\u2022\xb7\xa9\xa7\xb6\xa0")
_RTF_SET = re.compile(r"\\(ansi|mac|pca?)(?![a-z])")
_FOREIGN = re.compile("[^\x00-\x7f]")


def decode(data: bytes) -> tuple[str, bool] | None:
    """Decode UTF-8, UTF-16 and UTF-32; damaged UTF-8; else the likeliest of the older encodings.

    Returns:
      (text, whether it was repaired), or None if the bytes are not text.
    """
    if codec := wide(data[:HEAD_BYTES]):
        decoded = data.decode(codec, errors="replace").removeprefix("\ufeff")
        return decoded, "\ufffd" in decoded
    try:
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        pass
    control = sum(data.count(byte) for byte in range(32) if byte not in b"\t\n\v\f\r")
    if control > _MAX_CONTROL_SHARE * len(data):
        return None
    decoded = data.decode("utf-8-sig", errors="replace")
    broken = decoded.count("\ufffd")
    intact = sum(not character.isascii() for character in decoded) - broken
    return (decoded if intact > broken else data.decode(_single(data), errors="replace")), True


def wide(head: bytes) -> str:
    """Return the codec of UTF-16 or UTF-32 text, with its mark or without; "" for any other.

    Without a mark, Latin letters in UTF-16 show as a zero in every other byte.
    """
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return codec
    head = head[: len(head) // 2 * 2]
    even, odd = head[::2].count(0), head[1::2].count(0)
    pairs = len(head) // 2
    if pairs < 2 or 2 * max(even, odd) < pairs or 20 * min(even, odd) > pairs:
        return ""
    codec = "utf-16-le" if odd > even else "utf-16-be"
    letters = head.decode(codec, errors="replace")
    # Numbers of two bytes have zeros too, but their other bytes are no text.
    control = sum(character < " " and character not in "\t\n\v\f\r" for character in letters)
    return codec if control <= _MAX_CONTROL_SHARE * pairs and "\ufffd" not in letters[:-1] else ""


def of_rtf(source: str) -> str:
    """Return the encoding of the codes in an RTF file, by the character set in its head.

    A code page named by \\ansicpg, which striprtf reads itself, goes before it.
    """
    match = _RTF_SET.search(source[:200])
    return {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}.get(match[1] if match else "", "cp1252")


def _single(data: bytes) -> str:
    """Return the encoding of one byte a character in which the bytes beyond ASCII make most sense."""
    # Most bytes are ASCII: only the neighbourhoods of the others are decoded and judged.
    text = data.decode("latin-1")
    near = [text[max(0, match.start() - 2) : match.end() + 2] for match in _iterate(text)]
    counts: dict[str, int] = {}
    for context in near:
        counts[context] = counts.get(context, 0) + 1
    points = dict.fromkeys(_SINGLE, 0.0)
    for context, count in counts.items():
        # Many equal places are hardly more evidence than a few.
        weight = min(count, 5)
        raw = context.encode("latin-1")
        for codec in _SINGLE:
            points[codec] += weight * _plausible(raw.decode(codec, errors="replace"))
    return max(_SINGLE, key=lambda codec: points[codec])


def _iterate(text: str) -> list["re.Match[str]"]:
    return [match for match, _ in zip(_FOREIGN.finditer(text), range(_JUDGED), strict=False)]


def _plausible(context: str) -> float:
    """Return how well characters beyond ASCII fit their neighbours: 1 well, -3 not at all."""
    points, number = 0.0, 0
    padded = f" {context} "
    for before, character, after in zip(padded, padded[1:], padded[2:], strict=False):
        if not character.isascii():
            points += _fits(before, character, after)
            number += 1
    return points / max(1, number)


def _fits(before: str, character: str, after: str) -> float:
    if character == "\ufffd" or "\x80" <= character <= "\x9f":
        return -3
    if character.isalpha() and character not in "\xaa\xba":
        usual = 1 if character in _COMMONEST else 0.8 if character in _COMMON else 0.3
        if character.islower() and not before.isalpha() and character not in _BEGINNING:
            usual -= 0.4
        if character.isupper():
            if before.islower():
                return -2  # a capital inside a word
            return usual if after.isalpha() else usual - 1.2
        if before.isalpha() or after.islower():
            return usual if not before.isupper() or after.isalpha() or after in " ,." else -0.5
        return -0.8  # a letter by itself
    if character in _OPENING:
        return 1 if not before.isalnum() and (after.isalnum() or not after.isascii()) else -1
    if character in _CLOSING:
        if before.isalnum() or before in ".,;:!?)-" or not before.isascii():
            return 1 if character == "\u2019" or not after.isalnum() else -0.5
        return -0.3 if character == "\u2019" and after.isalnum() else -1  # 'twas
    if character in _DASHES:
        # Between two letters an em dash is usual, an en dash is not.
        return 0.3 if character == "\u2013" and before.islower() and after.islower() else 1
    if character in _AFTER_TEXT:
        if character != "\u2026" and after.isalnum():
            return -1
        return 1 if before.isalnum() or before in " .,!?\u2019\u201d\"'" else 0
    if character in _BEFORE_DIGIT and after.isdigit():
        return 1
    if character in _AFTER_DIGIT and before.isdigit():
        return 1
    if character in _LONE:
        return 0.4
    if before == character or after == character:
        return 0.2  # a drawn line
    return -1
