"""Saves that fail, machines that run short: a run goes on, or stops with a word, and comes to the same end."""

import json
import logging

import pytest
from conftest import few_pairs, metrics, shared_programs, signals_at, state_of, without_time

from llm60_jax import checkpoint
from llm60_jax import config as config_module
from llm60_jax.errors import Interrupted, MachineError
from llm60_jax.machine import facts
from llm60_jax.machine.signals import Interrupts
from llm60_jax.model.transformer import Transformer
from llm60_jax.record import store
from llm60_jax.run import loop, preflight, saving


@pytest.fixture
def plain(tree):
    """One phase of six steps that freezes nothing and saves after every second one."""
    tree["tokenizer"] = {"phases": ["grammar"]}
    tree["phase"] = [tree["phase"][0] | {"tokens": 6 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}]
    tree["train"] |= {"save_every": 2, "keep_rolling": 9}
    return tree


def refusing(monkeypatch, steps, times=1):
    """Let the disk refuse the checkpoints of some steps, `times` times each."""
    real, left = store.save, dict.fromkeys(steps, times)

    def save(folder, state, meta):
        if left.get(meta["step"], 0):
            left[meta["step"]] -= 1
            raise MachineError(f"{folder}: no space")
        return real(folder, state, meta)

    monkeypatch.setattr(store, "save", save)


def test_a_save_that_fails_is_told_tried_again_and_changes_nothing(plain, train, monkeypatch, tmp_path, caplog):
    reference = train(plain | {"workdir": str(tmp_path / "reference")})
    refusing(monkeypatch, [2, 4])
    monkeypatch.setattr(saving, "RETRY_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING, "llm60_jax"):
        workdir = train(plain)
    assert "STEP 2 IS NOT SAVED" in caplog.text
    assert "there is no checkpoint yet" in caplog.text
    assert f"the newest checkpoint is {workdir / 'checkpoints' / '3'}" in caplog.text
    saved = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert saved == {"3", "5", "6"}  # each at once after the one that failed
    assert state_of(workdir / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


@pytest.mark.slow
def test_nothing_freezes_without_a_checkpoint_from_before(plain, train, monkeypatch):
    plain["phase"][0]["freeze"] = [[0.0, 0], [0.5, 2]]
    refusing(monkeypatch, [3])
    with pytest.raises(MachineError, match=r"(?s)no space.*before its lower 2 blocks freeze.*section 12"):
        train(plain)
    workdir = train(plain)  # with room again
    assert (workdir / "phases" / "grammar").exists()


def test_an_interruption_that_cannot_be_saved_says_so(plain, monkeypatch):
    refusing(monkeypatch, range(9), 9)
    interrupts = Interrupts()
    few_pairs(monkeypatch)
    shared_programs(monkeypatch)
    with pytest.raises(MachineError, match=r"interrupted by SIGINT, and step \d could not be saved: .*no space"):
        loop.launch(config_module.parse(plain, "x"), interrupts, "again", watching=[signals_at(3, interrupts)])


def test_what_runs_short_is_told_once(plain, train, monkeypatch, caplog):
    monkeypatch.setattr(facts.shutil, "disk_usage", lambda path: facts.shutil._ntuple_diskusage(1, 1, 10**6))
    low = facts.psutil.virtual_memory()._replace(available=1)
    monkeypatch.setattr(facts.psutil, "virtual_memory", lambda: low)
    monkeypatch.setattr(preflight, "require", lambda config: None)
    monkeypatch.setattr(store, "require_room", lambda place, needed: None)
    monkeypatch.setattr(store, "nbytes", lambda state: 10**6)
    plain["train"]["evaluate_every"] = 1
    with caplog.at_level(logging.WARNING, "llm60_jax"):
        train(plain)
    assert caplog.text.count("0.00 GB are free, and a checkpoint takes 0.00 GB; free some disk") == 1
    assert caplog.text.count("close other programs") == 1


def test_a_run_that_is_interrupted_early_and_late_says_how_to_go_on(plain, monkeypatch):
    """A signal that comes before anything is there to be saved."""
    interrupts = Interrupts()
    interrupts.received = 15
    with pytest.raises(Interrupted, match=r"interrupted by SIGTERM\. To go on: again") as caught:
        loop.launch(config_module.parse(plain, "x"), interrupts, "again")
    assert caught.value.exit_code == 143


def test_a_model_and_its_tokenizer_in_two_lines(base):
    model, tokenizer = checkpoint.load(str(base))
    assert isinstance(model, Transformer)
    assert tokenizer.decode(tokenizer.encode("The quiet river")) == "The quiet river"
    tokens = [[tokenizer.bos, *tokenizer.encode("The quiet")]]
    import jax.numpy as jnp

    ids = jnp.array(tokens)
    logits = model.logits(model(ids, jnp.ones_like(ids)).hidden_BTD)
    assert logits.shape == (*ids.shape, tokenizer.vocab_size)
    rolling = next((base / "checkpoints").iterdir())
    assert json.loads((rolling / "meta.json").read_text())["phase"] == "grammar"
    assert isinstance(checkpoint.load(rolling)[0], Transformer)
