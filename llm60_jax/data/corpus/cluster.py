"""A datatrove step that makes the units of a corpus on many machines (extra `cluster`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from llm60_jax.data.corpus import units
from llm60_jax.data.corpus.corpus import Recipe
from llm60_jax.data.corpus.units import Unit


class MakeUnits(PipelineStep):
    """Makes a share of the units: task r of n makes every n-th unit, starting with unit r.

    All machines see the same `data_dir`. The units lie in its folder `screened`. `corpus.prepare`
    joins them there: the same bytes as from one process. A unit that exists is skipped, so a
    pipeline can run twice.
    """

    type = "Cleaning"
    name = "units of a corpus"

    def __init__(self, recipes: Sequence[Recipe]):
        super().__init__()
        self.work: list[tuple[Unit, Path]] = [
            (unit, recipe.parts) for recipe in recipes for group in recipe.units() for unit in group
        ]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Make this task's share; documents of earlier steps pass unchanged."""
        for unit, parent in self.work[rank::world_size]:
            with self.track_time("unit"):
                units.make_one(unit, parent)
            self.stat_update("units")
        yield from data or ()
