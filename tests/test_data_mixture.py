"""Doses limit how much of each source a phase takes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax import config as config_module
from llm60_jax.data.corpus import corpus, joining, mixture
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import silent


@pytest.mark.parametrize(
    ("characters", "shares", "caps", "expected"),
    [
        ([100, 100], [None, None], [None, None], [100, 100]),
        ([900, 500], [None, 0.1], [None, None], [900, 100]),  # 100 of 1,000
        ([900, 50], [None, 0.1], [None, None], [900, 50]),
        ([900, 500], [0.5, 0.5], [None, None], [500, 500]),  # together 1: exact shares
        ([900, 500], [None, None], [300, None], [300, 500]),
        ([900, 500], [None, 0.5], [300, None], [300, 300]),
        ([100, 500, 500], [None, 0.3, 0.2], [None, None, None], [100, 60, 40]),
        ([0, 500], [None, 0.5], [None, None], [0, 0]),
        ([0, 10**9], [None, 0.9999999999], [None, None], [0, 0]),
        ([900, 500], [0.6, 0.6], [None, None], [750, 500]),
    ],
)
def test_doses(characters: Any, shares: Any, caps: Any, expected: Any) -> None:
    assert mixture.allowed(characters, shares, caps) == pytest.approx(expected, abs=1)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.none() | st.floats(0.01, 1), st.none() | st.integers(1, 10**9)),
        min_size=1,
        max_size=6,
    )
)
def test_no_dose_is_exceeded_and_unlimited_sources_give_everything(sources: Any) -> None:
    characters, shares, caps = (list(column) for column in zip(*sources, strict=True))
    room = mixture.allowed(characters, shares, caps)
    whole = sum(room)
    for have, share, cap, given_ in zip(characters, shares, caps, room, strict=True):
        most = have if cap is None else min(have, cap)
        assert given_ <= most
        assert share is None or given_ <= share * whole + len(room) + 1
        if share is None:
            assert given_ == most


@pytest.fixture
def mixed(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return a config with two sources: 100 pieces of prose, 60 of verse, of equal length."""
    pick = random.Random(0)
    for name, count in (("prose", 100), ("verse", 60)):
        (tmp_path / name).mkdir()
        texts = [" ".join(f"{name}{pick.randrange(10**6):06}" for _ in range(20)) for _ in range(count)]
        (tmp_path / name / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sources = [{"kind": "folder", "path": str(tmp_path / name)} for name in ("prose", "verse")]
    tree["phase"][0] |= {"sources": sources, "exclude": {"rules": []}}
    return tree


def prepared(tree: dict[str, Any], tmp_path: Path) -> corpus.Corpus:
    return corpus.prepare(config_module.parse(tree, "mixed").phase[0], tmp_path / "data", silent)


def test_a_small_dose_is_kept_small_and_counted(mixed: dict[str, Any], tmp_path: Path) -> None:
    whole = prepared(mixed, tmp_path)
    mixed["phase"][0]["sources"][1]["dose"] = {"share": 0.2}
    made = prepared(mixed, tmp_path)
    prose, verse = made.ledger["sources"]
    assert (prose["documents_kept"], prose["dropped"]) == (100, {})
    assert (verse["documents_in"], verse["documents_kept"], verse["dropped"]) == (60, 25, {"dose": 35})
    assert verse["characters_kept"] / (prose["characters_kept"] + verse["characters_kept"]) <= 0.2
    assert verse["characters_dropped"]["dose"] + verse["characters_kept"] == verse["characters_in"]
    assert made.digest != whole.digest
    ids = {record["id"] for split in joining.SPLITS for record in made.read(split)}
    assert len(ids) == 125
    # Validation text comes from both sources: the dose does not drop ids from one end.
    assert {record["source"] for record in made.read("validation")} == {"prose", "verse"}


def test_a_dose_does_not_drop_the_ids_that_validation_takes(mixed: dict[str, Any]) -> None:
    mixed["phase"][0]["sources"][0]["dose"] = {"characters": 300}
    sources = config_module.parse(mixed, "mixed").phase[0].sources
    names = [f"{number:02}{(37 * number) % 100:02}" for number in range(60)]
    excess = mixture.left_out(sources, dict.fromkeys(names, 10), [0] * 60)
    remaining = sorted(set(names) - excess)
    assert len(remaining) == 30
    assert remaining not in (names[:30], names[30:])


def test_a_cap_in_characters(mixed: dict[str, Any], tmp_path: Path) -> None:
    mixed["phase"][0]["sources"][0]["dose"] = {"characters": 5_000}
    prose, verse = prepared(mixed, tmp_path).ledger["sources"]
    assert 4_700 <= prose["characters_kept"] <= 5_000
    assert verse["documents_kept"] == 60


@pytest.mark.parametrize(
    ("doses", "words"),
    [
        ([{"share": 0.5}, {"share": 0.3}], "every source has a dose.share, and their sum 0.8 is less than 1"),
        ([{"share": 0.0}], "share"),
        ([{"share": 1.5}], "share"),
        ([{"characters": 0}], "characters"),
        ([{"shares": 0.5}], "share"),
    ],
)
def test_impossible_doses_are_refused(mixed: dict[str, Any], doses: Any, words: str) -> None:
    for source, dose in zip(mixed["phase"][0]["sources"], doses, strict=False):
        source["dose"] = dose
    with pytest.raises(InputError, match=words):
        config_module.parse(mixed, "mixed")
