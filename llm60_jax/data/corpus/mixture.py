"""How much of each source a phase takes: "poetry: small dose only" (playbook, section 4.2). Pure functions."""

import math
from collections.abc import Mapping, Sequence

from llm60_jax.config import Dose, Source


def allowed(characters: Sequence[int], shares: Sequence[float | None], caps: Sequence[int | None]) -> list[int]:
    """The characters that each source may give, so that the whole is as large as it can be.

    Args:
      characters: what each source has.
      shares: the largest share of the whole that each may have; None for any.
      caps: the most characters that each may give; None for all.
    """
    most = [have if cap is None else min(have, cap) for have, cap in zip(characters, caps, strict=True)]
    pairs = [(have, 1.0 if share is None else share) for have, share in zip(most, shares, strict=True)]
    whole, before = float(sum(most)), math.inf
    # Those held to a share make the rest the other part of the whole; a smaller whole may hold more of them.
    while whole < before:
        rest = sum(have for have, share in pairs if have <= share * whole)
        held = sum(share for have, share in pairs if have > share * whole)
        before, whole = whole, min(whole, rest / (1 - held)) if held < 1 else whole
    return [round(min(have, share * whole)) for have, share in pairs]


def left_out(sources: Sequence[Source], lengths: Mapping[str, int], places: Sequence[int]) -> set[str]:
    """The pieces of text beyond the doses of their sources.

    Args:
      lengths: id -> characters, of all pieces.
      places: which source each of them is from.

    Returns:
      Ids. Which ones depends on the ids alone, and not on the part of them that chooses pieces for validation.
    """
    if all(source.dose == Dose() for source in sources):
        return set()
    have = [0] * len(sources)
    for length, place in zip(lengths.values(), places, strict=True):
        have[place] += length
    room = allowed(have, [s.dose.share for s in sources], [s.dose.characters for s in sources])
    gone = set()
    for name, place in sorted(zip(lengths, places, strict=True), key=lambda pair: pair[0][::-1]):
        if lengths[name] <= room[place]:
            room[place] -= lengths[name]
        else:
            gone.add(name)
    return gone
