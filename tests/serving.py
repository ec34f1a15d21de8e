"""A server of runs inside the process of a test, on a port of its own."""

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from llm60_jax.errors import Interrupted
from llm60_jax.machine.signals import Interrupts
from llm60_jax.serve import app, server
from llm60_jax.serve.engine import Call, Engine
from llm60_jax.serve.guard import Entry
from llm60_jax.serve.models import Shelf

TOKEN = "a-token_of-tests"


class Served(NamedTuple):
    port: int
    engine: Engine
    shelf: Shelf
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str = "/v1/completions", **fields: Any) -> httpx.Response:
        return self.client.post(path, json=fields)

    def text(self, **fields: Any) -> str:
        """The text of the first choice."""
        answer = self.post(**fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["text"]

    def events(self, **fields: Any) -> list[dict[str, Any]]:
        """The events of a streamed answer; the last line must be [DONE]."""
        with self.client.stream("POST", "/v1/completions", json={**fields, "stream": True}) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def held(self, model: str = "run") -> threading.Event:
        """Let the engine wait until the returned event is set."""
        gate, began = threading.Event(), threading.Event()

        def question(loaded: Any) -> None:
            began.set()
            gate.wait(30)

        self.engine.submit(Call(self.shelf.find(model), lambda event: None, question))
        assert began.wait(60)
        return gate

    def await_waiting(self, count: int) -> None:
        """Return once that many requests wait in the queue."""
        deadline = time.monotonic() + 30
        while len(self.engine._waiting) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def raw(self, data: bytes, patience: float = 60.0) -> bytes:
        """What the server answers to bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience) as connection:
            received = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(data)
                while part := connection.recv(65536):
                    received += part
        return received


@contextlib.contextmanager
def served(
    runs: Sequence[Path], token: str | None = TOKEN, host: str = "127.0.0.1", **settings: Any
) -> Iterator[Served]:
    engine, interrupts = Engine(**settings), Interrupts()
    listening = server.listen(host, 0)
    port = listening.getsockname()[1]
    shelf = Shelf(runs)
    application = app.build(shelf, engine, Entry(host, port, token))

    def run() -> None:
        with contextlib.suppress(Interrupted):
            server.run(application, engine, listening, interrupts)

    thread = threading.Thread(target=run)
    thread.start()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False) as client:
        try:
            yield Served(port, engine, shelf, client)
        finally:
            interrupts.received = signal.SIGINT
            thread.join(20)
            assert not thread.is_alive()
