"""Measure the server: requests a second and the time to the first token, for one client and for
many at once, beside tools/generate.py."""

import argparse
import contextlib
import http.client
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # 1, 4 and 16 clients at once
  python tools/bench_serve.py runs/quickstart
  # few and short requests, for scripts
  python tools/bench_serve.py runs/quickstart --clients 1 4 --requests 8 --tokens 16 --json

Each client sends the next request when the last one is answered. The first requests of each number
of clients compile, and are not counted. tools/generate.py writes as many texts as there are clients
in one batch. Both take their default seeds and the model's own distribution. Run it while nothing
else runs.
"""
_TOOLS = Path(__file__).resolve().parents[1]
_PROMPT = "The history of"
_START_SECONDS = 60.0


class Answer(NamedTuple):
    """How long a request took, in seconds."""

    first: float  # until the first text
    whole: float
    tokens: int


class Place(NamedTuple):
    """Where the server listens."""

    port: int
    token: str


@contextlib.contextmanager
def serving(run: Path) -> Iterator[Place]:
    """Run the server in a process of its own. Raise MachineError if it does not start."""
    command = [sys.executable, str(_TOOLS / "serve.py"), str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = urllib.parse.urlsplit(process.stdout.readline().strip())
        if address.port is None:
            _, errors = process.communicate(timeout=_START_SECONDS)
            raise MachineError(f"the server did not start: {errors.strip()[-500:]}")
        yield Place(address.port, urllib.parse.parse_qs(address.query)["token"][0])
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=20)
        process.kill()


def ask(place: Place, model: str, tokens: int, seed: int) -> Answer:
    """Send one request and follow its answer. Raise MachineError if it is refused."""
    start, first, count = time.perf_counter(), None, 0
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=600)
    with contextlib.closing(connection):
        body = {"model": model, "prompt": _PROMPT, "max_tokens": tokens, "seed": seed, "stream": True}
        body["stream_options"] = {"include_usage": True}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {place.token}"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise MachineError(f"the server answered {answer.status}: {answer.read()[:500].decode()}")
        for line in answer:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise MachineError(f"the server stopped an answer: {event['error']['message']}")
                first = first or time.perf_counter() - start
                count = event["usage"]["completion_tokens"] if event["usage"] else count
    whole = time.perf_counter() - start
    return Answer(first or whole, whole, count)


def ask_all(
    place: Place, model: str, clients: int, requests: int, tokens: int, interrupts: Interrupts
) -> tuple[float, list[Answer]]:
    """Send requests from several clients at once.

    Returns:
      The seconds that all took together, and their answers.
    """
    seeds: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in range(requests):
        seeds.put(seed)
    answers: list[Answer] = []
    failures: list[Exception] = []

    def client() -> None:
        while not failures and interrupts.received is None:
            try:
                answers.append(ask(place, model, tokens, seeds.get_nowait()))
            except queue.Empty:
                return
            except (OSError, http.client.HTTPException, MachineError) as failure:
                failures.append(failure)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    interrupts.check()
    if failures:
        raise failures[0]
    return time.perf_counter() - start, answers


def generated(run: Path, texts: int, tokens: int) -> float:
    """Return the tokens a second of tools/generate.py, which writes the texts in one batch."""
    command = [sys.executable, str(_TOOLS / "generate.py"), str(run), "--prompt", _PROMPT, "--json"]
    # The server's own defaults, not those of the run.
    command += ["--temperature", "1", "--top-k", "0", "--top-p", "1", "--repetition-penalty", "1"]
    command += ["--count", str(texts), "--tokens", str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"generate.py did not write: {done.stderr.strip()[-500:]}")
    return float(json.loads(done.stdout)["tokens_per_second"])


def measure(options: argparse.Namespace, interrupts: Interrupts) -> list[dict[str, Any]]:
    """Return the figures, one row for each number of clients."""
    model, rows = options.run.resolve().name, []
    with serving(options.run) as place:
        for clients in options.clients:
            for _ in range(2):  # alone, and as they will come: the sizes of batch that occur are compiled
                ask_all(place, model, clients, 2 * clients, options.tokens, interrupts)
            requests = max(options.requests, clients)
            seconds, answers = ask_all(place, model, clients, requests, options.tokens, interrupts)
            first = sorted(answer.first for answer in answers)
            rows.append(
                {
                    "clients": clients,
                    "requests": requests,
                    "requests_per_second": requests / seconds,
                    "tokens_per_second": sum(answer.tokens for answer in answers) / seconds,
                    "first_token_seconds": statistics.median(first),
                    "first_token_seconds_worst": first[-1],
                    "request_seconds": statistics.median(answer.whole for answer in answers),
                }
            )
    for row in rows:  # after the server has ended: two processes would share the processor
        interrupts.check()
        row["generate_tokens_per_second"] = generated(options.run, row["clients"], options.tokens)
    return rows


def _bench(options: argparse.Namespace, interrupts: Interrupts) -> None:
    for name in ("requests", "tokens"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}: {getattr(options, name)}, but it must be 1 or more")
    if not all(1 <= clients <= 64 for clients in options.clients):
        raise InputError("--clients: each number must be from 1 to 64, because no more requests wait")
    rows = measure(options, interrupts)
    if options.json:
        print(json.dumps({"tokens": options.tokens, "rows": rows}))
        return
    table = [
        (
            str(row["clients"]),
            f"{row['requests_per_second']:.2f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{1000 * row['first_token_seconds']:,.0f} ms",
            f"{1000 * row['first_token_seconds_worst']:,.0f} ms",
            f"{row['request_seconds']:.2f} s",
            f"{row['generate_tokens_per_second']:,.0f}",
        )
        for row in rows
    ]
    heads = ("clients", "requests/s", "tokens/s", "first token", "worst", "whole", "generate.py, tokens/s")
    terminal.say(terminal.columns(heads, table))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 4, 16], metavar="N", help="clients at once (default 1 4 16)"
    )
    parser.add_argument("--requests", type=int, default=32, metavar="N", help="requests of each (default 32)")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="most tokens of a request (default 64)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("bench_serve.py", parser, arguments, _bench)


if __name__ == "__main__":
    sys.exit(main())
