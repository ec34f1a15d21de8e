"""What a phase's text must not hold: the playbook's exclusion rules and their thresholds (section 3.3). No jax."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from llm60_jax.fields import Count, Positive, record, require

Rule = Literal[
    "boilerplate",
    "code",
    "chat",
    "forum",
    "social",
    "post",
    "list",
    "faq",
    "math",
    "symbols",
    "non_english",
    "repetitive",
    "too_short",
]
RULES: tuple[Rule, ...] = get_args(Rule)
Share = Annotated[float, Field(ge=0, le=1)]


@record
class Exclude:
    """Which rules apply to a phase's text, and from where on. `data/rules.py` says what each of them looks for."""

    rules: tuple[Rule, ...] = RULES
    min_prose: Share = 0.5  # a document of which less is left, in characters, goes as a whole
    code_share: Share = 0.5  # code: of a block's lines
    chat_lines: Positive = 3  # chat: messages in a row
    forum_marks: Positive = 2  # forum: headers, quotations and signatures in one block
    social_marks: Positive = 2  # social: handles, hashtags, links and emoji in one line
    informal_share: Share = 0.05  # post: marks of informal writing in a paragraph, for each word
    list_items: Positive = 3  # list: items in a row
    list_item_characters: Positive = 250  # ... none of them longer on average: longer ones are numbered prose
    faq_items: Positive = 2  # faq: questions and answers in a row
    math_share: Share = 0.06  # math: of a paragraph's characters
    letter_share: Share = 0.7  # symbols: letters and blanks, at least so much of a paragraph
    function_words: Share = 0.1  # non_english: of a paragraph's words; below it a language classifier decides
    compressed: Share = 0.28  # repetitive: what deflate leaves of a document, at least
    min_characters: Count = 60  # too_short: a document of fewer

    def __post_init__(self) -> None:
        require(len(set(self.rules)) == len(self.rules), f"rules: each one once, got {list(self.rules)}")
