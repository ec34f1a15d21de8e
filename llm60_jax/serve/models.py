"""The models that are served: every kept checkpoint of the runs. No jax.

A run `quickstart` offers `quickstart` (its newest checkpoint), `quickstart/phases/grammar` and
`quickstart/checkpoints/1200`. Runs and checkpoints are listed anew at each question, because a run
may train meanwhile. A name is looked up among those that are there, and never becomes a path.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.errors import InputError
from llm60_jax.machine import manifest
from llm60_jax.record import kept
from llm60_jax.serve.replies import Refusal


class Model(NamedTuple):
    """A checkpoint, by the name that clients use."""

    name: str
    folder: Path
    step: int
    created: int  # seconds since 1970

    def to_tree(self) -> dict[str, Any]:
        """Return the model as OpenAI's API shows it, and its step."""
        return {
            "id": self.name, "object": "model", "created": self.created, "owned_by": "llm60_jax", "step": self.step,
        }  # fmt: skip


class Shelf:
    """The runs below the given folders, and their checkpoints."""

    def __init__(self, places: Sequence[Path]):
        """Take run directories, or folders that hold some. Raise InputError if there is no run."""
        self._places = [place.absolute() for place in places]
        for place in places:
            if not list(_runs_of(place)):
                raise InputError(
                    f"{place}: neither a run directory nor a folder that holds one (a run has a config.json)"
                )
        folders = [folder.resolve() for place in self._places for folder in _runs_of(place)]
        names: dict[str, Path] = {}
        for folder in folders:
            if names.setdefault(folder.name, folder) != folder:
                raise InputError(f"{names[folder.name]} and {folder}: two runs of one name; rename one of the folders")

    def runs(self) -> dict[str, Path]:
        """Return the runs that are there now, by their names."""
        runs: dict[str, Path] = {}
        for place in self._places:
            for folder in _runs_of(place):
                runs.setdefault(folder.resolve().name, folder.resolve())
        return runs

    def models(self) -> list[Model]:
        """Return the models of all runs. The newest of a run comes first, by the run's name alone."""
        return [model for name, folder in self.runs().items() for model in _models_of(name, folder)]

    def find(self, name: str) -> Model:
        """Return the model of that name. Raise Refusal if there is none."""
        run = self.runs().get(name.partition("/")[0])
        models = [] if run is None else _models_of(run.name, run)
        for model in models:
            if model.name == name:
                return model
        there = ", ".join(model.name for model in models[:10]) or ", ".join(sorted(self.runs())[:10])
        raise Refusal(
            404,
            f"there is no model {name[:100]!r} (any more); there are {there}",
            param="model",
            code="model_not_found",
        )


def _runs_of(place: Path) -> Iterable[Path]:
    """Return a run directory itself, or those directly inside a folder."""
    if (place / "config.json").is_file():
        return [place]
    return sorted(config.parent for config in place.glob("*/config.json") if not config.parent.name.startswith("."))


def _models_of(run: str, folder: Path) -> list[Model]:
    models = []
    for checkpoint in kept.listed(folder):
        try:
            created = int((checkpoint / manifest.NAME).stat().st_mtime)
        except OSError:
            continue  # a rolling checkpoint that was deleted just now
        name = f"{run}/{checkpoint.parent.name}/{checkpoint.name}"
        models.append(Model(name, checkpoint, kept.step_of(checkpoint), created))
    return [models[0]._replace(name=run), *models] if models else []
