"""The server itself: its socket, its loop, its end."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import printable
from llm60_jax.serve.engine import Engine
from llm60_jax.serve.guard import ALWAYS, Guard
from llm60_jax.serve.replies import Refusal, encoded

_MOST_CONNECTIONS = 256  # at once; a browser opens six
_REQUEST_SECONDS = 20.0  # in which the head of a connection's next request must have come
_QUIET_SECONDS = 60.0  # after a line about trouble in the loop
_LAST_WORDS_SECONDS = 2  # that answers in progress have once the server stops

_LOG = logging.getLogger("llm60_jax")


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
            other = port + 1 if port < 2**16 - 1 else port - 1
            raise MachineError(
                f"port {port} is taken, perhaps by another serve.py; stop that, or choose another: --port {other}, "
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
        backlog=128,
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
        self._quiet_until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._say)
        await super().startup(sockets)

    def _say(self, loop: asyncio.AbstractEventLoop, trouble: dict[str, Any]) -> None:
        """Say what went wrong in the loop in one line, and at most one in a minute: it may come in floods."""
        if loop.time() < self._quiet_until:
            return
        self._quiet_until = loop.time() + _QUIET_SECONDS
        error = trouble.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            _LOG.warning("no connection can be accepted: too many open files (see ulimit -n)")
        else:
            _LOG.warning("the server: %s", printable(f"{trouble.get('message')}: {error!r}")[:300])

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

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            self.transport.abort()
            return
        self._await_request(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()  # may begin the next request, if that came meanwhile
        self._await_request(answered)

    def _await_request(self, answered: RequestResponseCycle | None) -> None:
        """Hang up in a while, unless the request after the answered one has begun by then.

        Bytes that are no whole head do not count. An answer in progress is never cut.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_REQUEST_SECONDS, self._hang_up_after, answered)

    def _hang_up_after(self, answered: RequestResponseCycle | None) -> None:
        if self.cycle is answered and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = encoded(Refusal(400, msg).to_tree())
            headers = [
                (b"content-type", b"application/json"), (b"connection", b"close"),
                (b"content-length", b"%d" % len(body)), *ALWAYS,
            ]  # fmt: skip
            lines = [b"HTTP/1.1 400 Bad Request", *(b": ".join(header) for header in headers), b"", body]
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()
