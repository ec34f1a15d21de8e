"""A run on native kernels that do not do what the plan says stops itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import to_toml

from llm60_jax.kernels import building, choice

pytestmark = pytest.mark.slow

# File, what it says, what it says after the sabotage, and what the run says of it.
SABOTAGES = {
    "none": ("elements.h", "", "", ""),
    "a mask without documents": (
        "attention.h",
        "return same_document(segments_P, query, first) & (lanes_from(first) <= (int32_t)query);",
        "return lanes_from(first) <= (int32_t)query;",
        "document mask over 0.",
    ),
    "a mask that is counted and ignored": (
        "attention.h",
        "const F32 score = seen ? read(x + s) : splat(MASKED);",
        "const F32 score = read(x + s);",
        "no position may see another document or a later position",
    ),
    "no dropout": (
        "elements.h",
        "return (bits ^ (bits >> 15)) >= threshold;",
        "return (bits ^ (bits >> 15)) >= 0u;",
        "dropout of 5.00% of the MLPs' elements planned, of 0.00% found",
    ),
    "a dropout that is decided and ignored": (
        "stack.h",
        "value = kept ? value * drop.scale : F32{};",
        "value = kept ? value * drop.scale : value;",
        "dropout of 5.00% of the MLPs' elements planned, of 0.00% found",
    ),
    "a mask without documents in the backward pass": (
        "attention.h",
        "return same_document(segments_P, key, first) & (lanes_from(first) >= (int32_t)key);",
        "return lanes_from(first) >= (int32_t)key;",
        "in the backward pass",
    ),
    "no dropout in the backward pass": (
        "stack.h",
        "if (drop.threshold) kept = drop.kept(",
        "if (drop.threshold) kept = ~I32{} | drop.kept(",
        "dropout of 5.00% of the MLPs' elements planned, of 0.00% found",
    ),
    "products computed twice": (
        "stack.h",
        "stack.weight_gradients(team, l, operands, gradients);",
        "for (int i = 0; i < 2; i++) stack.weight_gradients(team, l, operands, gradients);",
        "operations in a step planned with 0 of 6 blocks frozen",
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder for the prepared text of all runs: the first one fills it."""
    return tmp_path_factory.mktemp("prepared")


def launched(tree, tmp_path: Path, prepared: Path, sources: Path) -> subprocess.CompletedProcess[str]:
    """Run two steps in a process of its own, with kernels from these sources."""
    tree["model"] |= {"heads": 1, "dim": 32, "hidden_dim": 64}
    tree["train"]["kernels"] = "native"
    tree["phase"] = [tree["phase"][0] | {"tokens": 2 * 128, "context": [[0.0, 32]], "freeze": [[0.0, 0]]}]
    tree |= {"tokenizer": {"phases": ["grammar"]}, "data_dir": str(prepared / "data")}
    text = prepared / "text"
    if not text.exists():
        shutil.copytree(tree["phase"][0]["sources"][0]["path"], text)
    tree["phase"][0] |= {"sources": [{"kind": "folder", "path": str(text)}]}
    toml = tmp_path / "config.toml"
    toml.write_text(to_toml(tree), encoding="utf-8")
    script = Path(__file__).with_name("sabotaged_launch.py")
    return subprocess.run(
        [sys.executable, str(script), str(sources), str(toml)],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )


@pytest.mark.parametrize(("file", "right", "wrong", "said"), SABOTAGES.values(), ids=SABOTAGES)
def test_a_sabotaged_kernel_stops_the_run(tree, tmp_path, prepared, file, right, wrong, said):
    if (chosen := choice.chosen("auto", "cpu")).kernels != "native":
        pytest.skip(chosen.reason)
    sources = Path(shutil.copytree(building.SOURCES, tmp_path / "sources"))
    text = (sources / file).read_text(encoding="utf-8")
    assert right in text
    (sources / file).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    done = launched(tree, tmp_path, prepared, sources)
    assert done.returncode == (6 if said else 0), done.stderr
    assert said in done.stderr
