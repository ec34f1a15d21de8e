"""Project Gutenberg's own text around a book: headers, "small print" and licences of any year."""

import re

_NAMED = re.compile(r"project\s+gutenberg", re.IGNORECASE)
_HEAD_CHARACTERS = 20_000  # a header ends within this, small print included
_STARTS = re.compile(
    r"""^[ \t]*(?:
        \*{3}[ \t]*START[ ]OF[ ](?:THIS|THE)?[ ]?PROJECT[ ]GUTENBERG.*(?:\n(?!\n).*)?\*{3}  # since about 2001
        | \*{1,3}[ \t]*END[ *]*THE[ ]SMALL[ ]PRINT.*                                     # before
    )[ \t]*$""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_ENDS = re.compile(
    r"""^[ \t*]*(?:
        END[ ]OF[ ](?:(?:THIS|THE)[ ])?PROJECT[ ]GUTENBERG
        | END[ ]OF[ ](?:THIS[ ]|THE[ ])?(?:ETEXT|E-TEXT|EBOOK)[ ]OF
        | START:[ ]FULL[ ]LICENSE
        | THE[ ]FULL[ ]PROJECT[ ]GUTENBERG
        | END[ ]OF[ ]THIS[ ]PROJECT[ ]GUTENBERG
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


def strip(text: str) -> tuple[str, list[str]]:
    """Return a text without Project Gutenberg's header and licence, and the removed parts.

    The text must be normalised (`cleaning.normalise`). A text that does not name Project Gutenberg
    is unchanged. Where the mark at an end is missing, that end stays for the rule `boilerplate`.
    """
    if not _NAMED.search(text):
        return text, []
    start = 0
    for match in _STARTS.finditer(text, 0, min(len(text), _HEAD_CHARACTERS)):
        start = match.end()
    end = next((match.start() for match in _ENDS.finditer(text, start)), len(text))
    removed = [part for part in (text[:start], text[end:]) if part.strip()]
    return text[start:end], removed
