"""The answers of /v1/completions: whole, or streamed as server-sent events. No jax."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from llm60_jax.serve.engine import Begun, Done, Engine, Event, Failed, Job, Piece, Writing
from llm60_jax.serve.models import Model
from llm60_jax.serve.replies import Refusal, encoded
from llm60_jax.serve.requests import Completion
from llm60_jax.serve.texts import Entry


class Reply(Response):
    """A JSON value as an answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encoded(content)


class Inbox:
    """The events of a job, for the loop that answers its request.

    The queue has no bound of its own: a job has at most one event for each token that it asks for,
    and they fit into the model's context. So a client that reads nothing costs no more memory than
    an answer that is sent whole.
    """

    def __init__(self, engine: Engine, request: Request, make: Callable[[Callable[[Event], None]], Job]):
        """Submit the job that `make` makes of the function to call with each event. Raise Refusal."""
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._request = request
        self.job = make(self._receive)
        engine.submit(self.job)

    def _receive(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: the server is stopping
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Event:
        """Return the next event. Raise Refusal if the job failed."""
        event = await self._events.get()
        if isinstance(event, Failed):
            raise event.refusal
        return event

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """End the job, and cancel the block, as soon as the client leaves."""
        block = asyncio.current_task()
        assert block is not None

        async def watch() -> None:
            while (await self._request.receive())["type"] != "http.disconnect":
                pass
            block.cancel()

        watching = asyncio.ensure_future(watch())
        try:
            yield
        finally:
            watching.cancel()


async def answer(engine: Engine, request: Request, model: Model, wanted: Completion) -> Response:
    """Return the answer to a checked request. Raise Refusal."""
    inbox = Inbox(engine, request, lambda emit: Writing(model, emit, wanted))
    assert isinstance(inbox.job, Writing)
    frame = {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": wanted.model,
        "seed": inbox.job.seed,
    }
    is_streaming = False
    try:
        async with inbox.followed():
            begun = await inbox.next()  # an error before it gets its own status
            assert isinstance(begun, Begun)
            if not wanted.stream:
                return Reply(await _whole(inbox, frame, begun.prompt_tokens))
        is_streaming = True
        return _Stream(inbox.job, _stream(inbox, frame, begun.prompt_tokens))
    finally:
        if not is_streaming:
            inbox.job.is_abandoned = True


class _Stream(StreamingResponse):
    """Server-sent events. The job ends with whoever listens, even if the first event was never asked for."""

    def __init__(self, job: Job, events: AsyncIterator[bytes]):
        super().__init__(events, media_type="text/event-stream")
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.is_abandoned = True


async def _whole(inbox: Inbox, frame: dict[str, Any], prompt_tokens: int) -> dict[str, Any]:
    """Return the whole answer."""
    job = inbox.job
    assert isinstance(job, Writing)
    texts, finish = [""] * job.rows, [""] * job.rows
    entries: list[list[Entry]] = [[] for _ in range(job.rows)]
    while not isinstance(event := await inbox.next(), Done):
        assert isinstance(event, Piece)
        texts[event.choice] += event.text
        entries[event.choice] += event.entries
        finish[event.choice] = event.finish or ""
    has_odds = job.wanted.logprobs is not None
    choices = [
        _choice(number, text, entries[number] if has_odds else None, finish[number])
        for number, text in enumerate(texts)
    ]
    return {**frame, "choices": choices, "usage": _usage(prompt_tokens, event.completion_tokens)}


async def _stream(inbox: Inbox, frame: dict[str, Any], prompt_tokens: int) -> AsyncIterator[bytes]:
    """Yield the server-sent events of an answer."""
    job = inbox.job
    assert isinstance(job, Writing)
    has_odds = job.wanted.logprobs is not None
    with_usage = job.wanted.stream_options is not None and job.wanted.stream_options.include_usage
    rest: dict[str, Any] = {"usage": None} if with_usage else {}
    try:
        while not isinstance(event := await inbox.next(), Done):
            assert isinstance(event, Piece)
            choice = _choice(event.choice, event.text, event.entries if has_odds else None, event.finish)
            yield _event({**frame, "choices": [choice], **rest})
        if with_usage:
            yield _event({**frame, "choices": [], "usage": _usage(prompt_tokens, event.completion_tokens)})
        yield b"data: [DONE]\n\n"
    except Refusal as refusal:
        yield _event(refusal.to_tree())


def _event(value: Any) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"


def _choice(number: int, text: str, entries: list[Entry] | None, finish: str | None) -> dict[str, Any]:
    logprobs = None if entries is None else Entry.columns(entries)
    return {"text": text, "index": number, "logprobs": logprobs, "finish_reason": finish}


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
