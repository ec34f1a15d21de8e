"""Screenplays: the marks of Fountain go, all that is said and seen stays."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import read

from llm60_jax.data.read.items import Document
from llm60_jax.data.read.markup.fountain import convert

PAGE = "Title: _The Ferry_\nCredit: written by\nAuthor:\n    Anna Berg\n\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("FADE IN:\n\nEXT. HARBOUR - DAWN #12A#\n\nFog.", "FADE IN:\n\nEXT. HARBOUR - DAWN\n\nFog."),
        ("MARY ^\n(softly)\nAre you going?\n\n@McAVOY\nNo.", "MARY\n(softly)\nAre you going?\n\nMcAVOY\nNo."),
        (".SNIPER SCOPE\n\n!HE LAUGHS.\n\n... and goes.", "SNIPER SCOPE\n\nHE LAUGHS.\n\n... and goes."),
        ("> CUT TO:\n\n> THE END <\n\n~A song of the sea", "CUT TO:\n\nTHE END\n\nA song of the sea"),
        ("# Act One\n\n= They meet.\n\n===\n\nFog.[[check\nthis]] Rain.", "Act One\n\nFog. Rain."),
        ("Fog.\n\n/* A scene\n\nthat is cut. */\n\nRain. /* stays", "Fog.\n\nRain. /* stays"),
    ],
)
def test_marks_go(source: str, expected: str) -> None:
    assert convert(source) == ("", expected)
    assert convert((PAGE + source).replace("\n", "\r\n")) == ("The Ferry", expected)


def test_a_screenplay_is_read(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "ferry.fountain", PAGE + "Fog.")
    assert isinstance(item, Document)
    assert (item.title, item.text) == ("The Ferry", "Fog.")


@pytest.mark.parametrize("mark", ["/*", "[[", "[[a]", ">", "#", "a:\n", "=", "~", " ", "#a#"])
def test_a_long_run_of_a_mark_ends(mark: str) -> None:
    assert isinstance(convert(mark * (20_000 // len(mark)))[1], str)


@given(st.lists(st.text(alphabet="abc .,", min_size=1).map(str.strip).filter(lambda line: line[:1].isalpha())))
def test_plain_lines_stay(lines: list[str]) -> None:
    text = "\n\n".join(lines)
    assert convert(f"Fog\n\n{text}".strip())[1] == f"Fog\n\n{text}".strip()
