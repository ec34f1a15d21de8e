"""What all formats are written from: a trained model that may leave, and what is known of it."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax import checkpoint
from llm60_jax.checkpoint import Trained
from llm60_jax.errors import DamageError, InputError
from llm60_jax.evaluate import privacy
from llm60_jax.export import facts, weights
from llm60_jax.export.facts import Facts
from llm60_jax.export.weights import Weights
from llm60_jax.machine import shipped
from llm60_jax.machine.progress import Track
from llm60_jax.record import checkpoints, store

_LONGEST_NAME = 96  # characters, the hub's limit
_LONGEST_LICENCE = 64
_LICENCE_MARKS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.+-_")
_NO_BEGINNING = (".", "+", "-", "_")  # of a licence's id


class Options(NamedTuple):
    """What the user says about the files."""

    type: str  # how numbers are stored; each format has its own words
    name: str = ""  # the model's; "" is a name by its size
    licence: str = ""  # id of the licence of the weights; "" if it is not stated
    page: Path | None = None  # an unpacked npm package of transformers.js, for a page with the model


class Source(NamedTuple):
    """A model to write. `opened` makes it."""

    trained: Trained
    weights: Weights
    type: str
    name: str
    licence: str
    facts: Facts  # for the card
    privacy: dict[str, Any]  # the report of `tools/check_privacy.py`
    track: Track  # shows progress on stderr, and may raise to interrupt
    page: Path | None = None  # see `Options`


def judged(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the checkpoint that a path means, and its privacy report.

    Raises:
      InputError: there is no checkpoint at `path`.
      GateError: the checkpoint was not checked, or was refused without an override.
      DamageError: its report or its `meta.json` cannot be read.
    """
    folder = checkpoints.find(path)
    run = folder.absolute().parents[1]
    return folder, privacy.require(run, folder, store.read_meta(folder)["state_sha256"])


def opened(folder: Path, report: dict[str, Any], options: Options, track: Track) -> Source:
    """Read a model that was judged by `tools/check_privacy.py`.

    Args:
      folder: the checkpoint, as `judged` returned it.
      report: its privacy report, from the same call.

    Raises:
      InputError: no checkpoint, or a name or licence that cannot be written.
      DamageError: a file is damaged, a number is not finite, or the checkpoint is no longer the one
        that the report is about.
    """
    name, licence = _name(options.name), _licence(options.licence)
    trained = checkpoint.open_(folder)
    state = trained.meta["state_sha256"]
    if state != report["state_sha256"]:
        raise DamageError(
            f"{folder}: changed during the export: the privacy report is about state "
            f"{report['state_sha256'][:16]}, and state {state[:16]} was read; export again"
        )
    arrays = weights.of(trained.model, trained.plain_params)
    for place, array in arrays.arrays():
        if not np.isfinite(array).all():
            raise DamageError(f"{folder}: {place} has numbers that are not finite; export an earlier checkpoint")
    model = trained.model
    return Source(
        trained=trained,
        weights=arrays,
        type=options.type,
        name=name or f"llm60_jax-{model.layers}x{model.dim}",
        licence=licence,
        facts=facts.of(trained),
        privacy=report,
        track=track,
        page=options.page,
    )


def require_packages(target: str, *packages: str) -> None:
    """Raise InputError if a package that a format needs is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--to {target} needs the package {package}: {shipped.extra('export')}")


def _name(name: str) -> str:
    """Return a name that fits into one line of every format. Raise InputError."""
    if not name.isprintable() or len(name) > _LONGEST_NAME or name != name.strip():
        raise InputError(f"--name: {name!r} must be one line of at most {_LONGEST_NAME} printable characters")
    if "/" in name or "\\" in name:
        raise InputError(f"--name: {name!r} is a name and no path; leave out / and \\")
    return name


def _licence(licence: str) -> str:
    """Return a licence's id in small letters. Raise InputError."""
    small = licence.lower()
    if len(small) > _LONGEST_LICENCE or not _LICENCE_MARKS.issuperset(small) or small.startswith(_NO_BEGINNING):
        raise InputError(
            f"--licence: {licence!r} is no licence id; those are words such as apache-2.0, mit or cc-by-4.0"
        )
    return small
