"""The server itself: its socket, its loop, its end."""

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.serve.engine import Engine
from llm60_jax.serve.guard import Guard
from llm60_jax.serve.replies import Refusal

_FIRST_REQUEST_SECONDS = 20.0  # in which the head of a connection's first request must have come
_LAST_WORDS_SECONDS = 2  # that answers in progress have once the server stops


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
      host: an IP address of this machine.
      port: 0 picks a free one.

    Raises:
      InputError: the host is no IP address.
      MachineError: the port is taken or not allowed, or the address is not of this machine.
    """
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise InputError(f"--host: '{host}' is no IP address, such as 127.0.0.1") from None
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a port of a server that has just ended is free
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise MachineError(
                f"port {port} is taken, perhaps by another serve.py; stop that, or choose another: --port {port + 1}, "
                "or --port 0 for any free one"
            ) from None
        raise MachineError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None
    return listening


def run(app: Guard, engine: Engine, listening: socket.socket, interrupts: Interrupts) -> None:
    """Answer until a signal comes, then raise Interrupted."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )
    try:
        asyncio.run(_Server(config, engine, interrupts).serve(sockets=[listening]))
    finally:
        engine.close(patience=10.0)
    interrupts.check()


class _Server(uvicorn.Server):
    """A server that leaves signals to `Interrupts`."""

    def __init__(self, config: uvicorn.Config, engine: Engine, interrupts: Interrupts):
        super().__init__(config)
        self._engine = engine
        self._interrupts = interrupts

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if self._interrupts.received is not None:
            self._engine.close()  # ends the answers in progress
            return True
        return await super().on_tick(counter)


class _Protocol(H11Protocol):
    """HTTP/1.1 that hangs up on a client that sends no request, and refuses in the shape of all errors."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(_FIRST_REQUEST_SECONDS, self._hang_up_unless_asked)

    def _hang_up_unless_asked(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(Refusal(400, msg).to_tree()).encode("ascii")
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.transport.write(head + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        self.transport.close()
