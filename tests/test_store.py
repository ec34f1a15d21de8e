import json

import chex
import jax
import numpy as np
import pytest

from llm60_jax import phase_groups, step, store
from llm60_jax.errors import DamageError, InputError, MachineError


def meta(at, permanent=False):
    empty = {name: {} for name in ("config", "overrides", "digests", "corpora", "versions", "looks", "ancestors")}
    lists = {name: [] for name in ("plan", "decisions", "extensions", "late", "watch")}
    place = {"step": at, "tokens": 128 * at, "phase": "grammar", "stage": 0, "iterator": {"next_index": at}}
    return {
        **(empty | lists | place),
        **{"permanent": permanent, "closed": False, "phase_start": None, "refused": 0, "frozen": None},
    }


@pytest.fixture
def state(tiny):
    return step.init(tiny)


def test_what_is_saved_comes_back_bit_for_bit(tiny, state, tmp_path):
    digest = store.save(tmp_path / "3", state, meta(3))
    found, facts = store.load(tmp_path / "3", phase_groups.abstract(tiny, None))
    chex.assert_trees_all_equal(found, state)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert facts["iterator"] == {"next_index": 3}
    assert facts["state_sha256"] == digest == store.state_sha256(found, {"next_index": 3})
    untyped, _ = store.load(tmp_path / "3")  # as tools read it, without a configuration
    assert store.state_sha256(untyped, {"next_index": 3}) == digest


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


def test_every_damaged_file_is_noticed_and_named(tiny, state, tmp_path):
    folder = tmp_path / "3"
    store.save(folder, state, meta(3))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content or b"\0")
        flipped[len(flipped) // 2] ^= 1
        for damage in (None, b"", content[: len(content) // 2], bytes(flipped)):
            if damage == content:
                continue
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            with pytest.raises(DamageError, match=path.name):
                store.load(folder, phase_groups.abstract(tiny, None))
            path.write_bytes(content)
    store.load(folder, phase_groups.abstract(tiny, None))


def test_the_newest_whole_one_is_used_and_none_means_none(tiny, state, tmp_path):
    kept = store.Checkpoints(tmp_path, keep_rolling=3)
    assert kept.newest() is None
    for at in (9, 10):
        kept.save_rolling(state, meta(at))
    damaged = next((tmp_path / "checkpoints" / "10").rglob("_METADATA"))
    damaged.write_bytes(b"")
    assert kept.newest().name == "9"
    assert (tmp_path / "checkpoints" / "10.damaged").is_dir()
    kept.save_rolling(state, meta(10))  # the damaged one is out of the way
    assert kept.newest().name == "10"
    next((tmp_path / "checkpoints" / "10").rglob("_METADATA")).write_bytes(b"")
    next((tmp_path / "checkpoints" / "9").rglob("_METADATA")).unlink()
    with pytest.raises(DamageError, match="no checkpoint of this run is whole"):
        kept.newest()


def test_rolling_ones_are_bounded_the_others_stay(state, tmp_path):
    kept = store.Checkpoints(tmp_path, keep_rolling=2)
    for at in range(1, 8):
        kept.save_rolling(state, meta(at, permanent=at == 2))
        if at == 3:
            kept.save_phase("grammar", state, meta(at, permanent=True))
    names = [f"{path.parent.name}/{path.name}" for path in kept.all()]
    assert names == ["checkpoints/7", "checkpoints/6", "phases/grammar", "checkpoints/2"]


def test_a_damaged_manifest_is_noticed_behind_a_good_checkpoint(tiny, state, tmp_path):
    kept = store.Checkpoints(tmp_path, keep_rolling=2)
    kept.save_phase("grammar", state, meta(3))
    kept.save_rolling(state, meta(3))
    (tmp_path / "phases" / "grammar" / "manifest.json").write_text("{")
    assert kept.newest().name == "3"
    assert (tmp_path / "phases" / "grammar.damaged").is_dir()


def test_a_full_disk_is_told_as_such(state, tmp_path, monkeypatch):
    def refuse(path, state):
        raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device [os_error_code='28']")

    monkeypatch.setattr(store.ocp, "save", refuse)
    with pytest.raises(MachineError, match="cannot be written, free some space"):
        store.save(tmp_path / "1", state, meta(1))
    assert not list(tmp_path.iterdir())


def test_a_phase_checkpoint_is_never_overwritten(state, tmp_path):
    kept = store.Checkpoints(tmp_path, keep_rolling=2)
    kept.save_phase("grammar", state, meta(3))
    with pytest.raises(InputError, match="none is overwritten"):
        kept.save_phase("grammar", state, meta(4))
    assert store.read_meta(kept.phase("grammar"))["step"] == 3


def test_an_unfinished_save_is_no_checkpoint_and_is_cleared_away(state, tmp_path):
    kept = store.Checkpoints(tmp_path, keep_rolling=2)
    kept.save_rolling(state, meta(1))
    rest = tmp_path / "checkpoints" / ".2.partial-killed"
    (tmp_path / "checkpoints" / "1").rename(rest)
    assert kept.all() == []
    store.Checkpoints(tmp_path, keep_rolling=2)
    assert not rest.exists()


def test_other_shapes_are_refused(tiny, state, tmp_path, tree):
    from llm60_jax import config

    store.save(tmp_path / "1", state, meta(1))
    tree["model"]["hidden_dim"] = 96
    with pytest.raises(DamageError, match=r"mlp/down/kernel: stored float32\[2, 64, 32\], wanted float32\[2, 96, 32\]"):
        store.load(tmp_path / "1", phase_groups.abstract(config.parse(tree, "x"), None))


def test_the_metadata_is_plain_json(state, tmp_path):
    store.save(tmp_path / "1", state, meta(1))
    assert json.loads((tmp_path / "1" / "meta.json").read_text())["step"] == 1
