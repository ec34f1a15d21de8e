import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from llm60_jax.machine import compilation_cache

PROGRAM = """
import sys, jax, jax.numpy as jnp
from pathlib import Path
from llm60_jax.machine import compilation_cache
folder = compilation_cache.open_in(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(float(jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.ones((8, 8)))))
compilation_cache.seal(folder)
"""


def run(data_dir: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM, str(data_dir)]
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Error reading persistent compilation cache" not in done.stderr
    return done.stdout


def entries(data_dir: Path) -> dict[str, bytes]:
    (folder,) = (data_dir / "compiled").iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != compilation_cache.INDEX}


@pytest.mark.slow
def test_a_cut_or_flipped_entry_is_deleted_and_compiled_again(tmp_path):
    first = run(tmp_path)
    whole = entries(tmp_path)
    assert whole
    (folder,) = (tmp_path / "compiled").iterdir()
    for damage in (lambda b: b[: len(b) // 2], lambda b: b[:9] + bytes([b[9] ^ 1]) + b[10:], lambda b: b""):
        for name, content in whole.items():
            (folder / name).write_bytes(damage(content))
        assert run(tmp_path) == first
        assert entries(tmp_path).keys() == whole.keys()
        assert all(len(content) > 9 for content in entries(tmp_path).values())


def test_an_intact_entry_stays(tmp_path):
    run(tmp_path)
    (folder,) = (tmp_path / "compiled").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in entries(tmp_path)}
    run(tmp_path)
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.slow
def test_an_unfinished_entry_of_a_killed_process_is_deleted(tmp_path):
    run(tmp_path)
    (folder,) = (tmp_path / "compiled").iterdir()
    (folder / "jit_step-cut-cache").write_bytes(b"half")
    run(tmp_path)
    assert not (folder / "jit_step-cut-cache").exists()


def test_the_users_own_cache_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert compilation_cache.open_in(tmp_path / "data") is None
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_no_cache_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    tmp_path.chmod(0o500)
    assert compilation_cache.open_in(tmp_path) is None
