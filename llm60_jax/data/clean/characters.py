"""Repair the characters of a text: line ends, invisible characters, mojibake, compatibility forms."""

import re
import unicodedata

from llm60_jax.data.clean import pages

# Code points instead of `unicodedata` categories, so every Python version removes the same ones.
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters except white space
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"  # format characters
    "\ud800-\udfff"  # unpaired surrogates, which JSON escapes can hold
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use
    "]"
)
# A text file that was converted twice has "\r\r\n".
_NEWLINE = re.compile("\r{1,2}\n|\r|[\x0b\x0c\x1c-\x1e\x85\u2028]")
_NEWLINE_IN_PAGE = re.compile("\r{1,2}\n|\r")
_TERMINAL = re.compile(r"\x1b(?:\[[0-9;?]{0,20}[@-~]|\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\))")  # colours, titles
# A soft hyphen, or the sign that scanners write for one, and the rest of its word in the next line.
_BROKEN_WORD = re.compile(
    r"(?<=[^\W\d_])[\xad\xac]\n *(?P<rest>[^\W\d_]+(?:[\xad\xac]\n *[^\W\d_]+)*[^\s\xad\xac]*) *\n?"
)
_BREAK = re.compile(r"[\xad\xac]\n *")

# NFKC would change what these say: "1½" to "11⁄2", "m²" to "m2", "´" to a blank and an accent.
_KEPT = re.compile(
    "([\u00b2\u00b3\u00b9\u2070-\u207f\u00bc-\u00be\u2150-\u215e\u2189\u00aa\u00ba\u2120\u2122"
    "\u00a8\u00af\u00b8\u02d8\u02d9\u02db-\u02dd\u037a\u0384\u0385\u1fbd-\u1fc1\u1fcd-\u1fcf\u1fdd-\u1fdf\u1fed\u1fee"
    "\u1ffd\u1ffe\u2017\u203e\u309b\u309c\ufc5e-\ufc63\ufe49-\ufe4c\ufe70-\ufe7e\uffe3]+)"
)
_SUBSTITUTES = str.maketrans(
    {
        "\u2581": "_",  # sentencepiece itself uses U+2581 for a space
        "\u2010": "-",
        "\u2011": "-",
        "\u2044": "/",
        "\u00b4": "'",
        "\u02da": "\u00b0",
        # One sign for a squared or cubed unit.
        **dict(
            zip(
                "\u3378\u3379\u339f\u33a0\u33a1\u33a2\u33a3\u33a4\u33a5\u33a6",
                "dm\u00b2 dm\u00b3 mm\u00b2 cm\u00b2 m\u00b2 km\u00b2 mm\u00b3 cm\u00b3 m\u00b3 km\u00b3".split(),
                strict=True,
            )
        ),
    }
)
_SUBSTITUTED = re.compile("[" + "".join(map(chr, _SUBSTITUTES)) + "]")
_APOSTROPHE = re.compile(r"(?<=[a-zA-Z])`(?=(?:s|t|d|m|re|ve|ll)\b)|(?<=\bO)`(?=[A-Z])")
# The letter itself, which is also what a no-break space becomes when it is decoded wrongly.
_LETTER_NAMED = re.compile(r"(?<![.!?\"'\u201d\u2019)\u00c2\u00c3] )(?<!\S)([\u00c2\u00c3] )(?=[a-z])")


def normalise(text: str) -> str:
    """Convert to NFKC and "\\n" line ends, drop invisible characters, undo mojibake. Idempotent.

    Fractions, superscripts and accents that stand alone stay as they are. Running heads and page
    numbers go where form feeds show the pages, and words that a soft hyphen breaks are joined.
    Lines lose trailing white space but keep their indentation, which the exclusion rules need.
    """
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if "\x0c" in text:
        text = pages.join_pages(_NEWLINE_IN_PAGE.sub("\n", text))
    text = _NEWLINE.sub("\n", text).replace("\u2029", "\n\n").expandtabs(4)
    if not text.isascii():
        if "\xad" in text or "\xac" in text:
            text = _BROKEN_WORD.sub(lambda match: _BREAK.sub("", match["rest"]) + "\n", text)
        lines = text.split("\n")
        text = "\n".join(line if line.isascii() else _normalise_line(line) for line in lines)
    if "`" in text:
        text = _APOSTROPHE.sub("'", text)
    return "\n".join(line.rstrip() for line in _INVISIBLE.sub("", text).split("\n"))


def _normalise_line(line: str) -> str:
    """Normalise a line until nothing changes: a removal can join characters that form mojibake."""
    from ftfy import badness, fix_encoding  # imported here: it takes a tenth of a second

    before = ""
    while line != before:
        before = line
        if badness.is_bad(line):
            parts = _LETTER_NAMED.split(line)
            parts[::2] = [fix_encoding(part) for part in parts[::2]]
            line = _NEWLINE.sub("\n", "".join(parts))
        # Remove invisible characters first: NFKC then composes a letter and accent they separated.
        line = _substituted(_compose(_substituted(_INVISIBLE.sub("", line)))).rstrip()
        if "\n" in line:
            return "\n".join(map(_normalise_line, line.split("\n")))
    return line


def _substituted(line: str) -> str:
    return line.translate(_SUBSTITUTES) if _SUBSTITUTED.search(line) else line  # a search is much faster


def _compose(line: str) -> str:
    """Convert to NFKC, except the characters that would say something else."""
    if unicodedata.is_normalized("NFKC", line):
        return line
    parts = _KEPT.split(line)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)
