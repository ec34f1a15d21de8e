"""A place in the tokens of a TeX source, and the arguments that stand there."""

import re
from collections.abc import Callable
from typing import NamedTuple

from llm60_jax.data.read.markup.tex.tokens import closings, skip_blanks


class _Group(NamedTuple):
    """An argument that is being read, and what happens at its end."""

    stop: int
    at_end: Callable[[], None]


class Cursor:
    """Goes through tokens once, from the first to the last, without recursion."""

    def __init__(self, tokens: list[str]):
        self.tokens, self.place = tokens, 0
        self.pairs = closings(tokens)
        self._groups: list[_Group] = []  # that are open

    @property
    def token(self) -> str:
        """The present token; "" at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def skip_blanks(self) -> None:
        """Skip the white space after a command, as TeX does."""
        self.place = skip_blanks(self.tokens, self.place)
        if self.token.startswith(" "):
            self.tokens[self.place] = self.token.lstrip(" ")

    def skip_start(self, pattern: "re.Pattern[str]") -> None:
        """Skip what the present token begins with, if it matches."""
        if match := pattern.match(self.token):
            self.tokens[self.place] = self.token[match.end() :] or " "

    # Arguments

    def opening(self, bracket: str = "{") -> int:
        """Return where the bracket of the next argument is; -1 if there is none."""
        start = skip_blanks(self.tokens, self.place)
        return start if start in self.pairs and self.tokens[start] == bracket else -1

    def is_at_argument(self) -> bool:
        """Whether the present token opens an argument."""
        return self.place in self.pairs and self.token == "{"

    def inside(self, start: int, most: int | None = None) -> str:
        """Return the source between a bracket and its partner: `most` tokens, None for all."""
        stop = self.pairs[start]
        return "".join(self.tokens[start + 1 : stop if most is None else min(stop, start + 1 + most)])

    def skip_options(self) -> None:
        """Skip arguments in brackets."""
        while (start := self.opening("[")) >= 0:
            self.place = self.pairs[start] + 1

    def skip_argument(self) -> str | None:
        """Skip an argument and return its source; None if there is none."""
        start = self.opening()
        if start < 0:
            return None
        self.place = self.pairs[start] + 1
        return self.inside(start)

    def enter(self, start: int, at_end: Callable[[], None]) -> bool:
        """Begin to read inside a bracket; `at_end` is called at its partner.

        Return False for a bracket that is missing, or that reaches beyond the argument it stands
        in, as in a damaged source.
        """
        if start < 0 or (self._groups and self._groups[-1].stop < self.pairs[start]):
            return False
        self._groups.append(_Group(self.pairs[start], at_end))
        self.place = start + 1
        return True

    def leave_groups(self) -> bool:
        """Leave the groups that end here, at the last token all; return whether tokens are left."""
        while self._groups and (self.place >= len(self.tokens) or self._groups[-1].stop <= self.place):
            self._groups.pop().at_end()
        return self.place < len(self.tokens)
