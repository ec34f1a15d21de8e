"""The texts of several requests, written in one batch and handed out as they are drawn."""

import collections
from collections.abc import Sequence

from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.model.drawing import Choice
from llm60_jax.serve import batch
from llm60_jax.serve.batch import Loaded, Row, Token
from llm60_jax.serve.engine import Begun, Done, Failed, Piece, Writing
from llm60_jax.serve.replies import Refusal
from llm60_jax.serve.requests import Completion, Prompt
from llm60_jax.serve.texts import Odds, RowText


def write(loaded: Loaded, jobs: Sequence[Writing]) -> None:
    """Write the texts of jobs in one batch, and emit what is drawn as it comes.

    A job whose prompt does not fit the model fails alone.
    """
    texts: list[_Text] = []
    for job in jobs:
        try:
            its_texts = _texts_of(loaded, job)
        except Refusal as refusal:
            job.emit(Failed(refusal))
            continue
        job.emit(Begun(sum(len(text.row.ids) for text in its_texts[:: job.wanted.n])))
        texts += its_texts
    for text in texts:
        if text.row.needs_nothing:
            text.end("length")
    left, drawn = collections.Counter(text.job for text in texts if text.is_wanted), collections.Counter[Writing]()
    rows = [text.row for text in texts]
    for token in batch.write(loaded, rows, lambda number: texts[number].is_wanted) if rows else ():
        text = texts[token.row]
        text.take(token)
        drawn[text.job] += not token.is_given
        if text.is_over:
            left[text.job] -= 1
            if left[text.job] == 0:  # the others of the batch go on
                text.job.emit(Done(drawn[text.job]))
    for job in {text.job for text in texts} - left.keys():
        job.emit(Done(0))


class _Text:
    """A row of a batch, and the choice of an answer that it is."""

    def __init__(self, job: Writing, choice: int, row: Row, text: RowText, shown: Sequence[int]):
        """Take also the tokens of the prompt that the client gave: with BOS only if it gave that."""
        self.job = job
        self.row = row
        self.is_over = False
        self._choice = choice
        self._text = text
        self._shown = shown
        self._prompt_odds: list[Odds | None] = [None]  # of the first token there are none

    @property
    def is_wanted(self) -> bool:
        return not self.is_over and not self.job.is_abandoned

    def take(self, token: Token) -> None:
        """Hand on a token."""
        odds, wanted = token.odds, self.job.wanted
        if odds is not None:
            odds = odds._replace(likeliest=odds.likeliest[: wanted.logprobs])
        if token.is_given:
            self._prompt_odds.append(odds)
            if len(self._prompt_odds) == len(self.row.ids) == self.row.end:
                self.end("length")
            return
        self._echo()
        if token.id == self.row.choice.eos:
            self.end("stop")
            return
        self._text.add(token.id, odds)
        if self._text.has_stopped:
            self.end("stop")
        elif self._text.tokens >= self.row.end:
            self.end("length")
        elif self.row.is_followed:
            piece, entries = self._text.take(False)
            if piece or entries:
                self.job.emit(Piece(self._choice, piece, entries, None))

    def end(self, finish: str) -> None:
        """Send the rest of the text."""
        self._echo()
        self.is_over = True
        self.job.emit(Piece(self._choice, *self._text.take(True), finish))

    def _echo(self) -> None:
        """Hand on the odds of the prompt, once."""
        if self.row.wants_prompt_odds and self._shown:
            self._text.echo(self._shown, [None, *self._prompt_odds[len(self._prompt_odds) - len(self._shown) + 1 :]])
        self._shown = []


def _texts_of(loaded: Loaded, job: Writing) -> list[_Text]:
    """Return the rows of a job. Raise Refusal if a prompt does not fit the model."""
    wanted, alphabet, tokenizer = job.wanted, loaded.alphabet, loaded.trained.tokenizer
    choice = Choice(tokenizer.eos, wanted.temperature, wanted.top_k, wanted.top_p, wanted.repetition_penalty)
    wants_odds = wanted.logprobs is not None
    texts: list[_Text] = []
    for prompt in wanted.prompt:
        _require_few(prompt, loaded)
        shown = _ids_of(tokenizer, prompt)
        ids = shown if shown[:1] == [tokenizer.bos] else [tokenizer.bos, *shown]
        end = len(ids) + wanted.max_tokens
        _require_room(len(ids), wanted, loaded.trained.model.max_context)
        echoed = (prompt if isinstance(prompt, str) else alphabet.text(ids)) if wanted.echo else None
        for number in range(wanted.n):
            row = Row(ids, end, job.seed + number, choice, wanted.stream, wants_odds, wants_odds and wanted.echo)
            texts.append(_Text(job, len(texts), row, RowText(alphabet, ids, wanted.stop, echoed), shown))
    return texts


def _ids_of(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """Return the ids of a prompt as the client means it. Raise Refusal for ids that no text has."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt) if prompt else []
    marks = (tokenizer.pad, tokenizer.bos, tokenizer.eos)
    for place, token in enumerate(prompt):
        if token >= tokenizer.vocab_size or (token in marks and (place, token) != (0, tokenizer.bos)):
            message = f"prompt: token {token} cannot stand at place {place}; ids are below {tokenizer.vocab_size}, and "
            message += f"{', '.join(map(str, marks))} are marks of padding, beginning and end"
            raise Refusal(400, message, param="prompt")
    return prompt


def _require_few(prompt: Prompt, loaded: Loaded) -> None:
    """Raise Refusal if a prompt has more characters than the context can hold. To encode it would take long."""
    context = loaded.trained.model.max_context
    if isinstance(prompt, str) and len(prompt) > context * loaded.alphabet.longest:
        message = f"this model's context is {context} tokens, which hold no more than "
        message += f"{context * loaded.alphabet.longest:,} characters, but the prompt has {len(prompt):,}"
        raise Refusal(400, message, param="prompt", code="context_length_exceeded")


def _require_room(prompt_tokens: int, wanted: Completion, context: int) -> None:
    """Raise Refusal if the prompt and its continuation are longer than the context."""
    needed = prompt_tokens + wanted.max_tokens
    if needed > context:
        raise Refusal(
            400,
            f"this model's context is {context} tokens, but the request needs {needed}: {prompt_tokens} of the prompt "
            f"with the mark of its beginning, and {wanted.max_tokens} of max_tokens",
            param="prompt" if prompt_tokens >= context else "max_tokens",
            code="context_length_exceeded",
        )
