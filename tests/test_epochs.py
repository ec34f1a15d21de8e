"""Phases whose length is given in epochs: counted from their text, in the plan, on resume."""

import json
from pathlib import Path
from typing import Any

import plan as plan_tool
import pytest
from conftest import to_toml

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.data import first_look, prepare
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import silent
from llm60_jax.record.workdir import WorkDir


@pytest.fixture
def in_epochs(tree: dict[str, Any]) -> dict[str, Any]:
    """The tiny configuration; the length of its last phase is 2.5 epochs."""
    del tree["phase"][2]["tokens"]
    tree["phase"][2]["epochs"] = 2.5
    return tree


def test_epochs_become_tokens_of_the_prepared_text(in_epochs: dict[str, Any]) -> None:
    given = config_module.parse(in_epochs, "x")
    look = first_look.look(given, silent)
    prepared = prepare.prepare(given, silent, lambda digests: None)
    count = prepared.shards["fine_tune"].train.token_count
    assert prepared.config.phase[2].tokens == round(2.5 * count)
    assert prepared.config.phase[:2] == given.phase[:2]
    assert "are 2.50 epochs" in prepared.describe(prepared.config.phase[2])
    assert set(look.tokens) == {phase.name for phase in given.phase}
    assert look.config.phase[2].tokens == round(2.5 * look.tokens["fine_tune"])
    # A record of the run has both, and is read back.
    assert config_module.parse(config_module.to_tree(prepared.config), "config.json") == prepared.config


def test_a_plan_needs_counted_text(in_epochs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"phase\.fine_tune\.epochs: its text is not counted yet"):
        plan.build(config_module.parse(in_epochs, "x"))


def test_too_few_epochs_say_how_many_are_enough(in_epochs: dict[str, Any]) -> None:
    in_epochs["phase"][2]["epochs"] = 0.01
    config = first_look.look(config_module.parse(in_epochs, "x"), silent).config
    with pytest.raises(InputError, match=r"phase\.fine_tune\.epochs: 0\.01 epochs of its text") as caught:
        plan.build(config)
    enough = float(str(caught.value).split("give it ")[1].split(" epochs")[0])
    in_epochs["phase"][2]["epochs"] = enough
    plan.build(first_look.look(config_module.parse(in_epochs, "x"), silent).config)


@pytest.mark.parametrize("field", ["tokens", "epochs"])
def test_a_file_gives_tokens_or_epochs(in_epochs: dict[str, Any], tmp_path: Path, field: str) -> None:
    path = tmp_path / "c.toml"
    in_epochs["phase"][2]["tokens"] = 1000
    path.write_text(to_toml(in_epochs))
    with pytest.raises(InputError, match=r"phase\.fine_tune: it has tokens \(1000\) and epochs \(2\.5\); give one"):
        config_module.load(path)
    config_module.load(path, [f"phase.fine_tune.{field}="])


def test_a_resumed_run_compares_epochs_and_not_the_tokens_counted_from_them(
    in_epochs: dict[str, Any], tmp_path: Path
) -> None:
    given = config_module.parse(in_epochs, "x")
    counted = first_look.look(given, silent).config
    WorkDir(tmp_path).compare(config_module.to_tree(counted), given)
    in_epochs["phase"][2]["epochs"] = 3
    with pytest.raises(InputError, match=r"phase\.fine_tune\.epochs: 2\.5 in the run, 3\.0 now"):
        WorkDir(tmp_path).compare(config_module.to_tree(counted), config_module.parse(in_epochs, "x"))


def test_the_plan_shows_tokens_and_epochs(in_epochs: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "c.toml").write_text(to_toml(in_epochs))
    assert plan_tool.main([str(tmp_path / "c.toml")]) == 0
    assert "tokens, about 2.5 epochs of about" in capsys.readouterr().out
    assert plan_tool.main([str(tmp_path / "c.toml"), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["text_tokens"]) >= {"fine_tune"}


def test_the_smallest_phase_is_checked_before_another_is_cleaned(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "note.txt").write_text("A single note.")
    tree["phase"][2]["sources"] = [{"kind": "folder", "path": str(tmp_path / "own")}]
    tree["data_dir"] = str(tmp_path / "data")
    cleaned: list[str] = []
    real = first_look.corpus.prepare

    def spy(phase: Any, *arguments: Any, **options: Any) -> Any:
        cleaned.append(phase.name)
        return real(phase, *arguments, **options)

    monkeypatch.setattr(first_look.corpus, "prepare", spy)
    with pytest.raises(InputError, match=r"phase\.fine_tune\.sources: 14 characters"):
        prepare.prepare(config_module.parse(tree, "x"), silent, lambda digests: None)
    assert cleaned == ["fine_tune"]


def test_a_missing_folder_of_the_last_phase_is_found_before_any_text_is_cleaned(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["phase"][2]["sources"] = [{"kind": "folder", "path": str(tmp_path / "absent")}]
    monkeypatch.setattr(first_look.corpus, "prepare", lambda *arguments, **options: pytest.fail("cleaned"))
    with pytest.raises(InputError, match="no such file or folder"):
        prepare.prepare(config_module.parse(tree, "x"), silent, lambda digests: None)
