"""Broken configurations, each given to launch.py as a dry run."""

import contextlib
import functools
import io
import random
import runpy
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import trial
from fuzz_runs import ESCAPE, SECONDS
from trial import TooSlow, limited

from llm60_jax.config import Config
from llm60_jax.data import survey
from llm60_jax.data.first_look import PhaseFiles
from llm60_jax.machine.progress import Track

VALUES = (
    "0", "-1", "1e400", "nan", "inf", "true", '""', '"x"', "[]", "{}", "[[]]", "[0.0, 64]", "1979-05-27T07:32:00Z",
    "'''",
    "99999999999999999999999999", "0x7fffffffffffffff", '"\\u0000"', '"\\u001b[2J"', "[" * 500 + "]" * 500, "{a = 1}",
    '"../../../../etc/passwd"', '"runs/$(id)"', '"' + "a" * 5000 + '"', "[[0.0, 64], [0.3, -1]]", "[1, 'two', 3.0]",
)  # fmt: skip


def broken(text: str, rng: random.Random) -> tuple[bytes, str]:
    """Return a broken configuration, and the unknown key that it must be refused for, or ""."""
    lines = text.splitlines()
    settings = [i for i, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    at = rng.choice(settings)
    key, _, value = lines[at].partition(" = ")
    unknown = f"zzz_{rng.randrange(1000)}"
    match rng.randrange(12):
        case 0:
            return "\n".join([*lines[: at + 1], f"{unknown} = 1", *lines[at + 1 :]]).encode(), unknown
        case 1:
            spot = rng.randrange(len(key))
            lines[at] = f"{key[:spot]}q{key[spot:]} = {value}"
            return "\n".join(lines).encode(), f"{key[:spot]}q{key[spot:]}"
        case 2 | 3 | 4:
            lines[at] = f"{key} = {rng.choice(VALUES)}"
        case 5:
            del lines[at]
        case 6:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 7:
            return text.encode()[: rng.randrange(len(text))], ""
        case 8:
            other = rng.choice(settings)
            lines[at], lines[other] = lines[other], lines[at]
        case 9:
            data = bytearray(text.encode())
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data), ""
        case 10:
            return text.encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"])), ""
        case 11:
            lines[at] = f'{key} = "{ESCAPE}"'
    return "\n".join(lines).encode(), ""


def _unread(config: Config, files: PhaseFiles, track: Track, scratch: Path) -> survey.Looked:
    """Judge the text of a phase by its bytes: only the configuration is on trial."""
    return survey.Looked(files, files.size, "its bytes")


def try_one(original: str, number: int, seed: int) -> Iterator[str]:
    """Try a broken configuration by its number. Yield what goes wrong."""
    data, key = broken(original, random.Random(f"{seed} {number}"))
    out, errors = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, f"{number}.toml")
        path.write_bytes(data)
        try:
            with (
                mock.patch.object(survey, "of_phase", _unread),
                limited(SECONDS),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(errors),
            ):
                code = _launch()([str(path), "--dry-run"])
        except (Exception, TooSlow, SystemExit):
            yield f"configuration {number}: {traceback.format_exc()}"
            return
    said = errors.getvalue()
    if code not in (0, 2, 5) or "Traceback" in said:
        yield f"configuration {number}: exit code {code}: {said[:500]}"
    if code and not said.startswith("launch.py: "):
        yield f"configuration {number}: no message: {said[:500]}"
    if code == 0 and key:
        yield f"configuration {number}: '{key}' was ignored"
    if "\x1b" in said + out.getvalue():
        yield f"configuration {number}: its text reaches the terminal"


@functools.cache
def _launch() -> Any:
    return runpy.run_path(str(trial.LAUNCH))["main"]
