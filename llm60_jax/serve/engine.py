"""The one thread that computes. It owns JAX and the models; requests wait for it in a queue.

Waiting requests for one model share a batch. A request whose client left is dropped, in the queue
and inside a batch. JAX is imported when the first model is needed, so watching alone stays light.
"""

import collections
import logging
import secrets
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llm60_jax.errors import DamageError, Failure, InputError
from llm60_jax.machine import manifest
from llm60_jax.machine.terminal import printable
from llm60_jax.serve.models import Model
from llm60_jax.serve.replies import FAILED, Refusal
from llm60_jax.serve.requests import MOST_ROWS, Completion
from llm60_jax.serve.texts import Entry

if TYPE_CHECKING:
    from llm60_jax.serve.batch import Loaded

MOST_WAITING = 64  # requests
_GATHER_SECONDS = 0.01  # in which requests that come at once may join the first
_LOG = logging.getLogger("llm60_jax")


class Begun(NamedTuple):
    """The request is accepted: its texts are being written."""

    prompt_tokens: int


class Piece(NamedTuple):
    """More text of a choice."""

    choice: int
    text: str
    entries: list[Entry]
    finish: str | None  # "stop" or "length" with the last piece


class Done(NamedTuple):
    """The last event of a request that succeeded."""

    completion_tokens: int
    value: Any = None  # of a `Call`


class Failed(NamedTuple):
    """The last event of a request that did not."""

    refusal: Refusal


Event = Begun | Piece | Done | Failed


class Job:
    """A request on its way through the engine. Setting `is_abandoned` ends it at once."""

    def __init__(self, model: Model, emit: Callable[[Event], None]):
        """Take the model, and what to call with each event, in the engine's thread."""
        self.model = model
        self.emit = emit
        self.is_abandoned = False


class Call(Job):
    """A question about a model: a function of it."""

    def __init__(self, model: Model, emit: Callable[[Event], None], question: Callable[["Loaded"], Any]):
        super().__init__(model, emit)
        self.question = question


class Writing(Job):
    """Texts to write."""

    def __init__(self, model: Model, emit: Callable[[Event], None], wanted: Completion):
        super().__init__(model, emit)
        self.wanted = wanted
        self.seed = secrets.randbelow(2**31 - MOST_ROWS) if wanted.seed is None else wanted.seed
        self.rows = len(wanted.prompt) * wanted.n


class Engine:
    """The queue, the thread and the loaded models."""

    def __init__(self, keep: int = 3, most_waiting: int = MOST_WAITING):
        """Start the thread.

        Args:
          keep: models in memory; the one that was used longest ago makes room.
        """
        self.batches = 0  # batches so far
        self._keep = keep
        self._most_waiting = most_waiting
        self._waiting: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._running: list[Job] = []
        self._models: collections.OrderedDict[tuple[str, int], Loaded] = collections.OrderedDict()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Put a job into the queue. Raise Refusal if the queue is full, or nobody works on it."""
        with self._changed:
            self._waiting = collections.deque(other for other in self._waiting if not other.is_abandoned)
            if self._is_closed:
                raise Refusal(503, "the server is stopping")
            if not self._thread.is_alive():
                raise Refusal(503, "the server no longer computes; stop it and start it again")
            if len(self._waiting) >= self._most_waiting:
                message = f"{self._most_waiting} requests are waiting already; try again in a few seconds"
                raise Refusal(429, message, code="rate_limit_exceeded", headers=[(b"retry-after", b"5")])
            self._waiting.append(job)
            self._changed.notify()

    def close(self, patience: float = 0.0) -> None:
        """End all jobs. Wait for the thread, at most `patience` seconds."""
        with self._changed:
            self._is_closed = True
            ended = [*self._waiting, *self._running]
            self._waiting.clear()
            self._changed.notify()
        for job in ended:
            if not job.is_abandoned:
                job.emit(Failed(Refusal(503, "the server is stopping")))
            job.is_abandoned = True
        if patience:
            self._thread.join(patience)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                first = self._waiting.popleft()
                self._running = [first]
            if not first.is_abandoned:
                self._answer(first)
            self._running = []

    def _answer(self, first: Job) -> None:
        """Answer a job, and those that share its batch. No failure ends the thread."""
        try:
            loaded = self._load(first.model)
            if isinstance(first, Call):
                first.emit(Done(0, first.question(loaded)))
            elif isinstance(first, Writing):
                time.sleep(_GATHER_SECONDS)
                writings = [first, *self._mates(first, loaded)]
                self.batches += 1
                from llm60_jax.serve import writing

                writing.write(loaded, writings)
        except Exception as error:
            refusal = _refusal(error, first.model)
            for job in self._running:
                if not job.is_abandoned:
                    job.emit(Failed(refusal))

    def _load(self, model: Model) -> "Loaded":
        """Return a model, from memory if it is there. Raises as `batch.load` does."""
        key = str(model.folder), (model.folder / manifest.NAME).stat().st_mtime_ns
        if key not in self._models:
            from llm60_jax.serve import batch

            while len(self._models) >= self._keep:
                self._models.popitem(last=False)
            self._models[key] = batch.load(model.folder)
        self._models.move_to_end(key)
        return self._models[key]

    def _mates(self, first: Writing, loaded: "Loaded") -> list[Writing]:
        """Take from the queue what can share a batch with a job: the same model, and no more rows than fit.

        They run from then on, so that `close` ends them too.
        """
        rows, mates = first.rows, list[Writing]()
        with self._changed:
            if self._is_closed:
                return mates
            for job in self._waiting:
                if not isinstance(job, Writing) or job.is_abandoned or job.model.folder != first.model.folder:
                    continue
                if rows + job.rows <= MOST_ROWS and _draws_alike(job, first, loaded):
                    mates.append(job)
                    rows += job.rows
            self._waiting = collections.deque(job for job in self._waiting if job not in mates)
            self._running = [first, *mates]
        return mates


def _draws_alike(one: Writing, other: Writing, loaded: "Loaded") -> bool:
    """Return whether two jobs draw in the same way: a seed draws another token among the likeliest than
    among all."""
    vocab_size = loaded.trained.model.vocab_size
    return (0 < one.wanted.top_k < vocab_size) == (0 < other.wanted.top_k < vocab_size)


def _is_gone(model: Model) -> bool:
    try:
        return not manifest.exists(model.folder)
    except OSError:  # it may be there: the disk or its permissions do not let us look
        return False


def _refusal(error: Exception, model: Model) -> Refusal:
    """Return the answer for an exception of a batch. Raises nothing, for the thread must go on."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError | FileNotFoundError) or _is_gone(model):
        # the run deleted this rolling checkpoint, perhaps while it was read
        return Refusal(404, f"the model {model.name!r} is not there any more", param="model", code="model_not_found")
    if isinstance(error, DamageError):
        return Refusal(500, f"the model {model.name!r} cannot be read: {error}", param="model", code="damaged_model")
    if isinstance(error, Failure):
        return Refusal(500, str(error))
    if isinstance(error, OSError):
        message = f"the model {model.name!r} cannot be read: {error.strerror}"
        return Refusal(500, message, param="model", code="damaged_model")
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return Refusal(503, "out of memory; ask for fewer texts, or serve fewer models")
    where = traceback.extract_tb(error.__traceback__)[-1]
    what = printable(repr(error))[:300]
    _LOG.warning("%s: internal error: %s (%s:%s)", printable(model.name), what, where.filename, where.lineno)
    return Refusal(500, FAILED)
