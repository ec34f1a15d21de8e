"""What the tests of exports share: models of all variants, and privacy reports."""

import dataclasses
import os
import shutil
from pathlib import Path

import jax
import numpy as np

from llm60_jax import checkpoint
from llm60_jax.checkpoint import Trained
from llm60_jax.evaluate import privacy
from llm60_jax.evaluate.privacy import Continued, PrivacyReport, PrivacySettings, Ranked
from llm60_jax.export import facts, weights
from llm60_jax.export.source import Source
from llm60_jax.machine.progress import silent
from llm60_jax.model import groups
from llm60_jax.record import store

# Changes of the tiny architecture, by name; together they are all that a model can have.
VARIANTS = {
    "gelu": {},
    "swiglu": {"mlp": "swiglu", "rope_base": 500.0},
    "scaled": {"residual": "scaled"},
    "scaled embedding": {"embedding_scale": 8.0},
    "shared": {"share_attention": 2, "share_mlp": 2},
    "all": {
        "mlp": "swiglu",
        "residual": "scaled",
        "share_attention": 2,
        "share_mlp": 2,
        "heads": 4,
        "embedding_scale": 4.0,
    },
}


def variant(run: Path, name: str) -> Trained:
    """A model of a variant with random parameters, each norm, bias and factor away from its first value. Texts and
    tokenizer are those of a run."""
    trained = checkpoint.open_(run)
    model = dataclasses.replace(trained.model, **VARIANTS[name])
    fresh, rng = groups.init(model, jax.random.key(3)), np.random.default_rng(7)

    def moved(path, x):
        if "kernel" in jax.tree_util.keystr(path):  # larger than at first, so that the likeliest tokens differ
            return np.asarray(3 * x)
        return np.asarray(x + 0.2 * rng.standard_normal(x.shape), np.float32)

    params = jax.tree_util.tree_map_with_path(moved, fresh)
    config = dataclasses.replace(trained.config, model=model, baseline="plain")
    return trained._replace(config=config, model=model, params=params)


def source_of(trained: Trained, type: str = "float32", **changes) -> Source:
    """What `source.opened` would return for a model that passed the privacy check."""
    arrays = weights.of(trained.model, trained.plain_params)
    report = report_on(trained.folder).to_tree() | {"override": None}
    made = Source(trained, arrays, type, "tiny", "", facts.of(trained), report, silent)
    return made._replace(**changes)


def report_on(folder: Path, memorised: int = 0) -> PrivacyReport:
    """A privacy report on a checkpoint, of a model that learnt some private strings by heart."""
    return PrivacyReport(
        checkpoint=str(folder),
        state_sha256=store.read_meta(folder)["state_sha256"],
        settings=PrivacySettings(),
        trained_on=Continued(20, 0.0, 0.004, []),
        held_out=Continued(20, 0.0, 0.002, []),
        private_strings={"e-mail address": 3},
        secrets=[Ranked("e-mail address", "abc", "an...g", 1, 9.0 if n < memorised else 0.0) for n in range(3)],
        canaries=[],
        calibrated=True,
    )


def judge(folder: Path, memorised: int = 0, override: str | None = None) -> None:
    """Write the privacy report of a checkpoint."""
    privacy.keep(folder.absolute().parents[1], folder, report_on(folder, memorised), override)


def judged_copy(base: Path, tmp_path_factory) -> Path:
    """Return a copy of a finished run of one phase, whose privacy was judged."""
    copy = tmp_path_factory.mktemp("export") / "run"
    shutil.copytree(base, copy)
    judge(copy / "phases" / "grammar")
    return copy


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder, by name."""
    paths = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
