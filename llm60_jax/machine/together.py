"""Several processes that train one run: they meet, exchange small values, and leave.

JAX's coordination service, in process 0, carries the values, as JSON. With one process every function here is the
identity, so no caller needs a case for it. All processes make the same calls in the same order; each value names the
line of the program that it comes from, so that processes which have come apart notice it.
"""

import contextlib
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from llm60_jax import errors
from llm60_jax.errors import Failure, GateError, InputError, Interrupted, MachineError, TrainingError
from llm60_jax.machine import door
from llm60_jax.machine.lines import Lines

if TYPE_CHECKING:
    from llm60_jax.machine.signals import Interrupts

T = TypeVar("T")
HEARTBEAT = 30  # seconds without a sign of life after which a process counts as gone
_LEAVING_SECONDS, _FAREWELL_SECONDS = 5, 600
# Ends to which all processes come together, while the first may have a report to write.
_SHARED_ENDS = (0, GateError.exit_code, TrainingError.exit_code)
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
    """Return whether nobody else takes part in what this process does now."""
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


def begin(meeting: Meeting, interrupts: "Interrupts", on_loss: Callable[[str], None]) -> None:
    """Meet the other processes. Call it before JAX opens a device.

    Args:
      interrupts: those of this process; from now on a signal to one process is heard by all.
      on_loss: called in a thread, with a message, when another process is gone. It ends this process.

    Raises:
      InputError: no launcher that JAX knows has started this process, or the others were started for another meeting.
      MachineError: the others do not come, or the port is taken. Where a launcher has started them, JAX itself waits,
        and may end this process with a message of its own.
    """
    global _here
    import jax
    from jax._src import distributed  # its client has no public name; orbax and multihost_utils use it, too

    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM away
    if meeting.coordinator is not None:
        assert meeting.processes is not None
        assert meeting.process is not None
        door.await_all(meeting.coordinator, meeting.processes, meeting.process)
    try:
        jax.distributed.initialize(
            meeting.coordinator,
            meeting.processes,
            meeting.process,
            coordinator_bind_address=_bound(meeting.coordinator),
            initialization_timeout=int(door.PATIENCE),
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
    host = door.host_of(str(state.coordinator_address))
    _here = _Here(state.process_id, hosts, _connected(host, meeting.heartbeat, interrupts, on_loss))


def _bound(coordinator: str | None) -> str | None:
    """Return where JAX listens in process 0: on a loopback address alone if the coordinator is one, else everywhere."""
    return coordinator if coordinator and door.is_loopback(door.host_of(coordinator)) else None


def _connected(host: str, silence: float, interrupts: "Interrupts", on_loss: Callable[[str], None]) -> Lines:
    """Return the lines between all processes, of which process 0 is on a host."""

    def explain(process: int) -> None:
        on_loss(
            f"{name(process)} is gone: it was killed or stopped, or its computer or network failed. What was saved is "
            "whole"
        )

    lines = Lines(silence, interrupts, explain)
    try:
        listener = door.listening(host) if is_first() else None
        port, token = broadcast([listener.getsockname()[1], secrets.token_hex(16)] if listener else [])
        if listener:
            lines.let_in(listener, count(), token)
        else:
            lines.connect(host, port, index(), token)
    except OSError as error:
        raise MachineError(
            f"the processes of this run cannot reach process 0 on {host}: {error.strerror or error}"
        ) from None
    return lines


def end(code: int) -> None:
    """Wait for the others before this process ends with a code: without process 0, JAX aborts those that are left.

    After a failure that the others may not share the wait is short, and they notice a loss.
    """
    if count() > 1:
        patience = _FAREWELL_SECONDS if code in _SHARED_ENDS else _LEAVING_SECONDS
        with contextlib.suppress(Exception):  # they have failed, or are gone already
            _client().wait_at_barrier("llm60_jax/end", patience * 1000)
            if _here.lines is not None:
                _here.lines.close()
            time.sleep(0.5 if is_first() else 0)


def lost(error: Exception) -> MachineError | None:
    """Return the failure that an exception stands for if it says that another process is gone."""
    if (
        count() == 1
        or isinstance(error, Failure | OSError)  # of the disk, as a rule
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


# --- Exchange ---------------------------------------------------------------------------------------------------------


def broadcast(value: T) -> T:
    """Return the value of process 0 in all processes; what the others pass is ignored."""
    if is_alone():
        return value
    key = _next_key()
    if is_first():
        _say(key, value)
        return value
    received: T = _heard(key, 0)
    return received


def gather(value: T) -> list[T]:
    """Return the values of all processes, in the order of their numbers."""
    if is_alone():
        return [value]
    key = _next_key()
    _say(key, value)
    return [_heard(key, process) for process in range(count())]


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
        except Exception as error:
            broadcast(_told(error))
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
    """Let every process do its part, and return its result; a failure of one is raised in all."""
    if is_alone():
        return work()
    failed: list[Any] = []
    try:
        result = work()
    except Failure as failure:
        kind, message, code = _told(failure)
        failed = [kind, f"{name()}: {message}", code]
    except Exception as error:
        gather(_told(error))
        raise
    for kind, message, code in filter(None, gather(failed)):
        raise _failure(kind, message, code)
    return result


def require_same(what: str, value: Mapping[str, Any]) -> None:
    """Raise InputError in all processes unless all have the same values; it names process, field and both values."""
    every = gather(json.loads(json.dumps(dict(value))))
    for process, theirs in enumerate(every):
        for field in sorted(every[0].keys() | theirs.keys()):
            ours, others = (_short(values[field]) if field in values else "absent" for values in (every[0], theirs))
            if every[0].get(field) != theirs.get(field) or (field in every[0]) != (field in theirs):
                raise InputError(
                    f"{what}: {field} is {others} for {name(process)}, and {ours} for {name(0)}; all processes of a "
                    "run need the same"
                )


@contextlib.contextmanager
def _working_alone() -> Iterator[None]:
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def _told(error: Exception) -> list[Any]:
    """Return an exception as the others hear of it: its kind, its message and its exit code."""
    if isinstance(error, Failure):
        return [type(error).__name__, str(error), error.exit_code]
    kind = MachineError if isinstance(error, OSError) else Failure
    return [kind.__name__, f"{name()} has failed: {type(error).__name__}: {str(error)[:300]}", kind.exit_code]


def _failure(kind: str, message: str, code: int) -> Failure:
    if kind == Interrupted.__name__:
        return Interrupted(message, code - 128)
    known: type[Failure] = getattr(errors, kind, MachineError)
    return known(message)


def _next_key() -> str:
    global _broadcasts
    _broadcasts += 1
    return f"llm60_jax/{_broadcasts}"


def _say(key: str, value: Any) -> None:
    _client().key_value_set(f"{key}/{index()}", json.dumps([_place(), value]))


def _heard(key: str, process: int) -> Any:
    """Wait for a process's value, however long it works on it. A lost process ends the wait."""
    place, value = json.loads(_client().blocking_key_value_get(f"{key}/{process}", _FOREVER_MILLISECONDS))
    if place != _place():
        raise MachineError(
            f"the processes of this run have come apart: {name(process)} is at {place}, and {name()} at {_place()}. "
            "What was saved is whole; start all processes again with the same command, in the same version"
        )
    return value


def _place() -> str:
    """Return the line of the program that has called a function of this module."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _client() -> Any:
    from jax._src import distributed

    return distributed.global_state.client


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
