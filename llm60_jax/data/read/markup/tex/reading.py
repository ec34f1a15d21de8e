"""What the commands of a TeX source act on: where they stand, what they know, what they write."""

from llm60_jax.data.read.markup.tex import paragraph
from llm60_jax.data.read.markup.tex.cursor import Cursor
from llm60_jax.data.read.markup.tex.page import Page
from llm60_jax.data.read.markup.tex.tokens import PARAGRAPH, Places, environments, labels_of


class Environment:
    """An environment that is open."""

    def __init__(self, name: str, kind: str):
        self.name, self.kind = name, kind  # of a list: "-", "1" or ":"
        self.number = 0  # of the list's last item


class Reading:
    """The state of a source that is being read."""

    def __init__(self, tokens: list[str]):
        self.cursor = Cursor(tokens)
        self.page = Page()
        self.labels = labels_of(tokens, self.cursor.pairs)
        self.ends = environments(tokens)
        self.places = Places(tokens, (PARAGRAPH, "$", "$$", "\\)", "\\]"))
        self.environments: list[Environment] = []
        self.lists: list[Environment] = []  # those of the environments that are lists
        self.quotes = 0  # that are open

    def drop_argument(self) -> str:
        """Leave an argument out of the text, and return its source; "" if there is none."""
        source = self.cursor.skip_argument()
        if source is not None:
            self.page.add(paragraph.GONE)
        return source or ""
