"""Write the generated pages of docs/: the tools, the configuration, the references, the table of floors."""

import argparse
import contextlib
import io
import itertools
import os
import runpy
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import config_page

from llm60_jax.errors import InputError
from llm60_jax.machine import cli, files, shipped
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import reference

EXAMPLES = """examples:
  # write the pages
  python tools/docs.py
  # name the pages that are out of date; exit code 2 if there are any
  python tools/docs.py --check

docs/reference/tools.md comes from --help, docs/reference/config.md from llm60_jax/config/,
docs/results/reference.md from llm60_jax/record/references.json, the table of floors in
docs/design/architecture.md from [tool.floors] in pyproject.toml.
"""
PROJECT = Path(__file__).resolve().parents[1]
COLUMNS = 100
NOTE = "<!-- Written by `python tools/docs.py`; do not edit. -->"
FLOORS_BEGIN, FLOORS_END = "<!-- floors -->", "<!-- /floors -->"


# --- Tools -----------------------------------------------------------------------------------------------------------


def commands() -> list[Path]:
    """Return launch.py and the user tools."""
    return [path for path in shipped.scripts().values() if path.parent in (PROJECT, PROJECT / "tools")]


def help_of(script: Path) -> str:
    """Return what a script prints for --help, at a width of 100 columns."""
    command = runpy.run_path(str(script))["main"]
    out = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS=str(COLUMNS)),
        mock.patch.object(sys, "argv", [script.name]),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        command(["--help"])
    return out.getvalue()


def tools_page() -> str:
    """Return docs/reference/tools.md."""
    parts = [
        f"# Tools\n\n{NOTE}\n\nEvery command explains itself with `--help`. All share the exit codes that"
        " `launch.py` lists below."
    ]
    for script in commands():
        parts.append(f"## {script.relative_to(PROJECT).as_posix()}\n\n```text\n{help_of(script).strip()}\n```")
    return "\n\n".join(parts) + "\n"


# --- Floors ----------------------------------------------------------------------------------------------------------


def floors_table() -> str:
    """Return the table of floors as Markdown."""
    floors = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["floors"]
    rows = ["| floor | package | may import | never imports |", "| --- | --- | --- | --- |"]
    for row in floors["table"]:
        may = "all" if row["may"] == ["*"] else ", ".join(row["may"]) or "errors"
        rows.append(f"| {row['floor']} | {row['package']} | {may} | {', '.join(row.get('never', ()))} |")
    return "\n".join(rows) + f"\n\nInside `data/`, from the top down: {', '.join(floors['data'])}."


def architecture_page() -> str:
    """Return docs/design/architecture.md with the table of floors between its markers. Raises
    InputError."""
    path = PROJECT / "docs" / "design" / "architecture.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    head, begin, rest = text.partition(FLOORS_BEGIN)
    _, end, tail = rest.partition(FLOORS_END)
    if not begin or not end:
        raise InputError(f"{path}: needs the lines {FLOORS_BEGIN} and {FLOORS_END}")
    return f"{head}{FLOORS_BEGIN}\n{floors_table()}\n{FLOORS_END}{tail}"


# --- References ------------------------------------------------------------------------------------------------------


def reference_page() -> str:
    """Return docs/results/reference.md: what finished runs of the project's own configurations measured."""
    parts = [
        f"# Is my loss normal?\n\n{NOTE}\n\n"
        "What our own runs measured, to compare yours with. A loss is comparable only for the same text,\n"
        "the same tokenizer and the same schedule; bits per byte forgive another tokenizer, not another\n"
        "text. Where all of that is the same, `python tools/doctor.py RUN` compares for you, and says so if\n"
        f"your held-out loss is more than {reference.ABOVE:g} nats above ours. Two seeds of the quickstart differ by\n"
        "about 0.05 nats. Tokens are those of the phase.\n"
    ]
    for name, phases in itertools.groupby(reference.known(), key=lambda entry: entry.run):
        parts.append(f"## {name}\n")
        for phase in phases:
            parts.append(
                f"Phase {phase.phase}, {phase.text_tokens:,} tokens of text; {phase.tokens_per_second:,.0f} tokens a "
                f"second and {phase.memory_gb:.1f} GB\non {phase.machine}.\n\n"
                "| tokens | held-out loss, nats a token | bits a byte | minimal pairs |\n| --- | --- | --- | --- |"
            )
            parts += [_point(point) for point in phase.points] + [""]
    return "\n".join(parts)


def _point(point: reference.Point) -> str:
    pairs = "" if point.pairs is None else f"{point.pairs:.1%}"
    return f"| {point.tokens:,} | {point.loss:.3f} | {point.bits_per_byte:.3f} | {pairs} |"


# --- The command -----------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/tools.md": tools_page,
    "docs/reference/config.md": lambda: config_page.page(NOTE),
    "docs/results/reference.md": reference_page,
    "docs/design/architecture.md": architecture_page,
}


def outdated() -> list[str]:
    """Return the pages that differ from what this tool writes, white space aside: Pythons wrap
    --help differently."""
    return [
        name
        for name, page in PAGES.items()
        if not (PROJECT / name).exists() or (PROJECT / name).read_text(encoding="utf-8").split() != page().split()
    ]


def _write(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.check:
        if names := outdated():
            raise InputError(f"out of date: {', '.join(names)}; write them with: python tools/docs.py")
        return
    for name, page in PAGES.items():
        path = PROJECT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, page())
        print(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("--check", action="store_true", help="write nothing; name the pages that are out of date")
    return cli.run_tool("docs.py", parser, arguments, _write)


if __name__ == "__main__":
    sys.exit(main())
