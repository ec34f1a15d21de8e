"""What a dry run tells of the text, and that it says no to what the run would say no to."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import write_corpus

from llm60_jax import config as config_module
from llm60_jax.data import first_look, prepare, survey
from llm60_jax.data.survey import Looked
from llm60_jax.errors import InputError
from llm60_jax.machine.progress import silent
from llm60_jax.machine.terminal import columns
from llm60_jax.run import ancestry


@pytest.fixture
def own(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The tiny configuration, with nothing prepared."""
    return tree | {"data_dir": str(tmp_path / "data")}


def looked_at(tree: dict[str, Any], tmp_path: Path) -> tuple[config_module.Config, list[Looked]]:
    config = config_module.parse(tree, "x")
    looked = survey.look(config, config.phase, silent, tmp_path / "scratch")
    return survey.counted(config, looked), looked


def source_of(tree: dict[str, Any], phase: int, path: Path, **settings: Any) -> None:
    tree["phase"][phase]["sources"] = [{"kind": "folder", "path": str(path), **settings}]


def test_small_phases_are_cleaned_and_nothing_stays(own: dict[str, Any], texts: Path, tmp_path: Path) -> None:
    shutil.copytree(texts / "text" / "vocabulary", tmp_path / "mixed")
    for name in ("a.png", "b.doc", "c.png"):
        (tmp_path / "mixed" / name).write_bytes(b"\x89\x00\x01")
    (tmp_path / "mixed" / "node_modules").mkdir()
    source_of(own, 1, tmp_path / "mixed")
    del own["phase"][2]["tokens"]
    own["phase"][2]["epochs"] = 5
    config, looked = looked_at(own, tmp_path)
    rows = list(survey.rows(config, looked))
    assert [row[0] for row in rows] == ["grammar", "vocabulary", "fine_tune"]
    assert [row[1] for row in rows] == ["60"] * 3
    assert [row[3] for row in rows] == ["0", "3", "0"]
    assert rows[2][6] == "5.0"
    assert {row[7] for row in rows} == {"all of it, cleaned"}
    assert columns(survey.HEADINGS, rows).count("\n") == 3
    notes = "\n".join(survey.notes(config, looked))
    assert "phase vocabulary: not read: 2 .png: an image" in notes
    assert "1 .doc: save as .docx" in notes
    assert "passed over: installed packages (node_modules)" in notes
    assert "phase fine_tune: more than 4 epochs teach little" in notes
    assert survey.require_enough(config, looked, {}, silent, tmp_path / "scratch") == []
    assert not (tmp_path / "data").exists()


def test_its_figures_are_those_of_the_run(own: dict[str, Any], tmp_path: Path) -> None:
    config, looked = looked_at(own, tmp_path)
    made = prepare.prepare(config, silent, lambda digests: None)
    again = survey.look(config, config.phase, silent, tmp_path / "other")
    assert {one.judged_by for one in again} == {"its prepared text"}
    assert not (tmp_path / "other").exists()
    for one, two in zip(looked, again, strict=True):
        assert one.characters == two.characters
        assert one.characters == made.corpora[one.phase.name].ledger["splits"]["train"]["characters"]


@pytest.mark.parametrize("count", [1, 60])
def test_a_sample_estimates_a_large_phase(
    own: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    write_corpus(tmp_path / "large", 400, 9)
    if count == 1:  # all in one file
        whole = [{"text": file.read_text()} for file in sorted((tmp_path / "large").iterdir())]
        shutil.rmtree(tmp_path / "large")
        (tmp_path / "large").mkdir()
        (tmp_path / "large" / "all.jsonl").write_text("".join(json.dumps(record) + "\n" for record in whole))
    else:  # half of each file is a list, which a rule removes
        for file in (tmp_path / "large").iterdir():
            items = "".join(f"- item {number}\n" for number in range(30))
            file.write_text(f"{file.read_text()}\n\n{items}")
    source_of(own, 0, tmp_path / "large")
    monkeypatch.setattr(survey, "SMALL_BYTES", 40_000)
    monkeypatch.setattr(survey, "SAMPLE_BYTES", 15_000)
    config, looked = looked_at(own, tmp_path)
    assert looked[0].judged_by.startswith("a sample of ")
    assert looked[0].text is None
    assert int(looked[0].judged_by.split()[3]) <= count
    whole_text = first_look.prepared(config, config.phase[0], silent, tmp_path / "scratch")
    characters = sum(split["characters"] for split in whole_text.ledger["splits"].values())
    assert 0.85 * characters < looked[0].characters < 1.15 * characters
    assert (characters < 0.7 * looked[0].files.size) == (count > 1)
    left = survey.require_enough(config, looked, {}, silent, tmp_path / "scratch")
    assert left == ["documents that two phases share"]
    write_corpus(tmp_path / "few", 5, 0)
    source_of(own, 1, tmp_path / "few")
    with pytest.raises(InputError, match="1,584 characters"):  # also beside a phase that is not all cleaned
        looked_at(own, tmp_path)
    big = config_module.parse(own | {"model": own["model"] | {"vocab_size": 50_000}}, "x")
    assert "whether the text suffices for model.vocab_size = 50,000" in survey.require_enough(
        big, looked, {}, silent, tmp_path / "scratch"
    )


def test_a_download_is_announced_and_not_begun(own: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "wiki"
    hub = {"kind": "hub", "name": "wikimedia/wikipedia", "path": str(path), "max_characters": 4_200_000}
    own["phase"][0]["sources"] = [hub]
    config, looked = looked_at(own, tmp_path)
    assert looked[0].tokens == 1_000_000
    assert looked[0].judged_by == "the size of its download"
    assert f"phase grammar: wikimedia/wikipedia will be downloaded into {path}, up to 4,200,000 characters" in (
        survey.notes(config, looked)
    )
    assert not path.exists()


def test_what_a_run_would_refuse_is_refused(own: dict[str, Any], texts: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "few", 5, 0)
    shutil.copytree(texts / "text" / "grammar", tmp_path / "copy")

    def refusal(use: Any) -> str:
        with pytest.raises(InputError) as caught:
            use(config_module.parse(own, "x"))
        return str(caught.value)

    def dry(config: config_module.Config) -> None:
        looked = survey.look(config, config.phase, silent, tmp_path / "scratch")
        survey.require_enough(config, looked, {}, silent, tmp_path / "scratch")

    def real(config: config_module.Config) -> None:
        prepare.prepare(config, silent, lambda digests: None)

    for phase, path, words in (
        (1, tmp_path / "few", "1,584 characters of distinct text"),
        (2, tmp_path / "absent", "no such file or folder"),
        (2, texts / "text" / "grammar", "nothing is left for grammar"),
        (2, tmp_path / "copy", "nothing is left for train"),
    ):
        before = own["phase"][phase]["sources"]
        source_of(own, phase, path)
        assert words in refusal(dry)
        assert refusal(dry) == refusal(real)
        own["phase"][phase]["sources"] = before
    own["model"]["vocab_size"] = 8000
    assert refusal(dry) == refusal(real)


@pytest.mark.slow
def test_text_that_the_checkpoint_was_trained_on_is_refused(
    tuning: dict[str, Any], texts: Path, tmp_path: Path
) -> None:
    source_of(tuning, 0, texts / "text" / "grammar")
    config = config_module.parse(tuning, "x")
    start = ancestry.start(config)
    assert start is not None
    looked = survey.look(config, config.phase, silent, tmp_path / "scratch")
    with pytest.raises(InputError, match=r"nothing is left for train.*trained on them before"):
        survey.require_enough(config, looked, start.data[1], silent, tmp_path / "scratch")
    source_of(tuning, 0, texts / "text" / "fine_tune")
    config = config_module.parse(tuning, "x")
    looked = survey.look(config, config.phase, silent, tmp_path / "scratch")
    assert survey.require_enough(config, looked, start.data[1], silent, tmp_path / "scratch") == []
