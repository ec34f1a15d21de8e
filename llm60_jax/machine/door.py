"""The door of process 0, at which the other processes of a run say who they are, before they know one another."""

import contextlib
import json
import platform
import socket
import time
from collections.abc import Container
from typing import Any

from llm60_jax.errors import Failure, InputError, MachineError

PATIENCE = 60.0  # seconds for all processes to arrive
_GREETING_SECONDS = 5.0  # for one to say who it is
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def await_all(coordinator: str, processes: int, process: int) -> None:
    """Wait until all processes are there: JAX's own wait ends the process without a message.

    Process 0 hears the others and answers each, once all have come.
    """
    address = host_of(coordinator), int(coordinator.rpartition(":")[2])
    deadline = time.monotonic() + PATIENCE
    if process == 0:
        _answer_all(*address, coordinator, processes, deadline)
        return
    greeting = {"program": "llm60_jax", "process": process, "processes": processes, "host": platform.node()}
    while True:
        try:
            with socket.create_connection(address, timeout=5) as line:
                line.settimeout(max(1.0, deadline - time.monotonic()) + 5)
                line.sendall(json.dumps(greeting).encode() + b"\n")
                answer = line.makefile("r", encoding="utf-8").readline()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise MachineError(
                    f"--coordinator {coordinator}: process 0 does not answer there ({error.strerror or error}); start "
                    "it on that computer, and see that this one reaches it"
                ) from None
            time.sleep(0.3)
    if answer.strip() != "come":
        raise InputError(answer.strip() or f"--coordinator {coordinator}: process 0 has left, and its output says why")


def _answer_all(host: str, port: int, coordinator: str, processes: int, deadline: float) -> None:
    try:
        door = listening(host, port)
    except OSError as error:
        raise MachineError(
            f"--coordinator {coordinator}: process 0 cannot listen there ({error.strerror or error}); choose another "
            "port"
        ) from None
    lines: dict[int, socket.socket] = {}
    refusal: Failure | None = None
    with door, contextlib.ExitStack() as stack:
        while len(lines) < processes - 1 and refusal is None:
            if (left := deadline - time.monotonic()) <= 0:
                absent = [number for number in range(1, processes) if number not in lines]
                refusal = MachineError(
                    f"--processes {processes}: after {PATIENCE:.0f} s processes {absent} have not come"
                )
                break
            door.settimeout(left)
            with contextlib.suppress(OSError):
                line = stack.enter_context(door.accept()[0])
                greeting = _greeting(first_line(line, min(left, _GREETING_SECONDS)))
                if greeting is None:
                    line.close()
                    continue
                number = greeting["process"]
                if fault := _fault(greeting, processes, lines):
                    refusal = InputError(
                        f"--process {number} on {greeting['host']}: {fault}; process 0 has --processes {processes}"
                    )
                lines[-1 if fault else number] = line
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.settimeout(_GREETING_SECONDS)
                line.sendall(f"{refusal or 'come'}\n".encode())
        if refusal:
            raise refusal
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.recv(1)  # the others close first, so that the port is free at once


def _fault(greeting: dict[str, Any], processes: int, lines: Container[int]) -> str:
    """Return why a process is none of those that process 0 expects, or ""."""
    if greeting["processes"] != processes:
        return f"was started with --processes {greeting['processes']}"
    if greeting["process"] in lines:
        return "is there twice"
    return "" if 0 < greeting["process"] < processes else "is none of those expected"


def _greeting(text: str) -> dict[str, Any] | None:
    """Return what a process of this program says at the door; None for a stranger."""
    try:
        said = dict(json.loads(text))
        if said["program"] == "llm60_jax" and {type(said["process"]), type(said["processes"])} == {int}:
            return {"process": said["process"], "processes": said["processes"], "host": str(said["host"])[:100]}
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def host_of(coordinator: str) -> str:
    """Return the host of `HOST:PORT`, without the brackets of an IPv6 address."""
    return coordinator.rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Return whether a host is named in a way that only this computer can reach."""
    return host in _LOOPBACK


def listening(host: str, port: int = 0) -> socket.socket:
    """Return a socket that listens: on `host` if that is a loopback address, else on all addresses. Raise OSError.

    A host's own name may stand for a loopback address in its own /etc/hosts, and others could not reach that.
    """
    if is_loopback(host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=64)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=64)


def first_line(line: socket.socket, seconds: float) -> str:
    """Return the first line that somebody says within some seconds; "" if none is whole by then."""
    deadline, data = time.monotonic() + seconds, bytearray()
    with contextlib.suppress(OSError):
        while len(data) < 1000 and (left := deadline - time.monotonic()) > 0:
            line.settimeout(left)
            byte = line.recv(1)  # one by one, as what follows is for somebody else
            if byte == b"\n":
                return data.decode("utf-8", errors="replace")
            if not byte:
                break
            data += byte
    return ""
