"""The tools that look at text and tokens, and those that measure and break them."""

import json
from pathlib import Path
from typing import Any

import bench_data
import fuzz_data
import inspect_data
import numpy as np
import prepare_data
import pytest
import train_tokenizer
from conftest import to_toml

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.data import prepare
from llm60_jax.data.tokens import fertility, loader
from llm60_jax.machine.progress import silent
from llm60_jax.record.workdir import WorkDir


@pytest.fixture
def data(tiny: config_module.Config) -> prepare.Prepared:
    return prepare.prepare(tiny, silent, lambda digests: None)


def test_fertility_is_counted_by_hand(data: prepare.Prepared) -> None:
    words = data.tokenizer
    whole = next(
        piece[1:] for piece in words.pieces() if len(piece) > 3 and piece[0] == "\u2581" and piece[1:].isalpha()
    )
    text = f"{whole} {whole}\n\u6f22"
    result = fertility.fit([text, text], words)
    assert result.words == 2 * 3
    assert result.tokens == 2 * len(words.encode(text))
    assert result.bytes == 2 * len(text.encode())
    assert result.whole_words == 2 * 2
    assert (result.characters, result.byte_characters, result.byte_tokens) == (2 * len(text), 2, 2 * 3)
    tree = result.to_tree()
    assert tree["fertility"] == result.tokens / 6
    assert tree["coverage"] == 1 - 1 / len(text)


def test_unused_pieces_are_those_of_no_text(data: prepare.Prepared) -> None:
    shards = [result.train for result in data.shards.values()]
    result = fertility.unused(shards, data.tokenizer)
    met = set(np.concatenate([shard.tokens for shard in shards]).tolist())
    pieces = data.tokenizer.pieces()
    never = [piece for token, piece in enumerate(pieces) if piece and token not in met]
    assert result["unused"] == len(never) > 0
    assert result["pieces"] == sum(map(bool, pieces))
    assert never[: len(result["examples"])] == result["examples"]


def test_what_trains_nothing_is_counted(tiny: config_module.Config, data: prepare.Prepared) -> None:
    shard = data.shards["grammar"].train
    for stage in plan.build(tiny).phase_stages("grammar"):
        rows = [loader.rows_of(shard, stage, 7, "stream")[i] for i in range(stage.steps * stage.sequences)]
        result = loader.waste(shard, stage, 7, "stream")
        assert (result.padding, result.rows) == (0.0, len(rows))
        assert result.unlearnt == pytest.approx(np.mean([row["weights"] == 0 for row in rows]))
    fixed = loader.waste(shard, stage, 7, "fixed", rows=10**6)
    packed = -(-shard.token_count // stage.context)
    assert fixed.padding <= 1 / fixed.rows  # only the last row of a shard is padded
    assert fixed.rows == stage.steps * stage.sequences
    assert packed * stage.context >= shard.token_count


def test_tokens_are_counted_by_source(data: prepare.Prepared) -> None:
    result = data.shards["grammar"]
    assert result.source_tokens == {"grammar": result.train.token_count + result.validation.token_count}


def test_the_tokenizer_is_reported(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_tokenizer.main([str(tiny_file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tokenizer"]["vocab_size"] == 360
    assert result["tokenizer"]["learnt_from"] == ["grammar", "vocabulary"]
    assert list(result["phases"]) == ["grammar", "vocabulary", "fine_tune"]
    assert result["phases"]["grammar"]["train"]["coverage"] > 0.99
    assert train_tokenizer.main([str(tiny_file)]) == 0
    output = capsys.readouterr().out
    assert "tokens a word" in output
    assert "occur in no phase's training text" in output


def test_a_tokenizer_is_not_learnt_again_under_a_run(
    tree: dict[str, Any], tmp_path: Path, data: prepare.Prepared, tiny: config_module.Config, capsys, monkeypatch
) -> None:
    run = WorkDir(Path(tiny.workdir))
    run.path.mkdir()
    run.begin(tiny, data.digests, data.tokenizer.path)
    (tmp_path / "c.toml").write_text(to_toml(tree))
    assert train_tokenizer.main([str(tmp_path / "c.toml")]) == 0  # the same one is found
    learnt: list[str] = []
    monkeypatch.setattr(prepare.tokenizer, "_learn", lambda *rest: learnt.append("learnt"))
    unigram = ["--set", "tokenizer.model_type=unigram"]
    assert train_tokenizer.main([str(tmp_path / "c.toml"), *unigram]) == 2
    assert "tokenizer.model_type" in capsys.readouterr().err
    assert train_tokenizer.main([str(tmp_path / "c.toml"), "--set", "phase.grammar.exclude.rules=[]"]) == 2
    assert not learnt
    monkeypatch.undo()
    other = ["--set", "model.vocab_size=330", "--workdir", str(tmp_path / "other")]
    assert train_tokenizer.main([str(tmp_path / "c.toml"), *unigram, *other]) == 0


def test_the_tokenizer_of_a_start_is_reported(tuning: dict[str, Any], tmp_path: Path, capsys) -> None:
    (tmp_path / "c.toml").write_text(to_toml(tuning))
    assert train_tokenizer.main([str(tmp_path / "c.toml")]) == 0
    assert "brought by the checkpoint" in capsys.readouterr().out


def test_documents_and_rows_are_shown_with_their_borders(
    tree: dict[str, Any], tmp_path: Path, data: prepare.Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    tree["phase"][0]["reweight"] = {}
    (tmp_path / "c.toml").write_text(to_toml(tree))
    command = [str(tmp_path / "c.toml"), "--phase", "grammar", "--stage", "3", "--rows", "8"]
    shown = []
    for seed in ("1", "1", "2"):
        assert inspect_data.main([*command, "--json", "--seed", seed]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1]
    assert [doc["id"] for doc in shown[0]["shown"]] != [doc["id"] for doc in shown[2]["shown"]]
    result = shown[0]
    assert result["documents"] == data.shards["grammar"].train.documents
    assert sum(result["sources"].values()) == result["tokens"] + data.shards["grammar"].validation.token_count
    assert [stage["stage"] for stage in result["stages"]] == [1, 2, 3, 4, 5]
    texts = {record["text"] for record in data.corpora["grammar"].read("train")}
    assert len(result["shown"]) == 3
    assert all(doc["text"] in texts for doc in result["shown"])
    assert len(result["rows"]) == 8
    for row in result["rows"]:
        assert sum(piece["tokens"] for piece in row["pieces"]) == 32
        for piece in row["pieces"]:
            (holding,) = [text for text in texts if piece["text"].strip() in text][:1]
            assert not piece["begins"] or holding.startswith(piece["text"].strip())
            assert not piece["ends"] or holding.endswith(piece["text"].strip())
        assert [piece["ends"] for piece in row["pieces"][:-1]] == [True] * (len(row["pieces"]) - 1)
        assert row["weights"]["mean"] > 0
    assert inspect_data.main(command) == 0
    output = capsys.readouterr().out
    assert "[BOS]" in output
    assert "[EOS]" in output
    assert "weights: mean" in output
    assert "padding" in output


def test_questions_are_shown_as_not_learnt(tuning: dict[str, Any], tmp_path: Path, capsys) -> None:
    pairs = [
        {"instruction": f"Say {i} times {i}.", "output": f"That is the number {i * i}, as far as I know."}
        for i in range(120)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    tuning["phase"][0] |= {"rows": "fixed", "exclude": {"rules": []}}
    tuning["phase"][0]["sources"] = [{"kind": "instructions", "path": str(tmp_path / "pairs.jsonl")}]
    (tmp_path / "c.toml").write_text(to_toml(tuning))
    assert inspect_data.main([str(tmp_path / "c.toml"), "--phase", "fine_tune", "--rows", "100", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert all(doc["prompt"].startswith("Say") for doc in result["shown"])
    pieces = [piece for row in result["rows"] for piece in row["pieces"]]
    assert any(piece["not_learnt"] > 1 and piece["begins"] for piece in pieces)
    assert inspect_data.main([str(tmp_path / "c.toml"), "--phase", "fine_tune"]) == 0
    assert "[question, not learnt] Say" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--phase", "gramar"], "gramar"),
        (["--phase", "grammar", "--stage", "6"], "stages 1 to 5, not 6"),
        (["--phase", "grammar", "--rows", "-1"], "--rows"),
        ([], "--phase"),
    ],
)
def test_wrong_options_are_one_message(tiny_file: Path, options: list[str], words: str, capsys) -> None:
    try:
        code = inspect_data.main([str(tiny_file), *options])
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    assert code == 2
    assert words in capsys.readouterr().err


def test_prepare_data_counts_tokens_and_writes_a_page(
    tiny_file: Path, tmp_path: Path, data: prepare.Prepared, capsys
) -> None:
    page = tmp_path / "ledger.html"
    assert prepare_data.main([str(tiny_file), "--tokens", "--html", str(page), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["phases"]
    for name, phase in result.items():
        assert phase["tokens"] == sum(data.shards[name].source_tokens.values())
    assert page.read_text().count("<h2>") == 3
    assert prepare_data.main([str(tiny_file), "--tokens", "--phase", "grammar"]) == 0
    output = capsys.readouterr().out
    assert f"{result['grammar']['tokens']:,}" in output
    assert "phase vocabulary" not in output


def test_too_little_text_is_accounted_for_by_prepare_data_alone(tree: dict[str, Any], tmp_path: Path, capsys) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "a.txt").write_text("One text is not enough to train on, but it is accounted for.")
    tree["phase"][0]["sources"] = [{"kind": "folder", "path": str(tmp_path / "few")}]
    (tmp_path / "c.toml").write_text(to_toml(tree | {"data_dir": str(tmp_path / "data")}))
    assert prepare_data.main([str(tmp_path / "c.toml"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["phases"]["grammar"]
    assert result["documents_kept"] == 1
    assert "60 characters of distinct text were found" in result["notes"][0]
    assert prepare_data.main([str(tmp_path / "c.toml"), "--tokens"]) == 2
    assert "60 characters of distinct text were found" in capsys.readouterr().err


def test_the_benchmark_measures_text_tokens_and_loader(tiny_file: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(bench_data, "datatrove_pipeline", lambda: lambda texts: None)
    command = [str(tiny_file), "--megabytes", "0.002", "--rounds", "1"]
    assert bench_data.main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["prepare_mb_per_second"] > 0 < result["tokenize_mb_per_second"]
    assert [item["context"] for item in result["loader"]] == [16, 16, 32, 32, 64]
    assert result["ratio"] > 0
    monkeypatch.setattr(bench_data, "datatrove_pipeline", lambda: None)
    assert bench_data.main(command) == 0
    assert "datatrove is not here to compare with" in capsys.readouterr().out


@pytest.mark.slow
def test_broken_corpora_break_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trafilatura")
    assert fuzz_data.main(["--corpora", "12"]) == 0
    assert "0 broke" in capsys.readouterr().out


def test_the_fuzzer_sees_what_breaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def forgetful(self: Any, reason: str, name: str, file: str) -> None: ...

    monkeypatch.setattr(fuzz_data.account.Ledger, "drop", forgetful)
    assert fuzz_data.main(["--corpora", "3", "--keep", str(tmp_path / "kept")]) == 1
    output = capsys.readouterr()
    assert "corpus 0" in output.out + output.err
    assert (tmp_path / "kept" / "0" / "plain.txt").exists()
