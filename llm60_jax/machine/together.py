"""Several processes that train one run: they meet, exchange small values, and leave.

JAX's coordination service, in process 0, carries the values, as JSON. With one process every function here is the
identity, so no caller needs a case for it. All processes make the same calls in the same order.
"""

import contextlib
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from llm60_jax import errors
from llm60_jax.errors import Failure, InputError, Interrupted, MachineError
from llm60_jax.machine.lines import Lines

T = TypeVar("T")
PATIENCE = 60.0  # seconds for all processes to arrive
HEARTBEAT = 30  # seconds without a sign of life after which a process counts as gone
_LEAVING_SECONDS, _FAREWELL_SECONDS = 5, 600
_NOTICE_SECONDS = 3.0
_FOREVER_MILLISECONDS = 10**9
# Set by launchers for a process that is one of several.
_LAUNCHED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


class Meeting(NamedTuple):
    """Where and as which process to meet the others."""

    coordinator: str | None = None  # HOST:PORT of process 0; None: JAX finds all three
    processes: int | None = None
    process: int | None = None
    heartbeat: int = HEARTBEAT


class _Here(NamedTuple):
    number: int
    hosts: tuple[str, ...]  # by process
    lines: Lines | None = None


_here = _Here(0, (platform.node(),))
_broadcasts = 0  # values so far
_alone = False  # whether process 0 works alone


def count() -> int:
    """Return the number of processes."""
    return len(_here.hosts)


def index() -> int:
    """Return the number of this process, from 0."""
    return _here.number


def is_first() -> bool:
    """Return whether this process is number 0, which owns the disk and decides."""
    return _here.number == 0


def is_alone() -> bool:
    """Return whether nobody takes part in what this process does now."""
    return _alone or count() == 1


def name(process: int | None = None) -> str:
    """Return a process's name in messages: this one's, or that of another."""
    number = index() if process is None else process
    return f"process {number} on {_here.hosts[number]}"


# --- Meet and leave -----------------------------------------------------------------------------------------------


def require_asked_for(environ: Mapping[str, str] = os.environ) -> None:
    """Raise InputError if a launcher started several processes, and nobody said that they belong together."""
    for variable in _LAUNCHED:
        if environ.get(variable, "1").isdecimal() and int(environ.get(variable, "1")) > 1:
            raise InputError(
                f"{environ[variable]} processes were started ({variable}), and each would train the run by itself; "
                "add --together to let them share it"
            )


def begin(meeting: Meeting, on_loss: Callable[[str], None]) -> None:
    """Meet the other processes. Call it before JAX opens a device.

    Args:
      on_loss: called in a thread, with a message, when another process is gone. It ends this process.

    Raises:
      InputError: no launcher that JAX knows has started this process, or the others were started for another meeting.
      MachineError: the others do not come, or the port is taken.
    """
    global _here
    import jax
    from jax._src import distributed  # its client has no public name; orbax and multihost_utils use it, too

    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM away
    if meeting.coordinator is not None:
        assert meeting.processes is not None
        assert meeting.process is not None
        _await_all(meeting.coordinator, meeting.processes, meeting.process)
    try:
        jax.distributed.initialize(
            meeting.coordinator,
            meeting.processes,
            meeting.process,
            coordinator_bind_address=_loopback(meeting.coordinator),
            initialization_timeout=int(PATIENCE),
            heartbeat_timeout_seconds=2 * meeting.heartbeat,  # the lines notice first
            shutdown_timeout_seconds=_LEAVING_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            f"--together: JAX finds no launcher that has started this process ({str(error)[:200]}); start it with "
            "srun, mpirun or the like, or give --coordinator, --processes and --process"
        ) from None
    except RuntimeError as error:
        raise MachineError(f"the processes of this run cannot meet: {str(error)[:300]}") from None
    state = distributed.global_state
    _here = _Here(state.process_id, (platform.node(),) * state.num_processes)
    hosts = tuple(gather(platform.node()))
    _here = _Here(state.process_id, hosts, _connected(str(state.coordinator_address), meeting.heartbeat, on_loss))


def _connected(coordinator: str, silence: float, on_loss: Callable[[str], None]) -> Lines:
    """Return the lines between all processes."""

    def explain(process: int) -> None:
        on_loss(
            f"{name(process)} is gone: it was killed or stopped, or its computer or network failed. What was saved is "
            "whole"
        )

    lines, host = Lines(silence, explain), coordinator.rpartition(":")[0].strip("[]")
    try:
        if is_first():
            door = lines.listen(host if _loopback(coordinator) else "")
            broadcast(door.getsockname()[1])
            lines.let_in(door, count())
        else:
            lines.connect(host, broadcast(0), index())
    except OSError as error:
        raise MachineError(
            f"the processes of this run cannot reach process 0 on {host}: {error.strerror or error}"
        ) from None
    return lines


def leave(code: int) -> None:
    """Wait for the others before this process ends with a code: without process 0, JAX aborts those that are left.

    After a failure that the others do not share the wait is short, and they notice a loss.
    """
    if count() > 1:
        patience = _LEAVING_SECONDS if code else _FAREWELL_SECONDS
        with contextlib.suppress(Exception):  # they have failed, or are gone already
            _client().wait_at_barrier("llm60_jax/leave", patience * 1000)
            if _here.lines is not None:
                _here.lines.close()
            time.sleep(0.5 if is_first() else 0)


def lost(error: Exception) -> MachineError | None:
    """Return the failure that an exception stands for if it says that another process is gone."""
    if (
        count() == 1
        or isinstance(error, Failure)
        or type(error).__module__.split(".")[0] not in ("builtins", "jaxlib", "jax")
    ):
        return None
    if not any(word in str(error) for word in ("Gloo", "NCCL", "coordination", "onnection", "DEADLINE", "UNAVAILABLE")):
        return None
    time.sleep(_NOTICE_SECONDS)  # the lines know which one, and end this process
    others = ", ".join(name(process) for process in range(count()) if process != index())
    return MachineError(
        f"another process of this run is gone ({others}), or its network is. What was saved is whole; start all "
        f"processes again with the same command, and the run goes on from there ({str(error)[:120]})"
    )


def _loopback(coordinator: str | None) -> str | None:
    """Return the address to bind: a coordinator that only this computer can reach is not opened to others."""
    host = (coordinator or "").rpartition(":")[0]
    return coordinator if host in ("127.0.0.1", "localhost", "[::1]") else None


def _await_all(coordinator: str, processes: int, process: int) -> None:
    """Wait until all processes are there: JAX's own wait ends the process without a message.

    Process 0 lets the others in and answers each, once all have come.
    """
    host, _, port = coordinator.rpartition(":")
    address = host.strip("[]"), int(port)
    deadline = time.monotonic() + PATIENCE
    if process == 0:
        _let_in(address, coordinator, processes, deadline)
        return
    greeting = {"process": process, "processes": processes, "host": platform.node()}
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


def _let_in(address: tuple[str, int], coordinator: str, processes: int, deadline: float) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        door = socket.create_server(address, family=family, backlog=processes)
    except OSError as error:
        raise MachineError(
            f"--coordinator {coordinator}: process 0 cannot listen there ({error.strerror or error}); choose another "
            "port, or an address of this computer"
        ) from None
    lines: dict[int, socket.socket] = {}
    refusal = ""
    with door, contextlib.ExitStack() as stack:
        while len(lines) < processes - 1 and not refusal:
            door.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                line = stack.enter_context(door.accept()[0])
                line.settimeout(5)
                greeting = json.loads(line.makefile("r", encoding="utf-8").readline(1000))
                number, said = int(greeting["process"]), int(greeting["processes"])
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue  # somebody connected and said nothing
                absent = [number for number in range(1, processes) if number not in lines]
                refusal = f"--processes {processes}: after {PATIENCE:.0f} s processes {absent} have not come"
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a stranger
            else:
                if said != processes or not 0 < number < processes or number in lines:
                    fault = "is there twice" if number in lines else f"was started with --processes {said}"
                    refusal = (
                        f"--process {number} on {greeting.get('host')}: {fault}; process 0 has --processes {processes}"
                    )
                lines[number] = line
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.sendall((refusal or "come").encode() + b"\n")
        if refusal:
            raise MachineError(refusal) if "have not come" in refusal else InputError(refusal)
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.recv(1)  # the others close first, so that the port is free at once


# --- Exchange ---------------------------------------------------------------------------------------------------------


def broadcast(value: T) -> T:
    """Return the value of process 0 in all processes; what the others pass is ignored."""
    if is_alone():
        return value
    key = _next_key()
    if is_first():
        _client().key_value_set(key, json.dumps(value))
        return value
    received: T = json.loads(_awaited(key))
    return received


def gather(value: T) -> list[T]:
    """Return the values of all processes, in the order of their numbers."""
    if is_alone():
        return [value]
    key = _next_key()
    _client().key_value_set(f"{key}/{index()}", json.dumps(value))
    return [json.loads(_awaited(f"{key}/{process}")) for process in range(count())]


def on_first(work: Callable[[], T]) -> T:
    """Let process 0 do some work alone, and return its result, a JSON value, in all processes.

    A signal that process 0 notices meanwhile, and any `Failure`, is raised in all of them.
    """
    if is_alone():
        return work()
    if is_first():
        try:
            with _working_alone():
                result = work()
        except Failure as failure:
            broadcast([type(failure).__name__, str(failure), failure.exit_code])
            raise
        except Exception as error:
            broadcast(["Failure", f"{name()} has failed: {type(error).__name__}: {str(error)[:300]}", 1])
            raise
        broadcast(["", result, 0])
        return result
    answer: list[Any] = broadcast(["", None, 0])
    kind, message_or_result, code = answer
    if kind:
        raise _failure(kind, str(message_or_result), code)
    result_of_first: T = message_or_result
    return result_of_first


def first_then_all(work: Callable[[], T]) -> T:
    """Let process 0 do some work, then the others, who find most of it done; return each process's own result.

    A `Failure` of process 0, and a signal that it notices, is raised in all of them.
    """
    own: list[T] = []
    on_first(lambda: own.append(work()))
    return own[0] if own else work()


def all_or_none(work: Callable[[], T]) -> T:
    """Let every process do its part, and return its result; a `Failure` of one is raised in all."""
    if is_alone():
        return work()
    failed: list[Any] = []
    try:
        result = work()
    except Failure as failure:
        failed = [type(failure).__name__, f"{name()}: {failure}", failure.exit_code]
    for kind, message, code in filter(None, gather(failed)):
        raise _failure(kind, message, code)
    return result


def require_same(what: str, value: Mapping[str, Any]) -> None:
    """Raise InputError in all processes unless all have the same values; it names process, field and both values."""
    every = gather(json.loads(json.dumps(dict(value))))
    for process, theirs in enumerate(every):
        for field in sorted(every[0].keys() | theirs.keys()):
            ours = every[0].get(field)
            if theirs.get(field) != ours:
                raise InputError(
                    f"{what}: {field} is {_short(theirs.get(field))} for {name(process)}, and {_short(ours)} for "
                    f"{name(0)}; all processes of a run need the same"
                )


@contextlib.contextmanager
def _working_alone() -> Iterator[None]:
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def _failure(kind: str, message: str, code: int) -> Failure:
    if kind == Interrupted.__name__:
        return Interrupted(message, code - 128)
    known: type[Failure] = getattr(errors, kind, MachineError)
    return known(message)


def _next_key() -> str:
    global _broadcasts
    _broadcasts += 1
    return f"llm60_jax/{_broadcasts}"


def _awaited(key: str) -> str:
    """Wait for a value, however long process 0 works on it. A lost process ends the wait."""
    return str(_client().blocking_key_value_get(key, _FOREVER_MILLISECONDS))


def _client() -> Any:
    from jax._src import distributed

    return distributed.global_state.client


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
