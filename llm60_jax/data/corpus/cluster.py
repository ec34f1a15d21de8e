"""The units of a corpus as a step of a datatrove pipeline, for many machines that share a disk (extra `cluster`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from llm60_jax.data.corpus import units
from llm60_jax.data.corpus.corpus import Recipe
from llm60_jax.data.corpus.units import Unit


class MakeUnits(PipelineStep):
    """Cleans, screens and sketches a share of the text: of n tasks, task r makes every n-th unit, from the r-th on.

    What it makes stands below `data_dir`/screened, where `corpus.prepare` finds it and joins it: the same bytes as by
    one process. A unit that is there already is not made again, so a pipeline can be run twice.
    """

    type = "Cleaning"
    name = "units of a corpus"

    def __init__(self, plans: Sequence[Recipe]):
        super().__init__()
        self.work: list[tuple[Unit, Path]] = [
            (unit, plan.parts) for plan in plans for group in plan.units() for unit in group
        ]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Makes this task's share; documents of steps before it pass unchanged."""
        for unit, parent in self.work[rank::world_size]:
            with self.track_time("unit"):
                units.make_one(unit, parent)
            self.stat_update("units")
        yield from data or ()
