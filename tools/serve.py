"""Serve the models of runs on this computer: a page to look at, and OpenAI's completions for
programs."""

import argparse
import contextlib
import html
import ipaddress
import logging
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path

from llm60_jax.errors import InputError
from llm60_jax.machine import cli, shipped, unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # the models of a run, and the page, which opens in the browser
  python tools/serve.py runs/quickstart --open
  # several runs, or all in a folder
  python tools/serve.py runs/quickstart runs/evening
  python tools/serve.py runs --port 8070

It prints the address with a token. A program sends the token as its API key:
  OpenAI(base_url="http://127.0.0.1:8060/v1", api_key=TOKEN)
Runs are only read, and may train meanwhile. Ctrl-C ends the server.
"""
_BROWSER_SECONDS = 2.0  # in which a browser has been started; some are waited for until they end
_LOG = logging.getLogger("llm60_jax")


def _serve(options: argparse.Namespace, interrupts: Interrupts) -> None:
    try:
        from llm60_jax.serve import app, engine, guard, models, server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "h11", "anyio"):
            raise
        raise InputError(f"serving needs two small packages: {shipped.extra('serve')}") from None
    host = "127.0.0.1" if options.host == "localhost" else options.host
    if not 0 <= options.port < 2**16:
        raise InputError(f"--port: {options.port}, but it must be from 0 to 65535")
    shelf = models.Shelf(options.runs)
    listening = server.listen(host, options.port)
    ip = ipaddress.ip_address(host)
    if not ip.is_loopback:
        if options.no_token:
            raise InputError(f"--no-token: others reach this computer at {host}; it is allowed on loopback only")
        _LOG.warning("%s is not loopback: whoever has the token can use the models, and it travels unencrypted", host)
    if ip.is_unspecified:
        _LOG.warning("%s means every address of this computer; others put its own in the place of 127.0.0.1", host)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves a GPU's memory to training
    token = None if options.no_token else secrets.token_urlsafe(24)
    entry = guard.Entry(str(ip), listening.getsockname()[1], token)
    print(entry.address, flush=True)
    with _opened(entry.address) if options.open else contextlib.nullcontext():
        if hasattr(os, "nice"):  # after the browser has started, which would inherit it
            os.nice(10)  # training goes first; a text still gets a tenth of a busy processor
        motor = engine.Engine()
        if hasattr(os, "nice"):
            os.nice(9)  # on Linux of this thread alone, not the engine's: to show a run waits for all else
        server.run(app.build(shelf, motor, entry), motor, listening, interrupts)


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open an address in the browser.

    It is opened by a file that forwards to it and that only this user can read: all users can read
    the arguments of a program, and the address holds the token.
    """
    with unfinished.folder() as folder:
        page = folder / "llm60.html"
        page.touch(0o600)
        forward = f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">'
        page.write_text(f'<!doctype html><html lang="en"><title>llm60</title>{forward}</html>\n', encoding="utf-8")
        opening = threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True)
        opening.start()
        opening.join(_BROWSER_SECONDS)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run directory, or a folder of runs")
    parser.add_argument("--port", type=int, default=8060, metavar="N", help="0 picks a free one (default 8060)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1: this computer only)"
    )
    parser.add_argument("--no-token", action="store_true", help="let every program of this computer in")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return cli.run_tool("serve.py", parser, arguments, _serve, "the server has ended")


if __name__ == "__main__":
    sys.exit(main())
