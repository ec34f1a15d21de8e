"""The text of a row while its tokens come: what may be shown already, and what each token says.

Three things keep text back. A character may consist of several byte tokens, and half of one is
never shown. A stop text may begin in one token and end in a later one. And it is never shown.
"""

import codecs
from collections.abc import Sequence
from typing import Any, NamedTuple

from llm60_jax.data.tokens.tokenizer import Tokenizer


class Alphabet:
    """What the tokens of a tokenizer spell."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._pieces = [piece.replace("▁", " ") for piece in tokenizer.pieces()]
        self.longest = max(map(len, self._pieces))  # characters of a piece
        # Byte tokens have the order of their bytes.
        spelt = [token for token, is_byte in enumerate(tokenizer.byte_tokens.tolist()) if is_byte]
        self._bytes = {token: byte for byte, token in enumerate(spelt)}
        self._first = {tokenizer.bos, tokenizer.eos, tokenizer.encode("\n")[0]}

    def label(self, token: int, before: int) -> str:
        """Return the text of a token after the token `before`. Part of a character is bytes:\\xNN, as
        OpenAI writes it."""
        if token in self._bytes:
            byte = self._bytes[token]
            return chr(byte) if byte < 128 else f"bytes:\\x{byte:02x}"
        piece = self._pieces[token]
        return piece.removeprefix(" ") if before in self._first else piece

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens. A character that has begun at their end is left out."""
        return self.tokenizer.decode(ids[: len(ids) - self.unfinished(ids)])

    def unfinished(self, ids: Sequence[int]) -> int:
        """Return how many tokens at the end spell a part of a character."""
        start = len(ids)
        while start and ids[start - 1] in self._bytes and len(ids) - start < 4:
            start -= 1
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(bytes(self._bytes[token] for token in ids[start:]))
        return len(decoder.getstate()[0])


class Growing:
    """The text of tokens that follow others. The time of `add` does not grow with the text."""

    def __init__(self, alphabet: Alphabet, ids: Sequence[int]):
        self.text = ""
        self._alphabet = alphabet
        self._whole = ""  # the text up to the first token of `_open`
        unfinished = alphabet.unfinished(ids)
        self._open = list(ids[len(ids) - unfinished - 1 :])  # from the last token that ends a character

    def add(self, token: int) -> None:
        """Add a token to the text."""
        self._open.append(token)
        first = len(self._alphabet.text(self._open[:1]))
        self.text = self._whole + self._alphabet.text(self._open)[first:]
        if not self._alphabet.unfinished(self._open):
            self._whole, self._open = self.text, [token]


class Odds(NamedTuple):
    """How likely the model held a token to be, in nats, and the likeliest tokens in its place."""

    log: float
    likeliest: Sequence[tuple[int, float]]  # pairs (token, log-probability), likeliest first


class Entry(NamedTuple):
    """A token of an answer, with its odds."""

    text: str
    offset: int  # characters before it in the text of the answer
    log: float | None  # None for the first token of an echoed prompt
    likeliest: dict[str, float] | None

    @staticmethod
    def columns(entries: Sequence["Entry"]) -> dict[str, Any]:
        """Return entries in the shape of OpenAI's completions."""
        return {
            "tokens": [entry.text for entry in entries],
            "token_logprobs": [entry.log for entry in entries],
            "top_logprobs": [entry.likeliest for entry in entries],
            "text_offset": [entry.offset for entry in entries],
        }


class RowText:
    """The text of one row. Add its tokens, and take what may be shown."""

    def __init__(self, alphabet: Alphabet, ids: Sequence[int], stops: Sequence[str], echoed: str | None):
        """Begin after a prompt.

        Args:
          ids: BOS and the prompt.
          stops: texts that end the row.
          echoed: the prompt's text, which the answer repeats; None leaves it out.
        """
        self._alphabet = alphabet
        self._ids = list(ids)
        self._growing = Growing(alphabet, ids)
        self._stops = stops
        self._echoed = echoed or ""
        self._text = ""  # what was drawn
        self._shown = 0  # characters
        self._entries: list[Entry] = []
        self.has_stopped = False  # at a stop text

    @property
    def tokens(self) -> int:
        """The number of tokens, with the prompt."""
        return len(self._ids)

    def echo(self, ids: Sequence[int], odds: Sequence[Odds | None]) -> None:
        """Add the entries of the prompt's last tokens `ids`, before any is drawn."""
        start = len(self._ids) - len(ids)
        growing = Growing(self._alphabet, self._ids[: max(1, start)])
        for place, its_odds in enumerate(odds, start):
            token, before = self._ids[place], self._ids[max(0, place - 1)]
            self._entries.append(self._entry(token, before, len(growing.text), its_odds))
            if place:
                growing.add(token)

    def add(self, token: int, odds: Odds | None) -> None:
        """Add a token. A stop text that it completes ends the text before it."""
        if odds is not None:
            offset = len(self._echoed) + len(self._text)
            self._entries.append(self._entry(token, self._ids[-1], offset, odds))
        self._ids.append(token)
        self._growing.add(token)
        before, self._text = len(self._text), self._growing.text
        places = [self._text.find(stop, max(0, before - len(stop) + 1)) for stop in self._stops]
        if any(place >= 0 for place in places):
            self.has_stopped = True
            self._text = self._text[: min(place for place in places if place >= 0)]

    def take(self, is_over: bool) -> tuple[str, list[Entry]]:
        """Return the text that may be shown and was not yet, with the entries of its tokens."""
        whole = self._echoed + self._text
        end = len(whole) if is_over else len(whole) - self._held_back()
        piece, self._shown = whole[self._shown : end], max(self._shown, end)
        # A token inside the stop text is not a part of the answer; one that says nothing is.
        ready = [entry for entry in self._entries if entry.offset < end or (is_over and not self.has_stopped)]
        self._entries = self._entries[len(ready) :]
        return piece, ready

    def _held_back(self) -> int:
        """Return how many characters at the end may be the beginning of a stop text."""
        most = max(map(len, self._stops), default=0) - 1
        for length in range(min(most, len(self._text)), 0, -1):
            end = self._text[-length:]
            if any(len(stop) > length and stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _entry(self, token: int, before: int, offset: int, odds: Odds | None) -> Entry:
        text = self._alphabet.label(token, before)
        if odds is None:
            return Entry(text, offset, None, None)
        likeliest: dict[str, float] = {}
        for other, log in odds.likeliest:
            likeliest.setdefault(self._alphabet.label(other, before), log)  # two tokens may have one text
        likeliest.setdefault(text, odds.log)
        return Entry(text, offset, odds.log, likeliest)
