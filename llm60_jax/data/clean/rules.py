"""The exclusion rules of the playbook (section 3.3), which drop what is not prose. Pure functions.

There are three kinds: for the lines of a document (`line_rules`, `conversation_rules`), for its
paragraphs (`paragraph_rules`), and for the rest of the document. Each uses evidence of its own, so a phase can
leave any of them out.
"""

import zlib
from collections.abc import Callable

from llm60_jax.config import Exclude, Rule
from llm60_jax.data.clean import conversation_rules, line_rules, paragraph_rules
from llm60_jax.data.clean.lines import Lines, Mask
from llm60_jax.data.clean.paragraph_rules import Paragraph

VERSION = 4  # part of every corpus digest: raise it with any change of what the rules drop


_LONG_BYTES = 8_000  # a shorter text may be a song: its refrain is half of it


def repetitive(text: str, limits: Exclude) -> bool:
    """Whether a document repeats itself: it compresses too well.

    Refrains and cumulative rhymes do so too. The limit rises from half its value for a short text.
    """
    data = text.encode("utf-8")[:200_000]
    limit = limits.compressed * min(1.0, 0.5 + 0.5 * len(data) / _LONG_BYTES)
    return len(data) >= 500 and len(zlib.compress(data, 6)) < limit * len(data)


def too_short(text: str, limits: Exclude) -> bool:
    """Whether a document has too few characters."""
    return len(text) < limits.min_characters


# Rules run in this order, the surest first: later rules do not see what earlier ones dropped.
LINES: dict[Rule, Callable[[Lines, Exclude], Mask]] = {
    "math": line_rules.tex,
    "chat": conversation_rules.chat,
    "forum": conversation_rules.forum,
    "code": line_rules.code,
    "faq": line_rules.faq,
    "list": line_rules.list_,
}
PARAGRAPHS: dict[Rule, Callable[[Paragraph, Exclude], bool]] = {
    "boilerplate": paragraph_rules.boilerplate,
    "math": paragraph_rules.math,
    "social": paragraph_rules.social,
    "symbols": paragraph_rules.symbols,
    "non_english": paragraph_rules.non_english,
    "post": paragraph_rules.post,
}
DOCUMENTS: dict[Rule, Callable[[str, Exclude], bool]] = {"repetitive": repetitive, "too_short": too_short}
