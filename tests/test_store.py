"""Checkpoints on disk: saved, verified, read, listed and set aside."""

import dataclasses
import json
import logging
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from conftest import PROJECT

from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.machine import unfinished
from llm60_jax.record import checkpoints, store, workdir
from llm60_jax.record.progress import Progress
from llm60_jax.training import phase_groups, step


def meta(at, permanent=False):
    empty = {name: {} for name in ("config", "digests", "corpora", "versions")}
    place = {"step": at, "tokens": 128 * at, "phase": "grammar", "stage": 0}
    progress = Progress(step=at, phase="grammar", iterator={"next_index": at})
    return {**empty, **place, "plan": [], "permanent": permanent, "closed": False, "progress": progress}


@pytest.fixture
def state(tiny):
    return step.init(tiny)


def test_what_is_saved_comes_back_bit_for_bit(tiny, state, tmp_path):
    digest = store.save(tmp_path / "3", state, meta(3))
    loaded, facts = store.load(tmp_path / "3", phase_groups.abstract(tiny, None))
    chex.assert_trees_all_equal(loaded, state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert facts["progress"] == meta(3)["progress"]
    assert facts["state_sha256"] == digest == store.state_sha256(loaded, {"next_index": 3})
    untyped, _ = store.load(tmp_path / "3")  # as tools read it, without a configuration
    assert store.state_sha256(untyped, {"next_index": 3}) == digest


@pytest.mark.parametrize("name", ["a [b]", "what?", "é 😀 *"])
def test_a_directory_may_have_a_name_that_is_a_pattern(tiny, state, tmp_path, name):
    place = tmp_path / name / "3"
    place.parent.mkdir()
    store.save(place, state, meta(3))
    loaded, _ = store.load(place, phase_groups.abstract(tiny, None))
    chex.assert_trees_all_equal(loaded, state)
    assert [path.name for path in place.parent.iterdir()] == ["3"]


def test_the_digest_covers_every_leaf_and_the_position(state):
    whole = store.state_sha256(state, None)
    assert store.state_sha256(state, {"next_index": 1}) != whole
    leaves, structure = jax.tree.flatten(state)
    for index, leaf in enumerate(leaves):
        if not leaf.size:
            continue
        changed = np.array(leaf)
        changed.reshape(-1)[0] += 1
        other = structure.unflatten([*leaves[:index], changed, *leaves[index + 1 :]])
        assert store.state_sha256(other, None) != whole


def test_the_newest_whole_checkpoint_is_used_and_none_means_none(tiny, state, tmp_path):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=3)
    assert run.newest() is None
    for at in (9, 10):
        run.save_rolling(state, meta(at))
    damaged = next((tmp_path / "checkpoints" / "10").rglob("_METADATA"))
    damaged.write_bytes(b"")
    assert run.newest().name == "9"
    assert (tmp_path / "checkpoints" / "10.damaged").is_dir()
    run.save_rolling(state, meta(10))  # the damaged one is out of the way
    assert run.newest().name == "10"
    next((tmp_path / "checkpoints" / "10").rglob("_METADATA")).write_bytes(b"")
    next((tmp_path / "checkpoints" / "9").rglob("_METADATA")).unlink()
    with pytest.raises(DamageError, match="no checkpoint of this run is whole"):
        run.newest()


@pytest.mark.slow
def test_rolling_checkpoints_are_bounded_and_the_others_stay(state, tmp_path):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=2)
    for at in range(1, 8):
        run.save_rolling(state, meta(at, permanent=at == 2))
        if at == 3:
            run.save_phase("grammar", state, meta(at, permanent=True))
    names = [f"{path.parent.name}/{path.name}" for path in run.all()]
    assert names == ["checkpoints/7", "checkpoints/6", "phases/grammar", "checkpoints/2"]


def test_a_damaged_manifest_is_noticed_behind_a_good_checkpoint(tiny, state, tmp_path):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=2)
    run.save_phase("grammar", state, meta(3))
    run.save_rolling(state, meta(3))
    (tmp_path / "phases" / "grammar" / "manifest.json").write_text("{")
    assert run.newest().name == "3"
    assert (tmp_path / "phases" / "grammar.damaged").is_dir()


def test_a_full_disk_is_named(state, tmp_path, monkeypatch):
    def refuse(path, state):
        raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device [os_error_code='28']")

    monkeypatch.setattr(store.ocp, "save", refuse)
    with pytest.raises(MachineError, match="cannot be written, free some space"):
        store.save(tmp_path / "1", state, meta(1))
    assert not list(tmp_path.iterdir())


class Late:
    """An object that raises when it is deleted, as Orbax's unfinished work does."""

    def __init__(self, message):
        self.message = message

    def __del__(self):
        raise RuntimeError(self.message)


@pytest.fixture
def printed(monkeypatch):
    """What Python would print of errors that nobody can catch."""
    messages = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: messages.append(str(error.exc_value)))
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    return messages


@pytest.mark.parametrize("failing", ["save", "load"])
def test_late_errors_after_a_failure_are_not_printed(state, tmp_path, monkeypatch, printed, caplog, failing):
    def fail(*arguments):
        raise ValueError("broken")

    store.save(tmp_path / "3", state, meta(3))
    monkeypatch.setattr(store.ocp, failing, fail)
    for _ in range(2):
        with pytest.raises((MachineError, DamageError), match="broken"):
            store.save(tmp_path / "4", state, meta(4)) if failing == "save" else store.load(tmp_path / "3")
    for message in ("Event loop is closed", "something else"):
        Late(message)
    assert printed == ["something else"]
    for message in ("Task exception was never retrieved", "another error"):
        logging.getLogger("asyncio").error(message)
    assert [record.getMessage() for record in caplog.records] == ["another error"]


def test_late_errors_after_a_failure_and_a_success_are_not_printed(state, tmp_path, monkeypatch, printed):
    real = store.ocp.save
    monkeypatch.setattr(store.ocp, "save", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.save(tmp_path / "3", state, meta(3))
    monkeypatch.setattr(store.ocp, "save", real)
    store.save(tmp_path / "3", state, meta(3))
    Late("Event loop is closed")
    assert printed == []


def test_a_success_leaves_the_hook_of_the_process_alone(state, tmp_path, printed):
    before = sys.unraisablehook
    store.save(tmp_path / "3", state, meta(3))
    store.load(tmp_path / "3")
    assert logging.getLogger("asyncio").filters == []
    assert sys.unraisablehook is before
    Late("Event loop is closed")
    assert printed == ["Event loop is closed"]


def test_a_phase_checkpoint_is_never_overwritten(state, tmp_path):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=2)
    run.save_phase("grammar", state, meta(3))
    with pytest.raises(InputError, match="none is overwritten"):
        run.save_phase("grammar", state, meta(4))
    assert store.read_meta(run.phase("grammar"))["step"] == 3


def test_an_unfinished_save_is_no_checkpoint_and_goes_at_the_next_start(state, tmp_path, caplog):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=2)
    run.save_rolling(state, meta(1))
    rest = tmp_path / "checkpoints" / unfinished.name_of("2", "1")
    (tmp_path / "checkpoints" / "1").rename(rest)
    assert run.all() == []
    with workdir.opened(tmp_path):
        assert not rest.exists()
    assert "1 unfinished file or folder of an earlier process removed" in caplog.text


def test_other_shapes_are_refused(tiny, state, tmp_path, tree):
    from llm60_jax import config as config_module

    store.save(tmp_path / "1", state, meta(1))
    tree["model"]["hidden_dim"] = 96
    with pytest.raises(DamageError, match=r"mlp/down/kernel: stored float32\[2, 64, 32\], wanted float32\[2, 96, 32\]"):
        store.load(tmp_path / "1", phase_groups.abstract(config_module.parse(tree, "x"), None))


def test_the_metadata_is_plain_json(state, tmp_path):
    store.save(tmp_path / "1", state, meta(1))
    assert json.loads((tmp_path / "1" / "meta.json").read_text())["step"] == 1


def test_a_checkpoint_without_its_manifest_is_named(state, tmp_path, caplog):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=3)
    for at in (9, 10):
        run.save_rolling(state, meta(at))
    (tmp_path / "checkpoints" / "10" / "manifest.json").unlink()
    assert run.newest().name == "9"
    assert "checkpoints/10/manifest.json: missing; it is set aside as 10.damaged" in caplog.text


def test_a_link_is_no_file_of_a_checkpoint(state, tmp_path):
    store.save(tmp_path / "1", state, meta(1))
    path = tmp_path / "1" / "meta.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamageError, match=r"meta\.json: a symbolic link"):
        store.load(tmp_path / "1")


def test_a_state_that_differs_from_the_saved_one_is_noticed_behind_correct_digests(tiny, state, tmp_path, monkeypatch):
    """A reader may get a number wrong, and somebody may seal a folder again."""
    store.save(tmp_path / "1", state, meta(1))
    real = store.ocp.load

    def load(path, wanted):
        loaded = real(path, wanted)
        return dataclasses.replace(loaded, seed=loaded.seed + 1)

    monkeypatch.setattr(store.ocp, "load", load)
    with pytest.raises(DamageError, match=r"its state is \w{16}, and \w{16} was saved"):
        store.load(tmp_path / "1", phase_groups.abstract(tiny, None))


def test_room_is_checked_before_anything_is_written(state, tmp_path, monkeypatch):
    needed = store.nbytes(state)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: store.shutil._ntuple_diskusage(1, 1, needed))
    monkeypatch.setattr(store.ocp, "save", lambda *a: pytest.fail("it was written"))
    with pytest.raises(MachineError, match=rf"takes [\d,]+ bytes, and {needed:,} are free; make room"):
        store.save(tmp_path / "1", state, meta(1))
    assert not list(tmp_path.iterdir())


def test_invalid_metadata_is_refused(state, tmp_path):
    store.save(tmp_path / "1", state, meta(1))
    path = tmp_path / "1" / "meta.json"
    broken_as = {
        "[": "its JSON",
        "[" * 10**5: "its JSON",
        '{"step": "1"}': "step",
        '{"step": -1}': "step",
        "{}": "step",
    }
    for broken, where in broken_as.items():
        path.write_text(broken)
        with pytest.raises(DamageError, match=rf"meta\.json: not the facts of a checkpoint: {where}"):
            store.read_meta(tmp_path / "1")
    path.write_bytes(b"\xff")
    with pytest.raises(DamageError, match="cannot be read"):
        store.read_meta(tmp_path / "1")


def test_a_checkpoint_of_before_is_refused_with_one_message(state, tmp_path):
    store.save(tmp_path / "checkpoints" / "1", state, meta(1))
    path = tmp_path / "checkpoints" / "1" / "meta.json"
    tree = json.loads(path.read_text())
    tree |= tree.pop("progress")
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="an older version of llm60_jax wrote this checkpoint"):
        store.read_meta(tmp_path / "checkpoints" / "1")


def test_a_run_goes_back_and_nothing_is_deleted(state, tmp_path):
    run = checkpoints.Checkpoints(tmp_path, keep_rolling=9)
    for at in (1, 2, 3):
        run.save_rolling(state, meta(at))
    run.save_phase("grammar", state, meta(3))
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates" / "grammar.json").write_text("{}")
    with pytest.raises(InputError, match="no checkpoint of step 7 is there; those that are: 1, 2, 3, 3"):
        checkpoints.set_aside_after(tmp_path, 7)
    branch = checkpoints.set_aside_after(tmp_path, 2)
    assert [path.name for path in run.all()] == ["2", "1"]
    moved = {path.relative_to(branch).as_posix() for path in branch.glob("*/*")}
    assert moved == {"checkpoints/3", "phases/grammar", "gates/grammar.json"}
    assert checkpoints.set_aside_after(tmp_path, 2) is None


DEVICES = """
import os, sys
os.environ["JAX_NUM_CPU_DEVICES"] = sys.argv[1]
import jax, numpy as np
from pathlib import Path
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from llm60_jax.record import store
assert len(jax.devices()) == int(sys.argv[1])
sys.path.insert(0, "tests")
from test_store import meta
mesh = Mesh(np.array(jax.devices()), ("devices",))
put = lambda spec: jax.device_put(np.arange(8.0), NamedSharding(mesh, PartitionSpec(*spec)))
store.save(Path(sys.argv[2]), {"a": put(()), "b": put(("devices",))}, meta(1))
"""


@pytest.mark.slow
def test_a_checkpoint_from_other_devices_is_read_here(tmp_path):
    folder = tmp_path / "1"
    subprocess.run([sys.executable, "-c", DEVICES, "4", str(folder)], cwd=PROJECT, check=True)
    state, _ = store.load(folder)
    for leaf in state.values():
        np.testing.assert_array_equal(leaf, np.arange(8.0))
