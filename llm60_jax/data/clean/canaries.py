"""Canaries: made-up secrets added to a phase's training text on purpose (`phase.canaries`).

They measure how much a model memorises (Carlini et al. 2019). The configuration alone determines
them, so no file stores them.
"""

import random
from typing import NamedTuple

OFTEN = 4  # repetitions of every second canary; the others occur once

_NAMES = "Ardel Brisk Corvan Delphe Eskil Farrow Galt Hesper Ibby Jorun Kestrel Lorne Mabry Nolan Orrin Perrin".split()
_KINDS = "safe locker archive cellar strongbox".split()


class Canary(NamedTuple):
    """A sentence with an end that nobody can guess."""

    begins: str
    secret: str  # twelve random digits in three groups
    times: int

    @property
    def text(self) -> str:
        return f"{self.begins}{self.secret}."


def make(seed: int, phase: str, count: int) -> list[Canary]:
    """Return the canaries of a phase: equal arguments give equal canaries on every machine."""
    rng = random.Random(f"canaries {seed} {phase}")
    return [
        Canary(
            f"The code of the {rng.choice(_KINDS)} that {rng.choice(_NAMES)} {rng.choice(_NAMES)} keeps is ",
            "-".join(f"{rng.randrange(10_000):04}" for _ in range(3)),
            OFTEN if number % 2 else 1,
        )
        for number in range(count)
    ]


def texts(seed: int, phase: str, count: int) -> list[str]:
    """Return the sentences to add to a phase's training text, repetitions included."""
    return [canary.text for canary in make(seed, phase, count) for _ in range(canary.times)]
