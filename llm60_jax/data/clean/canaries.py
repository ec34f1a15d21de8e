"""Made-up secrets that a phase is trained on, on purpose (`phase.canaries`), to measure what its model gives away
(Carlini et al. 2019). They follow from the configuration alone, so that they are kept nowhere."""

import random
from typing import NamedTuple

OFTEN = 4  # times that every other one stands in the text; the others stand there once

_NAMES = "Ardel Brisk Corvan Delphe Eskil Farrow Galt Hesper Ibby Jorun Kestrel Lorne Mabry Nolan Orrin Perrin".split()
_KINDS = "safe locker archive cellar strongbox".split()


class Canary(NamedTuple):
    """A sentence whose end nobody can guess."""

    begins: str
    secret: str  # twelve random digits in three groups
    times: int

    @property
    def text(self) -> str:
        return f"{self.begins}{self.secret}."


def make(seed: int, phase: str, count: int) -> list[Canary]:
    """The canaries of a phase: the same for the same arguments, on every machine."""
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
    """All that is added to the training text of a phase."""
    return [one.text for one in make(seed, phase, count) for _ in range(one.times)]
